"""Attention masks with columns for prompts in front."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

# torch's fused kernels pad masks anew in every layer unless their rows begin at multiples of so many numbers
_ALIGNMENT = 8


def widen(mask: Any, length: int, visible: torch.Tensor | None) -> Any:
    """Add the prompts' columns in front of a mask.

    Args:
        mask: (batch, 1 or heads, 1 or queries, tokens) or (batch, tokens), boolean or 1 where a token is seen, or
            additive; or `None`, which hides nothing.
        length: how many prompts there are.
        visible: which of them each row sees, boolean (batch, length); `None` if all rows see all.

    Raises:
        NotImplementedError: if the mask is no tensor (flex attention); the message names the way out.
    """
    if mask is None:
        return None
    if not isinstance(mask, torch.Tensor):
        raise NotImplementedError(
            f"Deep prompts cannot widen a mask of type {type(mask).__name__}. "
            "Call `model.set_attn_implementation('sdpa')` (or 'eager') on the backbone first."
        )
    if mask.dim() == 4 and mask.stride(2) == 0 and mask.shape[2] > 1:
        # transformers expands padding masks over the queries without a copy; widening one row keeps it so
        return widen(mask[:, :, :1], length, visible).expand(-1, -1, mask.shape[2], -1)
    # additive masks are 0 where a token is seen, boolean and padding masks are 1
    seen, hidden = (0.0, torch.finfo(mask.dtype).min) if mask.is_floating_point() else (1, 0)
    if visible is None:
        return nn.functional.pad(mask, (length, 0), value=seen)
    columns = visible.new_full(visible.shape, hidden, dtype=mask.dtype).masked_fill(visible, seen)
    if mask.dim() == 4:
        columns = columns[:, None, None, :].expand(-1, *mask.shape[1:3], -1)
        mask = mask.expand(columns.shape[0], -1, -1, -1)
    return torch.cat([columns, mask], dim=-1)


def widen_additive(mask: torch.Tensor, length: int, visible: torch.Tensor | None, dtype: torch.dtype) -> torch.Tensor:
    """Widen a boolean mask (batch, heads, queries, tokens) into what the sdpa kernel would make of it in every layer.

    Returns:
        0 where a token is seen and minus infinity elsewhere, in rows that begin where fused kernels want them to.
    """
    if mask.stride(2) == 0 and mask.shape[2] > 1:
        return widen_additive(mask[:, :, :1], length, visible, dtype).expand(-1, -1, mask.shape[2], -1)
    if visible is not None:
        mask, length = widen(mask, length, visible), 0
    columns = length + mask.shape[-1]
    # an exported graph would be good for those lengths alone that need as much, or as little
    extra = -columns % _ALIGNMENT if isinstance(columns, int) else 0
    wide = nn.functional.pad(mask, (length, extra), value=True)
    # the logarithms of 1 and 0
    return wide.to(dtype).log_()[..., :columns]


def causal(tokens: int, device: torch.device) -> torch.Tensor:
    """Return a boolean mask (1, 1, tokens, tokens) that hides later tokens."""
    return torch.ones(tokens, tokens, dtype=torch.bool, device=device).tril()[None, None]


def open_mask(implementation: str, batch: int, tokens: int, like: torch.Tensor) -> torch.Tensor:
    """Return a mask that hides nothing, in the form that the kernels of an implementation take."""
    if "flash" in implementation:
        return torch.ones(batch, tokens, dtype=torch.long, device=like.device)
    if implementation == "sdpa":
        return torch.ones(batch, 1, 1, tokens, dtype=torch.bool, device=like.device)
    return torch.zeros(batch, 1, 1, tokens, dtype=like.dtype, device=like.device)
