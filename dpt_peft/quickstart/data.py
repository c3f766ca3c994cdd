"""The quickstart's data: the messages that come with the package, or a file of the user's own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from datasets import ClassLabel

from dpt_peft.tasks.base import TaskData
from dpt_peft.tasks.text_classification import TextClassificationArguments, load_text_classification

#: Where `train.csv`, `test.csv` and their data card (README.md) lie: 8 classes, 28 messages a class and split.
FOLDER = Path(__file__).parent / "data"
PACKAGED = TextClassificationArguments(train_file=str(FOLDER / "train.csv"), test_file=str(FOLDER / "test.csv"))
#: Three messages that are in neither split, for the predictions at the end.
NEW_TEXTS = (
    "Nobody has been able to sign in since you changed the servers on Sunday.",
    "Why does my bank statement show your name three times this month?",
    "I've baked for a living, do you take on people over fifty?",
)


def load_data(source: TextClassificationArguments, test_fraction: float = 0.3) -> TaskData:
    """Load training and test texts; without a test file, hold out a share of every class, always the same rows.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If the data is not what `source` says, the test data has no labels, or a class is too small to be
            in both parts.
    """
    data = load_text_classification(source)
    if "test" in data.splits:
        if "labels" not in data.splits["test"].column_names:
            raise ValueError(f"`test_file`: {source.test_file!r} has no labels, so nothing can be measured.")
        return data
    rows = data.splits["train"].cast_column("labels", ClassLabel(names=data.label_names))
    try:
        parts = rows.train_test_split(test_size=test_fraction, stratify_by_column="labels", seed=0)
    except ValueError as error:
        raise ValueError(
            f"`test_fraction` {test_fraction} of {len(rows)} rows in {len(data.label_names)} classes cannot be held "
            f"out, as every class must have rows in both parts ({error}). Give more rows, or `test_file`."
        ) from error
    plain = data.splits["train"].features
    return replace(data, splits={split: part.cast(plain) for split, part in parts.items()})
