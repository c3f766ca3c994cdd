"""From a reader's start and end logits to the best answers of a question, over all windows of its paragraph."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from transformers import PreTrainedTokenizerBase

from dpt_peft.tasks.question_answering.windows import Window

DEFAULT_N_BEST = 20
DEFAULT_MAX_ANSWER_LENGTH = 30


@dataclass(frozen=True)
class Answer:
    """A piece of the paragraph.

    Attributes:
        start: First character in the paragraph.
        end: One behind the last character: `context[start:end] == text`.
        text: The answer as it stands in the paragraph.
        score: Logit of its first token as a start plus logit of its last token as an end.
    """

    start: int
    end: int
    text: str
    score: float


class WindowLogits(NamedTuple):
    """What a reader says of one window. Logits behind the last token (padding) are ignored.

    Attributes:
        offsets: For every token its characters in the paragraph, `None` for tokens that are not of the paragraph.
        start: (tokens,) logits of being the answer's first token.
        end: (tokens,) logits of being the answer's last token.
        null_position: The token whose logits mean "no answer here" ([CLS]).
    """

    offsets: Sequence[tuple[int, int] | None]
    start: npt.NDArray[np.floating]
    end: npt.NDArray[np.floating]
    null_position: int


@dataclass(frozen=True)
class RankedAnswers:
    """A question's best answers.

    Attributes:
        answers: Best first; none if no piece of the paragraph can be an answer.
        null_score: Score of "no answer": the lowest over the windows, because an answer in one of them is enough.
    """

    answers: list[Answer]
    null_score: float

    @property
    def null_odds(self) -> float:
        """`null_score` less the best answer's score (0 where there is none): high = likely without an answer."""
        return self.null_score - (self.answers[0].score if self.answers else 0.0)

    def best(self, null_threshold: float | None = None) -> Answer | None:
        """Returns the answer, or `None`.

        Args:
            null_threshold: There is no answer if `null_odds` is above. `None`: every question has one (SQuAD 1.1).
        """
        if not self.answers or (null_threshold is not None and self.null_odds > null_threshold):
            return None
        return self.answers[0]

    def probabilities(self, with_null: bool) -> list[float]:
        """Softmax over the scores of `answers`, and of "no answer" as one more at the end if it may be one."""
        scores = np.array([answer.score for answer in self.answers] + [self.null_score] * with_null)
        if scores.size == 0:
            return []
        exponents = np.exp(scores - scores.max())
        return [float(value) for value in exponents / exponents.sum()]


def null_position(window: Window, tokenizer: PreTrainedTokenizerBase) -> int:
    """Returns the token that stands for "no answer in this window": the first [CLS], else the first token."""
    ids = window.inputs["input_ids"]
    return ids.index(tokenizer.cls_token_id) if tokenizer.cls_token_id in ids else 0


def rank_answers(
    context: str,
    windows: Iterable[WindowLogits],
    *,
    n_best_size: int = DEFAULT_N_BEST,
    max_answer_length: int = DEFAULT_MAX_ANSWER_LENGTH,
) -> RankedAnswers:
    """Finds the best pairs of start and end, as the scripts of BERT and P-tuning v2 do.

    In every window the `n_best_size` likeliest starts are paired with as many ends, all of them tokens of the
    paragraph. A pair is an answer if the end is not before the start and not further than `max_answer_length` tokens.
    Of the same characters found in several windows the best score counts.

    Args:
        context: The paragraph.
        windows: All windows of one question, at least one.
        n_best_size: Starts and ends that are looked at, and answers that are kept.
        max_answer_length: Longest answer in tokens.

    Returns:
        The answers, best first.

    Raises:
        ValueError: A number is below 1, or there is no window.
    """
    for name, value in (("n_best_size", n_best_size), ("max_answer_length", max_answer_length)):
        if value < 1:
            raise ValueError(f"`{name}` must be at least 1, got {value}")
    scores: dict[tuple[int, int], float] = {}
    null_scores = []
    for window in windows:
        null_scores.append(float(window.start[window.null_position]) + float(window.end[window.null_position]))
        for first, last, score in _best_pairs(window, n_best_size, max_answer_length):
            span = (window.offsets[first][0], window.offsets[last][1])  # type: ignore[index]
            scores[span] = max(score, scores.get(span, score))
    if not null_scores:
        raise ValueError("`windows` is empty: a question has at least one window")
    ranked = sorted(scores.items(), key=lambda item: (-item[1], item[0]))[:n_best_size]
    answers = [Answer(start, end, context[start:end], score) for (start, end), score in ranked]
    return RankedAnswers(answers, min(null_scores))


def _best_pairs(window: WindowLogits, n_best_size: int, max_answer_length: int) -> list[tuple[int, int, float]]:
    """Returns (first token, last token, score) of the best pairs of one window."""
    tokens = np.array([index for index, offset in enumerate(window.offsets) if offset is not None], dtype=np.int64)
    start, end = (np.asarray(logits, dtype=np.float64) for logits in (window.start, window.end))
    starts = tokens[np.argsort(-start[tokens], kind="stable")[:n_best_size]]
    ends = tokens[np.argsort(-end[tokens], kind="stable")[:n_best_size]]
    lengths = ends[None, :] - starts[:, None] + 1
    rows, columns = np.nonzero((lengths >= 1) & (lengths <= max_answer_length))
    scores = start[starts[rows]] + end[ends[columns]]
    best = np.argsort(-scores, kind="stable")[:n_best_size]
    return [(int(starts[rows[i]]), int(ends[columns[i]]), float(scores[i])) for i in best]
