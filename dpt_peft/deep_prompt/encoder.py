"""The part of the prompt encoder that all layers share."""

from __future__ import annotations

from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

from .config import DeepPromptConfig


class DeepPromptEncoder(nn.Module, BaseTunerLayer):
    """Table and first layer of the "mlp" reparameterisation (P-tuning v2, section 3.3), one pair per adapter.

    It stands once, at the root of the wrapped model, so that `load_adapter` of a plain transformers model finds it and
    a sharded root keeps it at hand for all layers. The second layer, which makes the keys and values, is each
    [`DeepPromptLayer`]'s own; `EncodedPrompts` puts the three together.
    """

    adapter_layer_names = ("deep_prompt_table", "deep_prompt_hidden")

    def __init__(self, neighbour: nn.Module) -> None:
        """Make an empty encoder that lives on the device of the backbone's module `neighbour`."""
        super().__init__()
        # in a tuple: a reference, not a submodule
        self._neighbour = (neighbour,)
        self.deep_prompt_table = nn.ParameterDict()
        self.deep_prompt_hidden = nn.ModuleDict()

    def update_layer(self, adapter_name: str, config: DeepPromptConfig, hidden_size: int) -> None:
        """Draw table (num_virtual_tokens, hidden_size) and first layer for a new adapter."""
        table = nn.Parameter(torch.empty(config.num_virtual_tokens, hidden_size))
        hidden = nn.Linear(hidden_size, config.encoder_hidden_size)
        nn.init.normal_(table, std=config.init_std)
        init_linear(hidden, config.init_std)
        self.deep_prompt_table[adapter_name] = table
        self.deep_prompt_hidden[adapter_name] = hidden

    def _get_base_layer_device_and_dtype(self, base_layer: nn.Module) -> tuple[Any, Any]:
        return device_and_dtype(self._neighbour[0])


def device_and_dtype(module: nn.Module) -> tuple[torch.device | None, torch.dtype | None]:
    """Where a module's first parameter is computed with, and as what; PEFT asks this of modules that have a `weight`.

    A parameter that accelerate has offloaded stands on the meta device until it is needed. What joins it in the
    computation has to be where the computation is.
    """
    for part in module.modules():
        parameter = next(part.parameters(recurse=False), None)
        if parameter is not None:
            offloaded_to = getattr(getattr(part, "_hf_hook", None), "execution_device", None)
            return (torch.device(offloaded_to) if offloaded_to is not None else parameter.device), parameter.dtype
    return None, None


def init_linear(linear: nn.Linear, std: float) -> None:
    """Normal weights and zero bias, as transformers initialises the new layers of the papers' backbones."""
    nn.init.normal_(linear.weight, std=std)
    nn.init.zeros_(linear.bias)
