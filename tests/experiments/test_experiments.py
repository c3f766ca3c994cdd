"""Every experiment in small: runs, records, table, picture, and going on."""

import csv
import json
import re
from importlib import import_module
from pathlib import Path
from statistics import mean, stdev

import low_resource
import pytest
from comparison import models_of, title_of
from plan import read_records

from dpt_peft.tasks import NEW_HEAD
from dpt_peft.training import METHODS
from tests.tasks.choices import make_rows, write_chooser
from tests.tasks.question_answering.reader import ask, write_reader
from tests.training.tiny import write_discriminator, write_language_model, write_task

SCRIPTS = Path(__file__).parents[2] / "examples" / "experiments"
#: Script -> arguments that make it small; titles in its table.
EXPERIMENTS = {
    "low_resource": (("--train_fractions", 0.25), ("Fine-tuning, new head", "DPT")),
    "stability": (("--train_fraction", 0.25), ("Fine-tuning, new head", "DPT")),
    "ablation_score": (("--train_fraction", 0.25), ("DPT", "DPT, sigmoid")),
    "ablation_head": (
        ("--train_fraction", 0.25, "--num_virtual_tokens", 3, "--split", "test"),
        ("Deep prompts, new head, its rate 0.001, 3 prompts", "Deep prompts, verbalizer, 3 prompts"),
    ),
    "ablation_depth": (
        ("--train_fraction", 0.25, "--depths", 1, 2, "--num_virtual_tokens", 3),
        tuple(
            f"Deep prompts, new head, its rate 0.001, 3 prompts, {layers} layers"
            for layers in ("first 1", "last 1", "last 2")
        ),
    ),
    "ablation_start": (
        ("--train_fraction", 0.25, "--head_learning_rate", 1e-3),
        tuple(
            f"Deep prompts, new head, its rate 0.001, {start}"
            for start in ("start N(0, 0.02)", "start N(0, 1)", "start vocabulary", "gate")
        ),
    ),
    "ablation_length": (
        ("--train_fraction", 0.25, "--lengths", 2, 4, "--mlp_learning_rates", 1e-3),
        tuple(
            f"Deep prompts, new head, {prompts}"
            for length in (2, 4)
            # The rate of the MLP is given, so nothing is left to the method's own rates.
            for prompts in (f"its rate 0.001, {length} prompts, embedding", f"{length} prompts, MLP")
        ),
    ),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    write_discriminator(folder / "tiny")
    write_language_model(folder / "language_model")
    (folder / "data" / "sst2").mkdir(parents=True)
    for split in ("train", "validation", "test"):
        with write_task(folder / "rows.csv", 40, seed=len(split)).open() as file:
            rows = [{**row, "label": int(row["label"] == "positive")} for row in csv.DictReader(file)]
        (folder / "data" / "sst2" / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


def run(name, files, output_dir, capsys, *words):
    model = files / ("language_model" if name == "ablation_head" else "tiny")
    where = ("--data_dir", files / "data", "--output_dir", output_dir, "--model_name_or_path", model)
    small = ("--datasets", "sst2", "--epochs", 1, "--batch_size", 8, "--max_seq_length", 40)
    import_module(name).main([*map(str, (*where, *small, *words))])
    return capsys.readouterr().out


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_experiment_is_tested():
    ours = {script.stem for script in SCRIPTS.glob("*.py") if "\ndef plan(" in script.read_text()}
    # test_few_labels.py, test_readings.py; in tests/examples those of answers of several spans and of trees
    assert ours == {*EXPERIMENTS, "few_labels", "readings", "multi_span", "label_hierarchies"}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_runs_records_and_goes_on(name, files, tmp_path, capsys):
    options, titles = EXPERIMENTS[name]
    run(name, files, tmp_path, capsys, *options, "--seeds", 1)
    first = (tmp_path / "records.jsonl").read_text()
    for record in lines(tmp_path / "records.jsonl"):
        assert record["rows"] == {"train": 10, "validation": 40, "test": 40}
        assert {"accuracy", "macro_f1", "majority_share"} <= set(record["metrics"])
        assert record["metrics"]["majority_share"] == 0.5
        assert record["trained_parameters"] > 0
        assert record["options"].items() >= record["run"]["options"].items()
        own_head = METHODS[record["run"]["method"]].head != NEW_HEAD
        assert ("label_words" in record.get("wrapper", {})) is own_head

    table = run(name, files, tmp_path, capsys, *options, "--seeds", 1, 2)
    assert (tmp_path / "records.jsonl").read_text().startswith(first)  # what was done was not done again
    records = lines(tmp_path / "records.jsonl")
    assert sorted({record["run"]["seed"] for record in records}) == [1, 2]
    assert (tmp_path / "table.md").read_text() == table
    assert (tmp_path / "plot.png").stat().st_size > 5000

    # The table says what the records say, on aligned lines.
    rows = [line for line in table.splitlines() if line.startswith("|")]
    assert len({len(row) for row in rows}) == 1
    for title in titles:
        (row,) = [row for row in rows if re.search(rf"\| {re.escape(title)} +\|", row)]
        metric = [100 * r["metrics"]["accuracy"] for r in records if title == title_of(r["run"])]
        assert len(metric) == 2
        assert f"{mean(metric):.1f}" in row
        assert f"{stdev(metric):.1f}" in row

    # The same from the records alone, and by another metric.
    shown = ("--records", tmp_path / "records.jsonl", "--only_table", "--seeds", 1, 2)
    assert run(name, files, tmp_path / "new", capsys, *options, *shown) == table
    other = run(name, files, tmp_path / "new", capsys, *options, *shown, "--metric", "macro_f1")
    f1 = [100 * r["metrics"]["macro_f1"] for r in records if title_of(r["run"]) == titles[0]]
    assert f"{mean(f1):.1f}" in other


def test_names_are_one_more_family(files, tmp_path, capsys):
    folder = tmp_path / "data" / "conll04"
    folder.mkdir(parents=True)
    for split in ("train", "validation", "test"):
        rows = [{"tokens": ["the", word], "ner_tags": ["O", "B-X"]} for word in ("good", "bad", "film") * 4]
        (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    options = ("--methods", "fine_tuning", "deep_prompt", "--seeds", 1, "--train_fractions", 0.5, "--metric", "f1")
    names = ("--data_dir", tmp_path / "data", "--datasets", "conll04")
    table = run("low_resource", files, tmp_path / "o", capsys, *options, *names)
    for record in lines(tmp_path / "o" / "records.jsonl"):
        assert record["rows"] == {"train": 6, "validation": 12, "test": 12}
        assert f"{100 * record['metrics']['f1']:.1f}" in table
    shown = ("--only_table", "--records", tmp_path / "o" / "records.jsonl", "--metric", "f1")
    table = run("stability", files, tmp_path / "s", capsys, *shown)
    assert [line.split("|")[-2].strip() for line in table.splitlines() if "CoNLL-2004" in line] == ["-", "-"]


def test_multiple_choice_and_questions_are_families_too(files, tmp_path, capsys):
    write_chooser(files / "chooser")
    write_reader(files / "reader")
    rows = {"copa": make_rows(8), "squad_v2": [ask(number, impossible=number % 4 == 3) for number in range(8)]}
    for name, content in rows.items():
        (files / "data" / name).mkdir()
        for split in ("train", "dev_half_validation"):
            (files / "data" / name / f"{split}.jsonl").write_text("\n".join(map(json.dumps, content)))
    common = ("--methods", "deep_prompt", "--seeds", 1, "--split", "validation")
    half = ("--train_fractions", 0.5)
    words = ("--datasets", "copa", "--model_name_or_path", files / "chooser")
    assert "COPA" in run("low_resource", files, tmp_path / "copa", capsys, *common, *half, *words)
    words = ("--datasets", "squad_v2", "--model_name_or_path", files / "reader", "--metric", "f1")
    assert "SQuAD 2.0" in run("low_resource", files, tmp_path / "squad", capsys, *common, *half, *words)
    (choice,), (reading,) = lines(tmp_path / "copa" / "records.jsonl"), lines(tmp_path / "squad" / "records.jsonl")
    assert choice["rows"] == {"train": 4, "validation": 8}
    assert {"accuracy", "majority_share"} <= choice["metrics"].keys()
    assert reading["rows"] == {"train": 4, "validation": 8}
    assert {"exact_match", "f1", "HasAns_f1", "NoAns_f1", "best_f1"} <= reading["metrics"].keys()
    with pytest.raises(ValueError, match="question-answering has no classes; give a share"):
        run("low_resource", files, tmp_path / "few", capsys, *common, *words, "--examples_per_class", 2)


def test_pictures_name_the_models_of_the_records():
    records = [{"run": {"model": name}} for name in ("b", "a", "b")]
    assert models_of(records) == "b, a"


def test_a_search_is_on_validation_data(files, tmp_path, capsys):
    search = ("--methods", "dpt", "--seeds", 0, "--split", "validation", "--learning_rates", "dpt=1e-4", "dpt=1e-3")
    table = run("low_resource", files, tmp_path, capsys, *search, "--examples_per_class", 4)
    records = lines(tmp_path / "records.jsonl")
    assert [record["rows"]["train"] for record in records] == [8, 8]
    assert "1e-04" in table
    assert "1e-03" in table


def test_nothing_but_method_and_seed_differs_between_the_runs_that_a_table_compares():
    arguments = low_resource.LowResourceArguments(output_dir="o", methods=["fine_tuning", "dpt", "lora"])
    runs = low_resource.plan(arguments)
    assert len(runs) == 4 * 3 * 3
    for name in arguments.datasets:
        same = [
            {key: value for key, value in run.items() if key not in ("method", "learning_rate", "seed")}
            for run in runs
            if run["dataset"] == name
        ]
        assert all(run == same[0] for run in same)


def test_a_learning_rate_of_a_method_that_is_not_run_is_refused():
    with pytest.raises(ValueError, match="`learning_rates` must be like fine_tuning=2e-4"):
        low_resource.plan(low_resource.LowResourceArguments(output_dir="o", learning_rates=["lora=1e-3"]))


def test_no_run_finished_yet(tmp_path, capsys, files):
    assert "None of these runs" in run("low_resource", files, tmp_path, capsys, "--only_table")
    assert read_records(low_resource.LowResourceArguments(output_dir=str(tmp_path))) == []
