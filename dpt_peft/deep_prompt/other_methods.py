"""Adapters of other methods on the same backbone: LoRA on linear layers within prompted attention."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from .attention.base import DeepPromptLayer
from .bank import PromptBank


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
