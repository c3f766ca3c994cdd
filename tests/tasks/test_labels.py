"""Labels as users' files hold them become class ids, or an error says what to do."""

import json
import unicodedata

import pytest
from datasets import ClassLabel, Dataset, Features

from dpt_peft.tasks.labels import read_labels, whole_number
from dpt_peft.tasks.text_classification import TextClassification, TextClassificationArguments

NFC = "caf\u00e9"
NFD = unicodedata.normalize("NFD", NFC)


def read(train, class_names=None, **others):
    splits = {"train": train, **others}
    return read_labels({k: Dataset.from_dict({"label": v}) for k, v in splits.items()}, "label", class_names)


@pytest.mark.parametrize(
    ("values", "class_names", "names", "ids"),
    [
        ([3, 1, 2, 5, 4], None, ["1", "2", "3", "4", "5"], [2, 0, 1, 4, 3]),
        (["10", "9", "10"], None, ["9", "10"], [1, 0, 1]),
        ([1.0, 0.0, 2.0], None, ["0", "1", "2"], [1, 0, 2]),
        (["1.0", "0.0"], None, ["0.0", "1.0"], [1, 0]),
        (["yes", "no", "yes"], None, ["no", "yes"], [1, 0, 1]),
        ([True, False], None, ["False", "True"], [1, 0]),
        (["true", "false"], None, ["false", "true"], [1, 0]),
        (["NA", "null", "None"], None, ["NA", "None", "null"], [0, 2, 1]),
        (["²", "³", "1"], None, ["1", "²", "³"], [1, 2, 0]),
        (["2020-02-01", "2020-01-01"], None, ["2020-01-01", "2020-02-01"], [1, 0]),
        (["a, b", "c"], None, ["a, b", "c"], [0, 1]),
        # class_names: the data's own spelling
        (["yes", "no"], ["yes", "no"], ["yes", "no"], [0, 1]),
        ([-1, 1, -1], ["-1", "1"], ["-1", "1"], [0, 1, 0]),
        (["-1", "1", "0"], ["1", "0", "-1"], ["1", "0", "-1"], [2, 0, 1]),
        ([1.0, 0.0], ["1.0", "0.0"], ["1.0", "0.0"], [0, 1]),
        ([0.5, 1.5], ["1.5", "0.5"], ["1.5", "0.5"], [1, 0]),
        ([1, 0], ["01", "00"], ["01", "00"], [0, 1]),
        ([True, False], ["True", "False"], ["True", "False"], [0, 1]),
        ([3, 1], ["1", "2", "3"], ["1", "2", "3"], [2, 0]),
        ([" a", "a"], [" a", "a"], [" a", "a"], [0, 1]),
        # class_names: names for numbers
        ([1, 0], ["bad", "good"], ["bad", "good"], [1, 0]),
        ([2, 0], ["bad", "so", "good"], ["bad", "so", "good"], [2, 0]),
        ([3, 1, 2, 1], ["one", "two", "three"], ["one", "two", "three"], [2, 0, 1, 0]),
        ([-1, 1], ["bad", "good"], ["bad", "good"], [0, 1]),
        ([1, 0, -1], ["bad", "so", "good"], ["bad", "so", "good"], [2, 1, 0]),
        (["1.0", "0.0"], ["bad", "good"], ["bad", "good"], [1, 0]),
        (["01", "1", "0"], ["bad", "good"], ["bad", "good"], [1, 1, 0]),
        ([True, False], ["no", "yes"], ["no", "yes"], [1, 0]),
        ([0, 4, 1, 2, 3], ["1", "2", "3", "4", "5"], ["1", "2", "3", "4", "5"], [0, 4, 1, 2, 3]),
    ],
)  # fmt: skip
def test_classes_and_their_order(values, class_names, names, ids):
    found = read(values, class_names)
    assert found.names == names
    assert found.ids == {"train": ids}


@pytest.mark.parametrize(
    ("values", "class_names", "message"),
    [
        ([-1, 1], None, r"1 of 2 rows of the train data have no label.*If -1 is a class, spell all classes"),
        (["-1", "1"], None, r"If -1 is a class, spell all classes in `class_names`"),
        ([-1, 0, 1], ["bad", "good"], r"1 of 3 rows.*row 0.*If -1 is a class"),
        (
            [1, None, 0],
            None,
            r"1 of 3 rows of the train data have no label in column 'label'.*row 1, counted from 0\.$",
        ),
        (["a", " ", "b"], None, "1 of 3 rows.*row 1"),
        ([1.0, float("nan")], None, "1 of 2 rows.*row 1"),
        ([0.5, 1.0], None, r"names or whole numbers, but row 0 of the train data has 0.5.*spell all.*`class_names`"),
        (["1", "1e-3"], None, "row 1 of the train data has '1e-3'"),
        ([["a"], ["b"]], None, r"row 0 of the train data has \['a'\]"),
        ([0, 5], ["a", "b"], r"names the labels 0 to 1, but the data has the label 5.*0, 5"),
        ([1, 2], ["a", "b", "c", "d"][:1], r"names the labels 0 to 0"),
        (["a", "b"], ["a", "c"], r"does not name the labels b\."),
        (["a ", "b"], ["a", "b"], r"does not name the labels 'a '\."),
        (["a", "a"], None, r"only one label: a\."),
        (["a", "a ", "b"], None, r"only in blanks around them or in Unicode form: a, 'a '\. Spell them alike"),
        (
            ["['a', 'b']", "['a']"],
            None,
            r"row 0 of the train data has the text .*, which was a list once\. Write json",
        ),
        (["[1, 2]", "[2]"], None, r"row 0 of the train data has the text '\[1, 2\]', which was a list once"),
        (["('a', 'b')", "b"], None, "which was a list once"),
        (["[0 1 0]", "[1 0 0]"], None, "which was a list once"),
        (["[]", '["a"]'], None, "row 0 of the train data has the text '\\[\\]', which was a list once"),
        ([NFC, NFD, "tea"], None, rf"Unicode form: 'cafe\\u0301', {NFC}"),
    ],
)
def test_labels_that_cannot_be_meant(values, class_names, message):
    with pytest.raises(ValueError, match=message):
        read(values, class_names)


@pytest.mark.parametrize("hidden", [[-1, -1], ["-1", "-1"], [None, None], ["", " "], [float("nan"), None]])
def test_a_split_of_hidden_labels_has_none(hidden):
    assert read(["a", "b"], test=hidden).ids["test"] is None
    assert read([0, 1], test=hidden).ids["test"] is None


def test_minus_one_is_a_class_everywhere_once_it_is_named():
    assert read([-1, 1], ["-1", "1"], test=[-1, -1]).ids["test"] == [0, 0]
    assert read([-1, 1], ["bad", "good"], test=[1, -1]).ids["test"] == [1, 0]


def test_other_splits():
    assert read([0, 1], ["a", "b", "c"], test=[2, 0]).ids["test"] == [2, 0]
    with pytest.raises(ValueError, match="1 of 2 rows of the test data have no label"):
        read([0, 1], test=[1, None])
    with pytest.raises(ValueError, match=r"test data has labels that the train data does not have: ²\. .*: 1, 2\."):
        read(["1", "2"], test=["²"])
    with pytest.raises(ValueError, match=r"Unicode form: a, 'a '"):
        read(["a", "b"], test=["a "])


def test_labels_that_look_alike_are_named_once(caplog):
    assert read(["Pos", "pos", "1", "01", "neg"]).names == ["01", "1", "Pos", "neg", "pos"]
    assert [record.message for record in caplog.records] == [
        "Column 'label' has labels that look alike: 01, 1; Pos, pos"
    ]
    caplog.clear()
    assert read(["true", "False", "1", "0"]).names == ["0", "1", "False", "true"]
    assert [record.message for record in caplog.records] == [
        "Column 'label' has labels that look alike: 0, False; 1, true"
    ]
    caplog.clear()
    assert read(["[x]", "[ ]"]).names == ["[ ]", "[x]"]
    read(["Pos", "pos"], ["Pos", "pos"])  # named, so meant
    read(["pos", "neg"])
    assert not caplog.records


def test_labels_of_files(tmp_path):
    (tmp_path / "x.csv").write_text("text,label\na,01\nb,1.0\nc,NA\nd,²\n", encoding="utf-8")
    data = TextClassification().load(TextClassificationArguments(train_file=str(tmp_path / "x.csv")))
    assert data.label_names == ["01", "1.0", "NA", "²"]
    rows = [{"text": "a", "label": 1}, {"text": "b", "label": "x"}, {"text": "c", "label": "1"}]
    (tmp_path / "x.jsonl").write_text("\n".join(map(json.dumps, rows)))
    data = TextClassification().load(TextClassificationArguments(train_file=str(tmp_path / "x.jsonl")))
    assert (data.label_names, data.splits["train"]["labels"][:]) == (["1", "x"], [0, 1, 0])


@pytest.mark.parametrize(
    ("value", "number"),
    [
        *((3, 3), ("3", 3), (" -3 ", -3), (3.0, 3), ("3.0", 3), ("1e2", 100)),
        *((value, None) for value in ("²", "٣", "3.5", 0.5, True, "", "a", "1_000", None, float("inf"))),
    ],
)
def test_whole_numbers(value, number):
    assert whole_number(value) == number


def numbered(values, names):
    return Dataset.from_dict({"label": values}, features=Features({"label": ClassLabel(names=names)}))


def test_the_names_of_a_class_label_in_another_order_are_an_order():
    found = read_labels({"train": numbered([0, 1, 1], ["neg", "pos"])}, "label", ["pos", "neg"])
    assert (found.names, found.ids) == (["pos", "neg"], {"train": [1, 0, 0]})
    found = read_labels({"train": numbered([0, 1, 1], ["neg", "pos"])}, "label", ["bad", "good"])
    assert (found.names, found.ids) == (["bad", "good"], {"train": [0, 1, 1]})


def test_a_class_does_not_get_the_name_of_another():
    with pytest.raises(
        ValueError, match="give to other classes names that classes of the data have: pos. The data has"
    ):
        read_labels({"train": numbered([0, 1, 1], ["neg", "pos"])}, "label", ["pos", "other"])
    found = read_labels({"train": numbered([0, 1, 2], ["neg", "so", "pos"])}, "label", ["neg", "neutral", "pos"])
    assert found.names == ["neg", "neutral", "pos"]


def test_without_training_data_the_classes_are_those_named():
    rows = {"test": Dataset.from_dict({"label": ["b", "b", "c"]})}
    assert read_labels(rows, "label", ["c", "b", "a"]).ids == {"test": [1, 1, 0]}
    assert read_labels({"test": Dataset.from_dict({"text": ["x"]})}, "label", ["c", "b"]).ids == {"test": None}
    assert read_labels({"test": Dataset.from_dict({"label": [1, 1, 3]})}, "label", ["x", "y", "z", "w"]).ids == {
        "test": [1, 1, 3]
    }
    assert read_labels({"test": numbered([1, 0], ["b", "a"])}, "label", ["a", "b"]).ids == {"test": [0, 1]}
    with pytest.raises(ValueError, match="`class_names` does not name the labels d"):
        read_labels({"test": Dataset.from_dict({"label": ["b", "d"]})}, "label", ["c", "b"])
