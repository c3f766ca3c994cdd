"""Texts with any number of classes each: labels read as zeros and ones, metrics and answers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from datasets import ClassLabel, Dataset

from dpt_peft.tasks.base import Features, Predictions, TaskData
from dpt_peft.tasks.data import as_texts, require_columns, require_rows
from dpt_peft.tasks.metrics import several_labels_scores


@dataclass(frozen=True)
class SeveralLabelsData(TaskData):
    """Texts with any number of classes each: `labels` is a row of zeros and ones, one a class."""

    several_labels: bool = True


def has_several_labels(splits: Mapping[str, Dataset], args: Any) -> bool:
    """Return whether the label column holds lists, or cells that a separator divides."""
    labels = splits["train"].features.get(args.label_column_name) if "train" in splits else None
    return args.label_separator is not None or isinstance(labels, list) or hasattr(labels, "feature")


def shape_several_labels(splits: Mapping[str, Dataset], args: Any) -> SeveralLabelsData:
    """Check splits of texts whose label column holds lists: names, numbers of a `ClassLabel`, or zeros and ones.

    Args:
        splits: As loaded; "train" is among them.
        args: `TextClassificationArguments`. `label_separator` divides the cells of a table; `class_names` gives the
            order of the classes, and the names of zeros and ones.

    Returns:
        Splits with the columns `text`, `text_pair` (pairs only) and `labels` (zeros and ones, missing where a split
        has no labels), and the names of the classes.

    Raises:
        ValueError: If a column is missing, a row's labels are no list, a label is none of the classes, or there are
            fewer than two classes.
    """
    column = args.label_column_name
    require_columns(splits["train"], "train", {"label_column_name": column})
    found = {
        split: [
            _label_list(value, args.label_separator, f"row {row} of the {split} data")
            for row, value in enumerate(rows[column][:])
        ]
        for split, rows in splits.items()
        if column in rows.column_names
    }
    inner = getattr(splits["train"].features[column], "feature", None)
    names = list(args.class_names or (inner.names if isinstance(inner, ClassLabel) else ()))
    flags = bool(args.class_names) and all(len(row) == len(names) and set(row) <= {0, 1} for row in found["train"])

    def named(row: list[Any]) -> list[str]:
        if flags:
            return [name for name, flag in zip(names, row, strict=True) if flag]
        return [names[label] if names and isinstance(label, int) else str(label) for label in row]

    texts = {split: [named(row) for row in rows] for split, rows in found.items()}
    names = names or sorted({label for row in texts["train"] for label in row})
    if len(names) < 2:
        raise ValueError(f"There must be at least two classes, but the train data has {', '.join(names) or 'none'}.")
    shaped = {}
    for split, rows in splits.items():
        columns = {"text_column_name": args.text_column_name}
        if args.text_pair_column_name is not None:
            columns["text_pair_column_name"] = args.text_pair_column_name
        require_columns(rows, split, columns)
        require_rows(rows, split)
        out: dict[str, list[Any]] = {
            name: as_texts(rows[old][:]) for name, old in zip(("text", "text_pair"), columns.values(), strict=False)
        }
        if split in texts:
            unknown = sorted({label for row in texts[split] for label in row} - set(names))
            if unknown:
                raise ValueError(f"The {split} data has labels that are none of the classes: {', '.join(unknown)}.")
            out["labels"] = [[float(name in row) for name in names] for row in texts[split]]
        shaped[split] = Dataset.from_dict(out)
    return SeveralLabelsData(shaped, names)


def _label_list(value: Any, separator: str | None, where: str) -> list[Any]:
    if isinstance(value, str) and separator is not None:
        return [part.strip() for part in value.split(separator) if part.strip()]
    if not isinstance(value, list) or any(label is None for label in value):
        raise ValueError(f"`label_column_name`: {where} must hold a list of labels, got {value!r}.")
    return value


@dataclass(frozen=True)
class SeveralLabelsFeatures(Features):
    """Rows of any number of classes each.

    Attributes:
        dataset: The tokenizer's columns, and `labels` (zeros and ones) where there are labels.
        label_names: Names of the classes by id.
    """

    dataset: Dataset
    label_names: list[str]

    def metrics(self, predictions: Predictions, config: Any) -> dict[str, float]:
        """Return `micro_f1`, `macro_f1` and `accuracy` (of whole rows) of the classes with a probability above 1/2."""
        if "labels" not in self.dataset.column_names:
            return {}
        return several_labels_scores(np.asarray(predictions) > 0, np.asarray(self.dataset["labels"][:]) > 0)

    def write(self, predictions: Predictions, config: Any, folder: Path) -> None:
        """Write `predictions.jsonl`: index, and the names of the classes with a probability above 1/2."""
        with (folder / "predictions.jsonl").open("w", encoding="utf-8") as file:
            for row, logits in enumerate(predictions):
                chosen = [name for name, logit in zip(self.label_names, logits, strict=True) if logit > 0]
                file.write(json.dumps({"index": row, "prediction": chosen}, ensure_ascii=False) + "\n")
