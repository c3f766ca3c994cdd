"""Which rows of a data set are trained on, held out and measured on."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from datasets import Dataset
from transformers.hf_argparser import HfArg

from dpt_peft.tasks.data import is_missing

logger = logging.getLogger(__name__)


@dataclass
class SamplingArguments:
    """How much of the data is used."""

    train_fraction: float | None = HfArg(
        default=None, help="Share of the training examples to use (of each class), such as 0.1."
    )
    sample_seed: int = HfArg(default=0, help="Seed of the choice of examples, apart from the training seed.")
    validation_size: int | None = HfArg(
        default=None,
        help="If there is no validation data: least number of training rows to hold out for it. What belongs "
        "together (paragraph, sentence) stays on one side; of classes, the rows that a sample leaves are taken.",
    )
    max_eval_samples: int | None = HfArg(default=None, help="Use the first rows of the validation data.")
    max_predict_samples: int | None = HfArg(default=None, help="Use the first rows of the test data.")


@dataclass
class ClassSamplingArguments(SamplingArguments):
    """How much of data with one class a row is used."""

    examples_per_class: int | None = HfArg(
        default=None, help="Number of training examples of each class to use, such as 16."
    )


def select_rows(
    splits: Mapping[str, Dataset],
    sampling: SamplingArguments,
    classes: Sequence[Hashable] | None = None,
    groups: Sequence[Hashable] | None = None,
    labels: Sequence[Collection[Hashable]] | None = None,
) -> dict[str, Dataset]:
    """Draw the training sample and, where asked, a validation set from the rest.

    Args:
        splits: The checked data.
        sampling: How much of it.
        classes: The class of every training row; the sample is drawn class by class. None: rows are of no one class.
        groups: The group of every training row; groups are held out whole.
        labels: All labels of every training row, where it has several; a warning names those that no row to train on
            has. None: its class is its label.

    Returns:
        The splits to use.

    Raises:
        ValueError: If the sample cannot be drawn, there is no training data to take from, `validation_size` is given
            although there is validation data, or no evaluation rows are asked for.
    """
    chosen = dict(splits)
    if sampling.sample_seed < 0:
        raise ValueError(f"`sample_seed` must be at least 0, got {sampling.sample_seed}.")
    per_class = getattr(sampling, "examples_per_class", None)
    for name in ("validation_size", "train_fraction", "examples_per_class"):
        if getattr(sampling, name, None) is not None and "train" not in chosen:
            raise ValueError(f"`{name}` takes from training data, but there is none.")
    if sampling.validation_size is not None and "validation" in chosen:
        raise ValueError("`validation_size` is for data without a validation split, but this data has one.")
    if per_class is not None and classes is None:
        raise ValueError("`examples_per_class`: rows are of no one class here; give `train_fraction`.")
    for name in ("max_eval_samples", "max_predict_samples"):
        if (limit := getattr(sampling, name)) is not None and limit < 1:
            raise ValueError(f"`{name}` must be at least 1, got {limit}.")
    if "train" in chosen:
        train = chosen["train"]
        rows, held_out = _train_and_held_out(len(train), sampling, classes, groups)
        _warn_of_lost_labels(labels or [[label] for label in classes or ()], rows, sampling)
        chosen["train"] = train.select(rows)
        if held_out is not None:
            chosen["validation"] = train.select(held_out)
    for split, limit in (("validation", sampling.max_eval_samples), ("test", sampling.max_predict_samples)):
        if limit is not None and split in chosen:
            chosen[split] = chosen[split].select(range(min(limit, len(chosen[split]))))
    return chosen


def _warn_of_lost_labels(
    labels: Sequence[Collection[Hashable]], rows: Sequence[int], sampling: SamplingArguments
) -> None:
    """Warn of labels that only rows have which are left out or held out."""
    lost = set(chain.from_iterable(labels)).difference(*(labels[row] for row in rows)) if labels else set()
    if lost:
        options = {name: getattr(sampling, name) for name in ("train_fraction", "validation_size")}
        said = [f"`{name}` {value}" for name, value in options.items() if value is not None]
        names = sorted(map(repr, lost))
        logger.warning(
            "%s, with `sample_seed` %s: no row to train on is left with %s%s.",
            ", ".join(said),
            sampling.sample_seed,
            ", ".join(names[:10]),
            f" and {len(names) - 10} labels more" if len(names) > 10 else "",
        )


def _train_and_held_out(
    count: int,
    sampling: SamplingArguments,
    classes: Sequence[Hashable] | None,
    groups: Sequence[Hashable] | None,
) -> tuple[list[int], list[int] | None]:
    """Return the rows to train on and those held out, of classes from what a sample leaves; None: none are."""
    size, fraction, seed = sampling.validation_size, sampling.train_fraction, sampling.sample_seed
    per_class = getattr(sampling, "examples_per_class", None)
    if fraction is not None and not 0 < fraction <= 1:
        raise ValueError(f"`train_fraction` must be greater than 0 and at most 1, got {fraction}.")
    sampled = fraction is not None or per_class is not None
    of_the_rest = sampled and classes is not None and groups is None
    rows, held_out = list(range(count)), None
    if size is not None and not of_the_rest:
        rows, held_out = hold_out_groups(groups or rows, size, seed=seed)
    if sampled:
        labels = [0 if classes is None else classes[row] for row in rows]
        sample = sample_per_class(labels, fraction=fraction, examples_per_class=per_class, seed=seed)
        rows = [rows[index] for index in sample]
    if size is not None and of_the_rest:
        held_out = hold_out(count, rows, size, seed=seed)
    return rows, held_out


def _indices_by_class(labels: Sequence[Hashable]) -> dict[Hashable, list[int]]:
    by_class: dict[Hashable, list[int]] = {}
    for index, label in enumerate(labels):
        if is_missing(label):
            raise ValueError(f"`labels`: row {index} has none, but {label}; leave such rows out.")
        by_class.setdefault(label, []).append(index)
    try:
        return {label: by_class[label] for label in sorted(by_class)}  # type: ignore[type-var]
    except TypeError as error:
        kinds = ", ".join(sorted({type(label).__name__ for label in by_class}))
        raise ValueError(f"`labels` must be of one type, so that classes have an order, got {kinds}.") from error


def sample_per_class(
    labels: Sequence[Hashable],
    *,
    fraction: float | None = None,
    examples_per_class: int | None = None,
    seed: int = 0,
) -> list[int]:
    """Draw a training set class by class, with a seed of its own.

    The DPT paper trains on "10 % of the training data"; its released code takes ``int(n * 0.1)`` of each class's ``n``
    examples with seed 0, whatever the training seed is, so that all runs of a comparison see the same examples.
    Here a class keeps at least one example, so that no class is lost; otherwise the counts are the released code's.
    (The drawn examples are not: its random generator is another one.)

    Each class has its own random order, which depends only on `seed`, on the class's place among the sorted classes
    and on its number of examples. A smaller sample is therefore always contained in a larger one of the same seed:
    16 examples a class are 8 of them and 8 more.

    Args:
        labels: The label of every training example, `(n,)`; anything hashable (ids or names) that can be sorted.
        fraction: Share of each class to keep, in (0, 1]. Give this or `examples_per_class`.
        examples_per_class: Number of examples to keep of every class, at least 1.
        seed: Seed of the sample, at least 0; independent of the training seed and of every global generator.

    Returns:
        The chosen indices in ascending order (the trainer's sampler shuffles them).

    Raises:
        ValueError: If not exactly one of `fraction` and `examples_per_class` is given or it is out of range, if
            `labels` is empty, if a label is missing (null, NaN), if labels are of types without an order, or if a
            class has fewer than `examples_per_class` examples (the class is named).
    """
    if (fraction is None) == (examples_per_class is None):
        raise ValueError("Give exactly one of `fraction` and `examples_per_class`.")
    if fraction is not None and not 0 < fraction <= 1:
        raise ValueError(f"`fraction` must be greater than 0 and at most 1, got {fraction}.")
    if examples_per_class is not None and examples_per_class < 1:
        raise ValueError(f"`examples_per_class` must be at least 1, got {examples_per_class}.")
    if seed < 0:
        raise ValueError(f"`seed` must be at least 0, got {seed}.")
    if len(labels) == 0:
        raise ValueError("`labels` is empty: there is nothing to sample from.")

    by_class = _indices_by_class(labels)
    if examples_per_class is not None:
        short = {label: len(indices) for label, indices in by_class.items() if len(indices) < examples_per_class}
        if short:
            listed = ", ".join(f"{label!r} has {count}" for label, count in short.items())
            raise ValueError(f"`examples_per_class` is {examples_per_class}, but class {listed}.")

    chosen: list[int] = []
    for position, indices in enumerate(by_class.values()):
        if examples_per_class is not None:
            count = examples_per_class
        else:
            assert fraction is not None
            # The small term keeps products such as 100 * 0.29 = 28.999999999999996 from losing an example.
            count = max(1, int(len(indices) * fraction + 1e-9))
        order = np.random.default_rng([seed, position]).permutation(len(indices))
        chosen.extend(indices[i] for i in order[:count])
    return sorted(chosen)


def hold_out(count: int, chosen: Sequence[int], size: int, *, seed: int = 0) -> list[int]:
    """Take validation rows from those of a training split that a low-resource sample leaves.

    Args:
        count: Number of rows of the training split.
        chosen: Rows of the sample.
        size: Number of validation rows.
        seed: Seed of the choice, apart from the training seed.

    Returns:
        Validation rows in ascending order.

    Raises:
        ValueError: If `size` is below 1, or there are not enough rows.
    """
    free = sorted(set(range(count)) - set(chosen))
    if not 1 <= size <= len(free):
        raise ValueError(f"`validation_size` must be between 1 and {len(free)} (the rows not used), got {size}.")
    return sorted(free[i] for i in np.random.default_rng([seed, count]).permutation(len(free))[:size])


def hold_out_groups(groups: Sequence[Hashable], size: int, *, seed: int = 0) -> tuple[list[int], list[int]]:
    """Take validation rows from a training split without a group (paragraph, sentence) on both sides.

    Args:
        groups: The group of every row.
        size: Least number of rows to hold out.
        seed: Seed of the choice of groups.

    Returns:
        Rows to train on, and rows held out, both in ascending order.

    Raises:
        ValueError: If `size` is below 1, or nothing would be left to train on.
    """
    rows_of = Counter(groups)
    names = list(rows_of)
    held_out: set[Hashable] = set()
    count = 0
    for index in np.random.default_rng([seed, len(groups)]).permutation(len(names)):
        if count >= size:
            break
        held_out.add(names[index])
        count += rows_of[names[index]]
    train = [row for row, group in enumerate(groups) if group not in held_out]
    if size < 1 or not train:
        raise ValueError(
            f"`validation_size` must be at least 1 and leave something to train on, got {size} for {len(groups)} rows "
            f"that go together in groups of up to {max(rows_of.values(), default=0)}."
        )
    return train, [row for row, group in enumerate(groups) if group in held_out]
