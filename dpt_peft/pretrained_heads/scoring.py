"""From one number per token to one logit per class."""

from __future__ import annotations

import torch

from .splice import SplicedInputs


def class_scores(tokens: torch.Tensor, spliced: SplicedInputs, wordpieces: str, longest: int) -> torch.Tensor:
    """Read the score of every class at its wordpieces.

    Args:
        tokens: (batch, length), a score per token, high = original.
        spliced: The batch with its templates.
        wordpieces: `"first"`: the score of the class's first wordpiece; `"mean"`: the mean of all of them; `"max"`:
            the highest.
        longest: Wordpieces of the longest class.

    Returns:
        (batch, columns of the templates). What stands where a row has no such class means nothing.
    """
    first = spliced.label_positions
    if wordpieces == "first" or longest == 1:
        return tokens.gather(1, first)
    piece = torch.arange(longest, device=tokens.device)
    present = piece < spliced.label_lengths.unsqueeze(-1)
    positions = (first.unsqueeze(-1) + piece).clamp(max=tokens.shape[1] - 1)
    scores = tokens.gather(1, positions.flatten(1)).view(positions.shape)
    if wordpieces == "max":
        return scores.masked_fill(~present, -torch.inf).amax(-1)
    return scores.where(present, 0).sum(-1) / spliced.label_lengths.clamp(min=1)
