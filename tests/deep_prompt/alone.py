"""One attention module with prompts and nothing around it."""

from __future__ import annotations

import torch

from dpt_peft.deep_prompt.attention.base import DeepPromptLayer
from dpt_peft.deep_prompt.bank import PromptBank
from tests.deep_prompt.test_common import prompt_config


def wrap(
    kind: type[DeepPromptLayer], module: torch.nn.Module, active: list[str] | None = None, **lengths: int
) -> DeepPromptLayer:
    """Wrap a module in evaluation mode.

    Args:
        kind: the layer class.
        module: the attention module.
        active: adapters in use; default: all.
        lengths: number of virtual tokens by adapter name.
    """
    bank = PromptBank(module)
    layer = kind(module, (0,), bank)
    for name, length in lengths.items():
        torch.manual_seed(length)
        layer.slots[name] = {0: 0}
        bank.update_layer(name, prompt_config(num_virtual_tokens=length), [(layer.key_size, layer.value_size)], 32)
    bank.set_adapter(active or list(lengths))
    return layer.eval()
