"""The benchmark of mean states: held-out training texts, one line a model."""

import importlib
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from tests.training.tiny import write_discriminator

BENCHMARKS = Path(__file__).parents[2] / "examples" / "benchmarks"


@pytest.fixture
def script(monkeypatch):
    pytest.importorskip("sklearn", reason="pip install dpt_peft[tasks]")
    monkeypatch.setattr(sys, "path", [*sys.path, str(BENCHMARKS)])
    return importlib.import_module("sentence_states")


def test_one_line_a_model(script, tmp_path, capsys):
    folder = write_discriminator(tmp_path / "tiny")
    script.main([str(folder), "--datasets", "messages", "--texts", "16", "--examples_per_class", "2", "--seeds", "0"])
    header, line = capsys.readouterr().out.splitlines()
    assert header.split() == ["messages"]
    name, accuracy = line.split()
    assert name == str(folder)
    assert 0 <= float(accuracy) <= 100


def test_padding_does_not_count(script, tmp_path):
    folder = str(write_discriminator(tmp_path / "tiny"))
    texts = ["the film was good", "bad"]
    found = script.states_of(folder, texts)
    model, tokenizer = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    for row, text in enumerate(texts):
        with torch.no_grad():
            alone = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].mean(0)
        torch.testing.assert_close(found[row], torch.nn.functional.normalize(alone, dim=0))
