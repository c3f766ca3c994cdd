"""Deep prompts (P-tuning v2) as a PEFT method."""

from __future__ import annotations

from dpt_peft._compatibility import register_peft_type

from .attention.base import DeepPromptLayer
from .config import DeepPromptConfig, DeepPromptType
from .model import DeepPromptModel
from .other_methods import prompts_set_aside
from .transfer import copy_adapter, hotswap_adapter

__all__ = [
    "DeepPromptConfig",
    "DeepPromptLayer",
    "DeepPromptModel",
    "DeepPromptType",
    "copy_adapter",
    "hotswap_adapter",
    "prompts_set_aside",
]

register_peft_type(DeepPromptType.DEEP_PROMPT, DeepPromptConfig, DeepPromptModel, DeepPromptModel.prefix)
