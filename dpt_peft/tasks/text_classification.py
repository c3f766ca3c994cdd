"""Text classification: columns and labels checked, features, metrics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from datasets import Dataset
from peft import TaskType
from transformers import AutoModelForSequenceClassification, EvalPrediction, PreTrainedTokenizerBase

from dpt_peft.tasks.base import Features, Predictions, Task, TaskData, is_adapter
from dpt_peft.tasks.data import DatasetArguments, as_texts, check_splits, load_splits, special_tokens_as_text
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
from dpt_peft.tasks.labels import read_labels
from dpt_peft.tasks.metrics import ClassificationMetric
from dpt_peft.tasks.sampling import ClassSamplingArguments
from dpt_peft.tasks.several_labels import (
    SeveralLabelsData,
    SeveralLabelsFeatures,
    has_several_labels,
    shape_several_labels,
)


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
    label_separator: str | None = field(
        default=None, metadata={"help": "A text has several labels, which stand in one cell with this between them."}
    )
    max_seq_length: int | None = field(
        default=None, metadata={"help": "Longest text (or pair) in tokens. Default: what the model takes."}
    )


def load_text_classification(args: TextClassificationArguments) -> TaskData:
    """Load and check a text classification data set; see `shape_text_classification`."""
    return shape_text_classification(load_splits(args), args)


def shape_text_classification(splits: Mapping[str, Dataset], args: TextClassificationArguments) -> TaskData:
    """Check splits of texts and labels.

    Labels may be `ClassLabel`, names, whole numbers or truth values, see `labels.read_labels`. A missing text is an
    empty text. A validation or test split without any label is kept for prediction.

    Args:
        splits: As loaded.
        args: Columns, names of the labels.

    Returns:
        Splits with the columns `text`, `text_pair` (pairs only) and `labels` (class ids; missing where a split has no
        labels), and the names of the classes.

    Raises:
        ValueError: If there is no training data or a split is empty; if a column is missing (those there are get
            listed); or what `read_labels` refuses.
    """
    texts = {"text_column_name": args.text_column_name}
    if args.text_pair_column_name is not None:
        texts["text_pair_column_name"] = args.text_pair_column_name
    check_splits(splits, texts, {"label_column_name": args.label_column_name})
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
    return TaskData(shaped, labels.names)


def tokenize_texts(dataset: Dataset, tokenizer: PreTrainedTokenizerBase, max_length: int | None = None) -> Dataset:
    """Turns texts (and pairs) into token ids.

    Args:
        dataset: A split of `shape_text_classification`.
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


@dataclass(frozen=True)
class ClassFeatures(Features):
    """Rows of one class each, and how classes are measured and written.

    Attributes:
        dataset: The tokenizer's columns, and `labels` where there are labels.
        label_names: Names of the classes by id.
    """

    dataset: Dataset
    label_names: list[str]

    @property
    def labels(self) -> np.ndarray | None:
        """The class ids, (rows,); None where there are none."""
        return np.asarray(self.dataset["labels"][:]) if "labels" in self.dataset.column_names else None

    def metrics(self, predictions: Predictions, config: Any) -> dict[str, float]:
        """Return `accuracy` and `macro_f1`, and as `majority_share` the accuracy of always answering the largest."""
        if self.labels is None:
            return {}
        scores = classification_metrics()(EvalPrediction(predictions, self.labels))
        return {**scores, "majority_share": max(Counter(self.labels.tolist()).values()) / len(self.labels)}

    def write(self, predictions: Predictions, config: Any, folder: Path) -> None:
        """Write `predictions.tsv` with the columns index and prediction."""
        lines = [f"{row}\t{self.label_names[label]}" for row, label in enumerate(np.argmax(predictions, axis=-1))]
        (folder / "predictions.tsv").write_text("\n".join(["index\tprediction", *lines, ""]), encoding="utf-8")


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

    def shape(self, splits: Mapping[str, Dataset], args: Any) -> TaskData:
        """Check texts and labels, see `shape_text_classification` and `shape_several_labels`."""
        if has_several_labels(splits, args):
            return shape_several_labels(splits, args)
        return shape_text_classification(splits, args)

    def classes(self, data: TaskData, rows: Dataset) -> Sequence[str] | None:
        """Return the name of every row's class; None where rows have several."""
        if isinstance(data, SeveralLabelsData):
            return None
        return [data.label_names[label] for label in rows["labels"][:]]

    def features(
        self, rows: Dataset, tokenizer: PreTrainedTokenizerBase, data: TaskData, args: Any, max_length: int | None
    ) -> Features:
        """Tokenize texts, see `tokenize_texts`."""
        kind = SeveralLabelsFeatures if isinstance(data, SeveralLabelsData) else ClassFeatures
        return kind(tokenize_texts(rows, tokenizer, max_length), data.label_names)

    def details(self, data: TaskData, args: Any, model: Any, max_length: int | None) -> dict[str, Any]:
        """Return the labels and, of a model that is read in a template, words and template."""
        found = {"Labels": ", ".join(data.label_names)}
        if (template := getattr(model.config, "template", None)) is not None:
            words = getattr(model.config, "label_words", None) or model.config.tree.class_words
            found |= {"Label words": ", ".join(words), "Template": f"`{template}`"}
        return found

    def usage(self, folder: str, model: Any) -> str:
        """Return the lines that load a classifier."""
        if is_adapter(model):
            return (
                "import dpt_peft\n\n"
                f'model = dpt_peft.AutoPeftModelForSequenceClassification.from_pretrained("{folder}")'
            )
        return (
            "import dpt_peft\nfrom transformers import pipeline\n\n"
            f'classify = pipeline("text-classification", model="{folder}")\nclassify("...")'
        )
