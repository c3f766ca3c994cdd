"""Which questions are trained on."""

import pytest
from datasets import Dataset

from dpt_peft.training.question_sampling import QuestionSamplingArguments, hold_out_paragraphs, select_questions


def test_no_paragraph_on_both_sides():
    contexts = ["a", "a", "a", "b", "c", "c", "d", "e"]
    train, held_out = hold_out_paragraphs(contexts, 3, seed=1)
    assert sorted(train + held_out) == list(range(8))
    assert len(held_out) >= 3
    assert not {contexts[row] for row in train} & {contexts[row] for row in held_out}
    assert hold_out_paragraphs(contexts, 3, seed=1) == (train, held_out)
    assert any(hold_out_paragraphs(contexts, 3, seed=seed)[1] != held_out for seed in range(2, 8))


@pytest.mark.parametrize("size", [0, 8])
def test_impossible_sizes(size):
    with pytest.raises(ValueError, match="`validation_size` must be at least 1 and leave"):
        hold_out_paragraphs(["a", "a", "b"], size)


def test_selection():
    train = Dataset.from_dict({"context": [str(number // 2) for number in range(20)]})
    test = Dataset.from_dict({"context": ["x"] * 5})
    chosen = select_questions(
        {"train": train, "test": test},
        QuestionSamplingArguments(train_fraction=0.5, validation_size=4, max_eval_samples=3, max_predict_samples=2),
    )
    assert {split: len(rows) for split, rows in chosen.items()} == {"train": 8, "validation": 3, "test": 2}
    assert not set(chosen["train"]["context"]) & set(chosen["validation"]["context"])
    whole = QuestionSamplingArguments()
    assert select_questions({"train": train}, whole)["train"][:] == train[:]
    with pytest.raises(ValueError, match="take from training data"):
        select_questions({"test": test}, QuestionSamplingArguments(train_fraction=0.5))
