"""ALBERT runs one attention module as many layers."""

from __future__ import annotations

from typing import Any

from torch import nn

from .attention import InterfaceAttentionLayer
from .repeated import RepeatedAttentionLayer


class AlbertAttentionLayer(RepeatedAttentionLayer, InterfaceAttentionLayer):
    """Prompts for `AlbertAttention`, which stands once per layer group and is run once per layer of the group."""

    @classmethod
    def supports(cls, module: nn.Module) -> bool:
        """Whether the module is ALBERT's shared attention."""
        return type(module).__name__ == "AlbertAttention"

    @classmethod
    def runs(cls, model: nn.Module, name: str, position: int) -> tuple[int, ...]:
        """The layers that run the attention `...albert_layer_groups.<group>.albert_layers.<inner>.attention`."""
        config = cls.stack(model, name).config
        path = name.split(".")
        group, inner = int(path[-4]), int(path[-2])
        layers_per_group = config.num_hidden_layers / config.num_hidden_groups
        # the same rounding as AlbertTransformer.forward's
        return tuple(
            layer * config.inner_group_num + inner
            for layer in range(config.num_hidden_layers)
            if int(layer / layers_per_group) == group
        )

    @classmethod
    def stack(cls, model: nn.Module, name: str) -> Any:
        """The `AlbertTransformer` around the groups."""
        return model.get_submodule(name.rpartition(".albert_layer_groups.")[0])
