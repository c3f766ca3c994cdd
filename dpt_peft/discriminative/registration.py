"""Makes the wrapper known to transformers' auto classes and pipelines, and to PEFT. Runs once, on import."""

from __future__ import annotations

from peft.utils import constants
from transformers import AutoConfig, AutoModelForSequenceClassification
from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES

from .configuration import DPTForSequenceClassificationConfig
from .discriminators import supported_model_types
from .modeling import DPTForSequenceClassification


def register() -> None:
    """Register the wrapper; called again, it takes discriminators into account that were registered since."""
    model_type = DPTForSequenceClassificationConfig.model_type
    AutoConfig.register(model_type, DPTForSequenceClassificationConfig, exist_ok=True)
    AutoModelForSequenceClassification.register(
        DPTForSequenceClassificationConfig, DPTForSequenceClassification, exist_ok=True
    )
    # The text-classification pipeline looks here by name, and otherwise logs that the model is not supported.
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES[model_type] = DPTForSequenceClassification.__name__
    # PEFT finds default target modules by model type: the wrapper's are those of the discriminators it may hold.
    for name, mapping in vars(constants).items():
        if name.endswith("_TARGET_MODULES_MAPPING"):
            modules = {module for inner in supported_model_types() for module in mapping.get(inner, ())}
            if modules:
                mapping[model_type] = sorted(modules)
