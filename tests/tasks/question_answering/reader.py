"""Tiny material of extractive question answering: questions, some of them without an answer, and a model for them."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoModelForQuestionAnswering, ElectraConfig

from tests.tasks.question_answering.multi_span import MAX_LENGTH, WORDS, make_tokenizer

NAMES = ("Ann", "Bob", "Carl", "Dora", "Eve")


def ask(number: int, *, impossible: bool = False) -> dict[str, object]:
    """Somebody sings, somebody else plays the drum; an impossible question is about who was born."""
    singer, player = NAMES[number % 5], NAMES[(number + 1 + number // 5 % 3) % 5]
    context = f"{player} plays the drum. {singer} sings a song in the band."
    start = context.index(f"{singer} sings")
    answers = {"text": [] if impossible else [singer], "answer_start": [] if impossible else [start]}
    asked = "Who was born?" if impossible else "Who sings?"
    return {"id": f"q{number}", "question": asked, "context": context, "answers": answers}


def make_reader(seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    config = ElectraConfig(
        vocab_size=len(WORDS.split()),
        embedding_size=16,
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=32,
        max_position_embeddings=MAX_LENGTH,
        initializer_range=0.3,
    )
    return AutoModelForQuestionAnswering.from_config(config).eval()


def write_reader(folder: Path) -> Path:
    model = make_reader()
    model.config.num_labels = 3  # as in the checkpoint of a backbone that was tuned for something else
    model.electra.save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return folder
