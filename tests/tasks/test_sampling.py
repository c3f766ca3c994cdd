from collections import Counter

import numpy as np
import pytest
from datasets import Dataset

from dpt_peft.tasks import TextClassification, TokenClassification
from dpt_peft.tasks.sampling import (
    ClassSamplingArguments,
    SamplingArguments,
    hold_out,
    hold_out_groups,
    sample_per_class,
    select_rows,
)

LABELS = ["a"] * 55 + ["b"] * 9 + ["c"] * 120
RNG = np.random.default_rng(3)
SHUFFLED = [LABELS[i] for i in RNG.permutation(len(LABELS))]


def test_fraction_takes_the_released_codes_count_of_each_class():
    chosen = sample_per_class(SHUFFLED, fraction=0.1)
    counts = Counter(SHUFFLED[i] for i in chosen)
    assert counts == {"a": int(55 * 0.1), "b": 1, "c": int(120 * 0.1)}  # b: int(0.9) = 0, but a class is never lost
    assert chosen == sorted(set(chosen))


def test_fraction_one_keeps_everything_and_rounding_loses_nothing():
    assert sample_per_class(SHUFFLED, fraction=1.0) == list(range(len(SHUFFLED)))
    assert len(sample_per_class([0] * 100, fraction=0.29)) == 29


def test_examples_per_class_is_exact():
    counts = Counter(SHUFFLED[i] for i in sample_per_class(SHUFFLED, examples_per_class=9))
    assert counts == {"a": 9, "b": 9, "c": 9}


def test_own_seed_decides_and_global_generators_do_not():
    np.random.seed(1)  # noqa: NPY002
    first = sample_per_class(SHUFFLED, examples_per_class=5, seed=7)
    np.random.seed(2)  # noqa: NPY002
    assert sample_per_class(SHUFFLED, examples_per_class=5, seed=7) == first
    assert sample_per_class(SHUFFLED, examples_per_class=5, seed=8) != first


def test_smaller_samples_are_nested_in_larger_ones():
    small, large = (set(sample_per_class(SHUFFLED, examples_per_class=k, seed=4)) for k in (3, 8))
    assert small < large


def test_every_example_is_equally_likely():
    hits = np.zeros(40)
    for seed in range(400):
        hits[sample_per_class([0] * 20 + [1] * 20, examples_per_class=5, seed=seed)] += 1
    # 400 draws at 1/4: mean 100, standard deviation 8.7; five of them on either side
    assert hits.min() > 56
    assert hits.max() < 144


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({}, "exactly one"),
        ({"fraction": 0.1, "examples_per_class": 4}, "exactly one"),
        ({"fraction": 0.0}, "`fraction`"),
        ({"fraction": 1.5}, "`fraction`"),
        ({"examples_per_class": 0}, "`examples_per_class`"),
        ({"examples_per_class": 10}, "'b' has 9"),
        ({"fraction": 0.1, "seed": -1}, "`seed`"),
    ],
)
def test_bad_arguments_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        sample_per_class(SHUFFLED, **kwargs)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["a", None, "b"], "`labels`: row 1 has none, but None"),
        ([1.0, 2.0, float("nan")], "`labels`: row 2 has none, but nan"),
        (["a", 1], "`labels` must be of one type, so that classes have an order, got int, str"),
    ],
)
def test_labels_that_are_no_classes(labels, message):
    with pytest.raises(ValueError, match=message):
        sample_per_class(labels, examples_per_class=1)


def test_no_labels():
    with pytest.raises(ValueError, match="empty"):
        sample_per_class([], fraction=0.1)


def test_held_out_rows_come_from_what_the_sample_leaves():
    validation = hold_out(50, [3, 10, 20], 15, seed=1)
    assert len(set(validation)) == 15
    assert not {3, 10, 20} & set(validation)
    assert hold_out(50, [3, 10, 20], 15, seed=1) == validation
    assert hold_out(50, [3, 10, 20], 15, seed=2) != validation


def test_without_a_sample_held_out_rows_are_taken_away_from_training():
    train, validation = hold_out_groups(range(50), 15)
    assert sorted(train + validation) == list(range(50))


@pytest.mark.parametrize(("chosen", "size"), [([1, 2], 9), ([1], 0)])
def test_held_out_rows_must_be_there(chosen, size):
    with pytest.raises(ValueError, match="`validation_size` must be between 1 and"):
        hold_out(10, chosen, size)


def test_no_group_on_both_sides():
    groups = ["a", "a", "a", "b", "c", "c", "d", "e"]
    train, held_out = hold_out_groups(groups, 3, seed=1)
    assert sorted(train + held_out) == list(range(8))
    assert len(held_out) >= 3
    assert not {groups[row] for row in train} & {groups[row] for row in held_out}
    assert hold_out_groups(groups, 3, seed=1) == (train, held_out)
    assert any(hold_out_groups(groups, 3, seed=seed)[1] != held_out for seed in range(2, 8))


@pytest.mark.parametrize("size", [0, 8])
def test_impossible_sizes_of_groups(size):
    with pytest.raises(ValueError, match="`validation_size` must be at least 1 and leave"):
        hold_out_groups(["a", "a", "b"], size)


def test_rows_in_groups_are_held_out_then_sampled():
    train = Dataset.from_dict({"context": [str(number // 2) for number in range(20)]})
    test = Dataset.from_dict({"context": ["x"] * 5})
    sampling = SamplingArguments(train_fraction=0.5, validation_size=4, max_eval_samples=3, max_predict_samples=2)
    chosen = select_rows({"train": train, "test": test}, sampling, groups=train["context"][:])
    assert {split: len(rows) for split, rows in chosen.items()} == {"train": 8, "validation": 3, "test": 2}
    assert not set(chosen["train"]["context"]) & set(chosen["validation"]["context"])
    assert select_rows({"train": train}, SamplingArguments())["train"][:] == train[:]


def test_if_the_only_row_of_a_class_is_held_out_it_is_said(caplog):
    classes = ["a"] * 10 + ["b"]
    train = Dataset.from_dict({"label": classes})
    refused = []
    for seed in range(12):
        sampling = ClassSamplingArguments(validation_size=3, sample_seed=seed)
        expected, held_out = hold_out_groups(range(11), 3, seed=seed)
        if 10 in held_out:
            refused.append(seed)
        message = f"`validation_size` 3, with `sample_seed` {seed}: no row to train on is left with 'b'"
        caplog.clear()
        chosen = select_rows({"train": train}, sampling, classes)
        assert chosen["train"]["label"][:] == [classes[row] for row in expected]
        assert [record.message for record in caplog.records] == ([f"{message}."] if 10 in held_out else [])
    assert 0 < len(refused) < 12


@pytest.mark.parametrize("amount", [{"examples_per_class": 1}, {"train_fraction": 0.5}, {}])
def test_if_the_only_group_of_a_class_is_held_out_it_is_said(amount, caplog):
    classes, groups = ["x", "y", "x", "y", "z"], [0, 1, 2, 3, 4]
    train = Dataset.from_dict({"relation": classes})
    told, expected = [], 0
    for seed in range(12):
        sampling = ClassSamplingArguments(validation_size=2, sample_seed=seed, **amount)
        left = {classes[row] for row in hold_out_groups(groups, 2, seed=seed)[0]}
        caplog.clear()
        assert set(select_rows({"train": train}, sampling, classes, groups)["train"]["relation"]) == left
        lost = sorted({"x", "y", "z"} - left)
        told += [
            record.message.endswith(f"no row to train on is left with {', '.join(map(repr, lost))}.")
            for record in caplog.records
        ]
        expected += bool(lost)
    assert told == [True] * expected
    assert 0 < expected < 12


@pytest.mark.parametrize(
    ("task", "columns"),
    [
        (TextClassification(), {"text": list("abcd"), "label": [["x"]] * 3 + [["y", "x"]]}),
        (
            TokenClassification(),
            {"tokens": [[letter] for letter in "abcdefgh"], "ner_tags": [["B-x"]] * 7 + [["B-y"]]},
        ),
    ],
    ids=["several labels", "tags"],
)
def test_a_label_that_a_sample_loses_is_named(task, columns, caplog):
    data = task.shape({"train": Dataset.from_dict(columns)}, task.arguments())
    told = []
    for seed in range(12):
        caplog.clear()
        chosen = task.select(data, task.sampling(train_fraction=0.5, sample_seed=seed))["train"]
        lost = not any("y" in labels for labels in task.labels(data, chosen))
        message = f"`train_fraction` 0.5, with `sample_seed` {seed}: no row to train on is left with 'y'."
        assert [record.message for record in caplog.records] == [message] * lost
        told.append(lost)
    assert 0 < sum(told) < 12


@pytest.mark.parametrize("name", ["max_eval_samples", "max_predict_samples"])
@pytest.mark.parametrize("limit", [0, -1])
def test_no_rows_to_measure_on_are_asked_for(name, limit):
    rows = Dataset.from_dict({"text": ["a", "b"]})
    with pytest.raises(ValueError, match=f"`{name}` must be at least 1, got {limit}"):
        select_rows({"validation": rows, "test": rows}, SamplingArguments(**{name: limit}))


@pytest.mark.parametrize(
    ("splits", "sampling", "message"),
    [
        ("test", SamplingArguments(train_fraction=0.5), "`train_fraction` takes from training data"),
        ("test", SamplingArguments(validation_size=1), "`validation_size` takes from training data"),
        ("test", ClassSamplingArguments(examples_per_class=3), "`examples_per_class` takes from training data"),
        ("train", SamplingArguments(train_fraction=1.5), "`train_fraction` must be greater than 0"),
        ("train", ClassSamplingArguments(examples_per_class=3), "of no one class"),
        ("train validation", SamplingArguments(validation_size=3), "`validation_size` is for data without"),
    ],
)
def test_impossible_samples(splits, sampling, message):
    rows = Dataset.from_dict({"text": ["a", "b", "c", "d"]})
    with pytest.raises(ValueError, match=message):
        select_rows(dict.fromkeys(splits.split(), rows), sampling)


def test_a_seed_is_not_negative():
    rows = Dataset.from_dict({"text": ["a", "b", "c"]})
    with pytest.raises(ValueError, match="`sample_seed` must be at least 0, got -1"):
        select_rows({"train": rows}, SamplingArguments(validation_size=1, sample_seed=-1))
