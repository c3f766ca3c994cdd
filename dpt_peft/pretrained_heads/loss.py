"""The loss of DPT (Yao et al. 2022, Eq. 3) and the checks of its labels."""

from __future__ import annotations

import torch
from torch import nn

#: Logit of a class that a row does not have, or that was not looked at. It is finite in every precision, as losses of
#: others may add it up, and its score is zero.
NO_CLASS = -(2.0**14)


def dpt_loss(
    logits: torch.Tensor,
    labels: torch.Tensor,
    *,
    multi_label: bool,
    class_weights: torch.Tensor | None = None,
    label_smoothing: float = 0.0,
) -> torch.Tensor:
    """Binary cross entropy of every class's score, summed over classes, mean over rows (Eq. 3).

    Args:
        logits: (batch, classes), high = the class word looks original. `NO_CLASS` or `-inf` says that a row has no
            such class: it adds nothing.
        labels: (batch,) class indices, or with `multi_label` (batch, classes) numbers between 0 and 1.
        multi_label: Which of the two.
        class_weights: (classes,). For single labels the weight of a row is that of its class, and the mean is the
            weighted one, as in `torch.nn.CrossEntropyLoss(weight=...)` (but zero where all rows weigh nothing). For
            multiple labels it multiplies the positive part of each class, as `pos_weight` does in
            `torch.nn.BCEWithLogitsLoss`.
        label_smoothing: How far the targets of each class are drawn from 0 and 1 towards 1/2: t becomes
            (1 - smoothing) t + smoothing / 2. Every class is a yes-or-no question of its own in Eq. 3.

    Returns:
        A scalar, in single precision at least.

    Raises:
        ValueError: Labels of the wrong shape, type or range. The range is not checked inside `torch.compile`.
    """
    # Half precision is too coarse for a sum over classes.
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    # Not `>`: a logit that is no number is a class's own, and makes the loss one.
    present = ~(logits <= NO_CLASS)
    targets = multi_label_targets(labels, logits) if multi_label else _class_targets(labels, logits, present)
    targets = targets * (1 - label_smoothing) + label_smoothing / 2
    weights = None if class_weights is None else class_weights.to(logits)
    losses = nn.functional.binary_cross_entropy_with_logits(
        logits.where(present, 0), targets, reduction="none", pos_weight=weights if multi_label else None
    )
    rows = losses.where(present, 0).sum(1)
    if weights is None or multi_label:
        return rows.mean()
    row_weights = weights[labels.reshape(-1)]
    # A batch of nothing but classes of weight zero has the loss zero, and not 0 / 0, which would end a training.
    return (rows * row_weights).sum() / row_weights.sum().clamp(min=torch.finfo(rows.dtype).tiny)


def check_class_indices(labels: torch.Tensor, batch: int, classes: int, hint: str = "") -> torch.Tensor:
    """Return labels as class indices (batch,).

    Args:
        labels: What was given.
        batch: Number of rows.
        classes: Number of classes.
        hint: What else may be meant by labels of another shape, for the message.

    Raises:
        ValueError: Labels of the wrong shape, type or range. The range is not checked inside `torch.compile`.
    """
    if labels.is_floating_point() or labels.numel() != batch:
        raise ValueError(
            f"`labels` must be {batch} class indices, one a row, "
            f"got {labels.dtype} of shape {tuple(labels.shape)}{hint}"
        )
    labels = labels.reshape(batch).long()
    _check_range(labels, classes - 1, f"class indices from 0 to {classes - 1}")
    return labels


def told_problem_type(problem_type: str | None, labels: torch.Tensor) -> str:
    """Return the problem type, told by the labels where none is set, as transformers' own classifiers do."""
    told = "multi_label_classification" if labels.is_floating_point() else "single_label_classification"
    return problem_type or told


def _class_targets(labels: torch.Tensor, logits: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
    batch, classes = logits.shape
    hint = "; for labels of shape (batch, classes) load the model with problem_type='multi_label_classification'"
    labels = check_class_indices(labels, batch, classes, hint)[:, None]
    targets = labels.eq(torch.arange(classes, device=labels.device))
    if not torch.compiler.is_compiling() and bool((targets & ~present).any()):
        raise ValueError("`labels` names a class that its row's label list does not have")
    return targets.to(logits.dtype)


def multi_label_targets(labels: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    """Return labels of several classes a row, numbers between 0 and 1, in the logits' precision: (batch, classes).

    Raises:
        ValueError: Labels of the wrong shape or range. The range is not checked inside `torch.compile`.
    """
    if labels.shape != logits.shape:
        raise ValueError(
            f"`labels` for multi-label classification must have the shape (batch, classes) = {tuple(logits.shape)}, "
            f"got {tuple(labels.shape)}"
        )
    _check_range(labels, 1, "numbers from 0 to 1 for multi-label classification")
    return labels.to(logits.dtype)


def _check_range(labels: torch.Tensor, highest: int, meaning: str) -> None:
    if torch.compiler.is_compiling():
        return
    # One read for both ends. On a GPU it waits for the device, which the splice has just done anyway.
    low, high = torch.stack(labels.aminmax()).tolist()
    if low < 0 or high > highest:
        raise ValueError(f"`labels` must be {meaning}, got values from {low} to {high}")
