"""Text classification: columns and labels checked, features, metrics."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from datasets import ClassLabel, Dataset, DatasetDict
from transformers import EvalPrediction, PreTrainedTokenizerBase

from dpt_peft.tasks.data import (
    DatasetArguments,
    as_texts,
    load_splits,
    require_columns,
    require_rows,
    special_tokens_as_text,
)
from dpt_peft.tasks.metrics import ClassificationMetric


@dataclass
class TextClassificationArguments(DatasetArguments):
    """Data of a text classification task."""

    text_column_name: str = field(default="text", metadata={"help": "Column of the text."})
    text_pair_column_name: str | None = field(default=None, metadata={"help": "Column of the second text of a pair."})
    label_column_name: str = field(default="label", metadata={"help": "Column of the label (a name or a number)."})
    class_names: list[str] | None = field(
        default=None,
        metadata={"help": "Names of the classes: for labels 0, 1, ... in that order, for named labels their order."},
    )
    max_seq_length: int | None = field(
        default=None, metadata={"help": "Longest text (or pair) in tokens. Default: what the model takes."}
    )


@dataclass(frozen=True)
class TextClassificationData:
    """A text classification data set in one shape, whatever its source.

    Attributes:
        splits: Subset of "train", "validation", "test", with the columns `text`, `text_pair` (pairs only) and `labels`
            (class ids; missing where a split has no labels).
        label_names: Names of the classes by id.
    """

    splits: DatasetDict
    label_names: list[str]


def _label_keys(dataset: Dataset, column: str, split: str) -> list[str | None]:
    """Returns a split's labels as strings ("3" for 3), None where there is none (the Hub writes -1)."""
    feature, values = dataset.features[column], dataset[column][:]
    if isinstance(feature, ClassLabel):
        return [None if value is None or value < 0 else feature.int2str(value) for value in values]
    for value in values:
        if value is not None and not isinstance(value, (str, int)):  # bool is an int
            raise ValueError(
                f"`label_column_name`: labels must be names or whole numbers, but the {split} data has {value!r} in "
                f"column {column!r}."
            )
    return [None if value in (None, "", -1) else str(value) for value in values]


def _classes(
    train: Dataset, column: str, keys: list[str], label_names: list[str] | None
) -> tuple[list[str], list[str]]:
    """Returns the classes as they stand in the data and as they are named, both by id."""
    feature = train.features[column]
    if label_names is not None and len(set(label_names)) != len(label_names):
        raise ValueError(f"`class_names` names a class twice: {', '.join(label_names)}.")
    present = set(keys)
    if isinstance(feature, ClassLabel):
        classes = list(feature.names)
        if label_names is not None and len(label_names) != len(classes):
            raise ValueError(
                f"`class_names` has {len(label_names)} names, but the data has {len(classes)} classes: "
                f"{', '.join(classes)}."
            )
        return classes, label_names or classes
    if all(key.isdigit() for key in present) and not (label_names and present <= set(label_names)):
        classes = sorted(present, key=int)
        if label_names is None:
            return classes, classes
        if int(classes[-1]) >= len(label_names):
            raise ValueError(
                f"`class_names` names the labels 0 to {len(label_names) - 1}, but the train "
                f"data has the label {classes[-1]}."
            )
        return [str(i) for i in range(len(label_names))], label_names
    if label_names is None:
        classes = sorted(present)
        return classes, classes
    unnamed = sorted(present - set(label_names))
    if unnamed:
        raise ValueError(f"`class_names` does not name the labels {', '.join(unnamed)} of the train data.")
    return label_names, label_names


def load_text_classification(args: TextClassificationArguments) -> TextClassificationData:
    """Loads and checks a text classification data set.

    Labels may be `ClassLabel`, names, whole numbers or truth values. Their order is that of the `ClassLabel`, of
    `class_names`, or the sorted one (numbers by value, names by alphabet), so it never depends on the rows' order.
    A missing text is an empty text. A validation or test split without any label (-1 or empty) is kept for prediction.

    Args:
        args: Source, columns, names of the labels.

    Returns:
        The data, see `TextClassificationData`.

    Raises:
        ValueError: If there is no training data or a split is empty; if a column is missing (those there are get
            listed); if there are fewer than two classes; if some rows have no label; if a label occurs in the
            validation or test data only (it is named); if `class_names` does not fit.
        FileNotFoundError: If a file is missing.
    """
    splits = load_splits(args)
    if "train" not in splits:
        raise ValueError("There is no training data: give `train_file`, or a `dataset_name` with a training split.")
    text_columns = {"text_column_name": args.text_column_name}
    if args.text_pair_column_name is not None:
        text_columns["text_pair_column_name"] = args.text_pair_column_name
    label_column = args.label_column_name

    keys: dict[str, list[str | None]] = {}
    for split, dataset in splits.items():
        if not dataset.column_names:
            require_rows(dataset, split)
        columns = dict(text_columns)
        if split == "train" or label_column in dataset.column_names:
            columns["label_column_name"] = label_column
        require_columns(dataset, split, columns)
        require_rows(dataset, split)
        labelled = label_column in dataset.column_names
        keys[split] = _label_keys(dataset, label_column, split) if labelled else [None] * len(dataset)
        without = [row for row, key in enumerate(keys[split]) if key is None]
        if without and (split == "train" or len(without) < len(dataset)):
            raise ValueError(
                f"{len(without)} of {len(dataset)} rows of the {split} data have no label in column {label_column!r} "
                f"(-1 and empty count as none); the first is row {without[0]}, counted from 0."
            )

    train_keys = [key for key in keys["train"] if key is not None]
    classes, label_names = _classes(splits["train"], label_column, train_keys, args.class_names)
    if len(classes) < 2:
        raise ValueError(f"The train data has only one label: {', '.join(classes)}.")
    ids = {key: index for index, key in enumerate(classes)}

    shaped = {}
    for split, dataset in splits.items():
        unknown = sorted({key for key in keys[split] if key is not None and key not in ids})
        if unknown:
            raise ValueError(
                f"The {split} data has labels that the train data does not have: {', '.join(unknown)}. "
                f"Labels of the train data: {', '.join(classes)}."
            )
        columns_out: dict[str, list[Any]] = {"text": as_texts(dataset[args.text_column_name][:])}
        if args.text_pair_column_name is not None:
            columns_out["text_pair"] = as_texts(dataset[args.text_pair_column_name][:])
        if keys[split][0] is not None:
            columns_out["labels"] = [ids[key] for key in keys[split] if key is not None]
        shaped[split] = Dataset.from_dict(columns_out)
    return TextClassificationData(DatasetDict(shaped), list(label_names))


def tokenize_texts(dataset: Dataset, tokenizer: PreTrainedTokenizerBase, max_length: int | None = None) -> Dataset:
    """Turns texts (and pairs) into token ids.

    Args:
        dataset: A split of `TextClassificationData`.
        tokenizer: Any tokenizer.
        max_length: Longest sequence in tokens, special tokens included; of a pair the longer text is cut first.
            Default: no cut.

    Returns:
        The tokenizer's columns (not padded) and `labels` where there are labels.
    """

    def encode(batch: dict[str, list[str]]) -> dict[str, Any]:
        truncation: str | bool = "longest_first" if max_length is not None else False
        with special_tokens_as_text(tokenizer):
            return dict(tokenizer(batch["text"], batch.get("text_pair"), truncation=truncation, max_length=max_length))

    texts = [column for column in ("text", "text_pair") if column in dataset.column_names]
    # Nothing is gained from a cache file of a map that takes a second, and it would outlive a change of tokenizer.
    return dataset.map(encode, batched=True, remove_columns=texts, keep_in_memory=True, load_from_cache_file=False)


def classification_metrics() -> Callable[[EvalPrediction], dict[str, float]]:
    """Makes the Trainer's `compute_metrics`: accuracy and macro F1 of the highest logit.

    Returns:
        A function from `EvalPrediction` with logits `(n, classes)` and class ids `(n,)` to the metrics.
    """
    metric = ClassificationMetric(keep_in_memory=True)

    def compute(prediction: EvalPrediction) -> dict[str, float]:
        logits = prediction.predictions[0] if isinstance(prediction.predictions, tuple) else prediction.predictions
        scores = metric.compute(predictions=np.argmax(logits, axis=-1), references=prediction.label_ids)
        assert scores is not None
        return scores

    return compute
