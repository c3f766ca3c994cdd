"""Multiple choice (COPA and sets of that shape): columns and labels checked, one row of tokens a choice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from string import ascii_uppercase
from typing import Any, ClassVar, Literal

import torch
from datasets import ClassLabel, Dataset
from peft import TaskType
from transformers import AutoModelForMultipleChoice, DataCollatorForMultipleChoice, PreTrainedTokenizerBase
from transformers.hf_argparser import HfArg

from dpt_peft.tasks.base import Task, TaskData, is_adapter
from dpt_peft.tasks.data import (
    DatasetArguments,
    as_texts,
    check_columns,
    is_missing,
    refuse_given,
)
from dpt_peft.tasks.heads import NEW_HEAD, Head, new_head
from dpt_peft.tasks.labels import check_missing, whole_number
from dpt_peft.tasks.sampling import ClassSamplingArguments
from dpt_peft.tasks.text_classification import ClassFeatures, tokenize_texts

#: COPA's question words as the released code of P-tuning v2 writes them behind the premise.
COPA_QUESTION_WORDS = ("cause=because", "effect=so")


@dataclass
class MultipleChoiceArguments(DatasetArguments):
    """Data of a multiple choice task. The defaults are COPA's columns."""

    context_column_name: str = HfArg(default="premise", help="Column of the text that comes first.")
    question_column_name: str | None = HfArg(
        default=None, help="Column of the question. Default: 'question' where a split has such a column."
    )
    question_place: Literal["context", "choice"] = HfArg(
        default="context", help="The question stands behind the context, or (SWAG) at the beginning of every choice."
    )
    question_words: list[str] = HfArg(
        default_factory=lambda: list(COPA_QUESTION_WORDS),
        help="VALUE=WORDS: what is written for a question that is just this value. Other questions stand as "
        "they are. SuperGLUE's baseline: 'cause=What was the cause of this?' 'effect=What happened as a result?'",
    )
    choice_column_names: list[str] = HfArg(
        default_factory=lambda: ["choice1", "choice2"], help="Columns of the choices, one a choice."
    )
    choices_column_name: str | None = HfArg(
        default=None,
        help="Column of a list of the choices, in the place of `choice_column_names`; or of ARC's objects: "
        "{'text': [the choices], 'label': [what the labels call them]}.",
    )
    label_column_name: str = HfArg(
        default="label",
        help="Column of the right choice: its number from 0, its letter from A, or what ARC's objects call it.",
    )


def _words_by_value(question_words: list[str]) -> dict[str, str]:
    words = {}
    for entry in question_words:
        value, separator, text = entry.partition("=")
        if not separator:
            raise ValueError(f"`question_words` must be like 'cause=because', got {entry!r}.")
        words[value] = text
    return words


def _choices(dataset: Dataset, split: str, args: MultipleChoiceArguments) -> list[list[str]]:
    if args.choices_column_name is None:
        columns = [
            _texts(dataset, name, split, f"choice_column_names[{i}]")
            for i, name in enumerate(args.choice_column_names)
        ]
    else:
        found = _lists(dataset, split, args.choices_column_name)
        where = f"in column {args.choices_column_name!r} of the {split} data"
        columns = [
            as_texts(values, f"`choices_column_name`: choice {number} (from 0) {where}")
            for number, values in enumerate(zip(*found, strict=True))
        ]
    rows = [list(choices) for choices in zip(*columns, strict=True)]
    for row, choices in enumerate(rows):
        if "" in choices:
            raise ValueError(f"Row {row} of the {split} data has an empty choice, number {choices.index('')} from 0.")
    return rows


def _texts(dataset: Dataset, column: str, split: str, argument: str) -> list[str]:
    return as_texts(dataset[column][:], f"`{argument}`: column {column!r} of the {split} data")


def _lists(dataset: Dataset, split: str, column: str) -> list[list[Any]]:
    """Return the lists of a column of choices, which must be of one length."""
    found = [_part(choices, "text") or choices for choices in dataset[column][:]]
    for row, choices in enumerate(found):
        if not isinstance(choices, list) or len(choices) < 2:
            raise ValueError(
                f"`choices_column_name`: row {row} of the {split} data has {choices!r}, but must have a list of at "
                "least two choices, or ARC's object {'text': [...], 'label': [...]}. A csv file has no lists: write "
                "json, or name a column for each choice (`choice_column_names`)."
            )
        if len(choices) != len(found[0]):
            raise ValueError(
                f"`choices_column_name`: all rows must have as many choices as the first, {found[0]!r}, but row {row} "
                f"of the {split} data has {choices!r}."
            )
    return found


def _part(choices: Any, name: str) -> Any:
    """Return a part of ARC's object of choices; None of a list, which has no parts."""
    return choices.get(name) if isinstance(choices, dict) else None


def _label(value: Any, choices: int, where: str, called: Any = None) -> int | None:
    """Return the number of the right choice, by what the choices are called; None: there is none (Hub: -1)."""
    number, letter = whole_number(value), str(value).strip().upper()
    if is_missing(value) or not letter or number == -1:
        return None
    if called is not None:
        names = [str(name).strip().upper() for name in called]
        if letter not in names or len(set(names)) != choices:
            raise ValueError(
                f"`label_column_name`: {where} must be one of {choices} choices {called!r}, got {value!r}."
            )
        return names.index(letter)
    if number is None and len(letter) == 1:
        number = ascii_uppercase.find(letter)
    if number is not None and 0 <= number < choices:
        return number
    raise ValueError(
        f"`label_column_name`: {where} must be a number from 0 to {choices - 1} or one of the first {choices} "
        f"letters, got {value!r}."
    )


def _labels(dataset: Dataset, split: str, args: MultipleChoiceArguments, choices: int) -> list[int] | None:
    column = args.label_column_name
    feature, values = dataset.features[column], dataset[column][:]
    called: list[Any] = [None] * len(values)
    if args.choices_column_name is not None:
        called = [_part(row, "label") for row in dataset[args.choices_column_name][:]]
    if isinstance(feature, ClassLabel):
        names: Sequence[Any] = feature.names
        if called[0] is None:
            names = _places(feature.names, column, args, choices)
        values = [None if value is None or value < 0 else names[value] for value in values]
    labels = [
        _label(value, choices, f"row {row} of the {split} data", own)
        for row, (value, own) in enumerate(zip(values, called, strict=True))
    ]
    check_missing(labels, split, column)
    return None if None in labels else [label for label in labels if label is not None]


def _places(names: list[str], column: str, args: MultipleChoiceArguments, choices: int) -> Sequence[int | None]:
    """Return the choices that the names of a `ClassLabel` mean: columns, or places; else they stand in their order."""
    if len(names) != choices:
        raise ValueError(f"`label_column_name`: {column!r} has {len(names)} classes, but there are {choices} choices.")
    columns = _choice_columns(args)
    if set(names) <= set(columns):
        return [columns.index(name) for name in names]
    numbers = [whole_number(name) for name in names]
    if {*numbers} == {*range(1, choices + 1)}:
        return [number - 1 for number in numbers if number is not None]
    try:
        return [_label(name, choices, "") for name in names]
    except ValueError:  # "first" and "second"
        return range(choices)


def _choice_columns(args: MultipleChoiceArguments) -> list[str]:
    return [] if args.choices_column_name is not None else args.choice_column_names


def tokenize_choices(dataset: Dataset, tokenizer: PreTrainedTokenizerBase, max_length: int | None = None) -> Dataset:
    """Turn every choice, with the context before it, into a row of token ids.

    `transformers.DataCollatorForMultipleChoice` pads the rows to the longest of a batch.

    Args:
        dataset: A split of `MultipleChoice.shape`.
        tokenizer: Any tokenizer.
        max_length: Longest row in tokens, special tokens included; of context and choice the longer one is cut first.
            Default: no cut.

    Returns:
        The tokenizer's columns, for every example one list a choice (not padded), and `labels` where there are labels.
    """
    count = len(dataset["choices"][0])
    pairs = {
        "text": [context for context in dataset["context"][:] for _ in range(count)],
        "text_pair": [choice for choices in dataset["choices"][:] for choice in choices],
    }
    rows = tokenize_texts(Dataset.from_dict(pairs), tokenizer, max_length).batch(count)
    return rows.add_column("labels", dataset["labels"][:]) if "labels" in dataset.column_names else rows


class ChoiceCollator:
    """Pads the choices of a batch as `DataCollatorForMultipleChoice` does, with labels or without.

    Args:
        tokenizer: Its `pad` does the work.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._collate = DataCollatorForMultipleChoice(tokenizer)

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Return (batch, choices, length) of every column, and `labels` (batch,) if the examples have them."""
        if "labels" in examples[0]:
            return self._collate(examples)
        batch = self._collate([{**example, "labels": 0} for example in examples])
        return {name: values for name, values in batch.items() if name != "labels"}


class MultipleChoice(Task):
    """The right one of several choices."""

    name = "multiple-choice"
    pipeline_tag = "multiple-choice"
    # PEFT has no type of its own for multiple choice; that of sequence classification finds its head.
    task_type = TaskType.SEQ_CLS
    arguments = MultipleChoiceArguments
    sampling = ClassSamplingArguments
    heads: ClassVar[Mapping[str, Head]] = {NEW_HEAD: new_head(AutoModelForMultipleChoice, label_names=())}

    def shape_rows(self, splits: Mapping[str, Dataset], args: MultipleChoiceArguments) -> TaskData:
        """Check splits of contexts, choices and labels.

        `context` becomes the context with the question behind it; with `question_place="choice"` the question stands
        at the beginning of every choice. A missing text is an empty text. A validation or test split without any label
        (-1 or empty) is kept for prediction.

        Args:
            splits: As loaded.
            args: Columns.

        Returns:
            Splits with the columns `context`, `choices` (a list) and `labels` (number of the right choice; missing
            where a split has no labels), and names of the choices by number: "choice 0", ...

        Raises:
            ValueError: If a split is empty; if a column is missing (those there are get listed), also that of the
                question where another split has one; if rows or splits differ in their number of choices, there are
                fewer than two, or two are of one column; if a text is none, or a label is missing or out of range (the
                row is named); if `question_words` is not like 'cause=because'.
        """
        names = _choice_columns(args)
        if args.choices_column_name is None and len(set(names)) < max(2, len(names)):
            raise ValueError(
                "`choice_column_names` names the columns of the choices: at least two of them, each once; got "
                f"{', '.join(names)}."
            )
        if args.choices_column_name is not None:
            refuse_given(args, ["choice_column_names"], "is given beside `choices_column_name`; give one of them")
        words = _words_by_value(args.question_words)
        shaped: dict[str, Dataset] = {}
        sizes: dict[str, int] = {}
        question = args.question_column_name
        if question is None and args.context_column_name != "question":
            question = "question" if any("question" in rows.column_names for rows in splits.values()) else None
        if question is None:
            refuse_given(
                args, ["question_place", "question_words"], "is for a question; name its `question_column_name`"
            )
        for split, dataset in splits.items():
            columns = {"context_column_name": args.context_column_name}
            if question is not None:
                columns["question_column_name"] = question
            if args.choices_column_name is not None:
                columns["choices_column_name"] = args.choices_column_name
            columns |= {f"choice_column_names[{i}]": name for i, name in enumerate(names)}
            check_columns(dataset, split, columns, {"label_column_name": args.label_column_name})

            contexts = _texts(dataset, args.context_column_name, split, "context_column_name")
            choices = _choices(dataset, split, args)
            if question is not None:
                questions = _texts(dataset, question, split, "question_column_name")
                questions = [words.get(text, text) for text in questions]
                if args.question_place == "context":
                    contexts = [f"{first} {asked}".strip() for first, asked in zip(contexts, questions, strict=True)]
                else:
                    choices = [[f"{q} {c}".strip() for c in row] for q, row in zip(questions, choices, strict=True)]
            sizes[split] = len(choices[0])
            out: dict[str, list[Any]] = {"context": contexts, "choices": choices}
            if args.label_column_name in dataset.column_names:
                labels = _labels(dataset, split, args, sizes[split])
                if labels is not None:
                    out["labels"] = labels
            shaped[split] = Dataset.from_dict(out)
        if len(set(sizes.values())) != 1:
            counts = ", ".join(f"{split} {count}" for split, count in sizes.items())
            raise ValueError(f"All splits must have the same number of choices; there are: {counts}.")
        return TaskData(shaped, [f"choice {number}" for number in range(min(sizes.values()))])

    def classes(self, data: TaskData, rows: Dataset) -> Sequence[str]:
        """Return the place of every row's right choice."""
        return [data.label_names[label] for label in rows["labels"][:]]

    def features(
        self, rows: Dataset, tokenizer: PreTrainedTokenizerBase, data: TaskData, args: Any, max_length: int
    ) -> ClassFeatures:
        """Tokenize contexts and choices, see `tokenize_choices`. Predictions are written as numbers."""
        numbers = [str(number) for number in range(len(data.label_names))]
        return ClassFeatures(tokenize_choices(rows, tokenizer, max_length), numbers)

    def collator(self, tokenizer: PreTrainedTokenizerBase) -> ChoiceCollator:
        """Return what pads choices."""
        return ChoiceCollator(tokenizer)

    def details(self, data: TaskData, args: Any, model: Any, max_length: int) -> dict[str, Any]:
        """Return the number of choices."""
        return {"Choices": len(data.label_names)}

    def usage(self, folder: str, model: Any, args: Any) -> str:
        """Return the lines that load a chooser and choose."""
        lines = ["from transformers import AutoModelForMultipleChoice, AutoTokenizer", ""]
        if is_adapter(model):
            name = model.get_base_model().config.name_or_path
            lines = ["import dpt_peft", "from peft import PeftModel", *lines]
            lines += [
                f"base = AutoModelForMultipleChoice.from_pretrained({name!r})",
                f'model = PeftModel.from_pretrained(base, "{folder}")',
            ]
        else:
            lines += [f'model = AutoModelForMultipleChoice.from_pretrained("{folder}")']
        lines += [
            f'tokenizer = AutoTokenizer.from_pretrained("{folder}")',
            'context, choices = "...", ["...", "..."]',
            'rows = tokenizer([context] * len(choices), choices, padding=True, return_tensors="pt")',
            "best = model(**{name: rows[name][None] for name in rows}).logits.argmax(-1).item()",
        ]
        return "\n".join(lines)
