"""Class prototypes: the mean states of a class's texts, which other texts are compared with (as in Snell et al. 2017).

A discriminator that was made from a sentence encoder still knows which texts are alike. That is knowledge of another
kind than its head's, which judges words in a text, and it is there in the same pass.
"""

from __future__ import annotations

import torch
from torch import nn


def mean_state(states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return the mean of the states (batch, length, width) where the mask (batch, length) is not zero.

    It is in single precision at least: sums over a long text overflow in half precision.
    """
    states = states.to(torch.promote_types(states.dtype, torch.float32))
    weights = mask.unsqueeze(-1).to(states.dtype)
    return (states * weights).sum(1) / weights.sum(1).clamp(min=1)


def full_precision(tensor: torch.Tensor) -> torch.autocast:
    """Switch autocast off: cosines that are nearly equal would tie in half precision."""
    return torch.autocast(tensor.device.type, enabled=False)


def pair_loss(states: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Draw texts of one class together, and others apart: all pairs of a batch (SetFit, Tunstall et al. 2022).

    Args:
        states: (batch, width).
        labels: (batch,), class indices.

    Returns:
        The mean of (1 - cosine)^2 over pairs of one class, plus that of cosine^2 over pairs of two; 0 for no pairs.
    """
    with full_precision(states):
        directions = nn.functional.normalize(states, dim=-1)
        cosines = directions @ directions.T
    same = labels[:, None].eq(labels[None])
    pairs = torch.ones_like(same).triu(1)
    total = cosines.new_zeros(())
    for chosen, target in ((same & pairs, 1.0), (~same & pairs, 0.0)):
        total = total + ((cosines - target).square() * chosen).sum() / chosen.sum().clamp(min=1)
    return total
