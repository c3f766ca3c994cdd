"""From token scores to answers: words, spans with their characters, and what is dropped."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Scores = npt.NDArray[np.float64]

# Scripts written without spaces: every character is a word, or one tagged token would take a whole sentence.
_SINGLE_CHARACTERS = ("CJK", "HIRAGANA", "KATAKANA")


@dataclass(frozen=True)
class Span:
    """One answer.

    Attributes:
        start: First character in the paragraph.
        end: One behind the last character: `context[start:end] == text`.
        text: The answer as it stands in the paragraph.
        score: Mean over its words of the probability of being part of the answer.
    """

    start: int
    end: int
    text: str
    score: float


def answer_logits(logits: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """Reduces one window's logits to one a token, high = part of the answer.

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


@lru_cache(maxsize=8192)
def _kind(character: str) -> str:
    """Tells whether a character is a "space", goes on with a "word", or stands "alone"."""
    category = unicodedata.category(character)
    if character.isspace() or category in ("Cc", "Cf"):
        return "space"
    if unicodedata.name(character, "").startswith(_SINGLE_CHARACTERS):
        return "alone"
    return "word" if character.isalnum() or category.startswith("M") else "alone"


def split_words(text: str) -> list[tuple[int, int]]:
    """Finds the words of a text, whatever the tokenizer.

    A word is a run of letters, digits and their accents; every punctuation mark, symbol and CJK character is a word
    of its own, as BERT's tokenizers have it.

    Args:
        text: Any text.

    Returns:
        Half-open character ranges, in order, without spaces.
    """
    words: list[tuple[int, int]] = []
    open_word = False
    for position, character in enumerate(text):
        kind = _kind(character)
        if kind == "word" and open_word:
            words[-1] = (words[-1][0], position + 1)
        elif kind != "space":
            words.append((position, position + 1))
        open_word = kind == "word"
    return words


def score_words(
    words: Sequence[tuple[int, int]],
    windows: Iterable[tuple[Sequence[tuple[int, int] | None], npt.NDArray[np.floating]]],
) -> Scores:
    """Scores words by their best token in their best window.

    Args:
        words: Character ranges from `split_words`.
        windows: For every window the tokens' character ranges (`None`: not of the paragraph) and their logits,
            (tokens,), high = part of the answer. Logits behind the last token (padding) are ignored.

    Returns:
        (words,), `-inf` for words without a token.
    """
    scores = np.full(len(words), -np.inf)
    if not words:
        return scores
    starts, ends = np.array(words).T
    for offsets, logits in windows:
        positions = [index for index, offset in enumerate(offsets) if offset is not None]
        if not positions:
            continue
        token_starts, token_ends = np.array([offsets[index] for index in positions]).T
        first = np.searchsorted(ends, token_starts, side="right")
        last = np.searchsorted(starts, token_ends, side="left") - 1
        values = np.asarray(logits, dtype=np.float64)[positions]
        # A token may reach over several words ("..." in byte-level vocabularies), seldom over many.
        for step in range(int((last - first).max()) + 1):
            inside = first + step <= last
            np.maximum.at(scores, (first + step)[inside], values[inside])
    return scores


def decode_spans(
    context: str,
    words: Sequence[tuple[int, int]],
    scores: Scores,
    *,
    logit_threshold: float = 0.0,
    allow_no_answer: bool = False,
) -> list[Span]:
    """Reads the answers: a word counts above the threshold, adjacent words make one span.

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
