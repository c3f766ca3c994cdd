"""Tiny material of multi-span question answering: a tokenizer and questions."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import BertTokenizer, ElectraConfig, ElectraForPreTraining, PreTrainedTokenizerBase

WORDS = (
    "[PAD] [UNK] [CLS] [SEP] [MASK] . , ? ' - who sings plays what the band and in of with a ann bob carl dora eve "
    "song drum guitar was born 1990 ring ##o star ##r met wrote"
)
MAX_LENGTH = 64


def make_tokenizer() -> PreTrainedTokenizerBase:
    return BertTokenizer(vocab={word: index for index, word in enumerate(WORDS.split())}, model_max_length=MAX_LENGTH)


def write_discriminator(folder: Path, **changes) -> Path:
    torch.manual_seed(0)
    sizes = {
        "vocab_size": len(WORDS.split()),
        "embedding_size": 16,
        "hidden_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 32,
        "max_position_embeddings": MAX_LENGTH,
        "initializer_range": 0.3,
    }
    ElectraForPreTraining(ElectraConfig(**{**sizes, **changes})).save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return folder


def question(number: int) -> dict[str, object]:
    """Bob (and Carl) sing, somebody else plays: answers of one span and of two by turns."""
    other = ("Ann", "Dora", "Eve")[number % 3]
    if number % 2:
        context = f"{other} plays guitar in the band. Bob and Carl sings with Ringo Starr."
        texts = ["Bob", "Carl"]
    else:
        context = f"Bob sings a song. {other} wrote the song and plays the drum."
        texts = ["Bob"]
    return {
        "id": f"q{number}",
        "question": "Who sings?",
        "context": context,
        "answers": {"text": texts, "answer_start": [context.index(text) for text in texts]},
    }
