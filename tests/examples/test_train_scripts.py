"""examples/train_dpt.py and train_deep_prompt.py run as they stand, and what they save can be loaded."""

from __future__ import annotations

import runpy

import pytest
from transformers import set_seed

import dpt_peft
from tests.examples.scripts import EXAMPLES


@pytest.mark.parametrize("name", ["train_dpt", "train_deep_prompt"])
def test_runs_as_it_stands(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    set_seed(0)
    there = runpy.run_path(str(EXAMPLES / f"{name}.py"))
    classify = dpt_peft.load(f"outputs/{name}")
    texts = there["texts"]
    # it knows the six texts that it was trained on
    right = [found["label"] == label for found, label in zip(classify(texts), there["labels"], strict=True)]
    assert sum(right) >= 5
