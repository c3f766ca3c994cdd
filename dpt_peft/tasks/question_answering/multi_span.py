"""Multi-span question answering (QUOREF): labels, answers, metrics, files and the best threshold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from datasets import Dataset
from transformers import EvalPrediction, PreTrainedTokenizerBase

from dpt_peft.tasks.question_answering.data import (
    Example,
    QuestionArguments,
    QuestionFeatures,
    ThresholdSearch,
    cut_into_windows,
    predict_logits,
    write_by_id,
    write_spans,
)
from dpt_peft.tasks.question_answering.decoding import (
    Scores,
    Span,
    answer_logits,
    decode_spans,
    score_words,
    split_words,
)
from dpt_peft.tasks.question_answering.metrics import MultiSpanMetric, score_spans
from dpt_peft.tasks.question_answering.windows import DEFAULT_DOC_STRIDE, DEFAULT_MAX_LENGTH, Window, window_length

Mentions = Literal["all", "given"]
#: Label of tokens that are not of the paragraph; no loss is computed there.
IGNORED = -100


@dataclass
class MultiSpanQAArguments(QuestionArguments):
    """Data of a multi-span question answering task: a question's `answers` are all spans of its one answer."""

    mentions: Mentions = field(
        default="all",
        metadata={"help": "Train on 'all' mentions of the answers' texts (released code) or on the 'given' ones."},
    )
    allow_no_answer: bool = field(
        default=False, metadata={"help": "Whether a question may get no answer. Otherwise there is at least one span."}
    )


def answer_ranges(example: Example, mentions: Mentions = "all") -> list[tuple[int, int]]:
    """Find the characters that count as answer while training.

    Args:
        example: A question with answers.
        mentions: "given": where the annotation says. "all": wherever an answer's text stands as whole words.

    Returns:
        Half-open character ranges in the paragraph.

    Raises:
        ValueError: `mentions` is neither.
    """
    if mentions not in ("all", "given"):
        raise ValueError(f"`mentions` must be 'all' or 'given', got {mentions!r}")
    texts = example.texts or []
    ranges = {(start, start + len(text)) for text, start in zip(texts, example.starts, strict=True)}
    if mentions == "all" and texts:
        words = split_words(example.context)
        starts, ends = {start for start, _ in words}, {end for _, end in words}
        for text in set(texts):
            start = example.context.find(text)
            while start >= 0:
                if start in starts and start + len(text) in ends:
                    ranges.add((start, start + len(text)))
                start = example.context.find(text, start + 1)
    return sorted(ranges)


def label_window(window: Window, ranges: Sequence[tuple[int, int]]) -> list[int]:
    """Label the tokens of a window: 1 part of an answer, 0 another token of the paragraph, -100 anything else."""
    return [
        IGNORED if offset is None else int(any(offset[0] < end and start < offset[1] for start, end in ranges))
        for offset in window.offsets
    ]


def make_features(
    dataset: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    *,
    mentions: Mentions = "all",
    max_length: int = DEFAULT_MAX_LENGTH,
    doc_stride: int = DEFAULT_DOC_STRIDE,
) -> QuestionFeatures:
    """Turn questions into labelled windows.

    Args:
        dataset: A split of `load_questions`, or any data set with the columns `id`, `question`, `context` and
            `answers` of the Hub.
        tokenizer: A fast tokenizer.
        mentions: See `answer_ranges`.
        max_length: See `make_windows`.
        doc_stride: See `make_windows`.

    Returns:
        The features, with `labels`. (A split without answers has labels too; they only say which tokens are of the
        paragraph.)

    Raises:
        TypeError, ValueError: See `make_windows`, `read_examples` and `answer_ranges`.
    """

    def label(example: Example, windows: list[Window]) -> list[dict[str, Any]]:
        ranges = answer_ranges(example, mentions)
        return [{"labels": label_window(window, ranges)} for window in windows]

    return cut_into_windows(dataset, tokenizer, label, max_length=max_length, doc_stride=doc_stride)


def score_examples(features: QuestionFeatures, logits: Sequence[np.ndarray] | np.ndarray) -> list[Scores]:
    """Score the words of every question's paragraph by their best token in their best window.

    Args:
        features: The features that the logits belong to.
        logits: For every window its tokens' logits as the model gives them, padded on the right if at all.

    Returns:
        For every question the logits of the words of its paragraph, see `score_words`.
    """
    return [
        score_words(split_words(example.context), [(window.offsets, answer_logits(row)) for window, row in windows])
        for example, windows in zip(features.examples, features.by_example(logits), strict=True)
    ]


def decode_examples(
    features: QuestionFeatures,
    scores: Sequence[Scores],
    *,
    logit_threshold: float = 0.0,
    allow_no_answer: bool = False,
) -> list[list[Span]]:
    """Read every question's answers from the scores of its words; see `decode_spans`."""
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


def evaluate_spans(features: QuestionFeatures, predictions: Sequence[Sequence[Span]]) -> dict[str, float]:
    """Compute `MultiSpanMetric` of predicted spans against the annotation.

    Raises:
        ValueError: The questions have no annotation.
    """
    result = MultiSpanMetric(keep_in_memory=True).compute(
        predictions=[[span.text for span in spans] for spans in predictions],
        references=[[texts] for texts in features.gold_texts()],
    )
    assert result is not None
    return result


def multi_span_metrics(
    features: QuestionFeatures, logit_threshold: Callable[[], float], *, allow_no_answer: bool = False
) -> Callable[[EvalPrediction], dict[str, float]]:
    """Make the Trainer's `compute_metrics` for one split.

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


#: Probabilities of being part of an answer that the search tries.
CANDIDATES = (0.001, 0.003, 0.01, 0.02, *np.arange(0.04, 0.961, 0.02), 0.98, 0.99, 0.997, 0.999)


def search_threshold(
    features: QuestionFeatures,
    scores: Sequence[Scores],
    *,
    before: float = 0.0,
    metric: Literal["f1", "exact_match"] = "f1",
    allow_no_answer: bool = False,
) -> ThresholdSearch:
    """Find the threshold with the best score.

    Args:
        features: Questions with answers.
        scores: Their words' logits, from `score_examples`.
        before: The logit threshold in use; it stays unless another one is better, and of equally good ones the
            nearest to it is taken.
        metric: What should be best.
        allow_no_answer: See `decode_spans`.

    Returns:
        The best of `CANDIDATES` and `before`, as a logit: a word counts as answer if its logit is above.

    Raises:
        ValueError: The questions have no annotation, or the metric is unknown.
    """
    golds = features.gold_texts()
    if metric not in ("f1", "exact_match"):
        raise ValueError(f"`metric` must be 'f1' or 'exact_match', got {metric!r}")
    column = ("exact_match", "f1").index(metric)
    probabilities = np.array(CANDIDATES)
    candidates = [before, *sorted(np.log(probabilities / (1 - probabilities)), key=lambda x: abs(x - before))]
    totals = [0.0] * len(candidates)
    for example, words, gold in zip(features.examples, scores, golds, strict=True):
        ranges = split_words(example.context)
        known: dict[tuple[str, ...], float] = {}  # most thresholds give the same answer
        for number, candidate in enumerate(candidates):
            spans = decode_spans(
                example.context, ranges, words, logit_threshold=candidate, allow_no_answer=allow_no_answer
            )
            texts = tuple(span.text for span in spans)
            if texts not in known:
                known[texts] = score_spans(texts, gold)[column]
            totals[number] += known[texts]
    best = float(candidates[int(np.argmax(np.round(totals, 6)))])

    def metrics(threshold: float) -> dict[str, float]:
        spans = decode_examples(features, scores, logit_threshold=threshold, allow_no_answer=allow_no_answer)
        return evaluate_spans(features, spans)

    return ThresholdSearch(best, metrics(best), metrics(before))


def tune_threshold(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    dataset: Dataset,
    *,
    metric: Literal["f1", "exact_match"] = "f1",
    allow_no_answer: bool = False,
    max_length: int | None = None,
    doc_stride: int = DEFAULT_DOC_STRIDE,
    batch_size: int = 16,
) -> ThresholdSearch:
    """Tune a model's threshold on a development set and store it in `model.config`.

    Args:
        model: `DPTForMultiSpanQuestionAnswering`, a token classifier with the classes O and I, or a PEFT model.
        tokenizer: Its tokenizer.
        dataset: Questions with answers: a split of `load_questions`, or any data set with the columns `id`,
            `question`, `context` and `answers` of the Hub.
        metric: What should be best, "f1" or "exact_match".
        allow_no_answer: Whether there may be no answer.
        max_length: See `window_length`.
        doc_stride: Tokens that neighbouring windows share.
        batch_size: Windows a batch.

    Returns:
        The threshold (as a logit; the wrapper's `config.threshold` is set to the same point) and the metrics.

    Raises:
        TypeError, ValueError: See `make_features`, `window_length` and `search_threshold`.
    """
    max_length = window_length(max_length, tokenizer, model.config)
    features = make_features(dataset, tokenizer, max_length=max_length, doc_stride=doc_stride)
    (logits,) = predict_logits(model, tokenizer, features, batch_size)
    found = search_threshold(
        features,
        score_examples(features, logits),
        before=get_logit_threshold(model),
        metric=metric,
        allow_no_answer=allow_no_answer,
    )
    model.config.logit_threshold = found.threshold
    return found


def get_logit_threshold(model: Any) -> float:
    """Return the logit above which a token is part of an answer: the config's, or 0 for a plain token classifier."""
    return float(getattr(model.config, "logit_threshold", 0.0))


def write_answers(folder: Path, features: QuestionFeatures, answers: Sequence[Sequence[Span]]) -> None:
    """Write answers as QUOREF's official script reads them, and one line a question.

    `predictions.json` (texts by id) and `prediction_spans.jsonl` (see `write_spans`).

    Args:
        folder: Where to.
        features: The questions.
        answers: Their spans, from `decode_examples`.

    Raises:
        ValueError: Two questions have the same id.
    """
    write_by_id(folder / "predictions.json", features.examples, [[span.text for span in spans] for spans in answers])
    write_spans(folder / "prediction_spans.jsonl", features.examples, answers)
