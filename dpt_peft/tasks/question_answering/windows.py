"""A question and its paragraph as one or more tokenized windows that together hold every token of the paragraph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedConfig, PreTrainedTokenizerBase

DEFAULT_MAX_LENGTH = 384
DEFAULT_DOC_STRIDE = 128


@dataclass(frozen=True)
class Window:
    """One window: `[CLS] question [SEP] piece of the paragraph [SEP]`.

    Attributes:
        inputs: The tokenizer's columns (`input_ids`, `attention_mask`, ...), not padded.
        offsets: For every token its characters in the paragraph, half open; `None` for tokens that are not of the
            paragraph (question, special tokens) and for those that stand for no character.
    """

    inputs: dict[str, list[int]]
    offsets: list[tuple[int, int] | None]


def window_length(asked: int, tokenizer: PreTrainedTokenizerBase, config: PreTrainedConfig) -> int:
    """Returns the length of windows in tokens: what is asked for, at most what tokenizer and model take."""
    positions = getattr(config.get_text_config(), "max_position_embeddings", None)
    return min(asked, tokenizer.model_max_length, *([positions] if positions else []))


def make_windows(
    tokenizer: PreTrainedTokenizerBase,
    question: str,
    context: str,
    *,
    max_length: int = DEFAULT_MAX_LENGTH,
    doc_stride: int = DEFAULT_DOC_STRIDE,
) -> list[Window]:
    """Tokenizes a question with its paragraph, in as many windows as the paragraph needs.

    The question stands in every window; one that would take more than half of the room is cut at its end, so that
    paragraphs always go on. A paragraph that fits gives one window, whatever the stride.

    Args:
        tokenizer: A fast tokenizer (offsets are needed).
        question: The question.
        context: The paragraph.
        max_length: Longest window in tokens, special tokens included.
        doc_stride: Tokens of the paragraph that two neighbouring windows share, at most half of a window's paragraph.

    Returns:
        At least one window. Every token of the paragraph is in at least one.

    Raises:
        TypeError: The tokenizer is not a fast one.
        ValueError: `max_length` leaves no room, or `doc_stride` is negative.
    """
    if not tokenizer.is_fast:
        raise TypeError(f"`tokenizer` must be a fast one, which knows offsets; {type(tokenizer).__name__} is not")
    if doc_stride < 0:
        raise ValueError(f"`doc_stride` must not be negative, got {doc_stride}")
    room = max_length - tokenizer.num_special_tokens_to_add(pair=True)
    if room < 2:
        raise ValueError(f"`max_length` {max_length} leaves no room for a token of the question and one of the text")
    asked = tokenizer(question, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    length = len(asked["input_ids"])
    if length > room // 2:
        length = room // 2
        question = question[: asked["offset_mapping"][length - 1][1]]
    encoding = tokenizer(
        question,
        context,
        truncation="only_second",
        max_length=max_length,
        stride=min(doc_stride, (room - length) // 2),
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
        verbose=False,
    )
    columns = [name for name in tokenizer.model_input_names if name in encoding]
    return [
        Window(
            {name: encoding[name][index] for name in columns},
            _paragraph_offsets(encoding["offset_mapping"][index], encoding.sequence_ids(index)),
        )
        for index in range(len(encoding["input_ids"]))
    ]


def _paragraph_offsets(
    offsets: Sequence[tuple[int, int]], sequence_ids: Sequence[int | None]
) -> list[tuple[int, int] | None]:
    return [
        (start, end) if sequence == 1 and end > start else None
        for (start, end), sequence in zip(offsets, sequence_ids, strict=True)
    ]
