"""Branches out of label words, or of labelled texts: classes that the backbone finds alike come under one name."""

from __future__ import annotations

import os
from collections.abc import Sequence
from numbers import Integral
from typing import Any

import numpy as np
import torch
from transformers import (
    AutoConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from dpt_peft._compatibility import no_progress_bars

from .base import PretrainedHeadConfig, evaluating, load_tokenizer, longest_row
from .discriminators import get_discriminator
from .prototypes import mean_state

#: How many of a cluster's most central words name it.
WORDS_OF_A_BRANCH = 2


def example_vectors(
    words: Sequence[str],
    texts: Sequence[str],
    labels: Sequence[int],
    discriminator: PreTrainedModel | str | os.PathLike[str],
    tokenizer: PreTrainedTokenizerBase | str | os.PathLike[str] | None = None,
    **hub_arguments: Any,
) -> np.ndarray:
    """Return the mean of the directions of every class's texts, the word as one more, scaled to length one."""
    if len(texts) != len(labels):
        raise ValueError(f"there must be one label for every text, got {len(labels)} for {len(texts)} texts")
    wrong = [label for label in labels if not isinstance(label, Integral) or not 0 <= label < len(words)]
    if wrong:
        raise ValueError(f"`labels` must be whole numbers from 0 to {len(words) - 1}, got {wrong[0]!r}")
    loaded, model = _load_both(discriminator, tokenizer, **hub_arguments)
    _wordpieces(words, loaded)
    directions = _text_directions([*texts, *words], loaded, model)
    sums = torch.zeros(len(words), directions.shape[1], dtype=torch.float64)
    sums.index_add_(0, torch.tensor([*labels, *range(len(words))]), directions)
    return torch.nn.functional.normalize(sums, dim=1).numpy()


def _text_directions(texts: Sequence[str], tokenizer: Any, model: Any) -> torch.Tensor:
    """Return the mean state of every text, scaled to length one, in float64: (texts, width)."""
    encoder, parts = getattr(model, "language_model", model).base_model, []
    cut = {"truncation": True, "max_length": longest_row(None, tokenizer, encoder)}
    with evaluating(encoder):
        for start in range(0, len(texts), 32):
            rows = tokenizer(list(texts[start : start + 32]), padding=True, return_tensors="pt", **cut)
            rows = rows.to(model.device)
            states = encoder(**rows, return_dict=True).last_hidden_state
            parts.append(mean_state(states, rows["attention_mask"]).to("cpu", torch.float64))
    return torch.nn.functional.normalize(torch.cat(parts), dim=1)


def word_vectors(
    words: Sequence[str],
    discriminator: PreTrainedModel | str | os.PathLike[str],
    tokenizer: PreTrainedTokenizerBase | str | os.PathLike[str] | None = None,
    **hub_arguments: Any,
) -> np.ndarray:
    """Return the mean input embedding of every word's wordpieces, scaled to length one, (words, size)."""
    loaded, model = _load_both(discriminator, tokenizer, **hub_arguments)
    table = model.get_input_embeddings().weight.detach().to("cpu", torch.float64)
    encoded = _wordpieces(words, loaded)
    vectors = torch.stack([table[ids].mean(0) for ids in encoded])
    return torch.nn.functional.normalize(vectors, dim=1).numpy()


def _wordpieces(words: Sequence[str], tokenizer: Any) -> list[list[int]]:
    """Return the tokens of every word, of which each must have some."""
    encoded = tokenizer(list(words), add_special_tokens=False, verbose=False)["input_ids"]
    empty = [word for word, ids in zip(words, encoded, strict=True) if not ids]
    if empty:
        raise ValueError(f"`label_words`: the tokenizer turns {empty} into nothing; choose other words")
    return encoded


def cluster_labels(words: Sequence[str], vectors: np.ndarray, *, max_children: int = 16) -> Any:
    """Cluster words by vectors.

    Ward's method joins the vectors to a binary tree; from its top the largest cluster is split until a branch has
    `max_children` children, or every child has room for its classes; children with more classes go on the same way. A
    branch is called by its two most central words ("tram or bus"), or by one where only one is left that no neighbour
    uses.

    Args:
        words: One word a class, all different.
        vectors: (words, size).
        max_children: Most children of a branch, at least 2.

    Returns:
        The words below the names of branches, as `LabelTree.from_nested` takes them; a list of at most `max_children`
        words.

    Raises:
        ImportError: scikit-learn is missing.
        ValueError: `max_children` is below 2.
    """
    if max_children < 2:
        raise ValueError(f"`max_children` must be at least 2, got {max_children}")
    merges = _ward(vectors)
    members: list[list[int]] = [[index] for index in range(len(words))]
    for left, right in merges:
        members.append(members[left] + members[right])

    def split(cluster: int) -> list[int]:
        parts = [cluster]
        while len(parts) < max_children:
            largest = max(parts, key=lambda part: (len(members[part]), -min(members[part])))
            if len(parts) > 1 and len(members[largest]) <= max_children:
                break
            parts.remove(largest)
            parts += merges[largest - len(words)]
        return sorted(parts, key=lambda part: min(members[part]))

    def below(cluster: int) -> list[str] | dict[str, Any]:
        if len(members[cluster]) <= max_children:
            return [words[index] for index in sorted(members[cluster])]
        parts = split(cluster)
        taken = {_first(words[members[part][0]]) for part in parts if len(members[part]) == 1}
        nodes: dict[str, Any] = {}
        for part in parts:
            if len(members[part]) == 1:
                nodes[words[members[part][0]]] = None
            else:
                word = _branch_word([words[index] for index in _by_centrality(members[part], vectors)], taken)
                nodes[word] = below(part)
        return nodes

    return below(len(members) - 1)


def _branch_word(central: list[str], taken: set[str]) -> str:
    """Call a branch by its most central words, of which no two may begin alike: a class is read where it begins."""
    chosen: list[str] = []
    for word in central:
        if _first(word) not in taken:
            taken.add(_first(word))
            chosen.append(word)
        if len(chosen) == WORDS_OF_A_BRANCH:
            break
    return " or ".join(chosen or central[:WORDS_OF_A_BRANCH])


def _first(word: str) -> str:
    return word.split()[0]


def _by_centrality(cluster: list[int], vectors: np.ndarray) -> list[int]:
    center = vectors[cluster].mean(0)
    # Rounded, so that the order of equally central words does not hang on the last bit.
    return sorted(cluster, key=lambda index: (-round(float(vectors[index] @ center), 9), index))


def _ward(vectors: np.ndarray) -> list[list[int]]:
    """Return the merges of Ward's method: the two clusters that become cluster `len(vectors) + i` at step i."""
    try:
        from sklearn.cluster import AgglomerativeClustering
    except ImportError as error:
        raise ImportError(
            "building a label tree needs scikit-learn: pip install dpt_peft[tasks], or give the tree yourself"
        ) from error
    clustering = AgglomerativeClustering(n_clusters=None, distance_threshold=0.0, linkage="ward").fit(vectors)
    return [[int(left), int(right)] for left, right in clustering.children_]


def _load_both(
    discriminator: PreTrainedModel | str | os.PathLike[str],
    tokenizer: PreTrainedTokenizerBase | str | os.PathLike[str] | None,
    **hub_arguments: Any,
) -> tuple[Any, Any]:
    """Return tokenizer and model, loaded where they are not."""
    if isinstance(discriminator, PreTrainedModel):
        if tokenizer is None:
            raise ValueError("`tokenizer` is missing: a loaded discriminator does not know its own")
        return load_tokenizer(tokenizer, "", hub_arguments), discriminator
    return load_tokenizer(tokenizer, discriminator, hub_arguments), _load(discriminator, **hub_arguments)


def _load(path: Any, **hub_arguments: Any) -> PreTrainedModel:
    config = AutoConfig.from_pretrained(path, **hub_arguments)
    model_class: Any = config.auto_class if isinstance(config, PretrainedHeadConfig) else get_discriminator(config)
    with no_progress_bars():
        return model_class.from_pretrained(path, **hub_arguments)
