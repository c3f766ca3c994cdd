"""A tiny discriminator with random weights, and tokenizers of the two common kinds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tokenizers import ByteLevelBPETokenizer
from transformers import BertTokenizer, ElectraConfig, ElectraForPreTraining, PreTrainedTokenizerBase, RobertaTokenizer


def split(text: str) -> list[str]:
    """The tokens of a text written with a space between any two."""
    return text.split()


WORDS = split(
    "[PAD] [UNK] [CLS] [SEP] [MASK] . , : ( ) ! class topic is the a match ended game goal bank rose news film "
    "world sports business technology tech ##nology negative positive bad good very ##ly sad ##ness sci ##fi and of in"
)
MAX_LENGTH = 48


def make_config(**changes) -> ElectraConfig:
    sizes = {
        "vocab_size": len(WORDS),
        "embedding_size": 16,
        "hidden_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 32,
        "max_position_embeddings": MAX_LENGTH,
        # Large enough for the logits of a random model to differ clearly.
        "initializer_range": 0.5,
    }
    return ElectraConfig(**{**sizes, **changes})


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerBase:
    """WordPiece, one id a word of `WORDS`."""
    return BertTokenizer(vocab={word: index for index, word in enumerate(WORDS)}, model_max_length=MAX_LENGTH)


@pytest.fixture(scope="session")
def byte_level_tokenizer() -> PreTrainedTokenizerBase:
    """Byte-level BPE as RoBERTa's: the space before a word is part of its token; pairs are `<s> a </s></s> b </s>`."""
    trainer = ByteLevelBPETokenizer()
    trainer.train_from_iterator(
        ["Class: negative, positive, world, sports. negative positive a good film (world) "] * 20,
        vocab_size=400,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
        show_progress=False,
    )
    learned = json.loads(trainer._tokenizer.to_str())["model"]
    merges = [tuple(merge) for merge in learned["merges"]]
    return RobertaTokenizer(vocab=learned["vocab"], merges=merges, model_max_length=MAX_LENGTH)


@pytest.fixture(scope="session")
def discriminator_path(tmp_path_factory: pytest.TempPathFactory, tokenizer: PreTrainedTokenizerBase) -> Path:
    """Folder of a plain discriminator with its tokenizer, as it would come from the Hub."""
    path = tmp_path_factory.mktemp("discriminator")
    torch.manual_seed(0)
    ElectraForPreTraining(make_config()).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path
