import json

import numpy as np
import pytest
from hierarchical_data_sets import HIERARCHIES
from transformers import EvalPrediction

from dpt_peft.pretrained_heads import LabelTree
from dpt_peft.tasks.hierarchical import (
    HierarchicalClassificationArguments,
    hierarchical_metrics,
    load_hierarchical_classification,
)

ROWS = ["a cat,animal,house_cat", "an oak,plant,oak", "a dog,animal,dog", "an elm,plant,elm", "a cat,animal,house_cat"]
LEVELS = ["kind", "name"]


@pytest.fixture
def train_file(tmp_path):
    path = tmp_path / "train.csv"
    path.write_text("\n".join(["text,kind,name", *ROWS, ""]), encoding="utf-8")
    return str(path)


def load(**kwargs):
    return load_hierarchical_classification(HierarchicalClassificationArguments(**kwargs))


def test_the_label_columns_are_the_tree(train_file, tmp_path):
    words = tmp_path / "words.json"
    words.write_text(json.dumps({"plant": "tree"}))
    data = load(train_file=train_file, level_column_names=LEVELS, tree_words_file=str(words))
    assert data.texts.label_names == list(data.tree.classes) == ["dog", "elm", "house_cat", "oak"]
    assert data.texts.splits["train"]["labels"][:] == [2, 3, 0, 1, 2]
    assert data.tree.level(1) == [0, 1, 0, 1]
    assert [node.word for node in data.tree.root.children] == ["animal", "tree"]
    assert data.tree.class_words == ["dog", "elm", "house cat", "oak"]


def test_arguments_stay_as_they_were(train_file):
    args = HierarchicalClassificationArguments(train_file=train_file, level_column_names=LEVELS)
    load_hierarchical_classification(args)
    assert args == HierarchicalClassificationArguments(train_file=train_file, level_column_names=LEVELS)


def test_without_levels_there_is_no_tree(train_file):
    data = load(train_file=train_file, label_column_name="name")
    assert data.tree is None
    assert data.texts.label_names == ["dog", "elm", "house_cat", "oak"]


def test_a_test_split_needs_no_labels(train_file, tmp_path):
    test = tmp_path / "test.csv"
    test.write_text("text\nan ash\n")
    data = load(train_file=train_file, test_file=str(test), level_column_names=LEVELS)
    assert data.texts.splits["test"].column_names == ["text"]


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"level_column_names": ["name"]}, "at least two"),
        ({"level_column_names": ["sort", "name"]}, r"no column 'sort' \(`level_column_names\[0\]`\)"),
        ({"level_column_names": LEVELS, "class_names": ["a"]}, "`class_names` is for labels in one column"),
        ({"level_column_names": ["text", "kind"]}, "stands twice in the label tree"),
    ],
)
def test_refusals(train_file, kwargs, message):
    with pytest.raises(ValueError, match=message):
        load(train_file=train_file, **kwargs)


def test_words_for_nothing_are_refused(train_file, tmp_path):
    words = tmp_path / "words.json"
    words.write_text(json.dumps({"stone": "rock"}))
    with pytest.raises(ValueError, match="words for stone, which the data does not have"):
        load(train_file=train_file, level_column_names=LEVELS, tree_words_file=str(words))
    with pytest.raises(FileNotFoundError, match="`tree_words_file`"):
        load(train_file=train_file, level_column_names=LEVELS, tree_words_file="none.json")


def test_accuracy_per_level_against_counting():
    tree = LabelTree.from_nested({"a": {"b": ["x", "y"], "c": ["z"]}, "d": ["v"]})
    above = {"x": "ab", "y": "ab", "z": "ac", "v": "dv"}
    draw = np.random.default_rng(0)
    logits, labels = draw.normal(size=(50, 4)), draw.integers(4, size=50)
    pairs = [(tree.classes[logits[row].argmax()], tree.classes[labels[row]]) for row in range(50)]
    metrics = hierarchical_metrics(tree)(EvalPrediction(predictions=logits, label_ids=labels))
    assert set(metrics) == {"accuracy", "macro_f1", "accuracy_level_1", "accuracy_level_2"}
    assert metrics["accuracy"] == pytest.approx(np.mean([p == q for p, q in pairs]))
    assert metrics["accuracy_level_1"] == pytest.approx(np.mean([above[p][0] == above[q][0] for p, q in pairs]))
    assert metrics["accuracy_level_2"] == pytest.approx(np.mean([above[p] == above[q] for p, q in pairs]))


@pytest.mark.parametrize("name", list(HIERARCHIES))
def test_public_data_has_the_columns_and_the_names(shared, name):
    folder = shared / "data" / name
    if not folder.is_dir():
        pytest.skip(f"needs {folder}")
    data = HIERARCHIES[name]
    tree = LabelTree.from_table(
        [[row[column] for column in data.level_columns] for row in map(json.loads, (folder / "train.jsonl").open())],
        label_words={},
    )
    assert set(data.words) <= set(tree.names)
    assert (name, len(tree.root.children), len(tree)) in {("trec", 6, 50), ("hwu64", 18, 64)}
