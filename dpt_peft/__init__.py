"""Prompt tuning for encoders and discriminative language models, inside transformers and PEFT.

Importing the package registers deep prompts with PEFT and the task wrappers with transformers; nothing else happens.
"""

from .deep_prompt import DeepPromptConfig, DeepPromptLayer, DeepPromptModel
from .discriminative import DPTForSequenceClassification, DPTForSequenceClassificationConfig, LabelTree
from .discriminative.embedded import embedded_discriminator

__version__ = "0.1.0.dev0"

__all__ = [
    "DPTForSequenceClassification",
    "DPTForSequenceClassificationConfig",
    "DeepPromptConfig",
    "DeepPromptLayer",
    "DeepPromptModel",
    "LabelTree",
    "embedded_discriminator",
]
