"""Attention modules that are run as many layers, with prompts of its own for every run."""

from __future__ import annotations

from typing import Any

from torch import nn

from .base import DeepPromptLayer
from .followed import FollowedAttentionLayer
from .interface import InterfaceAttentionLayer


class RepeatedAttentionLayer(DeepPromptLayer):
    """Counts the runs of a module within one pass through its stack; mixed into a class that brings prompts in."""

    @classmethod
    def stack(cls, model: nn.Module, name: str) -> Any:
        """Return the module of `model` whose forward runs the attention module `name` as all of its layers."""
        raise NotImplementedError

    def bind(self, model: nn.Module, name: str) -> None:
        """Start counting runs anew with every pass through the stack, whatever became of the last one."""
        self._handle = self.stack(model, name).register_forward_pre_hook(_first_run)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the attention module with the prompts of the current run, and go on to the next."""
        self.switch(self.has_prompts())
        output = super().forward(*args, **kwargs)
        self.run = (self.run + 1) % len(self.layer_indices)
        return output

    def unwrap(self) -> nn.Module:
        """Also take the counter's hook off the stack."""
        self._handle.remove()
        return super().unwrap()


def _first_run(stack: nn.Module, *_: Any) -> None:
    # the layers are looked for in the stack that runs: a replica's hooks are those of the model it was made of
    for module in stack.modules():
        if isinstance(module, RepeatedAttentionLayer):
            module.run = 0


class AlbertAttentionLayer(RepeatedAttentionLayer, InterfaceAttentionLayer):
    """Prompts for `AlbertAttention`, which stands once per layer group and is run once per layer of the group."""

    @classmethod
    def supports(cls, module: nn.Module) -> bool:
        """Return whether the module is ALBERT's shared attention."""
        return type(module).__name__ == "AlbertAttention"

    @classmethod
    def runs(cls, model: nn.Module, name: str, position: int) -> tuple[int, ...]:
        """Return the layers of the attention `...albert_layer_groups.<group>.albert_layers.<inner>.attention`."""
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
        """Return the `AlbertTransformer` around the groups."""
        return model.get_submodule(name.rpartition(".albert_layer_groups.")[0])


class PerceiverAttentionLayer(RepeatedAttentionLayer, FollowedAttentionLayer):
    """Prompts for `PerceiverSelfAttention` in the block of latents, which is run several times.

    Attention between latents and inputs or outputs is cross-attention.
    """

    _BLOCK = ".self_attends."

    @classmethod
    def supports(cls, module: nn.Module) -> bool:
        """Return whether the module is Perceiver's attention."""
        return type(module).__name__ == "PerceiverSelfAttention"

    @classmethod
    def runs(cls, model: nn.Module, name: str, position: int) -> tuple[int, ...]:
        """Return the layers that run the attention `...self_attends.<position in block>.attention.self`."""
        if cls._BLOCK not in name:
            return (position,)
        config = cls.stack(model, name).config
        place = int(name.rpartition(cls._BLOCK)[2].partition(".")[0])
        return tuple(block * config.num_self_attends_per_block + place for block in range(config.num_blocks))

    @classmethod
    def stack(cls, model: nn.Module, name: str) -> Any:
        """Return the `PerceiverEncoder` around the block, or the attention's own layer outside of it."""
        return model.get_submodule(name.rpartition(cls._BLOCK)[0] or name.rpartition(".")[0])
