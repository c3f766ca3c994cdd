"""DROP and QUOREF rules, against values worked out by hand."""

import evaluate
import pytest

from dpt_peft.tasks.question_answering.multi_span_metric import MultiSpanMetric, normalize_answer, score_spans


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("The  Old Man, and the Sea!", "old man and sea"),
        ("twenty-one", "twenty one"),
        ("a", ""),
        ("7", "7.0"),
        ("7.50", "7.5"),
        ("$7", "7.0"),  # punctuation goes first, then it is a number
        ("3,000", "3000.0"),
        ("U.S.", "us"),
    ],
)
def test_normalization(text, normal):
    assert normalize_answer(text) == normal


@pytest.mark.parametrize(
    ("predicted", "gold", "exact", "f1"),
    [
        (["Ringo Starr"], ["ringo starr."], 1, 1),
        (["Starr"], ["Ringo Starr"], 0, 0.67),  # precision 1, recall 1/2: 2/3
        (["b", "c"], ["c", "b"], 1, 1),
        (["b"], ["b", "c"], 0, 0.5),  # one of two pairs
        (["b", "c", "d"], ["b"], 0, 0.33),  # one pair of three
        (["b", "b"], ["b"], 0, 0.5),  # same set, but not equally many
        # best pairing: (x y)-(x y) 1 and (x)-(z) 0, not (x)-(x y) 2/3 and (x y)-(z) 0
        (["x", "x y"], ["x y", "z"], 0, 0.5),
        # the best sum pairs x with x, 1, and (x w) with (x y), 1/2
        (["x w", "x"], ["x y", "x"], 0, 0.75),
        (["in 1990"], ["in 1991"], 0, 0),  # words in common, but not the number
        (["1990"], ["in 1990"], 0, 0.67),
        (["in 1990"], ["in June"], 0, 0.5),  # a number in the prediction only does not matter
        (["the"], ["b"], 0, 0),  # empty bag: precision 1, recall 0
        ([], ["b"], 0, 0),
        (["b"], [], 0, 0),
        ([], [], 1, 1),
    ],
)
def test_one_annotation(predicted, gold, exact, f1):
    assert score_spans(predicted, gold) == (exact, f1)


def test_metric_is_an_evaluate_metric_and_reports_kinds_of_questions_apart():
    metric = MultiSpanMetric(keep_in_memory=True)
    assert isinstance(metric, evaluate.Metric)
    metric.add_batch(
        predictions=[["b"], ["Starr"], ["b"], []],
        references=[[["b"]], [["Ringo Starr"], ["Ringo"]], [["b", "c"], ["b", "c", "d"]], [[]]],
    )
    result = metric.compute()
    assert result == pytest.approx(
        {
            "exact_match": (1 + 0 + 0 + 1) / 4,
            "f1": (1 + 0.67 + 0.5 + 1) / 4,
            "exact_match_single_span": 0.5,
            "f1_single_span": (1 + 0.67) / 2,
            "exact_match_multi_span": 0,
            "f1_multi_span": 0.5,
            "exact_match_no_answer": 1,
            "f1_no_answer": 1,
        }
    )


def test_best_annotation_counts_and_decides_the_kind():
    metric = MultiSpanMetric(keep_in_memory=True)
    result = metric.compute(predictions=[["b", "c"]], references=[[["b"], ["b", "c"]]])
    assert result == {"exact_match": 1, "f1": 1, "exact_match_multi_span": 1, "f1_multi_span": 1}


def test_first_batch_without_answers():
    metric = MultiSpanMetric(keep_in_memory=True)
    metric.add_batch(predictions=[[]], references=[[["b"]]])
    metric.add_batch(predictions=[["b"]], references=[[["b"]]])
    assert metric.compute()["f1"] == 0.5
