"""Classes in a hierarchy: a label column for every level, and the accuracy at every level."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from transformers import EvalPrediction

from dpt_peft.pretrained_heads.label_tree import LabelTree
from dpt_peft.tasks.data import load_splits, require_columns
from dpt_peft.tasks.text_classification import (
    TextClassificationArguments,
    TextClassificationData,
    classification_metrics,
    load_text_classification,
)


@dataclass
class HierarchicalClassificationArguments(TextClassificationArguments):
    """Data of a text classification task whose classes form a tree."""

    level_column_names: list[str] | None = field(
        default=None,
        metadata={
            "help": "Label columns from the top level down to the classes. Default: `label_column_name` alone, and "
            "the levels above are built from the label words."
        },
    )
    tree_words_file: str | None = field(
        default=None,
        metadata={
            "help": 'Json file with the words of the levels\' names: {"NUM": "number", "NUM:dist": "distance"}. '
            "Default: the names, with spaces for underscores."
        },
    )


@dataclass(frozen=True)
class HierarchicalClassificationData:
    """A data set whose classes form a tree.

    Attributes:
        texts: Texts and class ids, see `TextClassificationData`.
        tree: The tree; its classes are `texts.label_names`. None where no levels are given.
    """

    texts: TextClassificationData
    tree: LabelTree | None


def load_hierarchical_classification(args: HierarchicalClassificationArguments) -> HierarchicalClassificationData:
    """Loads a data set and reads the tree of its classes off the label columns.

    Args:
        args: Source and columns. With `level_column_names` the last of them is the label column.

    Returns:
        The data and the tree.

    Raises:
        ValueError: If the label columns do not make a tree (a class has two parents, say), the file of words names
            something that is not there, or what `load_text_classification` refuses.
    """
    if args.level_column_names is None:
        return HierarchicalClassificationData(load_text_classification(args), None)
    if len(args.level_column_names) < 2:
        raise ValueError("`level_column_names` names the label columns from the top down: at least two of them.")
    if args.class_names is not None:
        raise ValueError(
            "`class_names` is for labels in one column; with `level_column_names` the names are the data's."
        )
    texts = load_text_classification(replace(args, label_column_name=args.level_column_names[-1]))
    # All labels occur in the training data, so its rows are the table.
    train = load_splits(args)["train"]
    require_columns(
        train, "train", {f"level_column_names[{i}]": name for i, name in enumerate(args.level_column_names)}
    )
    table = train.select_columns(args.level_column_names)
    names = LabelTree.from_table(table, args.level_column_names, classes=texts.label_names).names
    words = {name: name.replace("_", " ") for name in names} | _read_words(args.tree_words_file, names)
    tree = LabelTree.from_table(table, args.level_column_names, label_words=words, classes=texts.label_names)
    return HierarchicalClassificationData(texts, tree)


def _read_words(file: str | None, names: list[str]) -> dict[str, str]:
    if file is None:
        return {}
    if not Path(file).is_file():
        raise FileNotFoundError(f"`tree_words_file`: there is no file {file!r}.")
    words = json.loads(Path(file).read_text(encoding="utf-8"))
    unknown = sorted(set(words) - set(names))
    if unknown:
        raise ValueError(f"`tree_words_file` has words for {', '.join(unknown)}, which the data does not have.")
    return words


def hierarchical_metrics(tree: LabelTree) -> Callable[[EvalPrediction], dict[str, float]]:
    """Makes the Trainer's `compute_metrics` for classes in a tree, whatever model predicts them.

    Args:
        tree: The tree; the logits' columns follow its classes.

    Returns:
        A function from `EvalPrediction` with logits `(n, classes)` and class ids `(n,)` to `accuracy` and `macro_f1`
        of the classes, and `accuracy_level_1` ... `accuracy_level_<depth - 1>`: how often the ancestor of the highest
        logit's class at that level is the right one. (Level 1 is the top; at the last level it is `accuracy`.)
    """
    flat = classification_metrics()
    levels = {f"accuracy_level_{level}": np.array(tree.level(level)) for level in range(1, tree.depth)}

    def compute(prediction: EvalPrediction) -> dict[str, float]:
        logits = prediction.predictions[0] if isinstance(prediction.predictions, tuple) else prediction.predictions
        predicted, right = np.argmax(logits, axis=-1), np.asarray(prediction.label_ids)
        return {
            **flat(prediction),
            **{name: float(np.mean(of[predicted] == of[right])) for name, of in levels.items()},
        }

    return compute
