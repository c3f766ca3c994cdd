"""examples/export_onnx.py: both files classify as the model that they were made of."""

from __future__ import annotations

import sys
from itertools import product
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from transformers import AutoModelForPreTraining, BertTokenizer

from dpt_peft import DPTForSequenceClassification
from tests.architectures import make_config
from tests.examples.scripts import load_script

TEXTS = ["the match ended", "a bank rose, very good", "the film", "very bad match", "bank"]
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "sports", "business", "class", ":", ",", ".", "good", "bad"]
CLASSES = ["sports", "business"]


@pytest.fixture
def model(tmp_path: Path) -> str:
    (tmp_path / "vocab.txt").write_text("\n".join(dict.fromkeys(WORDS + " ".join(TEXTS).replace(",", "").split())))
    torch.manual_seed(0)
    AutoModelForPreTraining.from_config(make_config("electra", vocab_size=60)).save_pretrained(tmp_path / "electra")
    tokenizer = BertTokenizer(str(tmp_path / "vocab.txt"))
    tokenizer.save_pretrained(tmp_path / "electra")
    classifier = DPTForSequenceClassification.from_pretrained(tmp_path / "electra", label_words=CLASSES)
    classifier.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    return str(tmp_path / "model")


def test_both_files_classify_as_the_model(model, tmp_path):
    for package in ("onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason="pip install dpt_peft[onnx]")
    classifier = DPTForSequenceClassification.from_pretrained(model).eval()
    tokenizer = BertTokenizer.from_pretrained(model)

    def answers(*texts: list[str]) -> list[str]:
        with torch.no_grad():
            logits = classifier(**tokenizer(*texts, padding=True, return_tensors="pt")).logits
        return [CLASSES[index] for index in logits.argmax(-1).tolist()]

    labels = answers(TEXTS)
    # the model's own answers, one of them turned round
    labels[0] = next(name for name in CLASSES if name != labels[0])
    rows = [f'"{text}",{label}' for text, label in zip(TEXTS, labels, strict=True)]
    (tmp_path / "test.csv").write_text("\n".join(["text,label", *rows]))

    script = load_script("export_onnx")
    found = script.main([model, str(tmp_path / "test.csv"), "--output_dir", str(tmp_path / "onnx")])
    assert found["float32"] == pytest.approx(4 / 5)
    # a model with random weights decides narrowly: int8 may turn an answer
    assert found["int8"] >= 2 / 5
    sizes = {path.stem: path.stat().st_size for path in (tmp_path / "onnx").iterdir()}
    assert set(sizes) == {"model_float32", "model_int8"}

    # of pairs both texts are read: with the first one alone the model answers otherwise
    firsts, seconds = (list(texts) for texts in zip(*product(TEXTS, TEXTS), strict=True))
    of_pairs, of_firsts = answers(firsts, seconds), answers(firsts)
    assert of_pairs != of_firsts
    pairs = Dataset.from_dict({"text": firsts, "text_pair": seconds, "label": of_pairs})
    assert script.accuracy(tmp_path / "onnx" / "model_float32.onnx", tokenizer, pairs, CLASSES) == 1


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("sentence,label\nbank,sports\n", "must have the columns text and label"),
        ("text,label\nbank,7\n", "no class of"),
    ],
)
def test_tables_that_it_cannot_measure(model, tmp_path, capsys, table, message):
    for package in ("onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason="pip install dpt_peft[onnx]")
    (tmp_path / "test.csv").write_text(table)
    with pytest.raises(SystemExit):
        load_script("export_onnx").main([model, str(tmp_path / "test.csv"), "--output_dir", str(tmp_path / "onnx")])
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_without_the_extra_it_helps_and_says_what_to_install(tmp_path, monkeypatch, capsys, package):
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    script = load_script("export_onnx")
    with pytest.raises(SystemExit, match="0"):
        script.main(["--help"])
    assert "the columns" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="2"):
        script.main(["a_model", "a_table.csv", "--output_dir", str(tmp_path / "onnx")])
    (message,) = [line for line in capsys.readouterr().err.splitlines() if "error:" in line]
    assert package in message
    assert 'pip install "dpt_peft[onnx]"' in message
    assert not (tmp_path / "onnx").exists()
