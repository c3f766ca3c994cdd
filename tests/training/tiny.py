"""Writes a tiny random ELECTRA discriminator with its tokenizer, as it would come from the Hub, and a tiny task."""

from __future__ import annotations

import csv
import random
from pathlib import Path

import torch
from transformers import BertTokenizer, ElectraConfig, ElectraForMaskedLM, ElectraForPreTraining

WORDS = (
    "[PAD] [UNK] [CLS] [SEP] [MASK] . , : class the film was really good great fine bad poor dull positive negative"
)
GOOD, BAD = ("good", "great", "fine"), ("bad", "poor", "dull")


def write_discriminator(folder: Path, words: str = WORDS) -> Path:
    words = words.split()
    torch.manual_seed(0)
    config = ElectraConfig(
        vocab_size=len(words),
        embedding_size=16,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
        initializer_range=0.2,
    )
    ElectraForPreTraining(config).save_pretrained(folder)
    BertTokenizer(vocab={word: index for index, word in enumerate(words)}, model_max_length=64).save_pretrained(folder)
    return folder


def write_language_model(folder: Path) -> Path:
    """A masked language model of the same sizes, which knows the words of P-tuning v2's Table 5 besides."""
    config = ElectraConfig.from_pretrained(write_discriminator(folder, f"{WORDS} it true false"))
    torch.manual_seed(0)
    ElectraForMaskedLM(config).save_pretrained(folder)
    return folder


def write_task(path: Path, rows: int, seed: int = 0) -> Path:
    draw = random.Random(seed)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for row in range(rows):
            label, words = (("positive", GOOD), ("negative", BAD))[row % 2]
            writer.writerow([f"the film was {'really ' * draw.randrange(6)}{draw.choice(words)}.", label])
    return path
