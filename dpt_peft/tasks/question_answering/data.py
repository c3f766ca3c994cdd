"""Questions on paragraphs, with the columns of SQuAD: loaded and checked, for every family that answers them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from datasets import Dataset, DatasetDict

from dpt_peft.tasks.data import DatasetArguments, as_texts, load_splits, require_columns, require_rows
from dpt_peft.tasks.question_answering.windows import DEFAULT_DOC_STRIDE, DEFAULT_MAX_LENGTH


@dataclass
class QuestionArguments(DatasetArguments):
    """Questions, their paragraphs and answers, and how paragraphs are cut into windows."""

    question_column_name: str = field(default="question", metadata={"help": "Column of the question."})
    context_column_name: str = field(default="context", metadata={"help": "Column of the paragraph."})
    answers_column_name: str = field(
        default="answers",
        metadata={"help": "Column of the answers: {'text': [...], 'answer_start': [...]}."},
    )
    id_column_name: str = field(default="id", metadata={"help": "Column of the question's id. Default: row numbers."})
    max_seq_length: int = field(
        default=DEFAULT_MAX_LENGTH, metadata={"help": "Longest window in tokens, question included."}
    )
    doc_stride: int = field(
        default=DEFAULT_DOC_STRIDE, metadata={"help": "Tokens that neighbouring windows of a paragraph share."}
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


def load_questions(args: QuestionArguments) -> DatasetDict:
    """Loads and checks a question answering data set.

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


def read_examples(dataset: Dataset) -> Iterator[Example]:
    """Goes through the rows of a split of `load_questions`, or of one as it comes from the Hub."""
    for number, row in enumerate(dataset):
        if "texts" not in row and row.get("answers") is not None:
            row["texts"], row["starts"] = _check_answers(row["answers"], row["context"], f"row {number}")
        yield Example(
            str(row.get("id", number)), row["question"], row["context"], row.get("texts"), row.get("starts") or []
        )
