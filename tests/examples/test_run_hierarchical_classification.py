import importlib.util
import json
import sys
from pathlib import Path

import pytest

from dpt_peft.discriminative import DPTForHierarchicalClassification
from tests.training.tiny import write_discriminator

EXAMPLES = Path(__file__).parents[2] / "examples"


def load_script(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    write_discriminator(folder / "discriminator")
    rows = ["a great film,good,great", "a fine film,good,fine", "a poor film,bad,poor", "a dull film,bad,dull"]
    for split in ("train", "test"):
        (folder / f"{split}.csv").write_text("\n".join(["text,mood,word", *rows, ""]))
    return folder


def test_script(files, tmp_path):
    script = load_script(EXAMPLES / "run_hierarchical_classification.py")
    arguments = [
        *("--model_name_or_path", files / "discriminator", "--output_dir", tmp_path, "--method", "dpt"),
        *("--train_file", files / "train.csv", "--test_file", files / "test.csv"),
        *("--level_column_names", "mood", "word", "--do_train", "--do_predict", "--max_steps", 1, "--measure_cost"),
        *("--report_to", "none", "--disable_tqdm", "true", "--use_cpu"),
    ]
    results = script.main([str(word) for word in arguments])
    assert 0 <= results["test_accuracy"] <= results["test_accuracy_level_1"] <= 1
    assert DPTForHierarchicalClassification.from_pretrained(tmp_path).config.tree.classes == (
        "dull",
        "fine",
        "great",
        "poor",
    )
    assert (tmp_path / "predictions.tsv").read_text().count("\n") == 5
    assert json.loads((tmp_path / "all_results.json").read_text())["test_accuracy"] == results["test_accuracy"]


def test_experiment_skips_what_is_done_and_shows_it(monkeypatch, tmp_path, capsys):
    script = load_script(EXAMPLES / "experiments" / "label_hierarchies.py")
    asked = []

    def instead(function, run, *rest):
        asked.append((function.__name__, run["dataset"] if "dataset" in run else run["kind"]))
        cost = {"milliseconds_per_text": 2.0, "cpu_milliseconds_per_text": 1.5, "tokens_per_text": 70.0}
        if function is script.scale:
            return {**cost, "peak_memory_mb": 900.0, "levels": 2}
        beams = [{**cost, "beam": "2:0.3:sigmoid", "accuracy": 0.5, "reached": 0.75}]
        accuracy = {"test_accuracy": 0.7 + run["seed"] / 100, "test_accuracy_level_1": 0.9}
        return {**cost, **accuracy, "peak_memory_mb": 1000.0, "beams": beams}

    monkeypatch.setattr(script, "in_new_process", instead)
    common = ["x", "--output_dir", str(tmp_path), "--model_name_or_path", "some/model", "--data_dir", "data"]
    for _ in range(2):
        monkeypatch.setattr(sys, "argv", [*common, "--datasets", "trec", "--rows", "hierarchy", "--seeds", "1", "3"])
        script.main()
        monkeypatch.setattr(sys, "argv", [*common, "--scaling", "16", "64"])
        script.main()
    assert asked == [("train", "trec")] * 2 + [("scale", "tree"), ("scale", "tree"), ("scale", "flat")] * 2
    table = (tmp_path / "table.md").read_text()
    assert "| TREC | DPT, the data's hierarchy | 72.0 ± 1.4 (2) | 90.0 ± 0.0 (2) |" in " ".join(table.split())
    assert (tmp_path / "scaling.png").stat().st_size > 10_000
