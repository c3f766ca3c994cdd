"""Multi-span question answering: columns checked, questions turned into labelled windows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from datasets import Dataset, DatasetDict
from transformers import PreTrainedTokenizerBase

from dpt_peft.tasks.loading import DatasetArguments, as_texts, load_splits, require_columns, require_rows
from dpt_peft.tasks.spans import split_words
from dpt_peft.tasks.windows import DEFAULT_DOC_STRIDE, DEFAULT_MAX_LENGTH, Window, make_windows

Mentions = Literal["all", "given"]
#: Label of tokens that are not of the paragraph; no loss is computed there.
IGNORED = -100


@dataclass
class MultiSpanQAArguments(DatasetArguments):
    """Data of a multi-span question answering task, with the columns of SQuAD."""

    question_column_name: str = field(default="question", metadata={"help": "Column of the question."})
    context_column_name: str = field(default="context", metadata={"help": "Column of the paragraph."})
    answers_column_name: str = field(
        default="answers",
        metadata={"help": "Column of the answers: {'text': [...], 'answer_start': [...]}, all spans of one answer."},
    )
    id_column_name: str = field(default="id", metadata={"help": "Column of the question's id. Default: row numbers."})
    mentions: Mentions = field(
        default="all",
        metadata={"help": "Train on 'all' mentions of the answers' texts (released code) or on the 'given' ones."},
    )
    max_seq_length: int = field(
        default=DEFAULT_MAX_LENGTH, metadata={"help": "Longest window in tokens, question included."}
    )
    doc_stride: int = field(
        default=DEFAULT_DOC_STRIDE, metadata={"help": "Tokens that neighbouring windows of a paragraph share."}
    )
    allow_no_answer: bool = field(
        default=False, metadata={"help": "Whether a question may get no answer. Otherwise there is at least one span."}
    )


@dataclass(frozen=True)
class Example:
    """One question.

    Attributes:
        id: Its id.
        question: The question.
        context: The paragraph.
        texts: Texts of the annotated spans, empty if the question has no answer; `None` if unknown.
        starts: First characters of the spans in the paragraph.
    """

    id: str
    question: str
    context: str
    texts: list[str] | None = None
    starts: list[int] = field(default_factory=list)


def load_multi_span_qa(args: MultiSpanQAArguments) -> DatasetDict:
    """Loads and checks a multi-span question answering data set.

    Args:
        args: Source and columns.

    Returns:
        A subset of the splits "train", "validation", "test" with the columns `id`, `question`, `context`, `texts`,
        `starts`. A split without the answers' column is kept for prediction, its `texts` are `None`.

    Raises:
        ValueError: A column is missing or a split is empty, answers are not what they should be, or an answer does
            not stand in the paragraph where its `answer_start` says. The message names the row.
        FileNotFoundError: A file is missing.
    """
    shaped = {}
    for split, dataset in load_splits(args).items():
        if not dataset.column_names:
            require_rows(dataset, split)
        columns = {"question_column_name": args.question_column_name, "context_column_name": args.context_column_name}
        if split == "train":
            columns["answers_column_name"] = args.answers_column_name
        require_columns(dataset, split, columns)
        require_rows(dataset, split)
        ids = dataset[args.id_column_name][:] if args.id_column_name in dataset.column_names else range(len(dataset))
        contexts = as_texts(dataset[args.context_column_name][:])
        out: dict[str, list[Any]] = {
            "id": [str(value) for value in ids],
            "question": as_texts(dataset[args.question_column_name][:]),
            "context": contexts,
        }
        if args.answers_column_name in dataset.column_names:
            answers = dataset[args.answers_column_name][:]
            checked = [
                _check_answers(answer, context, f"row {row} of the {split} data")
                for row, (answer, context) in enumerate(zip(answers, contexts, strict=True))
            ]
            out["texts"], out["starts"] = [list(part) for part in zip(*checked, strict=True)]
        shaped[split] = Dataset.from_dict(out)
    return DatasetDict(shaped)


def _check_answers(answers: Any, context: str, where: str) -> tuple[list[str], list[int]]:
    if not isinstance(answers, dict) or not {"text", "answer_start"} <= answers.keys():
        raise ValueError(
            f"`answers_column_name`: {where} must hold {{'text': [...], 'answer_start': [...]}}, got {answers!r}"
        )
    texts, starts = list(answers["text"]), list(answers["answer_start"])
    if len(texts) != len(starts):
        raise ValueError(f"{where} has {len(texts)} answer texts, but {len(starts)} values of `answer_start`")
    for text, start in zip(texts, starts, strict=True):
        if not text or context[start : start + len(text)] != text:
            raise ValueError(
                f"{where}: the answer {text!r} does not stand at `answer_start` {start} of its paragraph, where "
                f"{context[start : start + len(text)]!r} stands"
            )
    return texts, starts


def _examples(dataset: Dataset) -> Iterator[Example]:
    """Goes through the rows of a split of `load_multi_span_qa`, or of one as it comes from the Hub."""
    for number, row in enumerate(dataset):
        if "texts" not in row and row.get("answers") is not None:
            row["texts"], row["starts"] = _check_answers(row["answers"], row["context"], f"row {number}")
        yield Example(
            str(row.get("id", number)), row["question"], row["context"], row.get("texts"), row.get("starts") or []
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
        dataset: A split of `load_multi_span_qa`, or any data set with the columns `id`, `question`, `context` and
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
    questions = list(_examples(dataset))
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
