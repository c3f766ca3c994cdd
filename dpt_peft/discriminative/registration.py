"""Makes the wrappers known to transformers' auto classes and pipelines, and to PEFT. Runs once, on import."""

from __future__ import annotations

from peft.utils import constants
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoModelForTokenClassification
from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES

from .configuration import DPTForSequenceClassificationConfig
from .discriminators import supported_model_types
from .modeling import DPTForSequenceClassification
from .multi_span import DPTForMultiSpanQuestionAnswering, DPTForMultiSpanQuestionAnsweringConfig

# The reader gives a score a token and takes a label a token, as token classifiers do; transformers' own question
# answering models point at one start and one end.
_WRAPPERS = (
    (DPTForSequenceClassificationConfig, DPTForSequenceClassification, AutoModelForSequenceClassification),
    (DPTForMultiSpanQuestionAnsweringConfig, DPTForMultiSpanQuestionAnswering, AutoModelForTokenClassification),
)


def register() -> None:
    """Register the wrappers; called again, it takes discriminators into account that were registered since."""
    for config_class, model_class, auto_class in _WRAPPERS:
        AutoConfig.register(config_class.model_type, config_class, exist_ok=True)
        auto_class.register(config_class, model_class, exist_ok=True)
    # The text-classification pipeline looks here by name, and otherwise logs that the model is not supported.
    classifier = DPTForSequenceClassification.__name__
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES[DPTForSequenceClassificationConfig.model_type] = classifier
    # PEFT finds default target modules by model type: a wrapper's are those of the discriminators it may hold.
    for name, mapping in vars(constants).items():
        if name.endswith("_TARGET_MODULES_MAPPING"):
            modules = {module for inner in supported_model_types() for module in mapping.get(inner, ())}
            if modules:
                for config_class, _, _ in _WRAPPERS:
                    mapping[config_class.model_type] = sorted(modules)
