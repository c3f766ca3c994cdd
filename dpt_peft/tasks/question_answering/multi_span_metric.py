"""Exact match and F1 over sets of answer spans, by the rules of DROP and QUOREF, without the network."""

from __future__ import annotations

import re
import string
from collections import defaultdict
from collections.abc import Sequence

import datasets
import evaluate
import numpy as np

_PUNCTUATION = frozenset(string.punctuation)
_ARTICLES = re.compile(r"\b(a|an|the)\b")


def normalize_answer(text: str) -> str:
    """Normalizes an answer as DROP's evaluation does.

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
        word = "".join(character for character in word if character not in _PUNCTUATION)
    if _is_number(word):
        word = str(float(word))
    return " ".join(_ARTICLES.sub(" ", word).split())


def _bag_f1(predicted: set[str], gold: set[str]) -> float:
    common = len(predicted & gold)
    precision = common / len(predicted) if predicted else 1.0
    recall = common / len(gold) if gold else 1.0
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _numbers_agree(predicted: set[str], gold: set[str]) -> bool:
    """Tells whether a gold answer with numbers shares one with the prediction; otherwise they cannot match."""
    numbers = {word for word in gold if _is_number(word)}
    return not numbers or bool(numbers & predicted)


def score_spans(predicted: Sequence[str], gold: Sequence[str]) -> tuple[float, float]:
    """Scores one prediction against one annotation.

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
    predicted_texts, gold_texts = [[normalize_answer(text) for text in texts] for texts in (predicted, gold)]
    exact = set(predicted_texts) == set(gold_texts) and len(predicted_texts) == len(gold_texts)
    predicted_bags, gold_bags = [[set(text.split()) for text in texts] for texts in (predicted_texts, gold_texts)]
    pairs = np.array([[_bag_f1(p, g) if _numbers_agree(p, g) else 0.0 for p in predicted_bags] for g in gold_bags])
    rows, columns = linear_sum_assignment(pairs, maximize=True)
    return float(exact), float(np.round(pairs[rows, columns].sum() / max(pairs.shape), 2))


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
        exact: dict[str, list[float]] = defaultdict(list)
        f1: dict[str, list[float]] = defaultdict(list)
        for predicted, golds in zip(predictions, references, strict=True):
            scores = [(*score_spans(predicted, gold), len(gold)) for gold in golds or [[]]]
            spans = max(scores, key=lambda score: score[:2])[2]
            kind = "_no_answer" if spans == 0 else "_single_span" if spans == 1 else "_multi_span"
            for group in ("", kind):
                exact[group].append(max(score[0] for score in scores))
                f1[group].append(max(score[1] for score in scores))
        result = {}
        for group in ("", "_single_span", "_multi_span", "_no_answer"):
            if group in exact:
                result[f"exact_match{group}"] = float(np.mean(exact[group]))
                result[f"f1{group}"] = float(np.mean(f1[group]))
        return result
