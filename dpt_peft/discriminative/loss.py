"""The loss of DPT (Yao et al. 2022, Eq. 3) and the checks of its labels."""

from __future__ import annotations

import torch
from torch import nn


def dpt_loss(logits: torch.Tensor, labels: torch.Tensor, *, multi_label: bool) -> torch.Tensor:
    """Binary cross entropy of every class's score, summed over classes, mean over rows (Eq. 3).

    Args:
        logits: (batch, classes), high = the class word looks original.
        labels: (batch,) class indices, or with `multi_label` (batch, classes) numbers between 0 and 1.
        multi_label: Which of the two.

    Returns:
        A scalar, in single precision at least.

    Raises:
        ValueError: Labels of the wrong shape, type or range. The range is not checked inside `torch.compile`.
    """
    # Half precision is too coarse for a sum over classes.
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    targets = _multi_label_targets(labels, logits) if multi_label else _class_targets(labels, logits)
    return nn.functional.binary_cross_entropy_with_logits(logits, targets, reduction="sum") / logits.shape[0]


def _class_targets(labels: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    batch, classes = logits.shape
    if labels.is_floating_point() or labels.numel() != batch:
        raise ValueError(
            f"`labels` must be {batch} class indices, one a row, got {labels.dtype} of shape {tuple(labels.shape)}; "
            "for labels of shape (batch, classes) load the model with problem_type='multi_label_classification'"
        )
    labels = labels.reshape(batch, 1)
    _check_range(labels, classes - 1, f"class indices from 0 to {classes - 1}, for {classes} label words")
    return labels.eq(torch.arange(classes, device=labels.device)).to(logits.dtype)


def _multi_label_targets(labels: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
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
