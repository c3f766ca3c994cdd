"""Multi-span question answering: questions turned into labelled windows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from dpt_peft.tasks.question_answering.data import Example, QuestionArguments, read_examples
from dpt_peft.tasks.question_answering.spans import split_words
from dpt_peft.tasks.question_answering.windows import DEFAULT_DOC_STRIDE, DEFAULT_MAX_LENGTH, Window, make_windows

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
    """Finds the characters that count as answer while training.

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
    """Labels the tokens of a window: 1 part of an answer, 0 another token of the paragraph, -100 anything else."""
    return [
        IGNORED if offset is None else int(any(offset[0] < end and start < offset[1] for start, end in ranges))
        for offset in window.offsets
    ]


@dataclass(frozen=True)
class MultiSpanFeatures:
    """A split, ready for model and decoding.

    Attributes:
        dataset: One row a window, short ones first: the tokenizer's columns (not padded) and `labels`. (A split
            without answers has labels too; they only say which tokens are of the paragraph.)
        windows: The windows, in the order of `dataset`.
        example_index: For every window its question, as an index into `examples`.
        examples: The questions.
    """

    dataset: Dataset
    windows: list[Window]
    example_index: list[int]
    examples: list[Example]

    @property
    def labelled(self) -> bool:
        """Whether every question has an annotation."""
        return all(example.texts is not None for example in self.examples)


def make_features(
    dataset: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    *,
    mentions: Mentions = "all",
    max_length: int = DEFAULT_MAX_LENGTH,
    doc_stride: int = DEFAULT_DOC_STRIDE,
) -> MultiSpanFeatures:
    """Turns questions into labelled windows.

    Args:
        dataset: A split of `load_questions`, or any data set with the columns `id`, `question`, `context` and
            `answers` of the Hub.
        tokenizer: A fast tokenizer.
        mentions: See `answer_ranges`.
        max_length: See `make_windows`.
        doc_stride: See `make_windows`.

    Returns:
        The features.

    Raises:
        TypeError, ValueError: See `make_windows` and `answer_ranges`.
    """
    questions = list(read_examples(dataset))
    found: list[tuple[int, Window, list[int]]] = []
    for index, example in enumerate(questions):
        ranges = answer_ranges(example, mentions)
        windows = make_windows(
            tokenizer, example.question, example.context, max_length=max_length, doc_stride=doc_stride
        )
        found += [(index, window, label_window(window, ranges)) for window in windows]
    found.sort(key=lambda item: len(item[2]))
    columns: dict[str, list[list[int]]] = {
        name: [window.inputs[name] for _, window, _ in found] for name in found[0][1].inputs
    }
    columns["labels"] = [labels for _, _, labels in found]
    return MultiSpanFeatures(
        Dataset.from_dict(columns), [window for _, window, _ in found], [index for index, _, _ in found], questions
    )
