"""Regression: a number for every text or pair of texts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from datasets import ClassLabel, Dataset
from peft import TaskType
from transformers import AutoModelForSequenceClassification, PreTrainedTokenizerBase
from transformers.hf_argparser import HfArg

from dpt_peft.tasks.base import Features, Predictions, Task, TaskData, write_predictions
from dpt_peft.tasks.data import DatasetArguments, check_splits, is_missing
from dpt_peft.tasks.heads import NEW_HEAD, Head, new_head
from dpt_peft.tasks.labels import check_missing, names_of_ids, number
from dpt_peft.tasks.text_classification import read_texts, text_columns, tokenize_texts, usage_of_classifier


@dataclass
class RegressionArguments(DatasetArguments):
    """Data of a regression task. The defaults are STS-B's columns, or else one text."""

    text_column_name: str | None = HfArg(
        default=None, help="Column of the text. Default: 'sentence1' where there is one, else 'text'."
    )
    text_pair_column_name: str | None = HfArg(
        default=None, help="Column of the second text of a pair. Default: 'sentence2' if the first is 'sentence1'."
    )
    label_column_name: str | None = HfArg(
        default=None, help="Column of the number. Default: 'label' where there is one, else 'score'."
    )


def _numbers(dataset: Dataset, where: str, column: str) -> list[float | None]:
    feature, values = dataset.features[column], dataset[column][:]
    if isinstance(feature, ClassLabel):
        values = names_of_ids(feature, values)
    found = [number(value) for value in values]
    for row, (value, read) in enumerate(zip(values, found, strict=True)):
        if read is None and not is_missing(value) and str(value).strip():
            raise ValueError(
                f"`label_column_name`: row {row} of {where} has no number in column {column!r}: {value!r}."
            )
    return found


def regression_scores(predictions: np.ndarray, references: np.ndarray) -> dict[str, float]:
    """Compare predicted numbers with the right ones.

    Args:
        predictions: (n,).
        references: (n,).

    Returns:
        `mse`, the mean squared error; `pearson` and `spearman`, the correlations of values and of ranks, which are NaN
        where all predictions (or references) are equal. All are NaN where a prediction is.
    """
    predictions, references = predictions.astype(np.float64), references.astype(np.float64)
    ranks = [pd.Series(values).rank() for values in (predictions, references)]
    # the mean of equal numbers may be another number, so that rounding would give them a correlation
    flat = np.ptp(predictions) == 0 or np.ptp(references) == 0
    return {
        "mse": float(np.mean((predictions - references) ** 2)),
        "pearson": np.nan if flat else float(np.corrcoef(predictions, references)[0, 1]),
        "spearman": np.nan if flat else float(np.corrcoef(*ranks)[0, 1]),
    }


@dataclass(frozen=True)
class NumberFeatures(Features):
    """Rows of one number each."""

    def measure(self, predictions: Predictions, config: Any) -> dict[str, float]:
        """Return `mse`, `pearson` and `spearman`, see `regression_scores`."""
        return regression_scores(np.asarray(predictions).reshape(-1), np.asarray(self.dataset["labels"][:]))

    def write(self, predictions: Predictions, config: Any, folder: Path) -> None:
        """Write `predictions.tsv` with the columns index and prediction."""
        numbers = np.asarray(predictions).reshape(-1)
        write_predictions(folder, {"index": range(len(numbers)), "prediction": numbers})


class Regression(Task):
    """A number for every text or pair of texts; the loss is the mean squared error."""

    name = "regression"
    # The Hub and transformers' pipelines have no other name for it; the config's `problem_type` says what it is.
    pipeline_tag = "text-classification"
    task_type = TaskType.SEQ_CLS
    arguments = RegressionArguments
    heads: ClassVar[Mapping[str, Head]] = {
        NEW_HEAD: new_head(AutoModelForSequenceClassification, label_names=("score",), problem_type="regression"),
    }
    prompts_as_tokens = True
    can_cache = True

    def shape_rows(self, splits: Mapping[str, Dataset], args: RegressionArguments) -> TaskData:
        """Check splits of texts and numbers.

        A missing text is an empty text; of a `ClassLabel` the names are the numbers. A validation or test split in
        which no row has a number is kept for prediction; so is one that has -1 in every row, as the Hub writes it,
        where no training data has a number below 0.

        Args:
            splits: As loaded.
            args: Columns.

        Returns:
            Splits with the columns `text`, `text_pair` (pairs only) and `labels` (numbers; missing where there are
            none).

        Raises:
            ValueError: If a split is empty; if a column is missing (those there are get
                listed); if a row has no number, or something that is none (it is named); if all training rows have
                the same number.
        """
        there = next(iter(splits.values())).column_names if splits else []
        text = args.text_column_name or ("sentence1" if "sentence1" in there else "text")
        pair = args.text_pair_column_name
        if pair is None and text == "sentence1" and "sentence2" in there:
            pair = "sentence2"
        train = splits["train"].column_names if "train" in splits else there
        label = args.label_column_name or ("score" if "score" in train and "label" not in train else "label")
        texts = text_columns(text, pair)
        check_splits(splits, texts, {"label_column_name": label})
        numbers = {
            split: _numbers(dataset, f"the {split} data", label)
            for split, dataset in splits.items()
            if label in dataset.column_names
        }
        has_negative = any(value is not None and value < 0 for value in numbers.get("train", ()))
        shaped = {}
        for split, dataset in splits.items():
            columns, found = read_texts(dataset, texts, split), numbers.get(split, [None])
            check_missing(found, split, label, counted="null, NaN and empty")
            hidden = split != "train" and not has_negative and set(found) == {-1}
            if None not in found and not hidden:
                columns["labels"] = found
            shaped[split] = Dataset.from_dict(columns)
        if len(set(numbers.get("train", ()))) == 1:
            raise ValueError(f"`label_column_name`: all rows of the train data have the number {numbers['train'][0]}.")
        return TaskData(shaped)

    def features(
        self, rows: Dataset, tokenizer: PreTrainedTokenizerBase, data: TaskData, args: Any, max_length: int
    ) -> NumberFeatures:
        """Tokenize texts, see `tokenize_texts`."""
        return NumberFeatures(tokenize_texts(rows, tokenizer, max_length))

    def details(self, data: TaskData, args: Any, model: Any, max_length: int) -> dict[str, Any]:
        """Return what the numbers of the training data are like."""
        if "train" not in data.splits:
            return {}
        numbers = np.asarray(data.splits["train"]["labels"][:])
        return {"Numbers": f"{numbers.min():g} to {numbers.max():g}, mean {numbers.mean():g}"}

    def usage(self, folder: str, model: Any, args: Any) -> str:
        """Return the lines that load the model as a pipeline."""
        call = 'rate("...")  # a pair: rate({"text": "...", "text_pair": "..."})'
        return usage_of_classifier(folder, model, call, options=', problem_type="regression"')
