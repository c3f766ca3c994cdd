"""The search over a label tree, against products along every path and a search written row by row."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings, strategies as st

from dpt_peft.pretrained_heads import LabelTree
from dpt_peft.pretrained_heads.beam import Branches, beam_search, groups_of_like_length

from .trees import trees


class RandomScores:
    """Log scores of every row, branch and child; remembers what it was asked for."""

    def __init__(self, branches: Branches, rows: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        shape = (rows, len(branches.targets), len(branches.targets[0]))
        self.table = torch.rand(shape, generator=generator, dtype=torch.float64).log()
        self.calls: list[list[tuple[int, int]]] = []

    def __call__(self, rows: torch.Tensor, branches: torch.Tensor) -> torch.Tensor:
        self.calls.append(list(zip(rows.tolist(), branches.tolist(), strict=True)))
        return self.table[rows, branches]


def search(tree: LabelTree, scores: RandomScores, branches: Branches, **kwargs) -> torch.Tensor:
    targets = torch.tensor(branches.targets)
    return beam_search(scores, targets, rows=len(scores.table), classes=len(tree), **kwargs)


def all_products(branches: Branches, table: torch.Tensor) -> torch.Tensor:
    columns = []
    for way in zip(branches.gold_branches, branches.gold_children, strict=True):
        steps = [(branch, child) for branch, child in zip(*way, strict=True) if branch >= 0]
        columns.append(sum(table[:, branch, child] for branch, child in steps))
    return torch.stack(columns, dim=1)


def narrow_by_hand(branches: Branches, table: torch.Tensor, width: int, threshold: float) -> list[dict[int, float]]:
    """One row at a time, with lists and sorting."""
    results = []
    for scores in table:
        found: dict[int, float] = {}
        frontier = [(0.0, 0)]
        while frontier:
            opened = []
            for score, branch in frontier:
                for child, target in enumerate(branches.targets[branch]):
                    product = score + float(scores[branch, child])
                    if target < 0:
                        found[-1 - target] = product
                    elif target > 0:
                        opened.append((product, target))
            opened.sort(reverse=True)
            frontier = opened[:width]
            best = max([score for score, _ in frontier] + list(found.values()), default=0.0)
            frontier = [
                pair
                for pair in frontier
                if threshold == 0 or pair[0] >= best + float(torch.tensor(threshold, dtype=torch.float64).log())
            ]
        results.append(found)
    return results


@settings(max_examples=60, deadline=None)
@given(tree=trees(most=12), rows=st.integers(1, 4), seed=st.integers(0, 1000))
def test_a_beam_as_wide_as_the_tree_is_exhaustive_search(tree, rows, seed):
    branches = Branches.of(tree)
    scores = RandomScores(branches, rows, seed)
    expected = all_products(branches, scores.table)
    for width in (None, len(branches.words)):
        torch.testing.assert_close(search(tree, scores, branches, beam_width=width), expected, rtol=0, atol=1e-12)


@settings(max_examples=80, deadline=None)
@given(
    tree=trees(most=12),
    rows=st.integers(1, 4),
    seed=st.integers(0, 1000),
    width=st.integers(1, 3),
    threshold=st.sampled_from([0.0, 0.1, 0.7, 1.0]),
)
def test_narrow_beams(tree, rows, seed, width, threshold):
    branches = Branches.of(tree)
    scores = RandomScores(branches, rows, seed)
    found = search(tree, scores, branches, beam_width=width, beam_threshold=threshold)
    for row, expected in zip(found, narrow_by_hand(branches, scores.table, width, threshold), strict=True):
        reached = {index: float(score) for index, score in enumerate(row) if score.isfinite()}
        assert reached == pytest.approx(expected)
    for call in scores.calls:
        assert all(sum(pair[0] == row for pair in call) <= width for row in range(rows))
        assert len(set(call)) == len(call)


def test_single_children_cost_nothing():
    tree = LabelTree.from_nested({"a": {"b": {"c": ["x", "y"]}, "d": {"e": ["z"]}}})
    branches = Branches.of(tree)
    assert branches.words == [["b", "d"], ["x", "y"]]
    assert branches.paths == [("a",), ("a", "b", "c")]
    assert branches.gold_branches == [[0, 1], [0, 1], [0, -1]]
    scores = RandomScores(branches, 1, 0)
    found = search(tree, scores, branches, beam_width=None)
    assert found[0, 2] == scores.table[0, 0, 1]
    assert len(scores.calls) == 2


@settings(max_examples=50, deadline=None)
@given(tree=trees(most=12))
def test_arrays_say_what_the_tree_says(tree):
    branches = Branches.of(tree)
    assert all(len(words) >= 2 for words in branches.words)
    assert sorted(target for row in branches.targets for target in row if target) == sorted(
        [*range(-len(tree), 0), *range(1, len(branches.words))]
    )
    for name, way, steps in zip(tree.classes, branches.gold_branches, branches.gold_children, strict=True):
        path = tree.path(name)
        for branch, child in zip(way, steps, strict=True):
            if branch >= 0:
                above = branches.paths[branch]
                assert path[: len(above)] == above
                node = tree.root
                for step in path[: len(above) + 1]:
                    node = next(below for below in node.children if below.name == step)
                assert branches.words[branch][child] == node.word


@settings(max_examples=100, deadline=None)
@given(lengths=st.lists(st.integers(1, 60), min_size=1, max_size=50), most=st.integers(1, 40))
def test_groups_hold_every_row_once_and_save_padding(lengths, most):
    def padded(groups: list[list[int]]) -> int:
        return sum(len(group) * max(lengths[row] for row in group) for group in groups)

    groups = groups_of_like_length(lengths, most)
    assert sorted(row for group in groups for row in group) == list(range(len(lengths)))
    assert max(map(len, groups)) <= most
    in_order = sorted(range(len(lengths)), key=lambda row: lengths[row])
    sliced = [in_order[start : start + most] for start in range(0, len(lengths), most)]
    assert padded(groups) <= padded(sliced) - 64 * (len(groups) - len(sliced))


def test_a_batch_of_its_own_must_be_worth_it():
    assert groups_of_like_length([10, 40, 11, 41] * 4, 32) == [
        [1, 5, 9, 13, 3, 7, 11, 15],
        [0, 4, 8, 12, 2, 6, 10, 14],
    ]
    assert len(groups_of_like_length([10, 40, 11, 41], 32)) == 1
