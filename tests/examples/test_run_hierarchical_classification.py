import json
from statistics import mean, stdev

import label_hierarchies
import pytest
from hierarchical_data_sets import HierarchicalDataSet

from dpt_peft.pretrained_heads import DPTForHierarchicalClassification
from tests.examples.scripts import load_script
from tests.training.tiny import write_discriminator

#: text, level 1, class
ROWS = ["a great film,good,great", "a fine film,good,fine", "a poor film,bad,poor", "a dull film,bad,dull"]
#: What `class_scaling_cost` returns.
COST = {
    "milliseconds_per_text": 2.0,
    "cpu_milliseconds_per_text": 1.5,
    "tokens_per_text": 70.0,
    "padded_tokens_per_text": 71.0,
    "peak_memory_mb": 900.0,
    "levels": 2,
    "trained_parameters": 0,
    "rows": {"test": 64},
    "data_fingerprint": {"test": "abc"},
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    write_discriminator(folder / "discriminator")
    for split in ("train", "test"):
        (folder / f"{split}.csv").write_text("\n".join(["text,mood,word", *ROWS, ""]))
    return folder


def test_script(files, tmp_path):
    script = load_script("run_hierarchical_classification")
    arguments = [
        *("--model_name_or_path", files / "discriminator", "--output_dir", tmp_path, "--method", "dpt"),
        *("--train_file", files / "train.csv", "--test_file", files / "test.csv"),
        *("--level_column_names", "mood", "word", "--do_train", "--do_predict", "--max_steps", 1, "--measure_cost"),
        *("--report_to", "none", "--disable_tqdm", "true", "--use_cpu"),
    ]
    results = script.main([str(word) for word in arguments])
    assert 0 <= results["test_accuracy"] <= results["test_accuracy_level_1"] <= 1
    assert results["flat_tokens_per_text"] < results["tokens_per_text"]
    assert results["peak_memory_mb"] > 50
    kept = json.loads((tmp_path / "costs.json").read_text())
    assert kept == {name: results[name] for name in kept}
    assert {"flat_tokens_per_text", "peak_memory_mb"} <= kept.keys()
    assert DPTForHierarchicalClassification.from_pretrained(tmp_path).config.tree.classes == (
        "dull",
        "fine",
        "great",
        "poor",
    )
    assert (tmp_path / "predictions.tsv").read_text().count("\n") == 5
    assert json.loads((tmp_path / "all_results.json").read_text())["test_accuracy"] == results["test_accuracy"]


def test_what_cannot_be_measured_is_refused_before_training(files, tmp_path):
    script = load_script("run_hierarchical_classification")
    where = ("--model_name_or_path", files / "discriminator", "--output_dir", tmp_path / "out")
    data = ("--train_file", files / "train.csv", "--level_column_names", "mood", "word")
    words = [str(word) for word in (*where, *data, "--method", "dpt", "--do_train")]
    with pytest.raises(ValueError, match="`beams` must be written as in"):
        script.main([*words, "--do_predict", "--beams", "2:0.3"])
    with pytest.raises(ValueError, match="`measure_cost` needs test or validation data"):
        script.main([*words, "--measure_cost"])
    assert not (tmp_path / "out").exists()


def test_a_trained_model_reads_a_file_alone(files, tmp_path):
    script = load_script("run_hierarchical_classification")
    usual = ("--method", "dpt", "--test_file", files / "test.csv", "--level_column_names", "mood", "word")
    usual = (*usual, "--do_predict", "--report_to", "none", "--disable_tqdm", "true", "--use_cpu")

    def answers(model, folder, *further):
        where = ("--model_name_or_path", model, "--output_dir", tmp_path / folder)
        results = script.main([str(word) for word in (*where, *usual, *further)])
        return {name: results[name] for name in results if "accuracy" in name}

    training = ("--train_file", files / "train.csv", "--do_train", "--max_steps", 1)
    trained = answers(files / "discriminator", "tree", *training)
    assert "test_accuracy_level_1" in trained
    assert answers(tmp_path / "tree", "again") == trained
    answers(files / "discriminator", "flat", *training, "--label_hierarchy", "none")
    with pytest.raises(ValueError, match="`beams` are for a hierarchy, and the model"):
        answers(tmp_path / "flat", "beams", "--beams", "2:0.3:sigmoid")


def in_this_process(monkeypatch, seen):
    def instead(function, run, *rest):
        seen.append(run)
        return function(run, *rest)

    monkeypatch.setattr(label_hierarchies, "in_new_process", instead)


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_experiment_runs_records_and_goes_on(monkeypatch, files, tmp_path, capsys):
    folder = tmp_path / "data" / "moods"
    folder.mkdir(parents=True)
    for split in ("train", "test"):
        rows = [dict(zip(("text", "mood", "word"), row.split(","), strict=True)) for row in ROWS * 4]
        (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    moods = HierarchicalDataSet(
        "Moods", None, ("mood", "word"), {"good": "fine"}, {"examples_per_class": 2}, held_out=4
    )
    monkeypatch.setitem(label_hierarchies.HIERARCHIES, "moods", moods)
    seen: list[dict] = []
    in_this_process(monkeypatch, seen)
    model = ("--model_name_or_path", files / "discriminator", "--output_dir", tmp_path / "out")
    where = [*model, "--data_dir", tmp_path / "data", "--max_test_examples", 8, "--epochs", 1]
    rows = ("--rows", "hierarchy", "flat", "fine_tuning", "--row_epochs", "fine_tuning=2", "--beams", "1:0:sigmoid")
    monkeypatch.setattr(
        label_hierarchies.HierarchyExperimentArguments.__dataclass_fields__["datasets"], "metadata", {}
    )
    for seeds in ((1,), (1, 3)):
        label_hierarchies.main([str(word) for word in (*where, "--datasets", "moods", *rows, "--seeds", *seeds)])
    assert [run["seed"] for run in seen] == [1, 1, 1, 3, 3, 3]  # what was done is not done again
    records = lines(tmp_path / "out" / "records.jsonl")
    assert [record["run"] for record in records] == seen
    assert [record["run"]["epochs"] for record in records[:3]] == [1, 1, 2]
    for record in records:
        assert record["rows"] == {"train": 8, "test": 8}
        assert {"accuracy", "accuracy_level_1", "tokens_per_text", "peak_memory_mb"} <= record["metrics"].keys()
    assert records[0]["metrics"]["flat_tokens_per_text"] == records[1]["metrics"]["tokens_per_text"]
    assert [beam["beam"] for beam in records[0]["metrics"]["beams"]] == ["1:0:sigmoid"]

    # The table says what the records say.
    table = (tmp_path / "out" / "table.md").read_text()
    (row,) = [line for line in table.splitlines() if "hierarchy | " in " ".join(line.split()) and "± " in line]
    accuracy = [100 * record["metrics"]["accuracy"] for record in records if "beam_width" in record["run"]["options"]]
    assert f"{mean(accuracy):.1f} ± {stdev(accuracy):.1f} (2)" in row
    assert (tmp_path / "out" / "plot.png").stat().st_size > 5000

    # On training rows that are not used, to choose by.
    search = ("--split", "validation", "--rows", "fine_tuning", "--learning_rates", "fine_tuning=1e-3", "--seeds", "1")
    label_hierarchies.main([str(word) for word in (*where, "--datasets", "moods", *search)])
    found = lines(tmp_path / "out" / "records.jsonl")[-1]
    assert found["rows"] == {"train": 8, "validation": 4, "test": 8}
    assert (found["run"]["split"], found["run"]["learning_rate"]) == ("validation", 1e-3)
    capsys.readouterr()


def test_the_cost_over_the_number_of_classes(monkeypatch, files, tmp_path, capsys):
    seen: list[dict] = []
    in_this_process(monkeypatch, seen)
    monkeypatch.setattr(label_hierarchies, "class_scaling_cost", lambda *_, **__: COST)
    words = ["--model_name_or_path", files / "discriminator", "--output_dir", tmp_path, "--scaling", 16, 64]
    for _ in range(2):
        label_hierarchies.main([str(word) for word in words])
    shapes = [(run["options"].get("beam_width"), run["options"].get("short_list")) for run in seen]
    assert shapes == 2 * [(1, None), (2, None), (None, None), (None, 8)]
    assert [run["options"]["classes"] for run in seen] == 4 * [16] + 4 * [64]
    assert (tmp_path / "scaling.png").stat().st_size > 10_000
    shown = capsys.readouterr().out
    assert "| tree, beam of 2  |     64 |                2 |    1.5 |   70.0 |     900 |" in shown
    assert "| short list of 8  |     64 |" in shown


@pytest.mark.parametrize("entry", ["fine_tuning", "lora=1e-3"])
def test_values_of_rows_are_checked(entry):
    arguments = label_hierarchies.HierarchyExperimentArguments(output_dir="o", learning_rates=[entry])
    with pytest.raises(ValueError, match="`learning_rates` must be like "):
        label_hierarchies.plan(arguments)


def test_data_that_is_not_on_the_hub_needs_a_folder(tmp_path, capsys):
    with pytest.raises(SystemExit):
        label_hierarchies.main(["--output_dir", str(tmp_path), "--model_name_or_path", "some/model"])
    assert "--data_dir is missing" in capsys.readouterr().err
