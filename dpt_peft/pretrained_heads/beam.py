"""From a label tree to arrays, and the search for the best classes level by level."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from .label_tree import LabelNode, LabelTree
from .splice import padded

#: Scores the children of pairs of a row and a branch: row indices (pairs,), branch indices (pairs,) ->
#: log scores (pairs, at least as many children as the largest of these branches has), never above zero.
PairScorer = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Branches:
    """What a model must tell apart: the nodes with at least two children, in breadth-first order, the root first.

    Lists and no tensors, as models are made on the meta device first.

    A name with a single child has nothing to tell apart: its child stands in its place, and no score is spent on it.

    Attributes:
        words: For every branch the label words of its children.
        paths: For every branch its names from the top down, for messages.
        targets: (branches, most children): for every child the index of the branch below it, or, for a class, the
            class index c as -1 - c. Zero, which is the root and nobody's child, where a branch has fewer children.
        gold_branches: (classes, levels): the branches on the way down to a class, -1 behind its end.
        gold_children: (classes, levels): which child of each of them leads there, -1 behind its end.
    """

    words: list[list[str]]
    paths: list[tuple[str, ...]]
    targets: list[list[int]]
    gold_branches: list[list[int]]
    gold_children: list[list[int]]

    @classmethod
    def of(cls, tree: LabelTree) -> Branches:
        """Lay a tree out."""
        class_index = {name: index for index, name in enumerate(tree.classes)}
        top, path = _through_single_children(tree.root, ())
        branches, paths = [top], [path]
        ways: list[list[tuple[int, int]]] = [[]]
        gold: list[list[tuple[int, int]]] = [[] for _ in tree.classes]
        targets: list[list[int]] = []
        for index, branch in enumerate(branches):  # grows while it is read
            row = []
            for number, child in enumerate(branch.children):
                way = [*ways[index], (index, number)]
                below, path = _through_single_children(child, (*paths[index], child.name))
                if below.is_leaf:
                    row.append(-1 - class_index[below.name])
                    gold[class_index[below.name]] = way
                else:
                    row.append(len(branches))
                    branches.append(below)
                    paths.append(path)
                    ways.append(way)
            targets.append(row)
        return cls(
            words=[[child.word for child in branch.children] for branch in branches],
            paths=paths,
            targets=padded(targets, 0),
            gold_branches=padded([[branch for branch, _ in way] for way in gold], -1),
            gold_children=padded([[child for _, child in way] for way in gold], -1),
        )


def _through_single_children(node: LabelNode, path: tuple[str, ...]) -> tuple[LabelNode, tuple[str, ...]]:
    while len(node.children) == 1:
        node = node.children[0]
        path = (*path, node.name)
    return node, path


def beam_search(
    score: PairScorer,
    targets: torch.Tensor,
    *,
    rows: int,
    classes: int,
    beam_width: int | None,
    beam_threshold: float = 0.0,
) -> torch.Tensor:
    """Search every row's classes from the top down; the scores along a path multiply.

    At every level the best branches of a row go on, and all classes below them that end there get their score. With a
    beam as wide as the tree and no threshold every class is scored: exhaustive search.

    Args:
        score: Scores pairs of a row and a branch; called once a level with all pairs of the level.
        targets: (branches, most children), see `Branches`.
        rows: Number of rows.
        classes: Number of classes.
        beam_width: Most branches of a row that go on at a level; `None`: all.
        beam_threshold: A branch goes on only if its score is at least this share (0 to 1) of the best one that the row
            has so far, finished classes included. As no factor is above 1, a branch behind a finished class cannot
            overtake it: for `1` nothing more is spent on it.

    Returns:
        (rows, classes) log scores; minus infinity for classes that were not reached.
    """
    device = targets.device
    number_of_branches = targets.shape[0]
    pair_rows = torch.arange(rows, device=device)
    pair_branches = torch.zeros_like(pair_rows)
    pair_scores: torch.Tensor | None = None
    found: torch.Tensor | None = None
    while pair_rows.numel():
        child_scores = score(pair_rows, pair_branches)
        if pair_scores is not None:
            child_scores = child_scores + pair_scores[:, None]
        if found is None:
            found = child_scores.new_full((rows, classes), -torch.inf)
        target = targets[pair_branches, : child_scores.shape[1]]
        of_pair, of_child = target.lt(0).nonzero(as_tuple=True)
        found[pair_rows[of_pair], -1 - target[of_pair, of_child]] = child_scores[of_pair, of_child]

        # A tree: no branch is reached twice, so one cell a row and branch holds all that can go on.
        open_scores = child_scores.new_full((rows, number_of_branches), -torch.inf)
        of_pair, of_child = target.gt(0).nonzero(as_tuple=True)
        open_scores[pair_rows[of_pair], target[of_pair, of_child]] = child_scores[of_pair, of_child]
        if beam_width is not None and beam_width < number_of_branches:
            kept = open_scores.topk(beam_width, dim=1)
            open_scores = torch.full_like(open_scores, -torch.inf).scatter(1, kept.indices, kept.values)
        goes_on = open_scores.isfinite()
        if beam_threshold > 0:
            best = torch.cat([open_scores, found], dim=1).amax(1, keepdim=True)
            goes_on &= open_scores >= best + torch.tensor(beam_threshold, dtype=best.dtype, device=device).log()
        pair_rows, pair_branches = goes_on.nonzero(as_tuple=True)
        pair_scores = open_scores[pair_rows, pair_branches]
    assert found is not None
    return found


def groups_of_like_length(lengths: Sequence[int], most_rows: int, *, overhead: int = 64) -> list[list[int]]:
    """Share rows out among batches, so that little padding is read: branches' templates differ much in length.

    Args:
        lengths: Tokens of every row.
        most_rows: Most rows of a batch.
        overhead: A batch of its own must save at least this many tokens of padding.

    Returns:
        Indices of rows, batch by batch.
    """
    order = sorted(range(len(lengths)), key=lambda row: lengths[row])
    groups: list[list[int]] = []
    waiting = [order[start : start + most_rows] for start in range(0, len(order), most_rows)]
    while waiting:
        group = waiting.pop()
        longest = lengths[group[-1]]
        saved, cut = max(((longest - lengths[group[cut - 1]]) * cut, cut) for cut in range(1, len(group) + 1))
        if saved < overhead:
            groups.append(group)
        else:
            waiting += [group[:cut], group[cut:]]
    return groups
