"""A question and its paragraph as windows of tokens, and the characters of answers back from the tokens' scores.

Together the windows hold every token of the paragraph; the answer is the best span, or all spans.
"""

from __future__ import annotations

import math
import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import regex
import torch
from transformers import PreTrainedTokenizerBase

from dpt_peft._compatibility import special_tokens_as_text

DEFAULT_MAX_LENGTH = 384
DEFAULT_DOC_STRIDE = 128
DEFAULT_N_BEST = 20
DEFAULT_MAX_ANSWER_LENGTH = 30

Offsets = Sequence[tuple[int, int] | None]
Scores = npt.NDArray[np.float64]
Logits = npt.NDArray[np.floating]

# Scripts without spaces between words. Line_Break=SA: Thai, Lao, Khmer, Burmese and their kin; AK, AP, AS: Javanese
# and its kin. scx=Hira has the marks that both kana share.
_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{scx=Hira}\p{lb=SA}\p{lb=AK}\p{lb=AP}\p{lb=AS}"
_SYLLABLE_LETTER = rf"[[{_UNSPACED}]&&[\p{{L}}\p{{M}}\p{{N}}]]"
_LETTER = rf"[[\p{{L}}\p{{N}}\p{{M}}]--[{_UNSPACED}]]"
_WORD = regex.compile(
    rf"""
    # One written syllable: vowels written before it, a letter, letters stacked below it, marks and vowels.
    \p{{LOE}}* {_SYLLABLE_LETTER} (?:
        [\p{{InSC=Invisible_Stacker}}\p{{InSC=Virama}}] {_SYLLABLE_LETTER}
        | [\p{{M}}\p{{GCB=Extend}}[\p{{InSC=Vowel_Dependent}}--\p{{LOE}}]]
    )*
    # Letters, digits and their marks, with the joiners inside them.
    | {_LETTER}+ (?: [\u200c\u200d]+ {_LETTER}+ )*
    # Anything else that is seen, with its marks.
    | [^\s\p{{Cc}}\p{{Cf}}] \p{{M}}*
    """,
    regex.VERBOSE | regex.V1,
)


@dataclass(frozen=True)
class Window:
    """One window: `[CLS] question [SEP] piece of the paragraph [SEP]`.

    Attributes:
        inputs: The tokenizer's columns (`input_ids`, `attention_mask`, ...), not padded.
        offsets: For every token its characters in the paragraph, half open; `None` for tokens that are not of the
            paragraph (question, special tokens) and for those that stand for no character.
        null_position: The token that stands for "no answer in this window": [CLS], else the first token.
    """

    inputs: dict[str, list[int]]
    offsets: list[tuple[int, int] | None]
    null_position: int = 0


def make_windows(
    tokenizer: PreTrainedTokenizerBase,
    question: str,
    context: str,
    *,
    max_length: int = DEFAULT_MAX_LENGTH,
    doc_stride: int = DEFAULT_DOC_STRIDE,
) -> list[Window]:
    """Tokenize a question with its paragraph, in as many windows as the paragraph needs.

    The question stands in every window; one that would take more than half of the room is cut on the tokenizer's
    `truncation_side`, so that paragraphs always go on. A paragraph that fits gives one window, whatever the stride.
    Special tokens written in question or paragraph are text.

    Args:
        tokenizer: A fast tokenizer (offsets are needed).
        question: The question.
        context: The paragraph.
        max_length: Longest window in tokens, special tokens included.
        doc_stride: Tokens of the paragraph that two neighbouring windows share, at most half of a window's paragraph.

    Returns:
        At least one window, in the order of the text. Every token of the paragraph is in at least one.

    Raises:
        TypeError: The tokenizer is not a fast one.
        ValueError: `max_length` leaves no room, or `doc_stride` is negative.
    """
    if not tokenizer.is_fast:
        raise TypeError(f"`tokenizer` must be a fast one, which knows offsets; {type(tokenizer).__name__} is not")
    if doc_stride < 0:
        raise ValueError(f"`doc_stride` must not be negative, got {doc_stride}")
    with special_tokens_as_text(tokenizer):
        encoding = tokenizer(
            question, context, padding=False, truncation=False, return_offsets_mapping=True, verbose=False
        )
    sequences = encoding.sequence_ids(0)
    special, asked, text = (
        [token for token, sequence in enumerate(sequences) if sequence == which] for which in (None, 0, 1)
    )
    room = max_length - len(special)
    if room < 2:
        raise ValueError(f"`max_length` {max_length} leaves no room for a token of the question and one of the text")
    asked = asked[-(room // 2) :] if tokenizer.truncation_side == "left" else asked[: room // 2]
    width = room - len(asked)
    shared = min(doc_stride, width // 2)

    columns = {name: encoding[name] for name in tokenizer.model_input_names if name in encoding}
    # Characters of the question and of special tokens do not count.
    offsets = [
        (start, end) if sequence == 1 and end > start else None
        for sequence, (start, end) in zip(sequences, encoding["offset_mapping"], strict=True)
    ]
    null = next((token for token in special if encoding["input_ids"][token] == tokenizer.cls_token_id), None)
    windows = []
    for first in range(0, max(len(text) - shared, 1), width - shared):
        kept = sorted([*special, *asked, *text[first : first + width]])
        windows.append(
            Window(
                {name: [values[token] for token in kept] for name, values in columns.items()},
                [offsets[token] for token in kept],
                0 if null is None else kept.index(null),
            )
        )
    return windows


@dataclass(frozen=True)
class Span:
    """A piece of the paragraph.

    Attributes:
        start: First character in the paragraph.
        end: One behind the last character: `context[start:end] == text`.
        text: The answer as it stands in the paragraph.
        score: The best span's: logit of its first token as a start plus logit of its last token as an end. One of
            several spans': mean over its words of the probability of being part of the answer.
    """

    start: int
    end: int
    text: str
    score: float


@dataclass(frozen=True)
class RankedAnswers:
    """A question's best answers.

    Attributes:
        answers: Best first; none if no piece of the paragraph can be an answer.
        null_score: Score of "no answer": the lowest over the windows, because an answer in one of them is enough.
    """

    answers: list[Span]
    null_score: float

    @property
    def null_odds(self) -> float:
        """`null_score` less the best answer's score (0 where there is none): high = likely without an answer."""
        return self.null_score - (self.answers[0].score if self.answers else 0.0)

    def best(self, null_threshold: float | None = None) -> Span | None:
        """Return the answer, or `None`.

        Args:
            null_threshold: There is no answer if `null_odds` is above. `None`: every question has one (SQuAD 1.1).
        """
        if not self.answers or (null_threshold is not None and self.null_odds > null_threshold):
            return None
        return self.answers[0]

    def probabilities(self, with_null: bool) -> list[float]:
        """Return the softmax over the scores of `answers`, and of "no answer" at the end if it may be one."""
        scores = [answer.score for answer in self.answers] + [self.null_score] * with_null
        return torch.tensor(scores, dtype=torch.float64).softmax(0).tolist()


def rank_answers(
    context: str,
    windows: Iterable[tuple[Window, Sequence[Logits]]],
    *,
    n_best_size: int = DEFAULT_N_BEST,
    max_answer_length: int = DEFAULT_MAX_ANSWER_LENGTH,
) -> RankedAnswers:
    """Find the best pairs of start and end, as the scripts of BERT and P-tuning v2 do.

    In every window the `n_best_size` likeliest starts are paired with as many ends, all of them tokens of the
    paragraph. A pair is an answer if the end is not before the start and not further than `max_answer_length` tokens.
    An answer has no spaces around it and ends with the marks of its last letter, which some tokenizers leave out.
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
    for window, (start, end) in windows:
        null_scores.append(float(start[window.null_position]) + float(end[window.null_position]))
        for first, last, score in _best_pairs(window.offsets, start, end, n_best_size, max_answer_length):
            span = _trimmed(context, window.offsets[first][0], window.offsets[last][1])  # type: ignore[index]
            if span[0] < span[1]:
                scores[span] = max(score, scores.get(span, score))
    if not null_scores:
        raise ValueError("`windows` is empty: a question has at least one window")
    ranked = sorted(scores.items(), key=lambda item: (-item[1], item[0]))[:n_best_size]
    answers = [Span(start, end, context[start:end], score) for (start, end), score in ranked]
    return RankedAnswers(answers, min(null_scores))


def _best_pairs(
    offsets: Offsets, start: Logits, end: Logits, n_best_size: int, max_answer_length: int
) -> list[tuple[int, int, float]]:
    """Return (first token, last token, score) of the best pairs of one window."""
    tokens = np.array([index for index, offset in enumerate(offsets) if offset is not None], dtype=np.int64)
    start, end = (np.asarray(logits, dtype=np.float64) for logits in (start, end))
    starts = tokens[np.argsort(-start[tokens], kind="stable")[:n_best_size]]
    ends = tokens[np.argsort(-end[tokens], kind="stable")[:n_best_size]]
    lengths = ends[None, :] - starts[:, None] + 1
    rows, columns = np.nonzero((lengths >= 1) & (lengths <= max_answer_length))
    scores = start[starts[rows]] + end[ends[columns]]
    best = np.argsort(-scores, kind="stable")[:n_best_size]
    return [(int(starts[rows[i]]), int(ends[columns[i]]), float(scores[i])) for i in best]


def _trimmed(context: str, start: int, end: int) -> tuple[int, int]:
    """Return the range without spaces around it, and with the marks of its first and last letter."""
    while start > 0 and unicodedata.category(context[start]).startswith("M"):
        start -= 1
    while end < len(context) and unicodedata.category(context[end]).startswith("M"):
        end += 1
    text = context[start:end]
    return start + len(text) - len(text.lstrip()), end - len(text) + len(text.rstrip())


def answer_logits(logits: Logits) -> Logits:
    """Reduce one window's logits to one a token, high = part of the answer.

    Args:
        logits: (tokens,) of the DPT wrapper, or (tokens, 2) of a token classifier with the classes O and I, whose log
            odds are the difference.

    Returns:
        (tokens,)

    Raises:
        ValueError: Any other shape.
    """
    if logits.ndim == 1:
        return logits
    if logits.ndim == 2 and logits.shape[1] == 2:
        return logits[:, 1] - logits[:, 0]
    raise ValueError(f"logits of a window must be (tokens,) or (tokens, 2: O and I), got {logits.shape}")


def split_words(text: str) -> list[tuple[int, int]]:
    """Find the words of a text, whatever the tokenizer.

    A word is a run of letters, digits and their accents; every punctuation mark and symbol is a word of its own, as
    BERT's tokenizers have it. In scripts without spaces a character with its vowel signs and marks is a word, or one
    tagged token would take a whole sentence.

    Args:
        text: Any text.

    Returns:
        Half-open character ranges, in order, without spaces.
    """
    return [match.span() for match in _WORD.finditer(text)]


def score_words(words: Sequence[tuple[int, int]], windows: Iterable[tuple[Offsets, Logits]]) -> Scores:
    """Score words by their best token in their best window.

    Args:
        words: Character ranges from `split_words`.
        windows: For every window the tokens' character ranges (`None`: not of the paragraph) and their logits,
            (tokens,), high = part of the answer. Logits behind the last token (padding) are ignored.

    Returns:
        (words,), `-inf` for words without a token.
    """
    scores = [-math.inf] * len(words)
    starts, ends = [start for start, _ in words], [end for _, end in words]
    for offsets, logits in windows:
        for offset, logit in zip(offsets, logits.tolist(), strict=False):
            if offset is not None:
                # a token may reach over several words ("..." in byte-level vocabularies)
                for word in range(bisect_right(ends, offset[0]), bisect_left(starts, offset[1])):
                    if logit > scores[word] or math.isnan(logit):  # of a broken model all scores are
                        scores[word] = logit
    return np.array(scores)


def decode_spans(
    context: str,
    words: Sequence[tuple[int, int]],
    scores: Scores,
    *,
    logit_threshold: float = 0.0,
    allow_no_answer: bool = False,
) -> list[Span]:
    """Read the answers: a word counts above the threshold, adjacent words make one span.

    Args:
        context: The paragraph.
        words: Its words, from `split_words`.
        scores: (words,) logits, high = part of the answer, from `score_words`.
        logit_threshold: A word counts if its logit is above.
        allow_no_answer: Whether there may be no span. Otherwise the best word is the answer where none counts.

    Returns:
        Spans in the order of the text. Of answers with the same words (case aside) the best scored one stays, and an
        answer whose words stand within another answer is dropped.
    """
    known = np.flatnonzero(scores > -np.inf)
    if not len(known):
        return []
    tagged = scores[known] > logit_threshold
    if not tagged.any():
        if allow_no_answer:
            return []
        tagged[np.argmax(scores[known])] = True
    edges = np.flatnonzero(np.diff(np.concatenate([[0], tagged.astype(np.int8), [0]])))
    spans: list[tuple[str, Span]] = []
    for first, behind in zip(edges[::2], edges[1::2], strict=True):
        inside = known[first:behind]
        start, end = words[inside[0]][0], words[inside[-1]][1]
        score = float(np.mean(1 / (1 + np.exp(-np.clip(scores[inside], -60, 60)))))
        key = " ".join(context[slice(*words[index])].lower() for index in inside)
        spans.append((f" {key} ", Span(start, end, context[start:end], score)))
    return _without_contained(spans)


def _without_contained(spans: list[tuple[str, Span]]) -> list[Span]:
    kept: list[tuple[str, Span]] = []
    for key, span in sorted(spans, key=lambda item: (-len(item[0]), -item[1].score, item[1].start)):
        if not any(key in longer for longer, _ in kept):
            kept.append((key, span))
    return sorted((span for _, span in kept), key=lambda span: span.start)
