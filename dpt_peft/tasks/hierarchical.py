"""Classes in a hierarchy: a label column for every level, an accuracy for each, and models that search a tree."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from datasets import ClassLabel, Dataset
from transformers import AutoModelForSequenceClassification, PreTrainedModel, PreTrainedTokenizerBase
from transformers.hf_argparser import HfArg

from dpt_peft.pretrained_heads import DPTForHierarchicalClassification, DPTForSequenceClassificationConfig, LabelTree
from dpt_peft.pretrained_heads.base import hub_arguments
from dpt_peft.pretrained_heads.label_tree import name_of_cell
from dpt_peft.tasks.base import Predictions, TaskData
from dpt_peft.tasks.data import check_columns, decode, is_missing, no_key_twice, refuse_given
from dpt_peft.tasks.heads import (
    DISCRIMINATOR,
    NEW_HEAD,
    DPTOptions,
    Head,
    label_words_of,
    load_dpt_classifier,
    new_head,
    saved_wrapper,
)
from dpt_peft.tasks.labels import SavedNames, check_alike, listed, names_of_ids
from dpt_peft.tasks.text_classification import (
    ClassFeatures,
    TextClassification,
    TextClassificationArguments,
    shape_text_classification,
    tokenize_texts,
)

logger = logging.getLogger(__name__)


@dataclass
class HierarchicalClassificationArguments(TextClassificationArguments):
    """Data of a text classification task whose classes form a tree."""

    level_column_names: list[str] | None = HfArg(
        default=None,
        help="Label columns from the top level down to the classes. Default: `label_column_name` alone, and "
        "the levels above are built from the label words.",
    )
    tree_words_file: str | None = HfArg(
        default=None,
        help='Json file with the words of the levels\' names: {"NUM": "number", "NUM:dist": "distance"}. '
        "Default: the names, with spaces for underscores.",
    )


@dataclass(frozen=True)
class HierarchicalData(TaskData):
    """A data set whose classes form a tree.

    Attributes:
        tree: The tree; its classes are `label_names`. None where no levels are given.
        has_words: Whether a file gives words to the tree's names.
        is_settled: Whether these are rows alone, with the classes of a trained model.
    """

    tree: LabelTree | None = None
    has_words: bool = False
    is_settled: bool = False


def _read_words(file: str | None, names: list[str]) -> dict[str, str]:
    if file is None:
        return {}
    if not Path(file).is_file():
        raise FileNotFoundError(f"`tree_words_file`: there is no file {file!r}.")
    try:
        words = json.loads(decode(Path(file).read_bytes()), object_pairs_hook=no_key_twice)
    except ValueError as error:
        raise ValueError(f"`tree_words_file`: {file!r} cannot be read as json: {error}") from error
    if not isinstance(words, dict) or not all(isinstance(word, str) for word in words.values()):
        raise ValueError(f"`tree_words_file` must hold one object of words by name, got {str(words)[:80]}.")
    unknown = sorted(set(words) - set(names))
    if unknown:
        raise ValueError(f"`tree_words_file` has words for {', '.join(unknown)}, which the data does not have.")
    return words


def _check_levels(train: Dataset, columns: list[str], classes: list[str]) -> None:
    """Refuse rows without a name at a level above the classes, and classes without a row to give them a place."""
    for level, column in enumerate(columns[:-1]):
        of_names = isinstance(train.features[column], ClassLabel)
        for row, name in enumerate(train[column][:]):
            if is_missing(name) or (isinstance(name, str) and not name.strip()) or (of_names and name < 0):
                raise ValueError(
                    f"`level_column_names[{level}]`: row {row} of the train data has no name in column {column!r}, "
                    f"but {name!r}; every level above a class needs one."
                )
        check_alike({*_names(train, column)}, column, f"level_column_names[{level}]")
    feature = train.features[columns[-1]]
    if isinstance(feature, ClassLabel):
        there = {feature.int2str(label) for label in set(train[columns[-1]][:])}
        absent = [name for name in classes if name not in there]
        if absent:
            raise ValueError(
                f"`level_column_names[{len(columns) - 1}]`: column {columns[-1]!r} has the classes {listed(absent)}, "
                "of which the train data has no row, so that their place in the tree is not known. Give each a row, "
                "or save the data as json lines with the names in place of the `ClassLabel`."
            )


def _tree_of_rows(
    splits: Mapping[str, Dataset], columns: list[str], texts: TaskData, tree: LabelTree | None
) -> LabelTree | None:
    """Return a trained model's tree if the levels in the rows are its levels; else None: they cannot be measured.

    Args:
        splits: The rows as loaded.
        columns: The columns of the levels from the top down, the classes last.
        texts: The same rows with their class ids.
        tree: The model's tree, if it has one.
    """
    paths = {} if tree is None else {name: list(tree.path(name)[:-1]) for name in tree.classes}
    for split, dataset in splits.items():
        shaped = texts.splits[split]
        if "labels" not in shaped.column_names:
            continue
        classes = [texts.label_names[label] for label in shaped["labels"][:]]
        above = [_names(dataset, column) for column in columns[:-1] if column in dataset.column_names]
        rows = zip(*above, strict=True) if above else [()] * len(classes)
        if any(paths.get(name) != list(row) for name, row in zip(classes, rows, strict=True)):
            logger.warning(
                "Only the classes themselves are measured: the rows do not have all of the levels %s, or the model "
                "has no tree with these levels.",
                ", ".join(columns),
            )
            return None
    return tree


def _names(dataset: Dataset, column: str) -> list[str | None]:
    """Return a column of names above the classes."""
    feature, values = dataset.features[column], dataset[column][:]
    return names_of_ids(feature, values) if isinstance(feature, ClassLabel) else list(map(name_of_cell, values))


@dataclass
class HierarchyOptions(DPTOptions):
    """How a discriminator uses the hierarchy."""

    label_hierarchy: Literal["auto", "given", "built", "none"] = HfArg(
        default="auto",
        help="'given' by the label columns, 'built' of the label words, or 'none': all classes in one "
        "template. Default: given if there are level columns, else built; without training data what the trained "
        "classifier has.",
    )
    max_children: int = HfArg(default=16, help="Most names below a branch of a built hierarchy.")
    beam_width: int | None = HfArg(
        default=None, help="Branches followed at a level. Default: a saved classifier's own, else 2."
    )
    beam_threshold: float | None = HfArg(
        default=None,
        help="A branch is followed if it has this share of the best one's score (0 to 1). Default: a saved "
        "classifier's own, else 0.3.",
    )


def _saved_tree(path: str, data: TaskData, arguments: Mapping[str, Any]) -> LabelTree | None:
    """Return the tree of a saved classifier of the same classes, unless the data has another one, or words for it."""
    saved = getattr(saved_wrapper(path, data.label_names, arguments), "tree", None)
    if saved is None or getattr(data, "has_words", False):
        return None
    given = getattr(data, "tree", None) or saved
    same = all(saved.path(name) == given.path(name) for name in data.label_names)
    return LabelTree(saved.root.children, data.label_names) if same else None


def _settled_hierarchy(
    path: str, data: TaskData, options: HierarchyOptions, arguments: Mapping[str, Any]
) -> tuple[str, LabelTree | None]:
    """Return kind and tree of a trained classifier that reads rows alone, where nothing is left to be chosen.

    Raises:
        ValueError: If an option would change what was settled when it was trained, or asks for a tree that it lacks.
    """
    saved, default = saved_wrapper(path, data.label_names, arguments), HierarchyOptions()
    kind = options.label_hierarchy
    tree = getattr(saved, "tree", None)
    if tree is not None and kind != "none":
        for name in ("label_words", "max_children"):
            if getattr(options, name) != getattr(default, name):
                raise ValueError(f"`{name}` was settled when {path!r} was trained: leave it out.")
        return "given", LabelTree(tree.root.children, data.label_names)
    if kind == "given":
        raise ValueError(f"`label_hierarchy` is 'given', but {path!r} has no tree, and rows alone give none.")
    if kind == "auto" and isinstance(saved, DPTForSequenceClassificationConfig):
        for name in ("max_children", "beam_width", "beam_threshold"):
            if getattr(options, name) != getattr(default, name):
                raise ValueError(
                    f"`{name}` is for a hierarchy, but {path!r} has all classes in one template. Leave it out, or set "
                    "`label_hierarchy` to 'built' for a tree of their words."
                )
        return "none", None
    return kind, None


def _check_options(options: HierarchyOptions, kind: str) -> None:
    """Refuse an option that would have no effect on a hierarchy of this kind."""
    of_template = ("score_function", "template_preset", "classes_per_pass", "calibrate", "prototypes", "short_list")
    reasons = dict.fromkeys(of_template, "it is for all classes in one template (`label_hierarchy` 'none')")
    if kind == "none":
        of_tree = ("max_children", "beam_width", "beam_threshold")
        reasons = dict.fromkeys(of_tree, "it is for a hierarchy, but `label_hierarchy` is 'none'")
    elif kind == "given":
        reasons["max_children"] = "it is for a hierarchy that is built (`label_hierarchy` 'built')"
        reasons["label_words"] = "words for the names of given levels are in `tree_words_file`"
    for name, reason in reasons.items():
        if getattr(options, name) != getattr(HierarchyOptions(), name):
            raise ValueError(f"`{name}` has no use here: {reason}.")


def load_hierarchical(path: str, data: TaskData, options: HierarchyOptions, **kwargs: Any) -> PreTrainedModel:
    """Load a discriminator that searches the tree of the classes, or has all of them in one template (`Head.load`).

    Raises:
        ValueError: If there is no such hierarchy, or an option is of no use with it.
    """
    kind: str = options.label_hierarchy
    tree = getattr(data, "tree", None)
    builds = options.label_words is not None or options.max_children != HierarchyOptions().max_children
    if getattr(data, "is_settled", False):
        kind, tree = _settled_hierarchy(path, data, options, kwargs)
    elif kind == "given" or (kind == "auto" and not builds):
        tree = _saved_tree(path, data, kwargs) or tree
    if kind == "auto":
        kind = "built" if tree is None else "given"
    if kind == "given" and tree is None:
        raise ValueError("`label_hierarchy` is 'given', but there are no `level_column_names` that give one.")
    _check_options(options, kind)
    words = options.label_words
    saved = saved_wrapper(path, data.label_names, kwargs) if kind == "none" else None
    own_words = getattr(saved, "label_words", None) and not getattr(data, "has_words", False)
    if words is None and tree is not None and not own_words:
        # All classes in one template, or a hierarchy built of them, take the same words.
        words = tree.class_words
    if kind == "none":
        return load_dpt_classifier(path, data, replace(options, label_words=words), **kwargs)
    if kind == "built" or tree is None:
        words = label_words_of(path, data, words, kwargs)
        where = hub_arguments(kwargs)
        tree = LabelTree.from_label_words(words, path, max_children=options.max_children, **where)
        tree = tree.rename_classes(dict(zip(words, data.label_names, strict=True)))
    chosen = {name: getattr(options, name) for name in ("template", "wordpieces", "beam_width", "beam_threshold")}
    given = {name: value for name, value in chosen.items() if value is not None}
    return DPTForHierarchicalClassification.from_pretrained(path, label_tree=tree, **given, **kwargs)


@dataclass(frozen=True)
class HierarchicalFeatures(ClassFeatures):
    """Rows of classes in a tree, whatever model predicts them.

    Attributes:
        tree: The tree; the logits' columns follow its classes.
    """

    tree: LabelTree

    def measure(self, predictions: Predictions, config: Any) -> dict[str, float]:
        """Return the metrics of the classes, and the accuracy of every level above them.

        Returns:
            Those of `ClassFeatures`, and `accuracy_level_1` ... `accuracy_level_<depth - 1>`: how often the ancestor
            of the highest logit's class at that level is the right one. (Level 1 is the top; at the last level it is
            `accuracy`.)
        """
        predicted = np.argmax(predictions, axis=-1)
        ancestors = {level: np.array(self.tree.level(level)) for level in range(1, self.tree.depth)}
        return {
            **super().measure(predictions, config),
            **{
                f"accuracy_level_{level}": float(np.mean(of[predicted] == of[self.labels]))
                for level, of in ancestors.items()
            },
        }


class HierarchicalClassification(TextClassification):
    """One class of a tree for every text."""

    name = "hierarchical-classification"
    arguments = HierarchicalClassificationArguments
    of_label_words = ("tree_words_file",)
    heads: ClassVar[Mapping[str, Head]] = {
        NEW_HEAD: new_head(AutoModelForSequenceClassification),
        DISCRIMINATOR: Head(load_hierarchical, HierarchyOptions),
    }

    def shape_rows(self, splits: Mapping[str, Dataset], args: HierarchicalClassificationArguments) -> HierarchicalData:
        """Check splits of texts and labels, and read the tree of the classes off the label columns.

        Rows without training data get the classes and the tree of the trained model (`SavedNames`).

        Args:
            splits: As loaded.
            args: Columns. With `level_column_names` the last of them is the label column; `class_names`, which only
                numbers such as 1.1 need, are then its classes as the data spells them, in the order they shall have.

        Raises:
            ValueError: If the label columns do not make a tree (a class has two parents, a row has a gap, no row has a
                class, say), the file of words cannot be read, names something that is not there, or comes without
                levels, there is a `label_separator`, or what `shape_text_classification` refuses.
            FileNotFoundError: If there is no such file of words.
        """
        saved = args.class_names if isinstance(args.class_names, SavedNames) else None
        if "train" not in splits and args.class_names is None:
            raise ValueError(
                "There is no training data, whose labels are the classes of the tree: give `train_file`, or a "
                "`dataset_name` with a training split; with `test_file` alone, a trained model, or the classes in "
                "their order as `class_names`."
            )
        if saved is not None and saved.several:
            raise ValueError(
                "`model_name_or_path` was trained to give a text several labels; in a hierarchy every text has one "
                "class. Take the family 'text-classification'."
            )
        if args.label_separator is not None:
            raise ValueError(
                "`label_separator` is for texts with several labels; in a hierarchy every text has one class. Leave "
                "it out, or take the family 'text-classification'."
            )
        if args.level_column_names is None and args.tree_words_file is not None:
            raise ValueError("`tree_words_file` is for the names of `level_column_names`, which are missing.")
        if args.level_column_names is None:
            flat = shape_text_classification(splits, args)
            return HierarchicalData(flat.splits, flat.label_names, is_settled=saved is not None)
        if len(set(args.level_column_names)) < max(2, len(args.level_column_names)):
            raise ValueError(
                "`level_column_names` names the label columns from the top down: at least two of them, each once; got "
                f"{', '.join(args.level_column_names)}."
            )
        if args.label_column_name != args.level_column_names[-1]:
            refuse_given(args, ["label_column_name"], "must be the last of `level_column_names`, or left out")
        texts = shape_text_classification(splits, replace(args, label_column_name=args.level_column_names[-1]))
        if saved is not None:
            if args.tree_words_file is not None:
                raise ValueError("`tree_words_file`: the words were settled when the model was trained; leave it out.")
            tree = _tree_of_rows(splits, args.level_column_names, texts, saved.tree)
            return HierarchicalData(texts.splits, texts.label_names, tree, is_settled=True)
        if "train" not in splits:
            raise ValueError("`level_column_names` needs training data, whose rows are the tree, or a trained model.")
        # All labels occur in the training data, so its rows are the table.
        train = splits["train"]
        levels = {f"level_column_names[{i}]": name for i, name in enumerate(args.level_column_names)}
        check_columns(train, "train", levels, {})
        _check_levels(train, args.level_column_names, texts.label_names)
        table = train.select_columns(args.level_column_names)
        if args.class_names is not None:
            there = LabelTree.from_table(table, args.level_column_names).classes
            if renamed := [name for name in args.class_names if name not in there]:
                raise ValueError(
                    "`class_names` with `level_column_names` are the classes as the last column spells them, each "
                    f"with a row; the train data has none of {listed(renamed)}."
                )
        names = LabelTree.from_table(table, args.level_column_names, classes=texts.label_names).names
        words = {name: name.replace("_", " ") for name in names} | _read_words(args.tree_words_file, names)
        tree = LabelTree.from_table(table, args.level_column_names, label_words=words, classes=texts.label_names)
        return HierarchicalData(texts.splits, texts.label_names, tree, has_words=args.tree_words_file is not None)

    def features(
        self, rows: Dataset, tokenizer: PreTrainedTokenizerBase, data: TaskData, args: Any, max_length: int
    ) -> HierarchicalFeatures:
        """Tokenize texts, see `tokenize_texts`."""
        assert isinstance(data, HierarchicalData)
        tree = data.tree or LabelTree.from_nested(data.label_names)
        return HierarchicalFeatures(tokenize_texts(rows, tokenizer, max_length), data.label_names, tree)
