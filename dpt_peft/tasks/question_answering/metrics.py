"""Exact match and F1 of answers, by the rules of SQuAD's and of DROP's and QUOREF's scripts, without the network.

By these rules words end at spaces: in scripts without spaces F1 is hardly more than exact match, in published results
too.
"""

from __future__ import annotations

import re
import string
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import datasets
import evaluate
import numpy as np

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(a|an|the)\b")


def normalize_answer(text: str) -> str:
    """Normalize an answer as SQuAD's scripts do: lower case, no punctuation, no articles, single spaces."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def _f1(predicted: list[str], gold: list[str]) -> float:
    common = sum((Counter(predicted) & Counter(gold)).values())
    if common == 0:
        return 0.0
    precision, recall = common / len(predicted), common / len(gold)
    return 2 * precision * recall / (precision + recall)


def score_answer(predicted: str, golds: Sequence[str], *, version_2: bool = False) -> tuple[float, float]:
    """Score one answer against the annotated ones.

    Args:
        predicted: The answer's text, "" for none.
        golds: The annotated texts; none of them: the question has no answer.
        version_2: Rules of the script of SQuAD 2.0: annotated texts of which normalization leaves nothing do not
            count, a question without any is right if nothing is predicted. The script of 1.1 has no such questions:
            they score 0.

    Returns:
        Exact match (0 or 1) and F1 of the bags of words, each the best over the annotated texts.
    """
    normalized = [normalize_answer(gold) for gold in golds]
    text = normalize_answer(predicted)
    if version_2:
        normalized = [gold for gold in normalized if gold] or [""]
        if not text or normalized == [""]:
            same = float(text in normalized)
            return same, same
    exact = max((float(text == gold) for gold in normalized), default=0.0)
    return exact, max((_f1(text.split(), gold.split()) for gold in normalized), default=0.0)


def squad_scores(
    predicted: Sequence[str], golds: Sequence[Sequence[str]], *, version_2: bool = False
) -> dict[str, float]:
    """Score the answers of a data set, see `SquadMetric`.

    Args:
        predicted: Every question's answer, "" for none.
        golds: Every question's annotated texts.
        version_2: See `score_answer`.
    """
    columns: dict[str, list[float]] = defaultdict(list)
    for text, annotated in zip(predicted, golds, strict=True):
        exact, f1 = score_answer(text, annotated, version_2=version_2)
        columns["exact_match"].append(exact)
        columns["f1"].append(f1)
        if version_2:
            group = "HasAns" if annotated else "NoAns"
            columns[f"{group}_exact"].append(exact)
            columns[f"{group}_f1"].append(f1)
    return {name: float(np.mean(values)) for name, values in columns.items()}


class SquadMetric(evaluate.Metric):
    """Exact match and F1 of SQuAD; `SquadMetric("squad_v2")` by the rules of 2.0, `SquadMetric("squad")` of 1.1.

    `compute(predictions=[{"id": "1", "prediction_text": "Bob"}], references=[{"id": "1", "answers": {"text": ["Bob"],
    "answer_start": [0]}}])` gives `exact_match` and `f1`; 2.0 gives them for the questions with and without an answer
    besides: `HasAns_exact`, `HasAns_f1`, `NoAns_exact`, `NoAns_f1` (left out where there are no such questions). All
    are between 0 and 1, means over the references; the official scripts print them times 100. A question without a
    prediction counts as answered with "".
    """

    def _info(self) -> evaluate.MetricInfo:
        if self.config_name not in ("squad", "squad_v2", "default"):
            raise ValueError(f"`config_name` must be 'squad' or 'squad_v2', got {self.config_name!r}")
        text = datasets.Value("string")
        answers = datasets.Sequence({"text": text, "answer_start": datasets.Value("int32")})
        return evaluate.MetricInfo(
            description="Exact match and F1 over answers' normalized words (SQuAD 1.1 and 2.0 rules).",
            citation="Rajpurkar et al. 2016, 2018",
            inputs_description="predictions: id, prediction_text; references: id, answers (text, answer_start).",
            features=datasets.Features(
                {
                    "predictions": {"id": text, "prediction_text": text},
                    "references": {"id": text, "answers": answers},
                }
            ),
        )

    def _compute(self, predictions: Sequence[Any], references: Sequence[Any]) -> dict[str, float]:
        texts = {prediction["id"]: prediction["prediction_text"] for prediction in predictions}
        return squad_scores(
            [texts.get(reference["id"], "") for reference in references],
            [reference["answers"]["text"] for reference in references],
            version_2=self.config_name == "squad_v2",
        )


def normalize_drop_answer(text: str) -> str:
    """Normalize an answer as DROP's evaluation does.

    Word by word (words end at spaces and hyphens): lower case, no punctuation except in numbers, numbers as floats,
    no articles, single spaces.
    """
    words = [_normalize_word(word) for word in re.split(" |-", text.lower())]
    return " ".join(word for word in words if word)


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _normalize_word(word: str) -> str:
    if not _is_number(word):
        word = word.translate(_PUNCTUATION)
    if _is_number(word):
        word = str(float(word))
    return " ".join(_ARTICLES.sub(" ", word).split())


def _bag_f1(predicted: set[str], gold: set[str]) -> float:
    common = len(predicted & gold)
    precision = common / len(predicted) if predicted else 1.0
    recall = common / len(gold) if gold else 1.0
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _numbers_agree(predicted: set[str], gold: set[str]) -> bool:
    """Tell whether a gold answer with numbers shares one with the prediction; otherwise they cannot match."""
    numbers = {word for word in gold if _is_number(word)}
    return not numbers or bool(numbers & predicted)


def score_spans(predicted: Sequence[str], gold: Sequence[str]) -> tuple[float, float]:
    """Score one prediction against one annotation.

    Args:
        predicted: Texts of the predicted spans.
        gold: Texts of the annotated spans.

    Returns:
        Exact match: 1 if both are the same set of normalized texts, equally many. F1: spans are paired one to one so
        that the sum of their bag-of-words F1 is highest; the sum divided by the larger number of spans, rounded to
        two decimals as the official script does. Two empty lists score 1, one empty list 0.
    """
    if not predicted or not gold:
        return (1.0, 1.0) if not predicted and not gold else (0.0, 0.0)
    try:
        from scipy.optimize import linear_sum_assignment
    except ImportError as error:
        raise ImportError("MultiSpanMetric needs scipy, which comes with pip install dpt_peft[tasks]") from error
    predicted_texts, gold_texts = [[normalize_drop_answer(text) for text in texts] for texts in (predicted, gold)]
    exact = set(predicted_texts) == set(gold_texts) and len(predicted_texts) == len(gold_texts)
    predicted_bags, gold_bags = [[set(text.split()) for text in texts] for texts in (predicted_texts, gold_texts)]
    pairs = np.array([[_bag_f1(p, g) if _numbers_agree(p, g) else 0.0 for p in predicted_bags] for g in gold_bags])
    rows, columns = linear_sum_assignment(pairs, maximize=True)
    return float(exact), float(np.round(pairs[rows, columns].sum() / max(pairs.shape), 2))


def multi_span_scores(
    predicted: Sequence[Sequence[str]], golds: Sequence[Sequence[Sequence[str]]]
) -> dict[str, float]:
    """Score the answers of a data set, see `MultiSpanMetric`.

    Args:
        predicted: Every question's texts.
        golds: Every question's annotations, each a list of texts.
    """
    columns: dict[str, list[float]] = defaultdict(list)
    for texts, annotated in zip(predicted, golds, strict=True):
        scores = [(*score_spans(texts, gold), len(gold)) for gold in annotated or [[]]]
        spans = max(scores, key=lambda score: score[:2])[2]
        for kind in ("", "_no_answer" if spans == 0 else "_single_span" if spans == 1 else "_multi_span"):
            columns[f"exact_match{kind}"].append(max(score[0] for score in scores))
            columns[f"f1{kind}"].append(max(score[1] for score in scores))
    return {name: float(np.mean(values)) for name, values in columns.items()}


class MultiSpanMetric(evaluate.Metric):
    """Exact match and F1 over sets of spans, by the rules of DROP and QUOREF.

    `MultiSpanMetric(keep_in_memory=True).compute(predictions=[["a", "b"]], references=[[["a", "b"]]])`:
    predictions are lists of texts, one list a question; references are lists of annotations, each a list of texts, and
    the best annotation counts (exact match and F1 each on its own, F1 breaking ties).

    Returns `exact_match` and `f1`, and for the questions whose best annotation has one span, several, or none
    `exact_match_single_span`, `f1_single_span`, `exact_match_multi_span`, `f1_multi_span`, `exact_match_no_answer`,
    `f1_no_answer` (left out where there are no such questions). All are between 0 and 1, means over questions; the
    official script prints them times 100.
    """

    def _info(self) -> evaluate.MetricInfo:
        texts = datasets.Sequence(datasets.Value("string"))
        return evaluate.MetricInfo(
            description="Exact match and F1 over sets of answer spans (DROP and QUOREF rules).",
            citation="Dua et al. 2019 (DROP), Dasigi et al. 2019 (QUOREF)",
            inputs_description="predictions: texts by question; references: annotations by question.",
            features=datasets.Features({"predictions": texts, "references": datasets.Sequence(texts)}),
        )

    def _compute(
        self, predictions: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]]
    ) -> dict[str, float]:
        return multi_span_scores(predictions, references)
