"""Prompt tuning for encoders and discriminative language models, inside transformers and PEFT.

Importing the package registers deep prompts with PEFT; nothing else happens.
"""

from .deep_prompt import DeepPromptConfig, DeepPromptLayer, DeepPromptModel

__version__ = "0.1.0.dev0"

__all__ = ["DeepPromptConfig", "DeepPromptLayer", "DeepPromptModel"]
