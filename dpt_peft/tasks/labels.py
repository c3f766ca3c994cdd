"""Labels as users' files hold them: which are classes, which mean "no label", and in what order classes stand."""

from __future__ import annotations

import logging
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from datasets import ClassLabel, Dataset

from dpt_peft.tasks.data import is_missing

logger = logging.getLogger(__name__)

_WHOLE_NUMBER = re.compile(r"[+-]?[0-9]+")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


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
        split: _spell(rows, column, split, set(class_names or ()), argument)
        for split, rows in splits.items()
        if column in rows.column_names
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
    _check_alike(set(chain.from_iterable(keys.values())) - {None, *(class_names or ())}, column, argument)
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
    """Return a value as a number: 3, 0.5, "3" and " 1e-3 " are; `None` for anything else, True and NaN too."""
    text = str(value).strip()
    return float(text) if not isinstance(value, bool) and _NUMBER.fullmatch(text) else None


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


def _spell(dataset: Dataset, column: str, split: str, named: set[str], argument: str) -> list[str | None]:
    """Return a split's labels as strings ("3" for 3 and 3.0), None where there is none."""
    feature, values = dataset.features[column], dataset[column][:]
    if isinstance(feature, ClassLabel):
        return [None if value is None or value < 0 else feature.int2str(value) for value in values]
    keys: list[str | None] = []
    for row, value in enumerate(values):
        if is_missing(value) or (isinstance(value, str) and not value.strip()):
            keys.append(None)
            continue
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
    return class_names, of_values | {key: ids[value] for key, value in numbers.items() if value is not None}


def _bare(name: str) -> str:
    return unicodedata.normalize("NFC", name.strip())


def _check_alike(keys: set[str | None], column: str, argument: str) -> None:
    """Refuse labels that are one class written in two ways; warn of those that may be."""
    same: dict[str, list[str]] = defaultdict(list)
    similar: dict[str, list[str]] = defaultdict(list)
    for key in sorted(filter(None, keys)):
        same[_bare(key)].append(key)
        similar[str(whole_number(key)) if whole_number(key) is not None else _bare(key).casefold()].append(key)
    twice = [keys for keys in same.values() if len(keys) > 1]
    if twice:
        raise ValueError(
            f"`{argument}`: column {column!r} has labels that differ only in blanks around them or in Unicode "
            f"form: {'; '.join(map(listed, twice))}. Spell them alike; if they are meant as different classes, name "
            "all classes in `class_names`."
        )
    close = [keys for keys in similar.values() if len(keys) > 1]
    if close:
        logger.warning("Column %r has labels that look alike: %s", column, "; ".join(map(listed, close)))
