"""Text classification, one class a text or any number of them: columns and labels checked, features, metrics."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from datasets import Dataset
from peft import TaskType
from transformers import AutoModelForSequenceClassification, EvalPrediction, PreTrainedTokenizerBase
from transformers.hf_argparser import HfArg

from dpt_peft.tasks.base import Features, Predictions, Task, TaskData, is_adapter, write_predictions
from dpt_peft.tasks.data import DatasetArguments, ExactJson, as_texts, check_splits, special_tokens_as_text
from dpt_peft.tasks.heads import (
    DISCRIMINATOR,
    LANGUAGE_MODEL,
    NEW_HEAD,
    DPTOptions,
    Head,
    LabelWordOptions,
    load_dpt_classifier,
    load_verbalizer,
    new_head,
)
from dpt_peft.tasks.labels import SavedNames, read_label_lists, read_labels
from dpt_peft.tasks.sampling import ClassSamplingArguments


@dataclass
class TextClassificationArguments(DatasetArguments):
    """Data of a text classification task."""

    text_column_name: str = HfArg(default="text", help="Column of the text.")
    text_pair_column_name: str | None = HfArg(default=None, help="Column of the second text of a pair.")
    label_column_name: str = HfArg(default="label", help="Column of the label (a name or a number).")
    class_names: list[str] | None = HfArg(
        default=None,
        help="Names of the classes: for labels 0, 1, ... in that order, for other whole numbers by value, for "
        "named labels their order. -1 means no label unless it is named.",
    )
    label_separator: str | None = HfArg(
        default=None, help="A text has several labels, which stand in one cell with this between them."
    )


def text_columns(text: str, pair: str | None) -> dict[str, str]:
    """Return which argument names which column of texts; of the second only where there are pairs."""
    return {"text_column_name": text} | ({} if pair is None else {"text_pair_column_name": pair})


def read_texts(dataset: Dataset, columns: Mapping[str, str], split: str) -> dict[str, list[Any]]:
    """Return the columns that `text_columns` names as `text` and, of pairs, `text_pair`."""
    names = zip(("text", "text_pair"), columns.items(), strict=False)
    return {
        name: as_texts(dataset[column][:], f"`{argument}`: column {column!r} of the {split} data")
        for name, (argument, column) in names
    }


def shape_text_classification(
    splits: Mapping[str, Dataset], args: TextClassificationArguments, *, several_labels: bool = False
) -> TaskData:
    """Check splits of texts and labels.

    Labels may be `ClassLabel`, names, whole numbers or truth values, see `labels.read_labels`; or lists of such, see
    `labels.read_label_lists`. A missing text is an empty text. A validation or test split without any label is kept
    for prediction.

    Args:
        splits: As loaded.
        args: Columns, names of the labels.
        several_labels: Whether the label column holds lists.

    Returns:
        Splits with the columns `text`, `text_pair` (pairs only) and `labels` (class ids, or of several labels zeros
        and ones; missing where a split has no labels), and the names of the classes.

    Raises:
        ValueError: If there is neither training data nor `class_names`, or a split is empty; if a column is missing
            (those there are get listed); or what `read_labels` or `read_label_lists` refuses.
    """
    column, texts = args.label_column_name, text_columns(args.text_column_name, args.text_pair_column_name)
    unknown = None if args.class_names else "class_names"
    check_splits(splits, texts, {"label_column_name": column}, classes=unknown)
    labels: Mapping[str, list[Any] | None]
    if several_labels:
        names, lists = read_label_lists(splits, column, args.class_names, args.label_separator)
        labels = {split: rows and _zeros_and_ones(rows, len(names)) for split, rows in lists.items()}
    else:
        read = read_labels(splits, column, args.class_names)
        names, labels = read.names, read.ids
    shaped = {}
    for split, dataset in splits.items():
        columns, known = read_texts(dataset, texts, split), labels[split]
        if known is not None:
            columns["labels"] = known
        shaped[split] = Dataset.from_dict(columns)
    return TaskData(shaped, names, several_labels=several_labels)


def _zeros_and_ones(rows: Sequence[Sequence[int]], classes: int) -> list[list[float]]:
    return [[float(label in row) for label in range(classes)] for row in rows]


def has_several_labels(splits: Mapping[str, Dataset], args: TextClassificationArguments) -> bool:
    """Return whether the label column holds lists, or cells that a separator divides."""
    saved = args.class_names
    if isinstance(saved, SavedNames) and "train" not in splits:
        return saved.several or args.label_separator is not None
    column, ordered = args.label_column_name, sorted(splits, key=lambda split: split != "train")
    rows = next((splits[split] for split in ordered if column in splits[split].column_names), None)
    if args.label_separator is not None or rows is None:
        return args.label_separator is not None
    labels = rows.features[column]
    if isinstance(labels, ExactJson):
        return any(isinstance(value, list) for value in rows[column])
    return isinstance(labels, list) or hasattr(labels, "feature")


def tokenize_texts(dataset: Dataset, tokenizer: PreTrainedTokenizerBase, max_length: int | None = None) -> Dataset:
    """Turn texts (and pairs) into token ids.

    Args:
        dataset: A split of `shape_text_classification`.
        tokenizer: Any tokenizer.
        max_length: Longest sequence in tokens, special tokens included; of a pair the longer text is cut first.
            Default: no cut.

    Returns:
        The tokenizer's columns (not padded) and `labels` where there are labels.

    Raises:
        ValueError: If `max_length` leaves no token to a text.
    """
    texts = [column for column in ("text", "text_pair") if column in dataset.column_names]
    own = tokenizer.num_special_tokens_to_add(pair=len(texts) == 2)
    if max_length is not None and max_length < own + len(texts):
        raise ValueError(
            f"`max_seq_length` must be at least {own + len(texts)}, for {own} special tokens and one of each text, "
            f"got {max_length}."
        )

    def encode(batch: dict[str, list[str]]) -> dict[str, Any]:
        truncation: str | bool = "longest_first" if max_length is not None else False
        with special_tokens_as_text(tokenizer):
            return dict(tokenizer(batch["text"], batch.get("text_pair"), truncation=truncation, max_length=max_length))

    # Nothing is gained from a cache file of a map that takes a second, and it would outlive a change of tokenizer.
    return dataset.map(encode, batched=True, remove_columns=texts, keep_in_memory=True, load_from_cache_file=False)


def check_scikit_learn() -> None:
    """Raise an `ImportError` if the metrics of classes cannot be computed."""
    try:
        import sklearn.metrics  # noqa: F401
    except ImportError as error:
        raise ImportError("the metrics of classes need scikit-learn: pip install dpt_peft[tasks]") from error


def _scores(predicted: np.ndarray, right: np.ndarray, means: Sequence[str]) -> dict[str, float]:
    """Return `accuracy` (where rows have several labels, of whole rows) and F1, such as `macro_f1`, of class ids.

    A class that is never right has an F1 of 0; one that neither occurs nor is predicted does not count.
    """
    check_scikit_learn()
    from sklearn.metrics import accuracy_score, f1_score

    # Of several labels a row, scikit-learn would count all classes.
    occurring = None if right.ndim == 1 else np.flatnonzero((right | predicted).any(axis=0))
    f1 = {
        f"{mean}_f1": float(f1_score(right, predicted, labels=occurring, average=mean, zero_division=0))
        if occurring is None or len(occurring)
        else 0.0
        for mean in means
    }
    return {"accuracy": float(accuracy_score(right, predicted)), **f1}


def classification_metrics() -> Callable[[EvalPrediction], dict[str, float]]:
    """Make the Trainer's `compute_metrics`: accuracy and macro F1 of the highest logit.

    Returns:
        A function from `EvalPrediction` with logits `(n, classes)` and class ids `(n,)` to the metrics.
    """

    def compute(prediction: EvalPrediction) -> dict[str, float]:
        logits = prediction.predictions[0] if isinstance(prediction.predictions, tuple) else prediction.predictions
        return _scores(np.argmax(logits, axis=-1), prediction.label_ids, ["macro"])

    return compute


@dataclass(frozen=True)
class ClassFeatures(Features):
    """Rows of one class each, and how classes are measured and written.

    Attributes:
        label_names: Names of the classes by id.
        places: Further columns of what is written: where in a file the rows stand, if they are not its rows.
    """

    label_names: list[str]
    places: Mapping[str, Sequence[Any]] = field(default_factory=dict, kw_only=True)

    @property
    def labels(self) -> np.ndarray:
        """The class ids, (rows,)."""
        return np.asarray(self.dataset["labels"][:])

    def measure(self, predictions: Predictions, config: Any) -> dict[str, float]:
        """Return `accuracy` and `macro_f1`, and as `majority_share` the accuracy of always answering the largest."""
        scores = _scores(np.argmax(predictions, axis=-1), self.labels, ["macro"])
        return {**scores, "majority_share": max(Counter(self.labels.tolist()).values()) / len(self.labels)}

    def write(self, predictions: Predictions, config: Any, folder: Path) -> None:
        """Write `predictions.tsv` with the columns index and prediction."""
        names = [self.label_names[label] for label in np.argmax(predictions, axis=-1)]
        write_predictions(folder, {"index": range(len(names)), "prediction": names, **self.places})


@dataclass(frozen=True)
class SeveralLabelsFeatures(Features):
    """Rows of any number of classes each.

    Attributes:
        label_names: Names of the classes by id.
    """

    label_names: list[str]

    def measure(self, predictions: Predictions, config: Any) -> dict[str, float]:
        """Return `micro_f1`, `macro_f1` and `accuracy` (of whole rows) of the classes with a probability above 1/2."""
        return _scores(np.asarray(predictions) > 0, np.asarray(self.dataset["labels"][:]) > 0, ["micro", "macro"])

    def write(self, predictions: Predictions, config: Any, folder: Path) -> None:
        """Write `predictions.jsonl`: index, and the names of the classes with a probability above 1/2."""
        with (folder / "predictions.jsonl").open("w", encoding="utf-8") as file:
            for row, logits in enumerate(predictions):
                chosen = [name for name, logit in zip(self.label_names, logits, strict=True) if logit > 0]
                file.write(json.dumps({"index": row, "prediction": chosen}, ensure_ascii=False) + "\n")


def usage_of_classifier(folder: str, model: Any, call: str, imports: Sequence[str] = (), options: str = "") -> str:
    """Return Python lines that load a saved classifier and call it.

    Args:
        folder: Where it lies.
        model: The model.
        call: The last line; what it calls is the pipeline.
        imports: Further lines at the top.
        options: Further arguments for the base model of an adapter.
    """
    imports, load = ["import dpt_peft", *imports], f'dpt_peft.load("{folder}"{options})'
    if not is_adapter(model):
        imports, load = [*imports, "from transformers import pipeline"], f'pipeline("text-classification", "{folder}")'
    return "\n".join([*imports, "", f"{call.partition('(')[0]} = {load}", call])


class TextClassification(Task):
    """One class for every text or pair of texts; or several, where the label column holds lists."""

    name = "text-classification"
    pipeline_tag = "text-classification"
    task_type = TaskType.SEQ_CLS
    arguments: ClassVar[type[Any]] = TextClassificationArguments
    sampling = ClassSamplingArguments
    heads: ClassVar[Mapping[str, Head]] = {
        NEW_HEAD: new_head(AutoModelForSequenceClassification),
        DISCRIMINATOR: Head(load_dpt_classifier, DPTOptions),
        LANGUAGE_MODEL: Head(load_verbalizer, LabelWordOptions),
    }
    prompts_as_tokens = True
    can_cache = True
    names_argument: ClassVar[str | None] = "class_names"

    def shape_rows(self, splits: Mapping[str, Dataset], args: Any) -> TaskData:
        """Check texts and labels, see `shape_text_classification`."""
        return shape_text_classification(splits, args, several_labels=has_several_labels(splits, args))

    def classes(self, data: TaskData, rows: Dataset) -> Sequence[str] | None:
        """Return the name of every row's class; None where rows have several."""
        if data.several_labels:
            return None
        return [data.label_names[label] for label in rows["labels"][:]]

    def labels(self, data: TaskData, rows: Dataset) -> list[list[str]] | None:
        """Return the names of every row's labels where it has several."""
        if not data.several_labels:
            return None
        has = np.asarray(rows["labels"][:])
        return [[data.label_names[label] for label in np.flatnonzero(row)] for row in has]

    def features(
        self, rows: Dataset, tokenizer: PreTrainedTokenizerBase, data: TaskData, args: Any, max_length: int
    ) -> Features:
        """Tokenize texts, see `tokenize_texts`."""
        kind = SeveralLabelsFeatures if data.several_labels else ClassFeatures
        return kind(tokenize_texts(rows, tokenizer, max_length), data.label_names)

    def details(self, data: TaskData, args: Any, model: Any, max_length: int) -> dict[str, Any]:
        """Return the labels and, of a model that is read in a template, words and template."""
        found = {"Labels": ", ".join(data.label_names)}
        if (template := getattr(model.config, "template", None)) is not None:
            words = getattr(model.config, "label_words", None) or model.config.tree.class_words
            found |= {"Label words": ", ".join(words), "Template": f"`{template}`"}
        return found

    def usage(self, folder: str, model: Any, args: Any) -> str:
        """Return the lines that load a classifier."""
        return usage_of_classifier(folder, model, 'classify("...")')
