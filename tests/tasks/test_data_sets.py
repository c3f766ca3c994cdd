from pathlib import Path

import pytest
from datasets import ClassLabel, Dataset

from dpt_peft.tasks import TASKS
from dpt_peft.tasks.data import load_file
from dpt_peft.tasks.data_sets import DATA_SETS, data_arguments


def test_from_the_hub():
    assert data_arguments("rte") == {
        "dataset_name": "nyu-mll/glue",
        "dataset_config_name": "rte",
        "text_column_name": "sentence1",
        "text_pair_column_name": "sentence2",
    }


def test_from_files_whose_names_begin_with_the_split(tmp_path):
    (tmp_path / "trec").mkdir()
    for name in ("train_10pct.jsonl", "test.csv", "notes.txt"):
        (tmp_path / "trec" / name).touch()
    assert data_arguments("trec", tmp_path) == {
        "train_file": str(tmp_path / "trec" / "train_10pct.jsonl"),
        "test_file": str(tmp_path / "trec" / "test.csv"),
        "label_column_name": "coarse_label",
        "class_names": ["ABBR", "DESC", "ENTY", "HUM", "LOC", "NUM"],
    }
    with pytest.raises(FileNotFoundError, match="sst2 has no file"):
        data_arguments("sst2", tmp_path)
    with pytest.raises(ValueError, match="no data set 'sst3'; there are sst2"):
        data_arguments("sst3")


def test_validation_data_stands_for_hidden_test_answers(tmp_path):
    assert data_arguments("quoref") == {
        "dataset_name": "allenai/quoref",
        "test_split_name": "validation",
        "validation_split_name": "",
    }
    (tmp_path / "quoref").mkdir()
    for name in ("train_10pct.jsonl", "validation.jsonl"):
        (tmp_path / "quoref" / name).touch()
    assert data_arguments("quoref", tmp_path) == {
        "train_file": str(tmp_path / "quoref" / "train_10pct.jsonl"),
        "test_file": str(tmp_path / "quoref" / "validation.jsonl"),
    }


@pytest.mark.parametrize("name", DATA_SETS)
def test_columns_and_label_words_fit_the_data(name, shared):
    data = DATA_SETS[name]
    if data.packaged is None and not (shared / "data" / (data.folder or name)).is_dir():
        pytest.skip(f"{DATA_SETS[name].title} is not there: it is for owners of the corpus")
    found = data_arguments(name, shared / "data")
    columns = [value for key, value in found.items() if key.endswith("_column_name")]
    rows = load_file(next(value for key, value in found.items() if key.endswith("_file")), "train_file")
    assert set(columns) <= set(rows.column_names)
    labels = rows[found.get("label_column_name", "label")] if DATA_SETS[name].label_words else []
    if DATA_SETS[name].label_words:
        assert len(set(labels)) == len(DATA_SETS[name].label_words)


@pytest.mark.parametrize(
    ("name", "on_the_hub", "words"),
    [
        (
            "trec",
            ["ABBR", "ENTY", "DESC", "HUM", "LOC", "NUM"],
            {
                "ABBR": "abbreviation",
                "DESC": "description",
                "ENTY": "entity",
                "HUM": "human",
                "LOC": "location",
                "NUM": "number",
            },
        ),
        (
            "mnli",
            ["entailment", "neutral", "contradiction"],
            {"entailment": "true", "neutral": "unknown", "contradiction": "false"},
        ),
    ],
)
def test_every_class_has_its_word_in_whatever_order_the_source_has_them(name, on_the_hub, words):
    data, numbers = DATA_SETS[name], list(range(len(on_the_hub)))
    task = TASKS[data.family]
    args = task.arguments(**data.arguments, train_file="x")
    texts = {getattr(args, each): ["a"] * len(numbers) for each in ("text_column_name", "text_pair_column_name")}
    texts.pop(None, None)
    hub = Dataset.from_dict({**texts, args.label_column_name: numbers})
    hub = hub.cast_column(args.label_column_name, ClassLabel(names=on_the_hub))
    spelled = Dataset.from_dict({**texts, args.label_column_name: on_the_hub})
    for source in (hub, spelled):
        shaped = task.shape({"train": source}, args)
        assert dict(zip(shaped.label_names, data.label_words, strict=True)) == words
        assert [shaped.label_names[label] for label in shaped.splits["train"]["labels"]] == on_the_hub


def test_dev_is_validation_data(tmp_path):
    (tmp_path / "trec").mkdir()
    for name in ("train.csv", "dev.csv", "dev_notes.csv"):
        (tmp_path / "trec" / name).write_text("text,label\na,0\n")
    found = data_arguments("trec", tmp_path)
    assert Path(found["validation_file"]).name == "dev.csv"
    assert "test_file" not in found


def test_two_data_sets_of_one_folder(tmp_path):
    (tmp_path / "hwu64").mkdir()
    (tmp_path / "hwu64" / "train.jsonl").touch()
    file = str(tmp_path / "hwu64" / "train.jsonl")
    assert data_arguments("hwu64", tmp_path) == {"train_file": file, "label_column_name": "intent"}
    assert data_arguments("hwu64_scenarios", tmp_path) == {"train_file": file, "label_column_name": "scenario"}


def test_the_packages_own_messages_need_no_folder(tmp_path):
    found = data_arguments("messages", tmp_path)
    assert found == data_arguments("messages")
    assert [len(load_file(path, name)) for name, path in found.items()] == [224, 224]


def test_what_is_not_on_the_hub_says_where_it_is(tmp_path):
    with pytest.raises(FileNotFoundError, match="OntoNotes 5 is not on the Hub; give a `data_dir`.*LDC2013T19"):
        data_arguments("ontonotes")
    (tmp_path / "ontonotes").mkdir()
    with pytest.raises(FileNotFoundError, match="has no file that begins with train.*LDC2013T19"):
        data_arguments("ontonotes", tmp_path)
    (tmp_path / "ontonotes" / "train.gold_conll").touch()
    assert data_arguments("ontonotes", tmp_path) == {
        "train_file": str(tmp_path / "ontonotes" / "train.gold_conll"),
        "conll_word_column": 3,
        "conll_tag_column": 10,
    }


def test_one_file_a_split(tmp_path):
    (tmp_path / "sst2").mkdir()
    for shard in "01":
        (tmp_path / "sst2" / f"train-{shard}.jsonl").write_text("{}")
    with pytest.raises(
        ValueError, match="`data_dir`: .*sst2 has 2 files of the train data: train-0.jsonl, train-1.jsonl"
    ):
        data_arguments("sst2", tmp_path)
