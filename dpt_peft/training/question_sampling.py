"""Which questions of a data set are trained on, held out and measured on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from datasets import Dataset

from dpt_peft.training.low_resource import hold_out_groups


@dataclass
class QuestionSamplingArguments:
    """How much of the data is used."""

    train_fraction: float | None = field(
        default=None, metadata={"help": "Share of the training questions to use, such as 0.1."}
    )
    validation_size: int | None = field(
        default=None,
        metadata={
            "help": "If there is no validation data: hold out whole paragraphs of the training data, with at least so "
            "many questions."
        },
    )
    sample_seed: int = field(default=0, metadata={"help": "Seed of both choices, apart from the training seed."})
    max_eval_samples: int | None = field(default=None, metadata={"help": "Use the first validation questions."})
    max_predict_samples: int | None = field(default=None, metadata={"help": "Use the first test questions."})


def hold_out_paragraphs(contexts: Sequence[str], size: int, *, seed: int = 0) -> tuple[list[int], list[int]]:
    """Splits questions in two without a paragraph on both sides.

    Args:
        contexts: The paragraph of every question.
        size: Least number of questions to hold out.
        seed: Seed of the choice of paragraphs.

    Returns:
        Indices of the questions to train on, and of those held out, both in ascending order.

    Raises:
        ValueError: `size` is below 1, or nothing would be left to train on.
    """
    return hold_out_groups(contexts, size, seed=seed)


def select_questions(splits: dict[str, Dataset], sampling: QuestionSamplingArguments) -> dict[str, Dataset]:
    """Holds out validation paragraphs where asked, then samples the training questions.

    Args:
        splits: The checked data.
        sampling: How much of it.

    Returns:
        The splits to use.

    Raises:
        ValueError: `validation_size` is given although there is validation data, `train_fraction` is not between 0
            and 1, or there is no training data to take from.
    """
    splits = dict(splits)
    if (sampling.validation_size or sampling.train_fraction) is not None and "train" not in splits:
        raise ValueError("`validation_size` and `train_fraction` take from training data, but there is none.")
    if sampling.validation_size is not None:
        if "validation" in splits:
            raise ValueError("`validation_size` is for data without a validation split, but this data has one.")
        train, held_out = hold_out_paragraphs(
            splits["train"]["context"][:], sampling.validation_size, seed=sampling.sample_seed
        )
        splits["train"], splits["validation"] = splits["train"].select(train), splits["train"].select(held_out)
    if sampling.train_fraction is not None:
        if not 0 < sampling.train_fraction <= 1:
            raise ValueError(f"`train_fraction` must be between 0 and 1, got {sampling.train_fraction}.")
        count = len(splits["train"])
        order = np.random.default_rng([sampling.sample_seed, count]).permutation(count)
        chosen = order[: max(1, int(count * sampling.train_fraction + 1e-9))]
        splits["train"] = splits["train"].select(sorted(int(index) for index in chosen))
    for split, limit in (("validation", sampling.max_eval_samples), ("test", sampling.max_predict_samples)):
        if limit is not None and split in splits:
            splits[split] = splits[split].select(range(min(limit, len(splits[split]))))
    return splits
