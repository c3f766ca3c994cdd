"""Values of the official scripts (SQuAD 1.1 and 2.0, DROP) on hand-made cases, worked out beside them."""

import evaluate
import pytest

from dpt_peft.tasks.question_answering.metrics import (
    MultiSpanMetric,
    SquadMetric,
    normalize_answer,
    normalize_drop_answer,
    score_answer,
    score_spans,
)

# prediction, annotated answers; exact match and F1 by the script of 1.1, and by that of 2.0
CASES = [
    ("Denver Broncos", ["Denver Broncos"], (1, 1), (1, 1)),
    # articles, case, punctuation and spaces do not count
    ("the  Denver-Broncos!", ["denverbroncos"], (1, 1), (1, 1)),
    # 2 of 3 predicted words are right, 2 of 2 are found: F1 = 2 * 2/3 * 1 / (2/3 + 1)
    ("Denver Broncos won", ["the Denver Broncos"], (0, 0.8), (0, 0.8)),
    # the best annotation counts, for each number on its own
    ("in 1990", ["1991", "1990", "in the year 1990"], (0, 0.8), (0, 0.8)),
    # a bag: "la" twice against once, 1 / 2 right, 1 / 2 found
    ("la la", ["la land"], (0, 0.5), (0, 0.5)),
    ("Paris", ["Rome"], (0, 0), (0, 0)),
    ("", ["Rome"], (0, 0), (0, 0)),
    # nothing is left of "the": an exact match for 1.1 (without a common word, F1 0), no answer at all for 2.0
    ("The", ["the"], (1, 0), (1, 1)),
    ("", ["the"], (1, 0), (1, 1)),
    ("Rome", ["the"], (0, 0), (0, 0)),
    # of "the" and "Rome" only "Rome" counts in 2.0
    ("a", ["the", "Rome"], (1, 0), (0, 0)),
    # no answer: only 2.0 knows that
    ("", [], (0, 0), (1, 1)),
    ("an", [], (0, 0), (1, 1)),
    ("Rome", [], (0, 0), (0, 0)),
]


@pytest.mark.parametrize(("predicted", "golds", "version_1", "version_2"), CASES)
def test_scores_of_the_official_scripts(predicted, golds, version_1, version_2):
    assert score_answer(predicted, golds) == pytest.approx(version_1)
    assert score_answer(predicted, golds, version_2=True) == pytest.approx(version_2)


def test_normalization():
    assert normalize_answer(" The U.S.A.,\tan  Apple a-day (theatre) ") == "usa apple aday theatre"


def compute(name, cases):
    return SquadMetric(name, keep_in_memory=True).compute(
        predictions=[{"id": str(row), "prediction_text": text} for row, (text, _) in enumerate(cases)],
        references=[
            {"id": str(row), "answers": {"text": golds, "answer_start": [0] * len(golds)}}
            for row, (_, golds) in enumerate(cases)
        ],
    )


def test_means_over_all_questions_and_over_those_with_and_without_an_answer():
    cases = [("Bob", ["Bob"]), ("Bob and Ann", ["Ann"]), ("", ["Ann"]), ("", []), ("Eve", [])]
    assert compute("squad_v2", cases) == pytest.approx(
        {
            "exact_match": 2 / 5,
            "f1": (1 + 0.5 + 0 + 1 + 0) / 5,
            "HasAns_exact": 1 / 3,
            "HasAns_f1": 1.5 / 3,
            "NoAns_exact": 1 / 2,
            "NoAns_f1": 1 / 2,
        }
    )
    assert compute("squad", cases[:3]) == pytest.approx({"exact_match": 1 / 3, "f1": 0.5})
    assert set(compute("squad_v2", cases[:3])) == {"exact_match", "f1", "HasAns_exact", "HasAns_f1"}


def test_by_id_and_missing_predictions():
    references = [{"id": name, "answers": {"text": [name], "answer_start": [0]}} for name in ("x", "y")]
    metric = SquadMetric("squad", keep_in_memory=True)
    for name in ("y", "x"):
        metric.add(prediction={"id": name, "prediction_text": name}, reference=references[name == "y"])
    assert metric.compute()["exact_match"] == 1
    with pytest.raises(ValueError, match="`config_name` must be 'squad' or 'squad_v2'"):
        SquadMetric("squad3")


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
def test_drop_normalization(text, normal):
    assert normalize_drop_answer(text) == normal


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
