"""Verbalizers: a masked language model's own head and a word for each class, in the place of a new linear head."""

from __future__ import annotations

from transformers import AutoConfig, AutoModelForSequenceClassification
from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES

from .configuration import VerbalizerForSequenceClassificationConfig
from .modeling import VerbalizerForSequenceClassification


def register() -> None:
    """Make the wrapper known to transformers' auto classes and pipelines."""
    config_class = VerbalizerForSequenceClassificationConfig
    AutoConfig.register(config_class.model_type, config_class, exist_ok=True)
    AutoModelForSequenceClassification.register(config_class, VerbalizerForSequenceClassification, exist_ok=True)
    # The text-classification pipeline looks here by name, and otherwise logs that the model is not supported.
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES[config_class.model_type] = (
        VerbalizerForSequenceClassification.__name__
    )


register()

__all__ = ["VerbalizerForSequenceClassification", "VerbalizerForSequenceClassificationConfig"]
