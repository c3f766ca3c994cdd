"""The quickstart's data: the messages that come with the package, or a file of the user's own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from datasets import ClassLabel, Dataset

from dpt_peft.tasks.text_classification import (
    TextClassificationArguments,
    TextClassificationData,
    load_text_classification,
)
from dpt_peft.training.low_resource import sample_per_class

FOLDER = Path(__file__).parent / "data"
"""Where `train.csv`, `test.csv` and their data card (README.md) lie."""

NEW_TEXTS = (
    "Nobody has been able to sign in since you changed the servers on Sunday.",
    "Why does my bank statement show your name three times this month?",
    "I've baked for a living, do you take on people over fifty?",
)
"""Three messages that are in neither split, for the predictions at the end."""

SPLIT_SEED = 0


@dataclass(frozen=True)
class QuickstartData:
    """Training and test texts, with what is shown at the end.

    Attributes:
        name: what the data is called in the report.
        train_is: what the training texts are, for messages.
        train: columns `text` and `labels` (class ids); the labelled examples are drawn from here.
        test: the same columns; only measured on.
        label_names: the classes' names by id.
        new_texts: three texts to classify at the end.
        new_texts_are: what they are, in words.
    """

    name: str
    train_is: str
    train: Dataset
    test: Dataset
    label_names: list[str]
    new_texts: list[str]
    new_texts_are: str

    def check_examples_per_class(self, examples_per_class: int) -> None:
        """Raises ValueError if a class has fewer training examples than are to be drawn; the message names it."""
        try:
            sample_per_class(self.train_labels, examples_per_class=examples_per_class)
        except ValueError as error:
            raise ValueError(f"{error} Counted in {self.train_is}.") from error

    @property
    def train_labels(self) -> list[str]:
        """The name of each training text's class."""
        return [self.label_names[label] for label in self.train["labels"][:]]


def packaged_data() -> QuickstartData:
    """Loads the customer messages that come with the package: 8 classes, 28 train and 28 test messages a class."""
    data = load_text_classification(
        TextClassificationArguments(train_file=str(FOLDER / "train.csv"), test_file=str(FOLDER / "test.csv"))
    )
    return QuickstartData(
        name="Customer messages",
        train_is="the package's train.csv",
        train=data.splits["train"],
        test=data.splits["test"],
        label_names=data.label_names,
        new_texts=list(NEW_TEXTS),
        new_texts_are="three new messages",
    )


def own_data(
    data_file: str,
    *,
    test_file: str | None = None,
    text_column: str = "text",
    label_column: str = "label",
    test_fraction: float = 0.3,
) -> QuickstartData:
    """Loads a file of the user's own and, without a test file, holds out a part of it.

    Args:
        data_file: a csv, tsv, json or jsonl file with one text and one label a row.
        test_file: a second file with the same columns; without one, `test_fraction` of `data_file` is held out,
            the same share of every class (always the same rows of the same file).
        text_column: the column of the text.
        label_column: the column of the label, a name or a whole number.
        test_fraction: the share to hold out, between 0 and 1.

    Returns:
        The data; `new_texts` are the first three of the test texts.

    Raises:
        FileNotFoundError: if a file is missing.
        ValueError: if a column is missing (those there are get listed), if a label occurs in the test data only, if
            the test data has no labels, or if a class is too small to be in both parts.
    """
    if not 0 < test_fraction < 1:
        raise ValueError(f"`test_fraction` must be between 0 and 1, got {test_fraction}.")
    data = load_text_classification(
        TextClassificationArguments(
            train_file=data_file, test_file=test_file, text_column_name=text_column, label_column_name=label_column
        )
    )
    if test_file is None:
        train, test = _hold_out(data, data_file, test_fraction)
        train_is = f"the {1 - test_fraction:.0%} of {data_file!r} that are not held out as test texts"
    else:
        train, test = data.splits["train"], data.splits["test"]
        train_is = repr(data_file)
        if "labels" not in test.column_names:
            raise ValueError(
                f"`test_file`: {test_file!r} has no labels in column {label_column!r}, so nothing can be measured."
            )
    return QuickstartData(
        name=Path(data_file).name,
        train_is=train_is,
        train=train,
        test=test,
        label_names=data.label_names,
        new_texts=test["text"][:3],
        new_texts_are="the first three test texts",
    )


def _hold_out(data: TextClassificationData, file: str, fraction: float) -> tuple[Dataset, Dataset]:
    """Splits the rows into train and test, the same share of every class in each."""
    rows = data.splits["train"].cast_column("labels", ClassLabel(names=data.label_names))
    try:
        parts = rows.train_test_split(test_size=fraction, stratify_by_column="labels", seed=SPLIT_SEED)
    except ValueError as error:
        labels = rows["labels"][:]
        smallest = min(set(labels), key=labels.count)
        raise ValueError(
            f"`test_fraction` {fraction} of {file!r} ({len(labels)} rows, {len(data.label_names)} classes) cannot be "
            f"held out: every class must have rows in both parts, and {data.label_names[smallest]!r} has only "
            f"{labels.count(smallest)}. Give more rows, or `test_file`."
        ) from error
    return parts["train"], parts["test"]
