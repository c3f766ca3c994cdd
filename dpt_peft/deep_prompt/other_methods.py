"""Adapters of other methods on the same backbone: LoRA on linear layers within prompted attention."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from peft import PeftConfig
from peft.tuners.tuners_utils import BaseTuner
from torch import nn

from dpt_peft._compatibility import (
    call_before_an_adapter_is_put_on,
    call_when_an_adapters_weights_are_read,
    is_targeted,
    with_default_targets,
)

from .attention.base import DeepPromptLayer, WrappedModule
from .bank import PromptBank
from .config import DeepPromptConfig, shorten
from .model import DeepPromptModel

_THE_WAY = (
    "Take the prompts off meanwhile: `with dpt_peft.prompts_set_aside(model):` around `get_peft_model`, "
    "`add_adapter`, or what loads and saves the other adapter."
)


@contextmanager
def prompts_set_aside(model: nn.Module) -> Iterator[nn.Module]:
    """Take the prompts off a model for the length of the context, and put them back.

    PEFT looks for linear layers outside of other adapters only, and names parameters by where they are. Within this
    context a LoRA can be added to attention that has prompts, and is saved and loaded as if there were none.

    Example:
        >>> with prompts_set_aside(model):
        ...     model.add_adapter(LoraConfig(target_modules=["query", "value"]), adapter_name="lora")
        >>> model.set_adapter(["prompts", "lora"])
    """
    places = []
    for name, module in list(model.named_modules()):
        if isinstance(module, WrappedModule):
            parent, _, child = name.rpartition(".")
            places.append((model.get_submodule(parent), child, module))
    bank = PromptBank.of(model)
    _set_aside(bank, True)
    for holder, child, layer in places:
        setattr(holder, child, layer.base_layer)
    try:
        yield model
    finally:
        for holder, child, layer in places:
            setattr(holder, child, layer)
        _set_aside(bank, False)


def _set_aside(bank: PromptBank | None, aside: bool) -> None:
    if bank is not None:
        bank.set_aside = aside
        bank.refresh()


def _refuse_to_pass_layers_by(tuner: BaseTuner, model: nn.Module, config: PeftConfig) -> None:
    """Raise if an adapter is meant for layers within prompted attention, which PEFT would not find."""
    prompted = [(name, module) for name, module in model.named_modules() if isinstance(module, DeepPromptLayer)]
    if not prompted or isinstance(tuner, DeepPromptModel):
        return
    config = with_default_targets(tuner, model, config)
    hidden = [
        f"{name}.{child}"
        for name, layer in prompted
        for child, module in layer.base_layer.named_modules()
        if child and is_targeted(tuner, config, f"{name}.{child}", module)
    ]
    if hidden:
        raise ValueError(
            f"`target_modules` names layers within attention that has prompts ({shorten(hidden)}), where PEFT does "
            f"not look. {_THE_WAY}"
        )


def _warn_of_names_within_prompts(model: nn.Module, config: PeftConfig, weights: Mapping[str, torch.Tensor]) -> None:
    """Warn if another method's weights are read while they lie within prompted attention: their names say so."""
    if isinstance(config, DeepPromptConfig):
        return
    within = tuple(f"{name}.base_layer." for name, mod in model.named_modules() if isinstance(mod, DeepPromptLayer))
    hidden = [name for name in weights if name.startswith(within)]
    if hidden:
        warnings.warn(
            f"weights within attention that has prompts get names ({shorten(hidden)}) that fit no other model: loaded "
            f"there, they are lost. {_THE_WAY}",
            stacklevel=2,
        )


call_when_an_adapters_weights_are_read(_warn_of_names_within_prompts)
call_before_an_adapter_is_put_on(_refuse_to_pass_layers_by)
