"""The best answers over all windows, against an exhaustive search."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpt_peft.tasks.question_answering.answers import WindowLogits, rank_answers

CONTEXT = "ab cd ef gh ij kl mn op"
WORDS = [(3 * word, 3 * word + 2) for word in range(8)]


def window(first, last, start, end, question=2):
    """[CLS] question [SEP] words first ... last [SEP], then padding with high logits that must not count."""
    offsets = [None] * (question + 2) + WORDS[first:last] + [None]
    return WindowLogits(offsets, np.append(start[: len(offsets)], 99.0), np.append(end[: len(offsets)], 99.0), 0)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), longest=st.integers(1, 9), share=st.integers(0, 3))
def test_the_best_pair_is_that_of_an_exhaustive_search(seed, longest, share):
    draw = np.random.default_rng(seed)
    windows = [
        window(first, last, draw.normal(size=20), draw.normal(size=20)) for first, last in ((0, 4 + share), (4, 8))
    ]
    found = {}
    for one in windows:
        for i, first in enumerate(one.offsets):
            for j, last in enumerate(one.offsets):
                if first is not None and last is not None and i <= j < i + longest:
                    score = one.start[i] + one.end[j]
                    found[first[0], last[1]] = max(score, found.get((first[0], last[1]), -np.inf))
    ranked = rank_answers(CONTEXT, windows, n_best_size=100, max_answer_length=longest)
    assert [(answer.start, answer.end) for answer in ranked.answers] == sorted(found, key=found.get, reverse=True)
    assert [answer.score for answer in ranked.answers] == pytest.approx(sorted(found.values(), reverse=True))
    assert all(CONTEXT[answer.start : answer.end] == answer.text for answer in ranked.answers)
    assert ranked.null_score == pytest.approx(min(one.start[0] + one.end[0] for one in windows))


def test_only_the_likeliest_starts_and_ends_are_paired():
    start, end = np.zeros(20), np.zeros(20)
    start[[4, 6]] = 5, 4  # words 0 and 2
    end[[5, 9]] = 1, 3  # words 1 and 5
    one = window(0, 8, start, end)
    assert [a.text for a in rank_answers(CONTEXT, [one], n_best_size=2, max_answer_length=3).answers] == ["ab cd"]
    # The best start has no end that is near enough among one: no answer at all, as with the original scripts.
    assert rank_answers(CONTEXT, [one], n_best_size=1, max_answer_length=3).answers == []
    ranked = rank_answers(CONTEXT, [one], n_best_size=3)
    assert ranked.answers[0].text == "ab cd ef gh ij kl"
    assert len(ranked.answers) == 3


def test_threshold_and_probabilities():
    start, end = np.full(20, -9.0), np.full(20, -9.0)
    start[[0, 4]], end[[0, 4, 5]] = (1.0, 2.0), (1.0, 1.5, 0.5)
    ranked = rank_answers(CONTEXT, [window(0, 8, start, end)], n_best_size=2)
    assert [answer.score for answer in ranked.answers] == [3.5, 2.5]
    assert ranked.null_odds == pytest.approx(2.0 - 3.5)
    assert ranked.best().text == "ab"
    assert ranked.best(-1.4).text == "ab"
    assert ranked.best(-1.6) is None
    total = np.exp(3.5) + np.exp(2.5) + np.exp(2.0)
    assert ranked.probabilities(True) == pytest.approx([np.exp(3.5) / total, np.exp(2.5) / total, np.exp(2) / total])
    assert sum(ranked.probabilities(False)) == pytest.approx(1)


def test_a_paragraph_without_a_token():
    ranked = rank_answers("", [WindowLogits([None, None], np.array([1.0, 2]), np.array([1.0, 2]), 0)])
    assert ranked.answers == []
    assert ranked.best() is None
    assert ranked.null_odds == 2.0
    assert ranked.probabilities(False) == []


@pytest.mark.parametrize(("name", "value"), [("n_best_size", 0), ("max_answer_length", 0)])
def test_bad_arguments(name, value):
    with pytest.raises(ValueError, match=name):
        rank_answers(CONTEXT, [], **{name: value})
    with pytest.raises(ValueError, match="at least one window"):
        rank_answers(CONTEXT, [])
