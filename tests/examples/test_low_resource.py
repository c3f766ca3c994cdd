import csv
import importlib.util
import json
import re
import sys
from pathlib import Path
from statistics import mean, stdev

import pytest

from tests.training.tiny import write_discriminator, write_task

SCRIPT = Path(__file__).parents[2] / "examples" / "experiments" / "low_resource.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("low_resource", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    write_discriminator(folder / "tiny")
    (folder / "data" / "sst2").mkdir(parents=True)
    for split in ("train", "validation", "test"):
        with write_task(folder / "rows.csv", 40, seed=len(split)).open() as file:
            rows = [{**row, "label": int(row["label"] == "positive")} for row in csv.DictReader(file)]
        (folder / "data" / "sst2" / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


def run(script, monkeypatch, capsys, *words):
    monkeypatch.setattr(sys, "argv", ["examples/experiments/low_resource.py", *map(str, words)])
    script.main()
    return capsys.readouterr().out


def test_runs_are_recorded_skipped_and_tabulated(script, files, tmp_path, monkeypatch, capsys):
    where = ("--data_dir", files / "data", "--output_dir", tmp_path, "--model_name_or_path", files / "tiny")
    what = ("--datasets", "sst2", "--rows", "fine_tuning", "dpt", "--train_fraction", 0.25)
    run(script, monkeypatch, capsys, *where, *what, "--seeds", 1)
    first = (tmp_path / "records.jsonl").read_text()
    records = [json.loads(line) for line in first.splitlines()]
    assert [record["run"]["row"] for record in records] == ["fine_tuning", "dpt"]
    for record in records:
        assert record["rows"] == {"train": 10, "validation": 40, "test": 40}
        assert record["command"].startswith("python examples/experiments/low_resource.py --data_dir")
        assert record["data_fingerprint"] == records[0]["data_fingerprint"]
        assert {"torch", "transformers", "peft", "dpt_peft"} <= set(record["versions"])
        assert record["seconds"] > 0

    # interrupted while a record was written: that run is done again, the others stay as they are
    with (tmp_path / "records.jsonl").open("a") as file:
        file.write('{"run": {"model": "ti')
    table = run(script, monkeypatch, capsys, *where, *what, "--seeds", 1, 2)
    assert (tmp_path / "records.jsonl").read_text().startswith(first)
    records = script.read_records([tmp_path / "records.jsonl"])
    assert [(record["run"]["row"], record["run"]["seed"]) for record in records] == [
        ("fine_tuning", 1),
        ("dpt", 1),
        ("fine_tuning", 2),
        ("dpt", 2),
    ]

    # The table says what the records say.
    for row, title in (("fine_tuning", "fine-tuning, new head"), ("dpt", "DPT, 1 - sigmoid")):
        values = [100 * record["metrics"]["test_accuracy"] for record in records if record["run"]["row"] == row]
        (line,) = [line for line in table.splitlines() if title in line]
        assert re.search(re.escape(f"{mean(values):.1f} ± {stdev(values):.1f} (2)"), line)
    assert len({len(line) for line in table.splitlines()}) == 1  # aligned
    assert (tmp_path / "table.md").read_text() == table
    assert run(script, monkeypatch, capsys, "--output_dir", tmp_path, "--only-table") == table

    f1 = run(script, monkeypatch, capsys, "--output_dir", tmp_path, "--only-table", "--metric", "macro_f1")
    assert f"{mean(100 * record['metrics']['test_macro_f1'] for record in records[1::2]):.1f} ±" in f1

    # Two machines' records merge.
    lines = (tmp_path / "records.jsonl").read_text().splitlines()
    (tmp_path / "a.jsonl").write_text("\n".join(lines[:2]))
    (tmp_path / "b.jsonl").write_text("\n".join(lines[2:]))
    merged = (
        "--output_dir",
        tmp_path / "new",
        "--only-table",
        "--records",
        tmp_path / "a.jsonl",
        tmp_path / "b.jsonl",
    )
    assert run(script, monkeypatch, capsys, *merged) == table


def test_search_is_on_validation_data(script, files, tmp_path, monkeypatch, capsys):
    where = ("--data_dir", files / "data", "--output_dir", tmp_path, "--model_name_or_path", files / "tiny")
    what = ("--datasets", "sst2", "--rows", "dpt", "--seeds", 0, "--split", "validation")
    table = run(script, monkeypatch, capsys, *where, *what, "--learning_rates", "1e-4", "1e-3")
    records = script.read_records([tmp_path / "records.jsonl"])
    assert [set(record["metrics"]) for record in records] == [{"eval_accuracy", "eval_macro_f1"}] * 2
    assert "1e-04" in table
    assert "1e-03" in table


def test_all_runs_of_a_data_set_see_the_same_examples(script, monkeypatch):
    """Nothing but the row and the training seed differs between the runs that a table compares."""
    monkeypatch.setattr(sys, "argv", ["low_resource.py", "--data_dir", "d", "--output_dir", "o"])
    runs = script.plan(script.parse_arguments(), "model")
    assert len(runs) == 4 * 3 * 3
    for name in script.DATA_SETS:
        same = [{k: v for k, v in run.items() if k not in ("row", "seed")} for run in runs if run["dataset"] == name]
        assert all(run == same[0] for run in same)
