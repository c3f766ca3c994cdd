"""A tiny random discriminator that knows the words of the packaged messages, and a small file of the user's own."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest
import torch
from transformers import BertTokenizer, ElectraConfig, ElectraForPreTraining

from dpt_peft.quickstart.run import FOLDER


def read_rows(split: str) -> list[tuple[str, str]]:
    with (FOLDER / f"{split}.csv").open(encoding="utf-8", newline="") as file:
        return [(row["text"], row["label"]) for row in csv.DictReader(file)]


@pytest.fixture(scope="session")
def discriminator(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Folder of an ELECTRA discriminator with random weights and its tokenizer."""
    words = {word for text, label in read_rows("train") for word in re.findall(r"\w+", f"{text} {label}".lower())}
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *",.:!?", "class", "good", "bad", *sorted(words)]
    folder = tmp_path_factory.mktemp("discriminator")
    vocab = {word: index for index, word in enumerate(dict.fromkeys(vocabulary))}
    BertTokenizer(vocab=vocab, model_max_length=64).save_pretrained(folder)
    torch.manual_seed(0)
    config = ElectraConfig(
        vocab_size=len(vocab),
        embedding_size=16,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
    )
    ElectraForPreTraining(config).save_pretrained(folder)
    return str(folder)


OWN_TEXTS = {
    "good": [f"what a lovely thing number {i}, I like it" for i in range(10)],
    "bad": [f"number {i} came broken and I am cross" for i in range(10)],
}


def write_csv(path: Path, rows: list[tuple[str, str]], header: tuple[str, str] = ("text", "label")) -> str:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return str(path)


@pytest.fixture
def own_csv(tmp_path: Path) -> str:
    """20 texts in two classes, columns `body` and `team`."""
    rows = [(text, label) for label, texts in OWN_TEXTS.items() for text in texts]
    return write_csv(tmp_path / "tickets.csv", rows, ("body", "team"))
