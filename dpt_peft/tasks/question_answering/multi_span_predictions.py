"""Multi-span question answering: from a model's logits to answers, metrics and the best threshold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from datasets import Dataset
from transformers import EvalPrediction, PreTrainedTokenizerBase

from dpt_peft.tasks.question_answering.multi_span import MultiSpanFeatures, make_features
from dpt_peft.tasks.question_answering.multi_span_metric import MultiSpanMetric, score_spans
from dpt_peft.tasks.question_answering.spans import Scores, Span, answer_logits, decode_spans, score_words, split_words
from dpt_peft.tasks.question_answering.windows import DEFAULT_DOC_STRIDE, DEFAULT_MAX_LENGTH, window_length


def score_examples(features: MultiSpanFeatures, logits: Sequence[np.ndarray] | np.ndarray) -> list[Scores]:
    """Scores the words of every question's paragraph by their best token in their best window.

    Args:
        features: The features that the logits belong to.
        logits: For every window its tokens' logits as the model gives them, padded on the right if at all.

    Returns:
        For every question the logits of the words of its paragraph, see `score_words`.
    """
    by_example: list[list[tuple[Any, np.ndarray]]] = [[] for _ in features.examples]
    for index, window, row in zip(features.example_index, features.windows, logits, strict=True):
        by_example[index].append((window.offsets, answer_logits(row)))
    return [
        score_words(split_words(example.context), windows)
        for example, windows in zip(features.examples, by_example, strict=True)
    ]


def decode_examples(
    features: MultiSpanFeatures,
    scores: Sequence[Scores],
    *,
    logit_threshold: float = 0.0,
    allow_no_answer: bool = False,
) -> list[list[Span]]:
    """Reads every question's answers from the scores of its words; see `decode_spans`."""
    return [
        decode_spans(
            example.context,
            split_words(example.context),
            words,
            logit_threshold=logit_threshold,
            allow_no_answer=allow_no_answer,
        )
        for example, words in zip(features.examples, scores, strict=True)
    ]


def evaluate_spans(features: MultiSpanFeatures, predictions: Sequence[Sequence[Span]]) -> dict[str, float]:
    """Computes `MultiSpanMetric` of predicted spans against the annotation.

    Raises:
        ValueError: The questions have no annotation.
    """
    _require_answers(features)
    result = MultiSpanMetric(keep_in_memory=True).compute(
        predictions=[[span.text for span in spans] for spans in predictions],
        references=[[example.texts] for example in features.examples],
    )
    assert result is not None
    return result


def _require_answers(features: MultiSpanFeatures) -> None:
    if not features.labelled:
        raise ValueError("the questions have no answers to compare with")


def multi_span_metrics(
    features: MultiSpanFeatures, logit_threshold: Callable[[], float], *, allow_no_answer: bool = False
) -> Callable[[EvalPrediction], dict[str, float]]:
    """Makes the Trainer's `compute_metrics` for one split.

    Args:
        features: The split; its windows must be evaluated in their order.
        logit_threshold: Asked at every evaluation, so that it may change meanwhile.
        allow_no_answer: See `decode_spans`.

    Returns:
        A function from `EvalPrediction` to the numbers of `MultiSpanMetric`; none for a split without answers.
    """

    def compute(prediction: EvalPrediction) -> dict[str, float]:
        if not features.labelled:
            return {}
        logits = prediction.predictions[0] if isinstance(prediction.predictions, tuple) else prediction.predictions
        spans = decode_examples(
            features,
            score_examples(features, logits),
            logit_threshold=logit_threshold(),
            allow_no_answer=allow_no_answer,
        )
        return evaluate_spans(features, spans)

    return compute


@dataclass(frozen=True)
class ThresholdSearch:
    """Outcome of a search for the threshold.

    Attributes:
        logit_threshold: The best one: a word counts as answer if its logit is above.
        metrics: `MultiSpanMetric` with it, on the questions it was searched on (so they flatter).
        metrics_before: The same with the threshold before.
    """

    logit_threshold: float
    metrics: dict[str, float]
    metrics_before: dict[str, float]


#: Probabilities of being part of an answer that the search tries.
CANDIDATES = (0.001, 0.003, 0.01, 0.02, *np.arange(0.04, 0.961, 0.02), 0.98, 0.99, 0.997, 0.999)


def search_threshold(
    features: MultiSpanFeatures,
    scores: Sequence[Scores],
    *,
    before: float = 0.0,
    metric: Literal["f1", "exact_match"] = "f1",
    allow_no_answer: bool = False,
) -> ThresholdSearch:
    """Finds the threshold with the best score.

    Args:
        features: Questions with answers.
        scores: Their words' logits, from `score_examples`.
        before: The logit threshold in use; it stays unless another one is better, and of equally good ones the
            nearest to it is taken.
        metric: What should be best.
        allow_no_answer: See `decode_spans`.

    Returns:
        The best of `CANDIDATES` and `before`.

    Raises:
        ValueError: The questions have no annotation, or the metric is unknown.
    """
    _require_answers(features)
    if metric not in ("f1", "exact_match"):
        raise ValueError(f"`metric` must be 'f1' or 'exact_match', got {metric!r}")
    column = ("exact_match", "f1").index(metric)
    probabilities = np.array(CANDIDATES)
    candidates = [before, *sorted(np.log(probabilities / (1 - probabilities)), key=lambda x: abs(x - before))]
    totals = [0.0] * len(candidates)
    for example, words in zip(features.examples, scores, strict=True):
        ranges = split_words(example.context)
        known: dict[tuple[str, ...], float] = {}  # most thresholds give the same answer
        for number, candidate in enumerate(candidates):
            spans = decode_spans(
                example.context, ranges, words, logit_threshold=candidate, allow_no_answer=allow_no_answer
            )
            texts = tuple(span.text for span in spans)
            if texts not in known:
                known[texts] = score_spans(texts, example.texts or [])[column]
            totals[number] += known[texts]
    best = float(candidates[int(np.argmax(np.round(totals, 6)))])

    def metrics(threshold: float) -> dict[str, float]:
        spans = decode_examples(features, scores, logit_threshold=threshold, allow_no_answer=allow_no_answer)
        return evaluate_spans(features, spans)

    return ThresholdSearch(best, metrics(best), metrics(before))


def predict_logits(
    model: torch.nn.Module, tokenizer: PreTrainedTokenizerBase, features: MultiSpanFeatures, batch_size: int = 16
) -> list[np.ndarray]:
    """Runs a model over the windows, without gradients.

    Args:
        model: The DPT wrapper, a token classifier, or a PEFT model around either.
        tokenizer: Its tokenizer, which pads.
        features: The windows.
        batch_size: Windows a batch.

    Returns:
        For every window its logits, cut to the window's tokens.
    """
    device = next(model.parameters()).device
    training = model.training
    model.eval()
    found: list[np.ndarray] = []
    try:
        for first in range(0, len(features.windows), batch_size):
            windows = features.windows[first : first + batch_size]
            batch = tokenizer.pad([window.inputs for window in windows], padding_side="right", return_tensors="pt")
            with torch.no_grad():
                logits = model(**batch.to(device)).logits.float().cpu().numpy()
            found += [row[: len(window.offsets)] for row, window in zip(logits, windows, strict=True)]
    finally:
        model.train(training)
    return found


def tune_threshold(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    dataset: Dataset,
    *,
    metric: Literal["f1", "exact_match"] = "f1",
    allow_no_answer: bool = False,
    max_length: int = DEFAULT_MAX_LENGTH,
    doc_stride: int = DEFAULT_DOC_STRIDE,
    batch_size: int = 16,
) -> ThresholdSearch:
    """Tunes a model's threshold on a development set and stores it in `model.config`.

    Args:
        model: `DPTForMultiSpanQuestionAnswering`, a token classifier with the classes O and I, or a PEFT model.
        tokenizer: Its tokenizer.
        dataset: Questions with answers: a split of `load_questions`, or any data set with the columns `id`,
            `question`, `context` and `answers` of the Hub.
        metric: What should be best, "f1" or "exact_match".
        allow_no_answer: Whether there may be no answer.
        max_length: Longest window in tokens; at most what the model takes.
        doc_stride: Tokens that neighbouring windows share.
        batch_size: Windows a batch.

    Returns:
        The threshold (as a logit; the wrapper's `config.threshold` is set to the same point) and the metrics.

    Raises:
        TypeError, ValueError: See `make_features` and `search_threshold`.
    """
    max_length = window_length(max_length, tokenizer, model.config)
    features = make_features(dataset, tokenizer, max_length=max_length, doc_stride=doc_stride)
    scores = score_examples(features, predict_logits(model, tokenizer, features, batch_size))
    found = search_threshold(
        features, scores, before=get_logit_threshold(model), metric=metric, allow_no_answer=allow_no_answer
    )
    model.config.logit_threshold = found.logit_threshold
    return found


def get_logit_threshold(model: Any) -> float:
    """Returns the logit above which a token is part of an answer: the config's, or 0 for a plain token classifier."""
    return float(getattr(model.config, "logit_threshold", 0.0))
