"""Adapters of other methods on the same backbone: LoRA on linear layers within prompted attention."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from peft import PeftConfig
from peft.tuners.tuners_utils import BaseTuner
from torch import nn

from dpt_peft._compatibility import call_before_an_adapter_is_put_on, is_targeted

from .attention.base import DeepPromptLayer
from .bank import PromptBank
from .model import DeepPromptModel
from .saved import shorten


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
        if isinstance(module, DeepPromptLayer):
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
    if isinstance(tuner, DeepPromptModel):
        return
    hidden = [
        f"{name}.{child}"
        for name, layer in model.named_modules()
        if isinstance(layer, DeepPromptLayer)
        for child, module in layer.base_layer.named_modules()
        if child and is_targeted(tuner, config, f"{name}.{child}", module)
    ]
    if hidden:
        raise ValueError(
            f"`target_modules` names layers within attention that has prompts ({shorten(hidden)}), where PEFT does "
            "not look. Take the prompts off meanwhile: `with dpt_peft.prompts_set_aside(model):` around "
            "`get_peft_model`, `add_adapter`, or what loads and saves the other adapter."
        )


call_before_an_adapter_is_put_on(_refuse_to_pass_layers_by)
