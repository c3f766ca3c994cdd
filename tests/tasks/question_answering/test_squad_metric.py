"""Values of the official scripts (evaluate-v1.1.py, evaluate-v2.0.py) on hand-made cases, worked out beside them."""

import pytest

from dpt_peft.tasks.question_answering.squad_metric import SquadMetric, normalize_answer, score_answer

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
