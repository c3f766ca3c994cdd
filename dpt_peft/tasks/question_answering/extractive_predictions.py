"""Extractive question answering: from a reader's logits to answers, metrics, files and the best null threshold."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import EvalPrediction, PreTrainedTokenizerBase

from dpt_peft.tasks.question_answering.answers import (
    DEFAULT_MAX_ANSWER_LENGTH,
    DEFAULT_N_BEST,
    RankedAnswers,
    WindowLogits,
    rank_answers,
)
from dpt_peft.tasks.question_answering.extractive import QuestionAnsweringFeatures
from dpt_peft.tasks.question_answering.squad_metric import SquadMetric, score_answer

#: Start and end logits of all windows, in their order: (windows, tokens) each, or one array a window.
ReaderLogits = tuple[Sequence[np.ndarray] | np.ndarray, Sequence[np.ndarray] | np.ndarray]


def rank_examples(
    features: QuestionAnsweringFeatures,
    logits: ReaderLogits,
    *,
    n_best_size: int = DEFAULT_N_BEST,
    max_answer_length: int = DEFAULT_MAX_ANSWER_LENGTH,
) -> list[RankedAnswers]:
    """Ranks the answers of every question over all of its windows; see `rank_answers`.

    Args:
        features: The features that the logits belong to.
        logits: For every window its tokens' start and end logits, padded on the right if at all.
        n_best_size: See `rank_answers`.
        max_answer_length: See `rank_answers`.
    """
    by_example: list[list[WindowLogits]] = [[] for _ in features.examples]
    for index, window, null, start, end in zip(
        features.example_index, features.windows, features.null_positions, *logits, strict=True
    ):
        by_example[index].append(WindowLogits(window.offsets, start, end, null))
    return [
        rank_answers(example.context, windows, n_best_size=n_best_size, max_answer_length=max_answer_length)
        for example, windows in zip(features.examples, by_example, strict=True)
    ]


def answer_texts(ranked: Sequence[RankedAnswers], null_threshold: float | None = None) -> list[str]:
    """Returns every question's answer, "" for none; see `RankedAnswers.best`."""
    answers = [one.best(null_threshold) for one in ranked]
    return ["" if answer is None else answer.text for answer in answers]


def evaluate_answers(
    features: QuestionAnsweringFeatures, ranked: Sequence[RankedAnswers], null_threshold: float | None = None
) -> dict[str, float]:
    """Computes `SquadMetric` of the answers: rules of SQuAD 2.0 with a threshold, of 1.1 without one.

    Raises:
        ValueError: The questions have no annotation.
    """
    _require_answers(features)
    texts = answer_texts(ranked, null_threshold)
    # Ids of a user's own data may repeat; rows do not.
    result = SquadMetric("squad" if null_threshold is None else "squad_v2", keep_in_memory=True).compute(
        predictions=[{"id": str(row), "prediction_text": text} for row, text in enumerate(texts)],
        references=[
            {"id": str(row), "answers": {"text": example.texts or [], "answer_start": example.starts}}
            for row, example in enumerate(features.examples)
        ],
    )
    assert result is not None
    return result


def _require_answers(features: QuestionAnsweringFeatures) -> None:
    if not features.labelled:
        raise ValueError("the questions have no answers to compare with")


def answer_metrics(
    features: QuestionAnsweringFeatures,
    null_threshold: Callable[[], float | None],
    *,
    n_best_size: int = DEFAULT_N_BEST,
    max_answer_length: int = DEFAULT_MAX_ANSWER_LENGTH,
) -> Callable[[EvalPrediction], dict[str, float]]:
    """Makes the Trainer's `compute_metrics` for one split.

    Args:
        features: The split; its windows must be evaluated in their order.
        null_threshold: Asked at every evaluation, so that it may change meanwhile.
        n_best_size: See `rank_answers`.
        max_answer_length: See `rank_answers`.

    Returns:
        A function from `EvalPrediction` to the numbers of `SquadMetric`; with a threshold also `best_f1` and
        `best_f1_thresh`, those of the threshold that would be best for this split, which flatter. None for a split
        without answers.
    """

    def compute(prediction: EvalPrediction) -> dict[str, float]:
        if not features.labelled:
            return {}
        logits = (prediction.predictions[0], prediction.predictions[1])
        ranked = rank_examples(features, logits, n_best_size=n_best_size, max_answer_length=max_answer_length)
        threshold = null_threshold()
        metrics = evaluate_answers(features, ranked, threshold)
        if threshold is not None:
            best = search_null_threshold(features, ranked, before=threshold)
            metrics |= {"best_f1": best.f1, "best_f1_thresh": best.null_threshold}
        return metrics

    return compute


@dataclass(frozen=True)
class NullThresholdSearch:
    """Outcome of `search_null_threshold`.

    Attributes:
        null_threshold: The best threshold.
        f1: F1 with it, on the questions it was searched on (so it flatters).
        f1_before: The same with the threshold before.
    """

    null_threshold: float
    f1: float
    f1_before: float


def search_null_threshold(
    features: QuestionAnsweringFeatures, ranked: Sequence[RankedAnswers], *, before: float = 0.0
) -> NullThresholdSearch:
    """Finds the threshold of `RankedAnswers.null_odds` with the best F1, among all that make a difference.

    The official script of SQuAD 2.0 does the same with the file of null odds; here the threshold lies half-way between
    the two questions that it divides, which is a better guess for other questions.

    Args:
        features: Questions with annotations.
        ranked: Their answers, from `rank_examples`.
        before: The threshold in use. It stays unless another one is better, and of equally good ones the nearest to
            it is taken.

    Returns:
        The best threshold.

    Raises:
        ValueError: The questions have no annotation.
    """
    _require_answers(features)
    odds = np.array([one.null_odds for one in ranked])
    pairs = list(zip(answer_texts(ranked), features.examples, strict=True))
    answered = np.array([score_answer(text, example.texts or [], version_2=True)[1] for text, example in pairs])
    silent = np.array([score_answer("", example.texts or [], version_2=True)[1] for _, example in pairs])

    order = np.argsort(odds, kind="stable")
    ordered, gains = odds[order], (answered - silent)[order]
    thresholds = np.concatenate([[ordered[0] - 1], (ordered[:-1] + ordered[1:]) / 2, [ordered[-1] + 1]])
    f1 = (silent.sum() + np.concatenate([[0.0], np.cumsum(gains)])) / len(odds)
    # Questions with the same odds are answered all or none.
    possible = np.concatenate([[True], ordered[:-1] < ordered[1:], [True]])
    f1_before = float(np.where(odds <= before, answered, silent).mean())

    best = np.round(np.where(possible, f1, -1.0), 9)
    if best.max() <= round(f1_before, 9):
        return NullThresholdSearch(before, f1_before, f1_before)
    chosen = min(np.flatnonzero(best == best.max()), key=lambda index: abs(thresholds[index] - before))
    return NullThresholdSearch(float(thresholds[chosen]), float(f1[chosen]), f1_before)


def predict_logits(
    model: torch.nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    features: QuestionAnsweringFeatures,
    batch_size: int = 16,
) -> ReaderLogits:
    """Runs a reader over the windows, without gradients.

    Args:
        model: A question answering model of transformers, or a PEFT model around one.
        tokenizer: Its tokenizer, which pads.
        features: The windows.
        batch_size: Windows a batch.

    Returns:
        For every window its start logits and its end logits, cut to the window's tokens.
    """
    device = next(model.parameters()).device
    training = model.training
    model.eval()
    found: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    try:
        for first in range(0, len(features.windows), batch_size):
            windows = features.windows[first : first + batch_size]
            batch = tokenizer.pad([window.inputs for window in windows], padding_side="right", return_tensors="pt")
            with torch.no_grad():
                output = model(**batch.to(device))
            for rows, logits in zip(found, (output.start_logits, output.end_logits), strict=True):
                values = logits.float().cpu().numpy()
                rows += [row[: len(window.offsets)] for row, window in zip(values, windows, strict=True)]
    finally:
        model.train(training)
    return found


def get_null_threshold(model: Any) -> float | None:
    """Returns the threshold that `model.config` holds, or `None`: every question has an answer."""
    threshold = getattr(model.config, "null_score_diff_threshold", None)
    return None if threshold is None else float(threshold)


def write_answers(
    folder: Path,
    features: QuestionAnsweringFeatures,
    ranked: Sequence[RankedAnswers],
    null_threshold: float | None = None,
) -> None:
    """Writes the files that the official scripts read, and the n best answers beside.

    `predictions.json` (text by id, "" for none), with a threshold `null_odds.json` (`null_odds` by id, for
    `--na-prob-file`), and `nbest_predictions.json` (by id: `text`, `start`, `end`, `score`, `probability` of each).

    Args:
        folder: Where to.
        features: The questions.
        ranked: Their answers.
        null_threshold: See `RankedAnswers.best`.
    """
    ids = [example.id for example in features.examples]
    files: dict[str, list[Any]] = {"predictions": answer_texts(ranked, null_threshold), "nbest_predictions": []}
    if null_threshold is not None:
        files["null_odds"] = [one.null_odds for one in ranked]
    for one in ranked:
        choices = [vars(answer) for answer in one.answers]
        if null_threshold is not None:
            choices.append({"text": "", "start": None, "end": None, "score": one.null_score})
        probabilities = one.probabilities(null_threshold is not None)
        rows = [{**choice, "probability": share} for choice, share in zip(choices, probabilities, strict=True)]
        files["nbest_predictions"].append(sorted(rows, key=lambda row: -row["score"]))
    for name, values in files.items():
        by_id = dict(zip(ids, values, strict=True))
        (folder / f"{name}.json").write_text(json.dumps(by_id, ensure_ascii=False, indent=1), encoding="utf-8")
