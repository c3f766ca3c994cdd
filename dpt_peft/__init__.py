"""Prompt tuning for encoders and discriminative language models, inside transformers and PEFT."""

__version__ = "0.1.0.dev0"
