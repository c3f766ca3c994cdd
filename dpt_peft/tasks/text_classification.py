"""Text classification: columns and labels checked, features, metrics."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from datasets import Dataset, DatasetDict
from transformers import EvalPrediction, PreTrainedTokenizerBase

from dpt_peft.tasks.data import (
    DatasetArguments,
    as_texts,
    load_splits,
    require_columns,
    require_rows,
    special_tokens_as_text,
)
from dpt_peft.tasks.labels import read_labels
from dpt_peft.tasks.metrics import ClassificationMetric


@dataclass
class TextClassificationArguments(DatasetArguments):
    """Data of a text classification task."""

    text_column_name: str = field(default="text", metadata={"help": "Column of the text."})
    text_pair_column_name: str | None = field(default=None, metadata={"help": "Column of the second text of a pair."})
    label_column_name: str = field(default="label", metadata={"help": "Column of the label (a name or a number)."})
    class_names: list[str] | None = field(
        default=None,
        metadata={
            "help": "Names of the classes: for labels 0, 1, ... in that order, for other whole numbers by value, for "
            "named labels their order. -1 means no label unless it is named."
        },
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


def load_text_classification(args: TextClassificationArguments) -> TextClassificationData:
    """Loads and checks a text classification data set.

    Labels may be `ClassLabel`, names, whole numbers or truth values, see `labels.read_labels`. A missing text is an
    empty text. A validation or test split without any label is kept for prediction.

    Args:
        args: Source, columns, names of the labels.

    Returns:
        The data, see `TextClassificationData`.

    Raises:
        ValueError: If there is no training data or a split is empty; if a column is missing (those there are get
            listed); or what `read_labels` refuses.
        FileNotFoundError: If a file is missing.
    """
    splits = load_splits(args)
    if "train" not in splits:
        raise ValueError("There is no training data: give `train_file`, or a `dataset_name` with a training split.")
    text_columns = {"text_column_name": args.text_column_name}
    if args.text_pair_column_name is not None:
        text_columns["text_pair_column_name"] = args.text_pair_column_name
    for split, dataset in splits.items():
        if not dataset.column_names:
            require_rows(dataset, split)
        labelled = split == "train" or args.label_column_name in dataset.column_names
        require_columns(
            dataset, split, text_columns | ({"label_column_name": args.label_column_name} if labelled else {})
        )
        require_rows(dataset, split)
    labels = read_labels(splits, args.label_column_name, args.class_names)

    shaped = {}
    for split, dataset in splits.items():
        columns: dict[str, list[Any]] = {"text": as_texts(dataset[args.text_column_name][:])}
        if args.text_pair_column_name is not None:
            columns["text_pair"] = as_texts(dataset[args.text_pair_column_name][:])
        ids = labels.ids[split]
        if ids is not None:
            columns["labels"] = ids
        shaped[split] = Dataset.from_dict(columns)
    return TextClassificationData(DatasetDict(shaped), labels.names)


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
