"""How the cost of an answer grows with the number of classes: all in templates, a tree, or a short list a text."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from costs import inference_cost, peak_memory_mb
from datasets import Dataset
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from dpt_peft import DPTForHierarchicalClassification, DPTForSequenceClassification, LabelTree
from dpt_peft.training import data_fingerprint


def whole_words(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Return the words of a vocabulary that are one token each: lower-case letters, four to eight of them.

    Raises:
        ValueError: If there are fewer than two.
    """
    words: list[str] = []
    for token in sorted(tokenizer.get_vocab()):
        word = token.lstrip("Ġ▁")
        if word.isascii() and word.isalpha() and word.islower() and 4 <= len(word) <= 8:
            ids = tokenizer(f" {word}", add_special_tokens=False)["input_ids"]
            if len(ids) == 1 and word not in words[-1:]:
                words.append(word)
    if len(words) < 2:
        raise ValueError("the tokenizer has no whole words to make classes and texts of")
    return words


def balanced_tree(classes: Sequence[str], branch_words: Sequence[str], max_children: int) -> LabelTree:
    """Return a tree of as few levels as `max_children` allows, with branches of like size.

    Args:
        classes: Names of the classes.
        branch_words: Names of the branches, at least as many as there are branches.
        max_children: Most children of a branch.
    """
    names = iter(branch_words)
    levels = 1
    while max_children**levels < len(classes):
        levels += 1

    def below(part: Sequence[str], levels_left: int) -> Any:
        if levels_left == 1:
            return list(part)
        # The smallest number of branches whose power reaches the number of classes.
        count = next(n for n in range(2, max_children + 1) if n**levels_left >= len(part))
        cuts = [len(part) * index // count for index in range(count + 1)]
        return {
            next(names): below(part[start:stop], levels_left - 1) for start, stop in pairwise(cuts) if start < stop
        }

    return LabelTree.from_nested(below(list(classes), levels), classes=classes)


def class_scaling_cost(
    model_name_or_path: str,
    kind: str,
    num_classes: int,
    *,
    text_length: int = 24,
    texts: int = 64,
    batch_size: int = 16,
    max_children: int = 16,
    beam_width: int = 2,
    classes_per_pass: int = 200,
    short_list: int = 8,
    seed: int = 0,
) -> dict[str, Any]:
    """Measure one model over synthetic classes and texts; what it answers does not matter here.

    Args:
        model_name_or_path: A discriminator with its tokenizer.
        kind: "flat" (all classes in a template, in as many passes over the text as the length limit asks for), "tree"
            (a balanced tree) or "short list" (those nearest to the text).
        num_classes: Number of classes; each is called by one whole word of the vocabulary.
        text_length: Words a text.
        texts: Number of texts.
        batch_size: Texts a batch.
        max_children: Most children of a branch of the tree.
        beam_width: Branches followed at a level, whatever their scores.
        classes_per_pass: Most classes in one flat template.
        short_list: Classes of a short list.
        seed: Draws classes and texts.

    Returns:
        What `inference_cost` returns, `peak_memory_mb` of the process, `passes` over a text (flat) or `levels` (tree),
        and `trained_parameters` (none), `rows` and `data_fingerprint` as a training run does.

    Raises:
        ValueError: If `kind` is unknown or the vocabulary has too few whole words.
    """
    tokenizer = AutoTokenizer.from_pretrained(model_name_or_path)
    draw = random.Random(seed)
    words = whole_words(tokenizer)
    draw.shuffle(words)
    if len(words) < 2 * num_classes:
        raise ValueError(f"`num_classes` is {num_classes}, but the vocabulary has {len(words)} whole words only.")
    classes, others = words[:num_classes], words[num_classes:]
    shape: dict[str, Any]
    model: Any
    if kind == "flat":
        passes = -(-num_classes // classes_per_pass)
        shape = {"passes": passes}
        split: dict[str, Any] = {"classes_per_pass": -(-num_classes // passes)} if passes > 1 else {}
        model = DPTForSequenceClassification.from_pretrained(model_name_or_path, label_words=classes, **split)
    elif kind == "tree":
        tree = balanced_tree(classes, others, max_children)
        shape = {"levels": tree.depth}
        model = DPTForHierarchicalClassification.from_pretrained(
            model_name_or_path, label_tree=tree, beam_width=beam_width, beam_threshold=0.0
        )
    elif kind == "short list":
        shape = {"passes": 2}
        model = DPTForSequenceClassification.from_pretrained(
            model_name_or_path, label_words=classes, prototypes=True, short_list=short_list
        )
        torch.nn.init.normal_(model.class_prototypes.weight)  # what they are does not change the cost
    else:
        raise ValueError(f"`kind` must be 'flat', 'tree' or 'short list', got {kind!r}.")
    model = model.float()
    rows = [" ".join(draw.choices(others, k=text_length)) for _ in range(texts)]
    features = Dataset.from_dict(dict(tokenizer(rows)))
    cost = inference_cost(model, features, tokenizer, batch_size=batch_size)
    facts = {
        "trained_parameters": 0,
        "rows": {"test": texts},
        "data_fingerprint": {"test": data_fingerprint(features)},
    }
    return {**cost, **shape, **facts, "peak_memory_mb": peak_memory_mb()}
