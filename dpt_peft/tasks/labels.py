"""Labels as users' files hold them: which are classes, which mean "no label", and in what order classes stand."""

from __future__ import annotations

import logging
import math
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from datasets import ClassLabel, Dataset, Features

from dpt_peft.tasks.data import is_missing

logger = logging.getLogger(__name__)

_WHOLE_NUMBER = re.compile(r"[+-]?[0-9]+")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


class SavedNames(list[str]):
    """Names of the classes that a trained model has: which classes there are, and not what numbers stand for.

    Args:
        names: The names by id.
        several: Whether a text has several classes.
        tree: The `LabelTree` of a model that searches one; else None.
    """

    def __init__(self, names: Iterable[str], *, several: bool = False, tree: Any = None) -> None:
        super().__init__(names)
        self.several = several
        self.tree = tree


@dataclass(frozen=True)
class Labels:
    """The classes of a data set and every row's class.

    Attributes:
        names: Names of the classes by id.
        ids: Class id of every row, by split; `None` where a split has no labels.
    """

    names: list[str]
    ids: dict[str, list[int] | None]


def read_labels(
    splits: Mapping[str, Dataset],
    column: str,
    class_names: list[str] | None,
    argument: str = "label_column_name",
    *,
    rows: Mapping[str, Sequence[int]] | None = None,
) -> Labels:
    """Find the classes of the training data, or those named, and give every row of every split its class id.

    A null, NaN or blank label is none, and so is -1, as the Hub writes it, unless `class_names` names it. The classes'
    order is that of `class_names`, else of the `ClassLabel`, else sorted: numbers by value, names by alphabet.

    Args:
        splits: The splits, "train" among them unless `class_names` is given. One without the column has no labels.
        column: Name of the column of labels.
        class_names: The classes as the data spells them; or names for labels that are numbers: of 0, 1, ..., or, with
            as many names as numbers, of numbers without a gap (1 to 5) or -1 and 1. False and True count as 0 and 1.
        argument: Name of the argument that names the column, for messages.
        rows: Row of every label by split, for messages, where a row has several. Default: every row has one.

    Returns:
        The classes and ids.

    Raises:
        ValueError: If a label is neither name nor whole number; if some rows of a split have no label (of train: any
            row); if there are fewer than two classes; if `class_names` does not fit; if two classes are equal but for
            blanks around them or Unicode form; if a validation or test label is no class of the training data.
    """
    if class_names is not None and len(set(class_names)) != len(class_names):
        raise ValueError(f"`class_names` names a class twice: {listed(class_names)}.")
    spelled = {
        split: _spell(
            dataset, column, split, set(class_names or ()), argument, rows[split] if rows else range(len(dataset))
        )
        for split, dataset in splits.items()
        if column in dataset.column_names
    }
    decisive = {"train"} & splits.keys() or spelled.keys()
    told = chain.from_iterable(spelled[split] for split in decisive)
    minus_one_is_a_class = _names_minus_one({key for key in told if key is not None}, class_names)
    keys = {
        split: [None if key == "-1" and not minus_one_is_a_class else key for key in values]
        for split, values in spelled.items()
    }
    for split, values in keys.items():
        minus_one = " If -1 is a class, spell all classes in `class_names`." if "-1" in spelled[split] else ""
        check_missing(values, split, column, minus_one)
    feature = next((splits[split].features[column] for split in decisive), None)
    present = chain.from_iterable(keys[split] for split in decisive)
    names, ids = _classes({key for key in present if key is not None}, feature, class_names)
    check_alike(set(chain.from_iterable(keys.values())) - {None, *(class_names or ())}, column, argument)
    if len(names) < 2:
        raise ValueError(f"The train data has only one label: {listed(names)}.")
    for split, values in keys.items():
        unknown = sorted({key for key in values if key is not None and key not in ids})
        if unknown:
            raise ValueError(
                f"The {split} data has labels that the train data does not have: {listed(unknown)}. "
                f"Labels of the train data: {listed(ids)}."
            )
    return Labels(
        names,
        {
            split: None if None in keys.get(split, [None]) else [ids[key] for key in keys[split] if key is not None]
            for split in splits
        },
    )


def read_label_lists(
    splits: Mapping[str, Dataset], column: str, class_names: list[str] | None, separator: str | None
) -> tuple[list[str], dict[str, list[list[int]] | None]]:
    """Give every row of every split its class ids, of which there may be any number.

    A row holds a list of labels (as `read_labels` reads them), or a zero or one for each class; as a list, or in one
    cell with something between. An empty list, or cell, is a text of no class; but a split all of whose rows are empty
    or null, or hold nothing but -1, has no labels.

    Args:
        splits: The splits, "train" among them unless `class_names` is given. One without the column has no labels.
        column: Name of the column of labels.
        class_names: As of `read_labels`; of zeros and ones, the names in their order.
        separator: What stands between the labels of a cell.

    Returns:
        Names of the classes, and the ids of every row's classes, by split; `None` where a split has no labels.

    Raises:
        ValueError: If a row has no list, or nulls in it; if rows of zeros and ones are of other lengths than there are
            classes, or have no names; or what `read_labels` refuses.
    """
    if separator is not None and not separator:
        raise ValueError("`label_separator` must be what stands between the labels of a cell, got ''.")
    lists = {
        split: [_label_list(value, separator, f"row {row} of the {split} data") for row, value in enumerate(values)]
        for split, rows in splits.items()
        if column in rows.column_names and not _are_no_labels(values := rows[column][:], split)
    }
    decisive = "train" if "train" in lists else next(iter(lists), None)
    told = [] if decisive is None else lists[decisive]
    inner = None if decisive is None else getattr(splits[decisive].features[column], "feature", None)
    names, width = list(class_names or ()), len(told[0]) if told else 0
    # [0, 1] in each row with three names are numbers of the first two classes
    numbers = len(names) > width and all(len(set(row)) == width for row in told)
    if not isinstance(inner, ClassLabel) and not numbers and _are_flags(told, width):
        return _named_flags(lists, splits, column, names, width)
    for split, rows in lists.items():
        hidden = next((row for row, labels in enumerate(rows) if -1 in map(whole_number, labels)), None)
        if hidden is not None and "-1" not in names:
            raise ValueError(
                f"`label_column_name`: row {hidden} of the {split} data has -1, which means no label, beside rows "
                "that have some. If -1 is a class, spell all classes in `class_names`."
            )
    rows_of = {split: [row for row, labels in enumerate(rows) for _ in labels] for split, rows in lists.items()}
    flat = {split: _flat(splits[split], column, lists.get(split)) for split in splits}
    labels = read_labels(flat, column, class_names, rows=rows_of)
    ids: dict[str, list[list[int]] | None] = dict.fromkeys(splits)
    for split, rows in lists.items():
        of_all = iter(labels.ids[split] or ())
        ids[split] = [[next(of_all) for _ in row] for row in rows]
    return labels.names, ids


def _are_no_labels(values: Sequence[Any], split: str) -> bool:
    """Return whether a split is one to predict: all its rows are empty, or nothing but -1."""
    return split != "train" and all(
        is_missing(value)
        or (isinstance(value, str) and value.strip() in ("", "-1"))
        or (isinstance(value, list) and all(is_missing(each) or whole_number(each) == -1 for each in value))
        for value in values
    )


#: A list (tuple, set) as `str` writes it, and pandas in a csv: of texts, of numbers, or empty.
_WRITTEN_LIST = re.compile(r"""[\[({](['"].*['"],?)[\])}]|\[([-+\d.,\s]*\d[-+\d.,\s]*)?\]""", re.S)


def check_no_list(value: object, where: str) -> None:
    """Refuse a text that is a list, such as "['a', 'b']": pandas writes lists so into a csv.

    Raises:
        ValueError: If it is one.
    """
    if isinstance(value, str) and _WRITTEN_LIST.fullmatch(value.strip()):
        raise ValueError(
            f"{where} has the text {value!r}, which was a list once. Write json, or the labels with something between "
            "them and `label_separator`."
        )


def _label_list(value: Any, separator: str | None, where: str) -> list[Any]:
    check_no_list(value, f"`label_column_name`: {where}")
    if separator is not None and isinstance(value, list):
        raise ValueError(f"`label_separator` divides cells, but {where} has a list already, {value!r}; leave it out.")
    if separator is not None and is_missing(value):
        return []
    if separator is not None and isinstance(value, str):
        return [part.strip() for part in value.split(separator) if part.strip()]
    blank = isinstance(value, list) and any(
        is_missing(label) or (isinstance(label, str) and not label.strip()) for label in value
    )
    if not isinstance(value, list) or blank:
        raise ValueError(f"`label_column_name`: {where} must hold a list of labels, got {value!r}.")
    return value


def _are_flags(rows: Sequence[Sequence[Any]], width: int) -> bool:
    return width > 1 and all(
        len(row) == width and {whole_number(_as_int(flag)) for flag in row} <= {0, 1} for row in rows
    )


def _as_int(value: Any) -> Any:
    return int(value) if isinstance(value, bool) else value


def _named_flags(
    lists: Mapping[str, Sequence[Sequence[Any]]],
    splits: Mapping[str, Dataset],
    column: str,
    names: list[str],
    width: int,
) -> tuple[list[str], dict[str, list[list[int]] | None]]:
    if len(names) != width or len(set(names)) != width:
        raise ValueError(
            f"`class_names`: the rows of column {column!r} are {width} zeros and ones each, so they need the names of "
            f"{width} classes, in that order; got {names or None}."
        )
    ids: dict[str, list[list[int]] | None] = dict.fromkeys(splits)
    for split, rows in lists.items():
        for number, row in enumerate(rows):
            if not _are_flags([row], width):
                raise ValueError(
                    f"`label_column_name`: row {number} of the {split} data must hold {width} zeros and ones, got "
                    f"{row!r}."
                )
        ids[split] = [[place for place, flag in enumerate(row) if whole_number(_as_int(flag))] for row in rows]
    return names, ids


def _flat(rows: Dataset, column: str, lists: Sequence[Sequence[Any]] | None) -> Dataset:
    """Return a split with a row a label, or without the column where it has no labels."""
    if lists is None:
        return Dataset.from_dict({})
    feature = getattr(rows.features[column], "feature", None)
    values = list(chain.from_iterable(lists))
    if isinstance(feature, ClassLabel):
        return Dataset.from_dict({column: values}, features=Features({column: feature}))
    return Dataset.from_dict({column: values if len({*map(type, values)}) == 1 else list(map(str, values))})


def check_missing(
    labels: Sequence[object], split: str, column: str, way_round: str = "", counted: str = "-1 and empty"
) -> None:
    """Refuse a split of which some rows have no label (`None`), and training data of which any row has none.

    Args:
        labels: The rows' labels.
        split: Name of the split, for the message.
        column: Name of the column, for the message.
        way_round: Last sentence of the message.
        counted: What counts as no label, for the message.

    Raises:
        ValueError: If so.
    """
    without = [row for row, label in enumerate(labels) if label is None]
    if without and (split == "train" or len(without) < len(labels)):
        raise ValueError(
            f"{len(without)} of {len(labels)} rows of the {split} data have no label in column {column!r} "
            f"({counted} count as none); the first is row {without[0]}, counted from 0.{way_round}"
        )


def names_by_number(own: Sequence[str], given: Sequence[str] | None, argument: str) -> list[str]:
    """Return what the numbers of a `ClassLabel` are called: as it says, unless others are given.

    Args:
        own: The names of the `ClassLabel`.
        given: Other names, by number. The same ones in another order are an order, and rename nothing.
        argument: Name of the argument that gives them, for messages.

    Raises:
        ValueError: If there are more or fewer, or one class would get the name that another one has in the data.
    """
    if given is None or set(given) == set(own):
        return list(own)
    if len(given) != len(own):
        raise ValueError(f"`{argument}` has {len(given)} names, but the data has {len(own)} classes: {listed(own)}.")
    moved = [name for name, place in zip(given, own, strict=True) if name in own and name != place]
    if moved:
        raise ValueError(
            f"`{argument}` would give to other classes names that classes of the data have: {listed(moved)}. The data "
            f"has {listed(own)}: give all of these names in another order, or new ones in this order."
        )
    return list(given)


def number(value: object) -> float | None:
    """Return a value as a number: 3, 0.5, "3" and " 1e-3 " are; `None` for anything else, True, NaN and 1e999 too."""
    text = str(value).strip()
    found = float(text) if not isinstance(value, bool) and _NUMBER.fullmatch(text) else math.nan
    return found if math.isfinite(found) else None


def whole_number(value: object) -> int | None:
    """Return a label as a whole number: 3, 3.0, "3" and " 3.0" are 3; `None` for anything else, True and "²" too."""
    found = number(value)
    if found is None or not found.is_integer():
        return None
    text = str(value).strip()
    return int(text) if _WHOLE_NUMBER.fullmatch(text) else int(found)


def listed(names: Iterable[str]) -> str:
    """Join names for a message, so that blanks around a name and its Unicode form can be seen."""

    def show(name: str) -> str:
        if name != name.strip() or not name:
            return repr(name)
        return name if name == _bare(name) else ascii(name)

    return ", ".join(map(show, names))


def names_of_ids(feature: ClassLabel, ids: Sequence[int | None]) -> list[str | None]:
    """Return the names that a `ClassLabel` gives to ids; None for those below zero: the Hub writes -1 for none."""
    return [None if value is None or value < 0 else feature.int2str(value) for value in ids]


def _spell(
    dataset: Dataset, column: str, split: str, named: set[str], argument: str, rows: Sequence[int]
) -> list[str | None]:
    """Return a split's labels as strings ("3" for 3 and 3.0), None where there is none."""
    feature, values = dataset.features[column], dataset[column][:]
    if isinstance(feature, ClassLabel):
        return names_of_ids(feature, values)
    keys: list[str | None] = []
    for row, value in zip(rows, values, strict=True):
        if is_missing(value) or (isinstance(value, str) and not value.strip()):
            keys.append(None)
            continue
        check_no_list(value, f"`{argument}`: row {row} of the {split} data")
        key, whole = str(value), whole_number(value)
        if isinstance(value, float) and whole is not None and key not in named:
            key = str(whole)
        broken = whole is None and number(value) is not None and key not in named
        if broken or not isinstance(value, (str, int, float)):  # bool is an int
            raise ValueError(
                f"`{argument}`: labels must be names or whole numbers, but row {row} of the {split} data has "
                f"{value!r} in column {column!r}. If these are classes, spell all of them in `class_names`."
            )
        keys.append(key)
    return keys


def _can_be_named(values: Sequence[int], count: int) -> bool:
    """Return whether sorted numbers that do not begin at 0 can be meant by so many names: 1 to 5, say, or -1 and 1."""
    return len(values) == count and (values[-1] - values[0] == count - 1 or list(values) == [-1, 1])


def _names_minus_one(keys: set[str], class_names: list[str] | None) -> bool:
    numbers = {whole_number(key) for key in keys}
    values = sorted(value for value in numbers if value is not None)
    named = -1 in numbers and None not in numbers and _can_be_named(values, len(class_names or ()))
    return "-1" in (class_names or ()) or named


def _classes(present: set[str], feature: object, class_names: list[str] | None) -> tuple[list[str], dict[str, int]]:
    """Return the classes' names by id, and the id of every label as the data spells it."""
    if isinstance(class_names, SavedNames):
        if unknown := sorted(present - set(class_names)):
            raise ValueError(
                f"The data has labels that are none of the model's classes: {listed(unknown)}. "
                f"Its classes are {listed(class_names)}; if the labels stand for these, say how in `class_names`."
            )
        return class_names, {name: place for place, name in enumerate(class_names)}
    if isinstance(feature, ClassLabel):
        names = names_by_number(feature.names, class_names, "class_names")
        order = class_names or names
        return order, {own: order.index(name) for own, name in zip(feature.names, names, strict=True)}
    truth_values = {"False": 0, "True": 1} if getattr(feature, "dtype", None) == "bool" else {}
    numbers = {key: truth_values.get(key, whole_number(key)) for key in present}
    values = sorted({value for value in numbers.values() if value is not None})
    if class_names is None:
        by_value = None not in numbers.values()
        classes = sorted(present, key=lambda key: (numbers[key] if by_value else 0, key))
        return classes, {name: place for place, name in enumerate(classes)}
    if present <= set(class_names):
        return class_names, {name: place for place, name in enumerate(class_names)}
    if None in numbers.values():
        raise ValueError(f"`class_names` does not name the labels {listed(sorted(present - set(class_names)))}.")
    named = [value for name in class_names if (value := whole_number(name)) is not None]
    if set(values) <= set(named) and len(named) == len(class_names):  # "01" for 1
        values = named
    elif values[0] >= 0 and values[-1] < len(class_names):
        values = list(range(len(class_names)))
    elif not _can_be_named(values, len(class_names)):
        raise ValueError(
            f"`class_names` names the labels 0 to {len(class_names) - 1}, but the data has the label "
            f"{values[0] if values[0] < 0 else values[-1]}. Spell the labels as the data does: "
            f"{', '.join(map(str, values))}."
        )
    ids = {value: place for place, value in enumerate(values)}
    of_values = {} if truth_values else {str(value): place for value, place in ids.items()}
    by_name = {name: place for place, name in enumerate(class_names)}  # another split may have the names themselves
    return class_names, by_name | of_values | {key: ids[value] for key, value in numbers.items() if value is not None}


def _bare(name: str) -> str:
    return unicodedata.normalize("NFC", name.strip())


#: Truth values beside numbers, as in a column of which one file has true and another one 1.
_TRUTH = {"false": 0, "true": 1}


def check_alike(keys: set[str | None], column: str, argument: str) -> None:
    """Refuse labels that are one class written in two ways; warn of those that may be."""
    same: dict[str, list[str]] = defaultdict(list)
    similar: dict[str, list[str]] = defaultdict(list)
    for key in sorted(filter(None, keys)):
        same[_bare(key)].append(key)
        whole = whole_number(_TRUTH.get(_bare(key).casefold(), key))
        similar[_bare(key).casefold() if whole is None else str(whole)].append(key)
    twice = [keys for keys in same.values() if len(keys) > 1]
    way = "; if they are meant as different classes, name all classes in `class_names`" * (
        not argument.startswith("level")
    )
    if twice:
        raise ValueError(
            f"`{argument}`: column {column!r} has labels that differ only in blanks around them or in Unicode "
            f"form: {'; '.join(map(listed, twice))}. Spell them alike{way}."
        )
    close = [keys for keys in similar.values() if len(keys) > 1]
    if close:
        logger.warning("Column %r has labels that look alike: %s", column, "; ".join(map(listed, close)))
