"""Multi-span question answering (QUOREF): labels, answers, metrics, files and the best threshold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from peft import TaskType
from transformers import (
    AutoModelForTokenClassification,
    DataCollatorForTokenClassification,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.hf_argparser import HfArg

from dpt_peft.pretrained_heads import DPTForMultiSpanQuestionAnswering
from dpt_peft.tasks.base import Features, Predictions, TaskData, predict_rows
from dpt_peft.tasks.heads import DISCRIMINATOR, NEW_HEAD, Head, new_head
from dpt_peft.tasks.question_answering.data import (
    Example,
    QuestionArguments,
    QuestionFeatures,
    QuestionTask,
    ThresholdSearch,
    write_by_id,
    write_spans,
)
from dpt_peft.tasks.question_answering.metrics import multi_span_scores, score_spans
from dpt_peft.tasks.question_answering.windows import (
    Scores,
    Span,
    Window,
    answer_logits,
    decode_spans,
    score_words,
    split_words,
)

Mentions = Literal["all", "given"]
#: Label of tokens that are not of the paragraph; no loss is computed there.
IGNORED = -100


@dataclass
class MultiSpanQuestionAnsweringArguments(QuestionArguments):
    """Data of a multi-span question answering task: a question's `answers` are all spans of its one answer."""

    mentions: Mentions = HfArg(
        default="all", help="Train on 'all' mentions of the answers' texts (released code) or on the 'given' ones."
    )
    allow_no_answer: bool = HfArg(
        default=False, help="Whether a question may get no answer. Otherwise there is at least one span."
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


def label_tokens(window: Window, ranges: Sequence[tuple[int, int]]) -> list[int]:
    """Label the tokens of a window: 1 part of an answer, 0 another token of the paragraph, -100 anything else."""
    return [
        IGNORED if offset is None else int(any(offset[0] < end and start < offset[1] for start, end in ranges))
        for offset in window.offsets
    ]


@dataclass(frozen=True)
class MultiSpanFeatures(QuestionFeatures):
    """A split of questions with several spans for an answer.

    Attributes:
        dataset: See `QuestionFeatures`; with `labels`. (A split without answers has labels too; they only say which
            tokens are of the paragraph.)
        allow_no_answer: See `decode_spans`.
        mentions: Which mentions of an answer were labelled, see `answer_ranges`.
    """

    allow_no_answer: bool = False
    mentions: Mentions = "all"

    @classmethod
    def label(
        cls, example: Example, windows: list[Window], *, mentions: Mentions = "all", **options: Any
    ) -> list[dict[str, Any]]:
        """Label the tokens of windows, see `answer_ranges` and `label_tokens`."""
        ranges = answer_ranges(example, mentions)
        return [{"labels": label_tokens(window, ranges)} for window in windows]

    @cached_property
    def words(self) -> list[list[tuple[int, int]]]:
        """The words of every question's paragraph, see `split_words`."""
        return [split_words(example.context) for example in self.examples]

    def score(self, logits: Sequence[np.ndarray] | np.ndarray) -> list[Scores]:
        """Score the words of every question's paragraph, see `score_words`.

        Args:
            logits: For every window its tokens' logits as the model gives them, padded on the right if at all.
        """
        return [
            score_words(words, [(window.offsets, answer_logits(row)) for window, row in rows])
            for words, rows in zip(self.words, self.by_example(logits), strict=True)
        ]

    def decode(self, scores: Sequence[Scores], logit_threshold: float = 0.0) -> list[list[Span]]:
        """Read every question's answers from the scores of its words, see `decode_spans`."""
        return [
            decode_spans(
                example.context,
                words,
                of_words,
                logit_threshold=logit_threshold,
                allow_no_answer=self.allow_no_answer,
            )
            for example, words, of_words in zip(self.examples, self.words, scores, strict=True)
        ]

    def evaluate(self, spans: Sequence[Sequence[Span]]) -> dict[str, float]:
        """Compute `MultiSpanMetric` of predicted spans against the annotation.

        Raises:
            ValueError: The questions have no annotation.
        """
        texts = [[span.text for span in found] for found in spans]
        return multi_span_scores(texts, [[gold] for gold in self.gold_texts()])

    def measure(self, predictions: Predictions, config: Any) -> dict[str, float]:
        """Return the numbers of `MultiSpanMetric`; none for a split without answers."""
        return self.evaluate(self.decode(self.score(predictions), get_logit_threshold(config)))

    def write(self, predictions: Predictions, config: Any, folder: Path) -> None:
        """Write `predictions.json` (texts by id, for QUOREF's official script) and `prediction_spans.jsonl`.

        Raises:
            ValueError: Two questions have the same id.
        """
        answers = self.decode(self.score(predictions), get_logit_threshold(config))
        texts = [[span.text for span in spans] for spans in answers]
        write_by_id(folder / "predictions.json", self.examples, texts)
        write_spans(folder / "prediction_spans.jsonl", self.examples, answers)


multi_span_features = MultiSpanFeatures.cut

#: Probabilities of being part of an answer that the search tries.
CANDIDATES = (0.001, 0.003, 0.01, 0.02, *np.arange(0.04, 0.961, 0.02), 0.98, 0.99, 0.997, 0.999)


def search_threshold(
    features: MultiSpanFeatures,
    scores: Sequence[Scores],
    *,
    before: float = 0.0,
) -> ThresholdSearch:
    """Find the threshold with the best F1.

    Args:
        features: Questions with answers.
        scores: Their words' logits, from `features.score`.
        before: The logit threshold in use; it stays unless another one is better, and of equally good ones the
            nearest to it is taken.

    Returns:
        The best of `CANDIDATES` and `before`, as a logit: a word counts as answer if its logit is above.

    Raises:
        ValueError: The questions have no annotation.
    """
    golds = features.gold_texts()
    probabilities = np.array(CANDIDATES)
    candidates = [before, *sorted(np.log(probabilities / (1 - probabilities)), key=lambda x: abs(x - before))]
    # Most thresholds give a question the same answer.
    score = lru_cache(maxsize=None)(lambda row, texts: score_spans(texts, golds[row])[1])
    totals = [
        sum(
            score(row, tuple(span.text for span in spans))
            for row, spans in enumerate(features.decode(scores, candidate))
        )
        for candidate in candidates
    ]
    best = float(candidates[int(np.argmax(np.round(totals, 6)))])
    after, now = (features.evaluate(features.decode(scores, threshold)) for threshold in (best, before))
    return ThresholdSearch(best, after, now)


def tune_threshold(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    features: MultiSpanFeatures,
    *,
    batch_size: int = 16,
) -> ThresholdSearch:
    """Tune a model's threshold on a development set and store it in `model.config`.

    Args:
        model: `DPTForMultiSpanQuestionAnswering`, a token classifier with the classes O and I, or a PEFT model.
        tokenizer: Its tokenizer.
        features: Questions with answers, from `multi_span_features`.
        batch_size: Windows a batch.

    Returns:
        The threshold (as a logit; the wrapper's `config.threshold` is set to the same point) and the metrics.

    Raises:
        ValueError: See `search_threshold`.
    """
    logits = predict_rows(model, tokenizer, [window.inputs for window in features.windows], batch_size)
    before = get_logit_threshold(model.config)
    found = search_threshold(features, features.score(logits), before=before)
    model.config.logit_threshold = found.threshold
    return found


def get_logit_threshold(config: Any) -> float:
    """Return the logit above which a token is part of an answer: the config's, or 0 for a plain token classifier."""
    return float(getattr(config, "logit_threshold", 0.0))


@dataclass
class DPTReaderOptions:
    """What a discriminator that reads a paragraph can be told."""

    threshold: float | None = HfArg(
        default=None,
        help="A token is part of the answer if its score of being replaced is below. Default: a saved reader's own, "
        "else 0.6 (paper).",
    )
    loss_reduction: Literal["mean", "sum"] | None = HfArg(
        default=None,
        help="Mean over the tokens of a batch, or sum over those of a row. Default: a saved reader's own, else mean.",
    )
    score_function: Literal["one_minus_sigmoid", "sigmoid"] | None = HfArg(
        default=None,
        help="Answers look original (paper), or replaced ('sigmoid', released code). Default: a saved reader's own, "
        "else one_minus_sigmoid.",
    )


def _load_reader(path: str, _data: TaskData, options: DPTReaderOptions, **kwargs: Any) -> PreTrainedModel:
    given = {name: value for name, value in asdict(options).items() if value is not None}
    return DPTForMultiSpanQuestionAnswering.from_pretrained(path, **given, **kwargs)


class MultiSpanQuestionAnswering(QuestionTask):
    """All spans of a paragraph that answer a question."""

    name = pipeline = "multi-span-question-answering"
    task_type = TaskType.TOKEN_CLS
    arguments = MultiSpanQuestionAnsweringArguments
    heads: ClassVar[Mapping[str, Head]] = {
        # Tokens outside and inside of an answer.
        NEW_HEAD: new_head(AutoModelForTokenClassification, label_names=("O", "I")),
        DISCRIMINATOR: Head(_load_reader, DPTReaderOptions),
    }
    auto_class = "TokenClassification"
    threshold_name = "logit_threshold"
    kind = MultiSpanFeatures
    reading = (*QuestionTask.reading, "allow_no_answer")

    def collator(self, tokenizer: PreTrainedTokenizerBase) -> DataCollatorForTokenClassification:
        """Return what pads labels too."""
        return DataCollatorForTokenClassification(tokenizer)

    def tune(self, features: Features, predictions: Predictions, config: Any) -> dict[str, Any]:
        """Choose the threshold of being part of an answer, see `search_threshold`."""
        assert isinstance(features, MultiSpanFeatures)
        before = get_logit_threshold(config)
        return {self.threshold_name: search_threshold(features, features.score(predictions), before=before).threshold}

    def results(self, config: Any) -> dict[str, Any]:
        """Return the threshold."""
        return {self.threshold_name: get_logit_threshold(config)}

    def details(self, data: TaskData, args: Any, model: Any, max_length: int) -> dict[str, Any]:
        """Return which mentions are trained on, the windows and the threshold."""
        return {"Mentions": args.mentions, **super().details(data, args, model, max_length)}
