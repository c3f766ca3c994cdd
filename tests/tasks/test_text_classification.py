import json

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Sequence, Value
from sklearn.metrics import accuracy_score, f1_score
from transformers import BertTokenizer, EvalPrediction

from dpt_peft.tasks.base import write_predictions
from dpt_peft.tasks.labels import read_labels
from dpt_peft.tasks.text_classification import (
    TextClassification,
    TextClassificationArguments,
    classification_metrics,
    tokenize_texts,
)


def write_csv(path, rows, header="text,label"):
    path.write_text("\n".join([header, *rows, ""]), encoding="utf-8")
    return str(path)


def load(**kwargs):
    return TextClassification().load(TextClassificationArguments(**kwargs))


@pytest.fixture
def train_file(tmp_path):
    return write_csv(tmp_path / "train.csv", ["good,pos", "bad,neg", "fine,pos"])


@pytest.mark.parametrize("kind", ["csv", "tsv", "json", "jsonl"])
def test_every_file_kind_gives_the_same_data(tmp_path, kind):
    rows = [("NA", "b"), ("", "a"), ("null", "b"), ('with "quotes", and comma', "a")]
    path = tmp_path / f"train.{kind}"
    if kind in ("csv", "tsv"):
        separator = "," if kind == "csv" else "\t"
        quoted = [[f'"{cell.replace(chr(34), chr(34) * 2)}"' for cell in row] for row in [("text", "label"), *rows]]
        path.write_text("\n".join(separator.join(row) for row in quoted) + "\n")
    else:
        dicts = [{"text": text, "label": label} for text, label in rows]
        path.write_text(json.dumps(dicts) if kind == "json" else "\n".join(map(json.dumps, dicts)))
    data = load(train_file=str(path))
    assert data.label_names == ["a", "b"]
    assert data.splits["train"].to_dict() == {"text": [text for text, _ in rows], "labels": [1, 0, 1, 0]}


def test_folder_with_splits(tmp_path):
    for split, text in (("train", "x"), ("validation", "y"), ("test", "z")):
        rows = [{"text": text, "label": label} for label in (3, 1, 10)]
        (tmp_path / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    data = load(dataset_name=str(tmp_path))
    assert set(data.splits) == {"train", "validation", "test"}
    assert data.splits["validation"]["text"][:] == ["y", "y", "y"]
    assert data.label_names == ["1", "3", "10"]  # numbers by value, not by alphabet
    assert data.splits["test"]["labels"][:] == [1, 0, 2]


def test_text_pairs(tmp_path):
    path = write_csv(tmp_path / "train.csv", ["p,q,0", "r,,1"], header="first,second,y")
    data = load(train_file=path, text_column_name="first", text_pair_column_name="second", label_column_name="y")
    assert data.splits["train"].to_dict() == {"text": ["p", "r"], "text_pair": ["q", ""], "labels": [0, 1]}


def test_class_label_keeps_its_order_and_reads_minus_one_as_unlabelled(tmp_path, monkeypatch):
    features = Features({"text": Value("string"), "label": ClassLabel(names=["zebra", "ant"])})
    hub = DatasetDict(
        {
            "train": Dataset.from_dict({"text": ["a", "b"], "label": [1, 0]}, features=features),
            "test": Dataset.from_dict({"text": ["c", "d"], "label": [-1, -1]}, features=features),
        }
    )
    monkeypatch.setattr("dpt_peft.tasks.data.load_dataset", lambda name, config: hub)
    data = load(dataset_name="someone/animals")
    assert data.label_names == ["zebra", "ant"]
    assert data.splits["train"]["labels"][:] == [1, 0]
    assert data.splits["test"].column_names == ["text"]


def test_class_names_give_named_labels_their_order(train_file):
    data = load(train_file=train_file, class_names=["pos", "neg"])
    assert data.label_names == ["pos", "neg"]
    assert data.splits["train"]["labels"][:] == [0, 1, 0]


def test_class_names_name_numbers(tmp_path):
    path = write_csv(tmp_path / "train.csv", ["x,1", "y,0", "z,1"])
    data = load(train_file=path, class_names=["negative", "positive"])
    assert data.label_names == ["negative", "positive"]
    assert data.splits["train"]["labels"][:] == [1, 0, 1]


def test_truth_values(tmp_path):
    (tmp_path / "train.jsonl").write_text('{"text": "x", "label": true}\n{"text": "y", "label": false}\n')
    data = load(train_file=str(tmp_path / "train.jsonl"))
    assert data.label_names == ["False", "True"]
    assert data.splits["train"]["labels"][:] == [1, 0]


def test_a_missing_column_names_those_there_are(train_file):
    with pytest.raises(
        ValueError, match=r"no column 'sentence' \(`text_column_name`\). Columns there are: text, label"
    ):
        load(train_file=train_file, text_column_name="sentence")
    with pytest.raises(ValueError, match=r"`label_column_name`.*text, label"):
        load(train_file=train_file, label_column_name="y")


def test_a_label_that_only_the_test_split_has_is_named(tmp_path, train_file):
    test_file = write_csv(tmp_path / "test.csv", ["x,pos", "y,mixed"])
    with pytest.raises(ValueError, match=r"test data has labels that the train data does not have: mixed\."):
        load(train_file=train_file, test_file=test_file)


def test_partly_labelled_data_is_refused(tmp_path, train_file):
    test_file = write_csv(tmp_path / "test.csv", ["x,pos", "y,"])
    with pytest.raises(ValueError, match=r"1 of 2 rows of the test data have no label.*row 1"):
        load(train_file=train_file, test_file=test_file)
    with pytest.raises(ValueError, match="of the train data have no label"):
        load(train_file=test_file)


@pytest.mark.parametrize(("content", "kind"), [("", "csv"), ("text,label\n", "csv"), ("[]", "json"), ("", "jsonl")])
def test_empty_training_data(tmp_path, content, kind):
    path = tmp_path / f"train.{kind}"
    path.write_text(content)
    with pytest.raises(ValueError, match="The train data has no rows"):
        load(train_file=str(path))


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        ({}, ValueError, "`dataset_name`"),
        ({"train_file": "{train}", "dataset_name": "x"}, ValueError, "either"),
        ({"train_file": "nowhere.csv"}, FileNotFoundError, "`train_file`.*nowhere.csv"),
        ({"validation_file": "{train}"}, ValueError, "no training data"),
        ({"train_file": "{train}", "class_names": ["pos", "other"]}, ValueError, "neg"),
        ({"train_file": "{train}", "class_names": ["pos", "pos", "neg"]}, ValueError, "twice"),
    ],
)
def test_bad_arguments(train_file, kwargs, error, message):
    kwargs = {key: train_file if value == "{train}" else value for key, value in kwargs.items()}
    with pytest.raises(error, match=message):
        load(**kwargs)


def test_bad_files(tmp_path):
    (tmp_path / "train.xlsx").write_text("x")
    with pytest.raises(ValueError, match="must end in .csv"):
        load(train_file=str(tmp_path / "train.xlsx"))
    (tmp_path / "train.json").write_text("{ this is not json")
    with pytest.raises(ValueError, match="cannot be read as json"):
        load(train_file=str(tmp_path / "train.json"))
    with pytest.raises(ValueError, match="labels must be names or whole numbers.*0.5"):
        load(train_file=write_csv(tmp_path / "train.csv", ["x,0.5", "y,1.5"]))
    with pytest.raises(ValueError, match="only one label: a"):
        load(train_file=write_csv(tmp_path / "one.csv", ["x,a", "y,a"]))
    with pytest.raises(ValueError, match="has the label 5"):
        load(train_file=write_csv(tmp_path / "numbers.csv", ["x,0", "y,5"]), class_names=["a", "b"])


@pytest.fixture(scope="module")
def tokenizer():
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "c", "d"]
    return BertTokenizer(vocab={word: index for index, word in enumerate(words)})


def test_tokens_are_the_tokenizers(tokenizer):
    data = Dataset.from_dict({"text": ["a b c", ""], "labels": [1, 0]})
    features = tokenize_texts(data, tokenizer)
    assert features["input_ids"][:] == [tokenizer("a b c")["input_ids"], tokenizer("")["input_ids"]]
    assert features["labels"][:] == [1, 0]
    assert "text" not in features.column_names


def test_special_tokens_that_users_typed_are_text(tokenizer):
    data = Dataset.from_dict({"text": ["a [SEP] b", "[MASK]"], "text_pair": ["c [CLS]", "d"]})
    rows = [tokenizer.decode(ids).split() for ids in tokenize_texts(data, tokenizer)["input_ids"]]
    assert rows[0] == ["[CLS]", "a", *["[UNK]"] * 3, "b", "[SEP]", "c", *["[UNK]"] * 3, "[SEP]"]
    assert rows[1] == ["[CLS]", *["[UNK]"] * 3, "[SEP]", "d", "[SEP]"]
    assert tokenizer("[MASK]").tokens() == ["[CLS]", "[MASK]", "[SEP]"]  # the caller's tokenizer is as before


def test_of_a_pair_the_longer_text_is_cut(tokenizer):
    data = Dataset.from_dict({"text": ["a " * 10_000], "text_pair": ["b c"]})
    (ids,) = tokenize_texts(data, tokenizer, 9)["input_ids"][:]
    assert tokenizer.decode(ids).split() == ["[CLS]", "a", "a", "a", "a", "[SEP]", "b", "c", "[SEP]"]


def test_metrics_are_those_of_scikit_learn_and_of_the_definition():
    logits = np.array([[2.0, 1.0, 0.0], [0.0, 3.0, 1.0], [0.0, 1.0, 3.0], [9.0, 0.0, 0.0]])
    references = np.array([0, 1, 1, 0])
    scores = classification_metrics()(EvalPrediction(predictions=logits, label_ids=references))
    predictions = [0, 1, 2, 0]
    # by hand: F1 of class 0 is 1; of class 1 precision 1, recall 1/2 -> 2/3; class 2 is never right -> 0
    assert scores == {"accuracy": 0.75, "macro_f1": pytest.approx((1 + 2 / 3 + 0) / 3)}
    assert scores["accuracy"] == accuracy_score(references, predictions)
    assert scores["macro_f1"] == f1_score(references, predictions, average="macro", zero_division=0)
    assert classification_metrics()(EvalPrediction(predictions=(logits, None), label_ids=references)) == scores


def test_numbers_of_several_labels_keep_their_names_in_another_order(tmp_path):
    features = Features({"text": Value("string"), "label": Sequence(ClassLabel(names=["a", "b", "c"]))})
    rows = Dataset.from_dict({"text": ["x", "y"], "label": [[0, 2], [1]]}, features=features)
    rows.to_parquet(tmp_path / "train.parquet")
    data = load(dataset_name=str(tmp_path), class_names=["c", "b", "a"])
    assert data.splits["train"]["labels"][:] == [[1, 0, 1], [0, 1, 0]]
    assert data.label_names == ["c", "b", "a"]
    with pytest.raises(ValueError, match="`class_names` would give to other classes names that classes of the data"):
        load(dataset_name=str(tmp_path), class_names=["c", "b", "d"])


def test_a_text_that_is_none_is_named_by_argument_and_split(tmp_path):
    path = tmp_path / "train.jsonl"
    path.write_text('{"text": ["a"], "label": 0}\n{"text": ["b"], "label": 1}\n')
    with pytest.raises(ValueError, match="`text_column_name`: column 'text' of the train data has, in row 0"):
        load(train_file=str(path))


def test_another_split_may_have_the_names_themselves():
    splits = {"train": Dataset.from_dict({"label": [0, 1]}), "test": Dataset.from_dict({"label": ["good", "bad"]})}
    assert read_labels(splits, "label", ["bad", "good"]).ids == {"train": [0, 1], "test": [1, 0]}


def test_a_line_end_in_a_class_does_not_break_the_written_table(tmp_path):
    write_predictions(tmp_path, {"index": range(2), "prediction": ["a\tb\nc", "d"]})
    assert (tmp_path / "predictions.tsv").read_text() == "index\tprediction\n0\ta b c\n1\td\n"
