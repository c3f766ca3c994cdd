"""Perceiver runs one block of self-attention over its latents several times."""

from __future__ import annotations

from typing import Any

from torch import nn

from .own_attention import OwnAttentionLayer
from .repeated import RepeatedAttentionLayer

_BLOCK = ".self_attends."


class PerceiverAttentionLayer(RepeatedAttentionLayer, OwnAttentionLayer):
    """Prompts for `PerceiverSelfAttention` in the block: every run of the block has its own.

    Attention between latents and inputs or outputs is cross-attention.
    """

    @classmethod
    def supports(cls, module: nn.Module) -> bool:
        """Whether the module is Perceiver's attention."""
        return type(module).__name__ == "PerceiverSelfAttention"

    @classmethod
    def runs(cls, model: nn.Module, name: str, position: int) -> tuple[int, ...]:
        """The layers that run the attention `...self_attends.<position in block>.attention.self`."""
        if _BLOCK not in name:
            return (position,)
        config = cls.stack(model, name).config
        place = int(name.rpartition(_BLOCK)[2].partition(".")[0])
        return tuple(block * config.num_self_attends_per_block + place for block in range(config.num_blocks))

    @classmethod
    def stack(cls, model: nn.Module, name: str) -> Any:
        """The `PerceiverEncoder` around the block, or the attention's own layer outside of it."""
        return model.get_submodule(name.rpartition(_BLOCK)[0] or name.rpartition(".")[0])
