"""Extractive question answering (SQuAD 1.1 and 2.0): questions turned into windows with the answer's tokens."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from dpt_peft.tasks.question_answering.answers import DEFAULT_MAX_ANSWER_LENGTH, DEFAULT_N_BEST, null_position
from dpt_peft.tasks.question_answering.data import Example, QuestionArguments, read_examples
from dpt_peft.tasks.question_answering.windows import DEFAULT_DOC_STRIDE, DEFAULT_MAX_LENGTH, Window, make_windows


@dataclass
class QuestionAnsweringArguments(QuestionArguments):
    """Data of an extractive question answering task, and how answers are read. Names as in transformers' `run_qa`.

    Several texts in a question's `answers` are different people's answers; the first is trained on, and measuring
    takes the one that fits best.
    """

    version_2_with_negative: bool = field(
        default=False, metadata={"help": "Whether some questions have no answer, as in SQuAD 2.0."}
    )
    null_score_diff_threshold: float = field(
        default=0.0,
        metadata={
            "help": "version_2_with_negative: no answer if the score of none less that of the best one is above this."
        },
    )
    n_best_size: int = field(
        default=DEFAULT_N_BEST, metadata={"help": "Starts and ends that are tried with each other."}
    )
    max_answer_length: int = field(default=DEFAULT_MAX_ANSWER_LENGTH, metadata={"help": "Longest answer in tokens."})

    @property
    def null_threshold(self) -> float | None:
        """`null_score_diff_threshold`, or `None` where every question has an answer."""
        return self.null_score_diff_threshold if self.version_2_with_negative else None


def label_window(window: Window, answer: tuple[int, int] | None, no_answer: int) -> tuple[int, int]:
    """Finds the tokens of an answer.

    Args:
        window: A window.
        answer: Its half-open character range in the paragraph, `None` if there is none.
        no_answer: The token that stands for "no answer in this window".

    Returns:
        First and last token; `no_answer` twice if the window does not hold the answer whole.
    """
    if answer is None:
        return no_answer, no_answer
    tokens = [(index, offset) for index, offset in enumerate(window.offsets) if offset is not None]
    inside = [index for index, offset in tokens if offset[0] < answer[1] and answer[0] < offset[1]]
    if not inside or tokens[0][1][0] > answer[0] or tokens[-1][1][1] < answer[1]:
        return no_answer, no_answer
    return inside[0], inside[-1]


def _trained_answer(example: Example) -> tuple[int, int] | None:
    """Returns the characters of the first annotated answer, without spaces around it."""
    if not example.texts:
        return None
    text, start = example.texts[0], example.starts[0]
    start += len(text) - len(text.lstrip())
    return start, start + len(text.strip())


@dataclass(frozen=True)
class QuestionAnsweringFeatures:
    """A split, ready for model and decoding.

    Attributes:
        dataset: One row a window, short ones first: the tokenizer's columns (not padded), and `start_positions` and
            `end_positions` if all questions are annotated.
        windows: The windows, in the order of `dataset`.
        null_positions: For every window the token that stands for "no answer".
        example_index: For every window its question, as an index into `examples`.
        examples: The questions.
    """

    dataset: Dataset
    windows: list[Window]
    null_positions: list[int]
    example_index: list[int]
    examples: list[Example]

    @property
    def labelled(self) -> bool:
        """Whether every question is annotated (with an answer, or as one without)."""
        return all(example.texts is not None for example in self.examples)


def make_features(
    dataset: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_length: int = DEFAULT_MAX_LENGTH,
    doc_stride: int = DEFAULT_DOC_STRIDE,
) -> QuestionAnsweringFeatures:
    """Turns questions into windows with the positions of their (first) answer.

    A window that does not hold the answer whole is one without an answer: both positions are its [CLS].

    Args:
        dataset: A split of `load_questions`, or any data set with the columns `id`, `question`, `context` and
            `answers` of the Hub.
        tokenizer: A fast tokenizer.
        max_length: See `make_windows`.
        doc_stride: See `make_windows`.

    Returns:
        The features.

    Raises:
        TypeError, ValueError: See `make_windows` and `read_examples`.
    """
    examples = list(read_examples(dataset))
    found: list[tuple[int, Window]] = []
    for index, example in enumerate(examples):
        windows = make_windows(
            tokenizer, example.question, example.context, max_length=max_length, doc_stride=doc_stride
        )
        found += [(index, window) for window in windows]
    found.sort(key=lambda item: len(item[1].offsets))
    index_of, windows = [index for index, _ in found], [window for _, window in found]
    no_answer = [null_position(window, tokenizer) for window in windows]
    columns: dict[str, list[Any]] = {name: [window.inputs[name] for window in windows] for name in windows[0].inputs}
    if all(example.texts is not None for example in examples):
        answers = [_trained_answer(example) for example in examples]
        labels = [
            label_window(window, answers[index], null)
            for index, window, null in zip(index_of, windows, no_answer, strict=True)
        ]
        columns["start_positions"], columns["end_positions"] = [list(part) for part in zip(*labels, strict=True)]
    return QuestionAnsweringFeatures(Dataset.from_dict(columns), windows, no_answer, index_of, examples)
