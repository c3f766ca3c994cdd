"""Tiny material of multiple choice: what follows from a film, and a model that has to find out."""

from __future__ import annotations

import random
from pathlib import Path

import torch
from transformers import AutoModelForMultipleChoice, BertTokenizer, ElectraConfig, PreTrainedTokenizerBase

WORDS = "[PAD] [UNK] [CLS] [SEP] [MASK] . , ? the film was good bad they it because so laughed left liked saw very"


def make_tokenizer() -> PreTrainedTokenizerBase:
    return BertTokenizer(vocab={word: index for index, word in enumerate(WORDS.split())}, model_max_length=40)


def make_rows(count: int, seed: int = 0) -> list[dict[str, object]]:
    """The right choice says of the film what the premise says."""
    draw = random.Random(seed)
    rows = []
    for number in range(count):
        word = draw.choice(["good", "bad"])
        label = number % 2
        right, wrong = (
            f"It was {'very ' * draw.randrange(3)}{w}." for w in (word, "bad" if word == "good" else "good")
        )
        rows.append(
            {
                "premise": f"The film was {word}.",
                "question": draw.choice(["cause", "effect"]),
                "choice1": wrong if label else right,
                "choice2": right if label else wrong,
                "label": label,
            }
        )
    return rows


def make_chooser(seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    config = ElectraConfig(
        vocab_size=len(WORDS.split()),
        embedding_size=16,
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=32,
        max_position_embeddings=40,
        initializer_range=0.3,
        attention_probs_dropout_prob=0.0,
        hidden_dropout_prob=0.0,
    )
    return AutoModelForMultipleChoice.from_config(config).eval()


def write_chooser(folder: Path) -> Path:
    make_chooser().save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return folder
