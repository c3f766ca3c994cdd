"""The discriminator that comes with the package: unpacked once from what is shipped."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

import pytest
import torch
from transformers import AutoModel, AutoModelForPreTraining, AutoTokenizer, ElectraForPreTraining

from dpt_peft import DPTForSequenceClassification
from dpt_peft.pretraining import embedded
from dpt_peft.pretraining.embedded import PACKED_FOLDER, embedded_discriminator
from dpt_peft.tasks import (
    ClassSamplingArguments,
    TextClassification,
    TextClassificationArguments,
    data_arguments,
)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def folder(cache: Path) -> str:
    return embedded_discriminator(cache)


def test_every_class_loads_it(folder):
    discriminator = AutoModelForPreTraining.from_pretrained(folder)
    assert isinstance(discriminator, ElectraForPreTraining)
    assert {p.dtype for p in discriminator.parameters()} == {torch.float32}
    assert sum(p.numel() for p in discriminator.parameters()) == 22_713_601
    assert AutoModel.from_pretrained(folder).config.hidden_size == 384
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.convert_ids_to_tokens(tokenizer("A film")["input_ids"]) == ["[CLS]", "a", "film", "[SEP]"]
    assert tokenizer.model_max_length == 512


def test_it_is_a_real_discriminator(folder):
    """Words that do not fit look replaced: judged on sentences written here, one word changed in each."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), ElectraForPreTraining.from_pretrained(folder)
    pairs = [
        ("the cat drank a bowl of milk in the kitchen .", "milk", "parliament"),
        ("she parked her car in front of the house .", "car", "seven"),
        ("the president gave a speech to the nation .", "speech", "elbow"),
        ("he cooked dinner for his family last night .", "dinner", "gravity"),
        ("the doctor told the patient to take some medicine .", "medicine", "basketball"),
        ("we watched a good movie at the cinema .", "movie", "under"),
    ]
    for sentence, word, wrong in pairs:
        logits = []
        for text in (sentence, sentence.replace(word, wrong)):
            batch = tokenizer(text, return_tensors="pt")
            place = (
                batch["input_ids"][0].tolist().index(tokenizer.convert_tokens_to_ids(wrong if wrong in text else word))
            )
            with torch.no_grad():
                logits.append(model(**batch).logits[0, place].item())
        assert logits[1] > logits[0] + 1, (sentence, logits)


def test_built_once(folder, cache, monkeypatch):
    monkeypatch.setattr(embedded, "_build", lambda *_: pytest.fail("built again"))
    assert embedded_discriminator(cache) == embedded_discriminator(str(cache)) == folder
    assert [path.name for path in cache.iterdir()] == [Path(folder).name]


def test_default_cache_is_under_the_hugging_face_home(tmp_path, monkeypatch):
    monkeypatch.setattr(embedded, "HF_HOME", str(tmp_path))
    monkeypatch.setattr(embedded, "_build", lambda folder: (folder / "config.json").write_text("{}"))
    assert Path(embedded_discriminator()).parent == tmp_path / "dpt_peft"


@pytest.mark.parametrize(("umask", "folder", "file"), [(0o022, 0o755, 0o644), (0o027, 0o750, 0o640)])
def test_who_may_read_the_cache_may_read_the_files(tmp_path, monkeypatch, umask, folder, file):
    def build(folder: Path) -> None:
        descriptor, name = tempfile.mkstemp(dir=folder)  # readable for its owner alone, as weights are written
        os.close(descriptor)
        Path(name).rename(folder / "model.safetensors")

    monkeypatch.setattr(embedded, "_build", build)
    former = os.umask(umask)
    try:
        found = Path(embedded_discriminator(tmp_path / "cache"))
    finally:
        os.umask(former)
    assert stat.S_IMODE(found.stat().st_mode) == folder
    assert stat.S_IMODE((found / "model.safetensors").stat().st_mode) == file


def test_two_processes_at_once(tmp_path, monkeypatch):
    """Both build; whoever comes second finds the other's folder in place and takes it."""
    builds = []

    def build(folder: Path) -> None:
        builds.append(folder)
        (folder / "config.json").write_text(str(len(builds)))
        if len(builds) == 1:  # the other process starts and ends while this one is at work
            assert len(list(tmp_path.iterdir())) == 1
            embedded_discriminator(tmp_path)

    monkeypatch.setattr(embedded, "_build", build)
    found = Path(embedded_discriminator(tmp_path))
    assert len(set(builds)) == 2
    assert list(tmp_path.iterdir()) == [found]
    assert (found / "config.json").read_text() == "2"


def test_a_failed_build_leaves_nothing(tmp_path, monkeypatch):
    def fail(folder: Path) -> None:
        (folder / "config.json").write_text("{}")
        raise KeyboardInterrupt

    monkeypatch.setattr(embedded, "_build", fail)
    with pytest.raises(KeyboardInterrupt):
        embedded_discriminator(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        embedded_discriminator(tmp_path / "file")


def test_building_prints_nothing(tmp_path, capfd, recwarn):
    embedded_discriminator(tmp_path)
    assert "".join(capfd.readouterr()) == ""
    assert [str(warning.message) for warning in recwarn] == []


def test_what_ships_is_small_and_complete():
    files = {path.name: path.stat().st_size for path in PACKED_FOLDER.iterdir() if path.is_file()}
    assert files.keys() - {"__init__.py"} == {
        "MODEL_CARD.md",
        "config.json",
        "model_int8.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert sum(files.values()) <= 24_000_000


def test_it_still_knows_which_texts_are_alike(folder):
    """Untrained prototypes of 8 messages a class: replaced-token detection alone had forgotten what they rest on."""
    task = TextClassification()
    data = task.load(TextClassificationArguments(**data_arguments("messages")))
    rows = task.select(data, ClassSamplingArguments(examples_per_class=8, sample_seed=100))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = DPTForSequenceClassification.from_pretrained(
        folder, label_words=data.label_names, prototypes=True, template_weight=0.0
    ).eval()
    batches = {
        split: {
            **tokenizer(rows[split]["text"][:], padding=True, return_tensors="pt"),
            "labels": torch.tensor(rows[split]["labels"][:]),
        }
        for split in ("train", "test")
    }
    model.set_prototypes([batches["train"]])
    with torch.no_grad():
        found = model(**batches["test"]).logits.argmax(1)
    # 0.63 was measured, 0.29 with minilm-rtd.
    assert (found == batches["test"]["labels"]).float().mean() > 0.55
