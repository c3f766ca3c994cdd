"""Label trees: the three ways to make one, what they refuse, and that nothing is lost on the way to JSON."""

from __future__ import annotations

import json

import pandas as pd
import pytest
from datasets import ClassLabel, Dataset
from hypothesis import given, settings

from dpt_peft.pretrained_heads import LabelTree

from .trees import trees

NESTED = {"animal": ["cat", "dog"], "plant": {"tree": ["oak", "elm"], "moss": None}, "stone": {"quartz": None}}


def test_from_nested_of_uneven_depth():
    tree = LabelTree.from_nested(NESTED)
    assert tree.classes == ("cat", "dog", "oak", "elm", "moss", "quartz")
    assert tree.depth == 3
    assert tree.path("elm") == ("plant", "tree", "elm")
    assert tree.level(1) == [0, 0, 1, 1, 1, 2]
    assert tree.level(2) == [0, 1, 2, 2, 3, 4]
    assert tree.level(3) == [0, 1, 2, 3, 4, 5]
    assert str(tree).splitlines()[3:6] == ["plant", "  tree", "    oak"]


def test_lists_may_hold_branches():
    assert LabelTree.from_nested([{"animal": ["cat", "dog"]}, "moss"]) == LabelTree.from_nested(
        {"animal": ["cat", "dog"], "moss": None}
    )


def test_words_and_order():
    tree = LabelTree.from_nested(
        {"NUM": ["date", "other"], "LOC": ["city", {"rest": ["river"]}]},
        label_words={"NUM": "number", ("NUM", "other"): "amount"},
        classes=["river", "city", "other", "date"],
    )
    words = {child.name: child.word for child in (*tree.root.children, *tree.root.children[0].children)}
    assert words == {"NUM": "number", "LOC": "LOC", "date": "date", "other": "amount"}
    assert tree.classes == ("river", "city", "other", "date")
    assert tree.level(1) == [0, 0, 1, 1]


ROWS = [("b", "z"), ("a", "y"), ("b", "z"), ("c", None), ("a", "x")]


@pytest.mark.parametrize(
    ("table", "columns"),
    [
        (ROWS, None),
        (
            Dataset.from_dict({"fine": [row[1] for row in ROWS], "coarse": [row[0] for row in ROWS]}),
            ["coarse", "fine"],
        ),
        ({"coarse": [row[0] for row in ROWS], "fine": [row[1] for row in ROWS]}, ["coarse", "fine"]),
        (pd.DataFrame(ROWS, columns=["coarse", "fine"]).fillna(float("nan")), ["coarse", "fine"]),
        (pd.DataFrame(ROWS, columns=["coarse", "fine"]).astype("string"), ["coarse", "fine"]),
    ],
)
def test_from_table(table, columns):
    tree = LabelTree.from_table(table, columns)
    assert tree.classes == ("c", "x", "y", "z"), "sorted, whatever the order of the rows"
    assert tree == LabelTree.from_nested({"a": ["x", "y"], "b": ["z"], "c": None}, classes=["c", "x", "y", "z"])


def test_whole_numbers_that_pandas_wrote_as_floats():
    table = pd.DataFrame({"coarse": [1, 1, 2, 3.5], "fine": [10, 11, None, 30]})
    tree = LabelTree.from_table(table, ["coarse", "fine"])
    assert [tree.path(name) for name in tree.classes] == [("1", "10"), ("1", "11"), ("2",), ("3.5", "30")]


def test_from_table_keeps_the_order_of_class_labels(tmp_path):
    data = Dataset.from_dict({"coarse": [0, 1, 0], "fine": [0, 2, 1]})
    data = data.cast_column("coarse", ClassLabel(names=["a", "b"])).cast_column("fine", ClassLabel(names=list("zyxw")))
    assert LabelTree.from_table(data, ["coarse", "fine"]).classes == ("z", "y", "x")
    data.to_csv(tmp_path / "table.csv")
    (tmp_path / "names.csv").write_text("coarse,fine\na,z\nb,x\na,y\n")
    tree = LabelTree.from_table(Dataset.from_csv(str(tmp_path / "names.csv")), ["coarse", "fine"])
    assert [tree.path(name) for name in tree.classes] == [("b", "x"), ("a", "y"), ("a", "z")]


@pytest.mark.parametrize(
    ("nested", "message"),
    [
        ({"a": ["x", "y"], "b": ["x"]}, "'x' stands twice in the label tree, at 'a > x' and at 'b > x'"),
        ({"a": ["x", "x"]}, "'x' stands twice in the label tree below 'a'"),
        ({"a": [], "b": ["x", "y"]}, "no class below 'a'"),
        ({}, "no class below the top"),
        ({"a": {"b": ["x"]}}, "at least two classes"),
        ({"a": [" ", "x"]}, "an empty name or word stands in the label tree below 'a'"),
    ],
)
def test_bad_trees(nested, message):
    with pytest.raises(ValueError, match=message):
        LabelTree.from_nested(nested)


@pytest.mark.parametrize("nested", ["a", {"a": "x", "b": None}, {1: None, 2: None}, {"a": 3}])
def test_bad_types(nested):
    with pytest.raises(TypeError, match="label tree"):
        LabelTree.from_nested(nested)


def test_bad_words_and_orders():
    with pytest.raises(ValueError, match=r"not in the label tree.*|words for \['b'\]"):
        LabelTree.from_nested(["x", "y"], label_words={"b": "c"})
    with pytest.raises(ValueError, match="'x' and 'y' have the same label word 'same' below the top"):
        LabelTree.from_nested(["x", "y"], label_words={"x": "same", "y": "same"})
    with pytest.raises(ValueError, match=r"does not fit at \['y', 'z'\]"):
        LabelTree.from_nested(["x", "y"], classes=["x", "z"])
    with pytest.raises(ValueError, match=r"does not fit at \['x'\]"):
        LabelTree.from_nested(["x", "y"], classes=["x", "y", "x"])
    with pytest.raises(ValueError, match="between 1 and 1, got 2"):
        LabelTree.from_nested(["x", "y"]).level(2)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("a", "x"), ("b", "x")], "'x' stands twice"),
        ([("a",), ("a", "x")], "'a' is a class in one row"),
        ([("a", "x"), ("a", "x", "y")], "'x' is a class in one row"),
        ([("a", None, "x"), ("a", "y")], "a gap"),
        ([("a", float("nan"), "x"), ("a", "y")], "a gap"),
        ([(pd.NA, "x"), ("a", "y")], "a gap"),
        ([("", ""), ("a", "y")], "is empty"),
    ],
)
def test_bad_tables(rows, message):
    with pytest.raises(ValueError, match=message):
        LabelTree.from_table(rows)


def test_columns_are_checked():
    data = Dataset.from_dict({"coarse": ["a"], "fine": ["b"]})
    with pytest.raises(ValueError, match=r"no column \['leaf'\]; those there are: \['coarse', 'fine'\]"):
        LabelTree.from_table(data, ["coarse", "leaf"])
    for table in (data, data.to_dict(), data.to_pandas()):
        with pytest.raises(ValueError, match="`columns` is missing"):
            LabelTree.from_table(table)
    with pytest.raises(TypeError, match="a row of a label table"):
        LabelTree.from_table(["ab", "cd"])


@settings(max_examples=50, deadline=None)
@given(tree=trees())
def test_through_json_and_back(tree):
    assert LabelTree.from_dict(json.loads(json.dumps(tree.to_dict()))) == tree
    assert LabelTree.from_table([tree.path(name) for name in tree.classes], classes=tree.classes).level(
        tree.depth
    ) == list(range(len(tree)))
