"""What a task family is: one object that loads rows, chooses among them, tokenizes, measures and writes answers.

A family is a subclass of `Task` and one row in `dpt_peft.tasks.TASKS`. `dpt_peft.training.run` runs any of them with
any of its methods; a text passes `load` -> `select` -> `features` -> the model, and comes back by `Features`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from datasets import Dataset
from peft import PeftModel, TaskType
from transformers import DataCollatorWithPadding, PreTrainedTokenizerBase

from dpt_peft.pretrained_heads.base import evaluating, longest_row
from dpt_peft.tasks.data import DatasetArguments, as_cell, load_splits, load_tokenizer
from dpt_peft.tasks.heads import Head
from dpt_peft.tasks.sampling import SamplingArguments, select_rows

#: What the Trainer gathers of a split's rows: one array or a tuple of them, (rows, ...), in the order of the data set.
Predictions = np.ndarray | tuple[np.ndarray, ...]


@dataclass(frozen=True)
class TaskData:
    """A task's data in one shape, whatever its source. Families that know more of it add fields.

    Attributes:
        splits: Subset of "train", "validation" and "test", with the family's own columns.
        label_names: Names of the classes by id; none for families without classes.
        several_labels: Whether a row has any number of classes; `labels` are then zeros and ones, one a class.
    """

    splits: dict[str, Dataset]
    label_names: list[str] = field(default_factory=list)
    several_labels: bool = field(default=False, kw_only=True)


@dataclass(frozen=True)
class Features(ABC):
    """One split, ready for the model, and the way back from predictions to answers.

    Attributes:
        dataset: What the model takes, in the order of the data: the tokenizer's columns (not padded) and labels.
    """

    dataset: Dataset

    @property
    def labelled(self) -> bool:
        """Whether there are labels, so that something can be measured."""
        return "labels" in self.dataset.column_names

    def metrics(self, predictions: Predictions, config: Any) -> dict[str, float]:
        """Return the metrics of predictions by name; none where the split has no labels.

        Args:
            predictions: Of the rows of `dataset`.
            config: The model's config, which holds what reading the predictions needs (thresholds).
        """
        return self.measure(predictions, config) if self.labelled else {}

    @abstractmethod
    def measure(self, predictions: Predictions, config: Any) -> dict[str, float]:
        """Measure predictions of a split that has labels, see `metrics`."""

    @abstractmethod
    def write(self, predictions: Predictions, config: Any, folder: Path) -> None:
        """Write the answers that predictions stand for, one for every row that was read."""


def write_predictions(folder: Path, columns: Mapping[str, Iterable[Any]]) -> None:
    """Write `predictions.tsv`: the columns by name, a line a row. Tabs and line ends in a cell become blanks."""
    rows = zip(*columns.values(), strict=True)
    lines = ["\t".join(columns), *("\t".join(map(as_cell, row)) for row in rows), ""]
    (folder / "predictions.tsv").write_text("\n".join(lines), encoding="utf-8")


def predict_rows(
    model: Any, tokenizer: PreTrainedTokenizerBase, rows: Sequence[Mapping[str, Any]], batch_size: int
) -> list[np.ndarray]:
    """Run a model over tokenized rows, those of like length together, without gradients.

    Args:
        model: A model that scores tokens.
        tokenizer: Its tokenizer, which pads.
        rows: The tokenizer's columns of every row, not padded.
        batch_size: Rows a batch.

    Returns:
        The logits of every row, (its tokens, ...).
    """
    lengths = [len(row["input_ids"]) for row in rows]
    order = sorted(range(len(rows)), key=lengths.__getitem__)
    found: dict[int, np.ndarray] = {}
    with evaluating(model):
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            # on the right, whatever the tokenizer's side, so that tokens keep their places
            batch = tokenizer.pad([rows[row] for row in chosen], padding_side="right", return_tensors="pt")
            logits = model(**batch.to(model.device)).logits.float().cpu().numpy()
            found |= {row: values[: lengths[row]] for row, values in zip(chosen, logits, strict=True)}
    return [found[row] for row in range(len(rows))]


class Task(ABC):
    """A task family.

    Attributes:
        name: Its name in scripts, records and `dpt_peft.tasks.TASKS`.
        pipeline_tag: The Hub's name for it.
        task_type: PEFT's name for it; decides which modules are trained and saved as the head.
        arguments: A `DatasetArguments` of where data comes from and how it is read; its fields are command line
            arguments.
        sampling: Dataclass of how much of the data is used.
        heads: For each kind of base model that the family has, how to load it.
        prompts_as_tokens: Whether PEFT's prompt learning, whose prompts stand before the text as further tokens,
            works: labels by position (tokens, answers) would need to be moved along.
        cuts: Whether a text that is longer than a row is cut, so that what loads the model later has to cut it too.
        can_cache: Whether frozen lower layers can be cached (`dpt_peft.training.LowerLayerCache`): one row of tokens
            an example.
        default_length: Longest row where the arguments name none; None: as much as the model takes.
        names_argument: Name of the field of `arguments` that gives the classes where no training data does; None:
            none is needed, or none is enough.
    """

    name: ClassVar[str]
    pipeline_tag: ClassVar[str]
    task_type: ClassVar[TaskType]
    arguments: ClassVar[type[Any]]
    sampling: ClassVar[type[SamplingArguments]] = SamplingArguments
    heads: ClassVar[Mapping[str, Head]]
    prompts_as_tokens: ClassVar[bool] = False
    cuts: ClassVar[bool] = True
    can_cache: ClassVar[bool] = False
    default_length: ClassVar[int | None] = None
    names_argument: ClassVar[str | None] = None

    # --- data ---

    def load(self, args: Any) -> TaskData:
        """Load and check the data.

        Raises:
            ValueError: If the data is not what the arguments say; the message names the argument and the row.
            FileNotFoundError: If a file is missing.
        """
        return self.shape(load_splits(args), args)

    def shape(self, splits: Mapping[str, Dataset], args: Any) -> TaskData:
        """Check splits as they were loaded and bring them into the family's shape."""
        return self.shape_rows({split: rows.with_format(None) for split, rows in splits.items()}, args)

    @abstractmethod
    def shape_rows(self, splits: Mapping[str, Dataset], args: Any) -> TaskData:
        """Do what `shape` does, of splits whose values are Python's own."""

    def classes(self, data: TaskData, rows: Dataset) -> Sequence[Any] | None:
        """Return the class of every row, by which a training sample is drawn; None if rows are of no one class."""
        return None

    def groups(self, rows: Dataset) -> Sequence[Any] | None:
        """Return the group of every row, which is held out whole or not at all; None: there are none."""
        return None

    def labels(self, data: TaskData, rows: Dataset) -> Sequence[Collection[Any]] | None:
        """Return all labels of every row, none of which a sample should lose; None: its class is its label."""
        return None

    def select(self, data: TaskData, sampling: SamplingArguments) -> dict[str, Dataset]:
        """Draw the training sample and, where asked, hold out validation data.

        Raises:
            ValueError: If the sample cannot be drawn as asked; the message names the argument.
        """
        train = data.splits.get("train")
        if train is None:
            return select_rows(data.splits, sampling)
        is_sampled = sampling.train_fraction is not None or sampling.validation_size is not None
        labels = self.labels(data, train) if is_sampled else None
        return select_rows(data.splits, sampling, self.classes(data, train), self.groups(train), labels)

    #: Data arguments that only methods with label words have a use for.
    of_label_words: ClassVar[tuple[str, ...]] = ()

    def check(self, args: Any, splits: Mapping[str, Dataset]) -> None:  # noqa: B027 (may do nothing)
        """Raise a `ValueError` where arguments and the chosen splits do not fit together."""

    # --- model ---

    def load_tokenizer(self, path: str, **kwargs: Any) -> PreTrainedTokenizerBase:
        """Load the tokenizer as the family needs it; it reads special tokens that stand in texts as text."""
        return load_tokenizer(path, **kwargs)

    def longest_row(self, args: Any, tokenizer: PreTrainedTokenizerBase, model: Any) -> int:
        """Return the longest row in tokens that is asked for, or that the family and the model take.

        Raises:
            ValueError: If more is asked for than the model reads.
        """
        return longest_row(
            args.max_seq_length, tokenizer, model, default=self.default_length, argument="max_seq_length"
        )

    def settings(self, args: Any, config: Any) -> dict[str, Any]:
        """Return attributes to set in the loaded model's config, such as a threshold.

        A saved model's own value is kept unless the arguments give one.
        """
        return {}

    @abstractmethod
    def features(
        self, rows: Dataset, tokenizer: PreTrainedTokenizerBase, data: TaskData, args: Any, max_length: int
    ) -> Features:
        """Tokenize a split.

        Args:
            rows: A split of `data`, or some of its rows.
            tokenizer: From `load_tokenizer`.
            data: What `load` returned.
            args: The data arguments.
            max_length: Longest row in tokens, special tokens included.
        """

    def collator(self, tokenizer: PreTrainedTokenizerBase) -> Callable[[list[dict[str, Any]]], Any]:
        """Return what makes a batch of rows of `Features.dataset`."""
        return DataCollatorWithPadding(tokenizer)

    def reduce(self, logits: Any, labels: torch.Tensor) -> Any:
        """Reduce a batch's logits to what `Features` needs, before they are gathered."""
        return logits[0] if isinstance(logits, tuple) else logits

    # --- after training ---

    def tunes(self, args: Any) -> bool:
        """Return whether something is to be chosen on the validation data after training."""
        return False

    def tune(self, features: Features, predictions: Predictions, config: Any) -> dict[str, Any]:
        """Choose what reading predictions needs (a threshold) on validation data.

        Returns:
            Attributes for the model's config.
        """
        return {}

    def results(self, config: Any) -> dict[str, Any]:
        """Return what of the config a run's result holds beside the metrics, such as a tuned threshold."""
        return {}

    # --- model card ---

    def details(self, data: TaskData, args: DatasetArguments, model: Any, max_length: int) -> dict[str, Any]:
        """Return the family's lines for the table of the model card."""
        return {}

    @abstractmethod
    def usage(self, folder: str, model: Any, args: Any) -> str:
        """Return Python lines that load the saved model (or adapter) again and use it, read as `args` had it read."""


def is_adapter(model: Any) -> bool:
    """Return whether what is saved of a model is an adapter."""
    return isinstance(model, PeftModel)
