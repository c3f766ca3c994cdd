"""Exact match and F1 of SQuAD 1.1 and 2.0, by the rules of the official scripts, without the network."""

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
    """Normalizes an answer as both official scripts do: lower case, no punctuation, no articles, single spaces."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def _f1(predicted: list[str], gold: list[str]) -> float:
    common = sum((Counter(predicted) & Counter(gold)).values())
    if common == 0:
        return 0.0
    precision, recall = common / len(predicted), common / len(gold)
    return 2 * precision * recall / (precision + recall)


def score_answer(predicted: str, golds: Sequence[str], *, version_2: bool = False) -> tuple[float, float]:
    """Scores one answer against the annotated ones.

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
        version_2 = self.config_name == "squad_v2"
        texts = {prediction["id"]: prediction["prediction_text"] for prediction in predictions}
        exact: dict[str, list[float]] = defaultdict(list)
        f1: dict[str, list[float]] = defaultdict(list)
        for reference in references:
            golds = reference["answers"]["text"]
            scores = score_answer(texts.get(reference["id"], ""), golds, version_2=version_2)
            for group in ("", "HasAns" if golds else "NoAns"):
                exact[group].append(scores[0])
                f1[group].append(scores[1])
        result = {"exact_match": float(np.mean(exact[""])), "f1": float(np.mean(f1[""]))}
        for group in ("HasAns", "NoAns") if version_2 else ():
            if group in exact:
                result[f"{group}_exact"] = float(np.mean(exact[group]))
                result[f"{group}_f1"] = float(np.mean(f1[group]))
        return result
