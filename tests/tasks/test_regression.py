"""Columns and numbers, and metrics by their definition."""

import json
import math

import numpy as np
import pytest
from datasets import ClassLabel, Dataset
from scipy.stats import pearsonr, spearmanr

from dpt_peft.tasks import Regression, RegressionArguments, regression_scores


def load(tmp_path, train, test=None, **kwargs):
    files = {"train": train} | ({} if test is None else {"test": test})
    for split, rows in files.items():
        (tmp_path / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    paths = {f"{split}_file": str(tmp_path / f"{split}.jsonl") for split in files}
    return Regression().load(RegressionArguments(**paths, **kwargs)).splits


def rows(*labels, **kwargs):
    return [{"text": f"text {n}", "label": label, **kwargs} for n, label in enumerate(labels)]


def test_the_columns_of_stsb_are_found_and_others_named(tmp_path):
    stsb = [{"sentence1": "a", "sentence2": "b", "label": 2.5}, {"sentence1": "c", "sentence2": None, "label": 0}]
    expected = {"text": ["a", "c"], "text_pair": ["b", ""], "labels": [2.5, 0.0]}
    assert load(tmp_path, stsb)["train"].to_dict() == expected
    scores = [{"sentence1": row["sentence1"], "sentence2": row["sentence2"], "score": row["label"]} for row in stsb]
    assert load(tmp_path, scores)["train"].to_dict() == expected
    assert load(tmp_path, rows(1, 2))["train"].to_dict() == {"text": ["text 0", "text 1"], "labels": [1.0, 2.0]}
    named = {"text_column_name": "sentence2", "label_column_name": "label"}
    assert load(tmp_path, stsb, **named)["train"].to_dict() == {"text": ["b", ""], "labels": [2.5, 0.0]}


def test_numbers_of_a_table_are_read_as_numbers(tmp_path):
    (tmp_path / "x.csv").write_text("text,label\n007,1e1\nNA,-0.5\n1.0, 3 \n")
    data = Regression().load(RegressionArguments(train_file=str(tmp_path / "x.csv"))).splits["train"]
    assert data.to_dict() == {"text": ["007", "NA", "1.0"], "labels": [10.0, -0.5, 3.0]}


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([1, None], r"1 of 2 rows of the train data have no label .*\(null, NaN and empty count as none\)"),
        ([1, float("nan")], "1 of 2 rows"),
        ([1, "x"], r"`label_column_name`: row 1 of the train data has no number in column 'label': 'x'"),
        ([1, "1,5"], "row 1 .* '1,5'"),
        ([1, "²"], "row 1 .* '²'"),
        ([1, "1e999"], "row 1 .* '1e999'"),
        ([1, True], "row 1 .* True"),
        ([1, [2]], r"row 1 .* \[2\]"),
        ([2, 2.0, "2"], "all rows of the train data have the number 2.0"),
    ],
)
def test_what_is_no_number_is_named(tmp_path, labels, message):
    with pytest.raises(ValueError, match=message):
        load(tmp_path, rows(*labels))


def test_the_names_of_a_class_label_are_the_numbers():
    data = Dataset.from_list(rows("1", "2", "10", "5")).class_encode_column("label")
    shaped = Regression().shape({"train": data}, RegressionArguments())
    assert shaped.splits["train"]["labels"][:] == [1, 2, 10, 5]
    data = Dataset.from_list(rows(0, 1)).cast_column("label", ClassLabel(names=["bad", "good"]))
    with pytest.raises(ValueError, match=r"row 0 of the train data has no number in column 'label': 'bad'"):
        Regression().shape({"train": data}, RegressionArguments())
    hidden = Dataset.from_list(rows(-1, -1)).cast_column("label", ClassLabel(names=["1", "2"]))
    shaped = Regression().shape({"train": Dataset.from_list(rows(1, 2)), "test": hidden}, RegressionArguments())
    assert "labels" not in shaped.splits["test"].column_names


def test_splits_without_numbers(tmp_path):
    assert "labels" not in load(tmp_path, rows(1, 2), rows(-1, -1.0))["test"].column_names
    assert "labels" not in load(tmp_path, rows(1, 2), rows(None, ""))["test"].column_names
    assert "labels" not in load(tmp_path, rows(1, 2), [{"text": "a"}])["test"].column_names
    assert load(tmp_path, rows(1, -2), rows(-1, -1))["test"]["labels"][:] == [-1, -1]
    assert load(tmp_path, rows(1, 2), rows(-1, 3))["test"]["labels"][:] == [-1, 3]
    with pytest.raises(ValueError, match="1 of 2 rows of the test data have no label"):
        load(tmp_path, rows(1, 2), rows(1, None))
    with pytest.raises(ValueError, match=r"no column 'score' \(`label_column_name`\)"):
        load(tmp_path, [{"text": "a"}], label_column_name="score")


def test_scores_are_those_of_scipy_and_of_the_definition():
    draw = np.random.default_rng(0)
    references = draw.integers(0, 6, 50) / 2
    predictions = np.round(references + draw.normal(size=50), 1)  # with ties
    scores = regression_scores(predictions, references)
    assert scores["mse"] == pytest.approx(sum((p - r) ** 2 for p, r in zip(predictions, references, strict=True)) / 50)
    assert scores["pearson"] == pytest.approx(pearsonr(predictions, references).statistic)
    assert scores["spearman"] == pytest.approx(spearmanr(predictions, references).statistic)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("value", [1.0, 0.1, 1e-8, 12345.678])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("count", [1, 3, 7])
def test_there_is_no_correlation_with_equal_numbers(value, dtype, count):
    flat, other = np.full(count, value, dtype), np.arange(count, dtype=dtype)
    for pair in ((flat, other), (other, flat), (flat, flat)):
        scores = regression_scores(*pair)
        assert math.isnan(scores["pearson"])
        assert math.isnan(scores["spearman"])
    assert regression_scores(flat, other)["mse"] == pytest.approx(np.mean((value - np.arange(count)) ** 2))


def test_predictions_that_are_no_numbers_have_no_score():
    scores = regression_scores(np.array([0.1, np.nan, 0.3]), np.array([1.0, 2.0, 3.0]))
    assert set(map(str, scores.values())) == {"nan"}
