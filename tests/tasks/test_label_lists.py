"""Any number of classes a text: lists, cells and zeros and ones, as users' files hold them."""

import json

import datasets
import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features, Sequence
from sklearn.metrics import f1_score

from dpt_peft.tasks import TextClassification, TextClassificationArguments
from dpt_peft.tasks.labels import _label_list, read_label_lists
from dpt_peft.tasks.text_classification import _scores


def read(train, class_names=None, separator=None, **others):
    splits = {name: Dataset.from_dict({"label": rows}) for name, rows in {"train": train, **others}.items()}
    return read_label_lists(splits, "label", class_names, separator)


@pytest.mark.parametrize(
    ("rows", "class_names", "separator", "names", "ids"),
    [
        ([["b", "a"], [], ["b"]], None, None, ["a", "b"], [[1, 0], [], [1]]),
        (["b; a", "", "b"], None, ";", ["a", "b"], [[1, 0], [], [1]]),
        ([["10", "9"], ["2"]], None, None, ["2", "9", "10"], [[2, 1], [0]]),
        ([[10, 9], [2]], None, None, ["2", "9", "10"], [[2, 1], [0]]),
        ([[1, 3], [2]], ["x", "y", "z"], None, ["x", "y", "z"], [[0, 2], [1]]),
        ([[0, 1], [1, 0]], ["x", "y", "z"], None, ["x", "y", "z"], [[0, 1], [1, 0]]),
        # zeros and ones
        ([[0, 1], [1, 1]], ["x", "y"], None, ["x", "y"], [[1], [0, 1]]),
        ([[0.0, 1.0], [1.0, 0.0]], ["x", "y"], None, ["x", "y"], [[1], [0]]),
        ([[False, True], [True, False]], ["x", "y"], None, ["x", "y"], [[1], [0]]),
        (["0 1", "1 1"], ["x", "y"], " ", ["x", "y"], [[1], [0, 1]]),
    ],
)  # fmt: skip
def test_classes_and_their_order(rows, class_names, separator, names, ids):
    assert read(rows, class_names, separator) == (names, {"train": ids})


@pytest.mark.parametrize("rows", [[[], []], [None, None], [[-1], [-1]], [[-1, -1], [-1, -1]]])
def test_a_split_without_labels_is_for_prediction(rows):
    assert read([["a"], ["b"]], test=rows)[1] == {"train": [[0], [1]], "test": None}
    assert read([[0, 1], [1, 0]], ["a", "b"], test=rows)[1]["test"] is None


def test_cells_without_labels():
    assert read(["a", "b;a"], separator=";", test=[float("nan"), float("nan")])[1]["test"] is None
    assert read(["a", "b;a"], separator=";", test=[None, "b"])[1]["test"] == [[], [1]]
    assert read(["a", "b;a"], separator=";", test=["", "-1"])[1]["test"] is None
    assert read(["a", "b;a"], separator=";", test=["", "b"])[1]["test"] == [[], [1]]


def test_a_missing_cell_has_no_label():
    assert _label_list(float("nan"), ";", "row 0") == _label_list(None, ";", "row 0") == _label_list("", ";", "") == []


def test_numbers_of_a_class_label_are_each_splits_own():
    def rows(values, names):
        return Dataset.from_dict({"label": values}, Features({"label": Sequence(ClassLabel(names=names))}))

    splits = {"train": rows([[0, 1], [1]], ["a", "b"]), "test": rows([[0], [0, 1]], ["b", "a"])}
    assert read_label_lists(splits, "label", None, None) == (
        ["a", "b"],
        {"train": [[0, 1], [1]], "test": [[1], [1, 0]]},
    )


@pytest.mark.parametrize(
    ("rows", "given", "message"),
    [
        ([["a"], ["b", None]], {}, "row 1 of the train data must hold a list of labels, got .'b', None."),
        ([["a"], ["b", ""]], {}, "row 1 of the train data must hold a list of labels"),
        ([[1, 0], [0], [-1]], {}, "row 2 of the train data has -1, which means no label"),
        ([[0.0, 1.0], [1.0, 0.0]], {}, "2 zeros and ones each, so they need the names of 2 classes"),
        ([[0, 1], [1, 0]], {"class_names": ["a", "a"]}, "so they need the names of 2 classes"),
        ([[0, 1], [1, 0]], {"class_names": ["a", "b"], "test": [[1, 0], [2, 0]]}, "row 1 of the test data must hold"),
        ([[0, 1], [1, 0]], {"class_names": ["a", "b"], "test": [[1, 0, 0]]}, "row 0 of the test data must hold 2"),
        ([["a"], ["b"]], {"class_names": ["a", "b", "a"]}, "`class_names` names a class twice: a, b, a"),
        ([["a"], ["b"]], {"test": [["a"], ["c"]]}, "labels that the train data does not have: c"),
        ([["caf\u00e9"], ["cafe\u0301"]], {}, "differ only in blanks around them or in Unicode"),
        ([[1.0, 2.0], [1.0], [0.5]], {}, "row 2 of the train data has 0.5"),
        (["a;b"], {"separator": ""}, "`label_separator` must be what stands between"),
        ([["a"], ["a"]], {}, "only one label: a"),
    ],
)  # fmt: skip
def test_what_is_refused(rows, given, message):
    with pytest.raises(ValueError, match=message):
        read(rows, **given)


def test_a_class_that_neither_occurs_nor_is_predicted_does_not_count():
    right = np.array([[1, 0, 0], [0, 1, 0]]) > 0
    assert _scores(right, right, ["micro", "macro"]) == {"accuracy": 1.0, "micro_f1": 1.0, "macro_f1": 1.0}
    predicted = np.array([[1, 1, 0], [0, 0, 0]]) > 0
    expected = f1_score(right[:, :2], predicted[:, :2], average="macro", zero_division=0)
    assert _scores(predicted, right, ["macro"])["macro_f1"] == pytest.approx(expected)
    nothing = np.zeros((2, 3), bool)
    assert _scores(nothing, nothing, ["micro", "macro"]) == {"accuracy": 1.0, "micro_f1": 0.0, "macro_f1": 0.0}


@pytest.mark.skipif(not hasattr(datasets, "Json"), reason=f"datasets {datasets.__version__} refuses mixed columns")
@pytest.mark.parametrize(
    ("labels", "class_names", "names", "found"),
    [
        ([[1, 0], [0.0, 1.0]], ["x", "y"], ["x", "y"], [[1, 0], [0, 1]]),
        ([["x"], [2024]], None, ["2024", "x"], [[0, 1], [1, 0]]),
    ],
)
def test_lists_of_json_with_values_of_several_types(tmp_path, labels, class_names, names, found):
    (tmp_path / "train.json").write_text(json.dumps([{"text": "a", "label": row} for row in labels]))
    data = TextClassification().load(
        TextClassificationArguments(train_file=str(tmp_path / "train.json"), class_names=class_names)
    )
    assert (data.label_names, data.splits["train"]["labels"][:]) == (names, found)
    assert data.several_labels


def test_a_list_beside_a_name_is_named(tmp_path):
    (tmp_path / "train.json").write_text('[{"text": "a", "label": ["x"]}, {"text": "b", "label": "y"}]')
    with pytest.raises(ValueError, match="row 1 of the train data must hold a list of labels, got 'y'|not all of one"):
        TextClassification().load(TextClassificationArguments(train_file=str(tmp_path / "train.json")))


def test_a_separator_is_for_cells():
    with pytest.raises(
        ValueError, match="`label_separator` divides cells, but row 0 of the train data has a list alr"
    ):
        read([["a", "b"], ["a"]], separator=";")


def test_a_written_list_is_no_cell():
    with pytest.raises(ValueError, match="row 0 of the train data has the text .*, which was a list once"):
        read(["['a', 'b']", "['a']"], separator=",")
