"""Deep prompts (P-tuning v2) as a PEFT method."""

from __future__ import annotations

from peft.mapping import (
    PEFT_TYPE_TO_CONFIG_MAPPING,
    PEFT_TYPE_TO_PREFIX_MAPPING,
    PEFT_TYPE_TO_TUNER_MAPPING,
)

from .config import DeepPromptConfig, DeepPromptType
from .copies import copy_adapter, hotswap_adapter
from .layer import DeepPromptLayer
from .model import DeepPromptModel
from .other_methods import prompts_set_aside

__all__ = [
    "DeepPromptConfig",
    "DeepPromptLayer",
    "DeepPromptModel",
    "DeepPromptType",
    "copy_adapter",
    "hotswap_adapter",
    "prompts_set_aside",
]

# `peft.utils.register_peft_method` writes these same entries, but refuses names that PEFT's own closed enum lacks
# (peft #2273).
PEFT_TYPE_TO_CONFIG_MAPPING[DeepPromptType.DEEP_PROMPT] = DeepPromptConfig
PEFT_TYPE_TO_TUNER_MAPPING[DeepPromptType.DEEP_PROMPT] = DeepPromptModel
PEFT_TYPE_TO_PREFIX_MAPPING[DeepPromptType.DEEP_PROMPT] = DeepPromptModel.prefix
