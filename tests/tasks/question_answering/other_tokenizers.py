"""Tiny tokenizers of other kinds than BERT's."""

from __future__ import annotations

from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast


def byte_level(trim_offsets: bool) -> PreTrainedTokenizerFast:
    """As RoBERTa's and GPT-2's: the space before a word is part of its token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel()
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 1), ("<s>", 0), trim_offsets=trim_offsets)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<s>", "</s>", "<pad>"]
    trainer = trainers.BpeTrainer(vocab_size=330, special_tokens=special, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(["Bob met Carl, and Ringo Starr sings with Ann."] * 9, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>")


def sentence_pieces() -> PreTrainedTokenizerFast:
    """As DeBERTa-v3's: words end at spaces only, so punctuation sticks to them."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    special = ["[CLS]", "[SEP]", "[PAD]", "[UNK]"]
    letters = list("[PAD]")  # a real one can spell its special tokens
    trainer = trainers.UnigramTrainer(
        vocab_size=60, special_tokens=special, unk_token="[UNK]", initial_alphabet=letters
    )
    tokenizer.train_from_iterator(["Bob met Carl, and Ringo Starr sings with Ann."] * 9, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 0), ("[SEP]", 1)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]")
