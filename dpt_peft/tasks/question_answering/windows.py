"""A question and its paragraph as one or more tokenized windows that together hold every token of the paragraph."""

from __future__ import annotations

from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from dpt_peft._compatibility import special_tokens_as_text

DEFAULT_MAX_LENGTH = 384
DEFAULT_DOC_STRIDE = 128


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
