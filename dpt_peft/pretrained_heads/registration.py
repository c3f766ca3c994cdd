"""Make the wrappers known to transformers' auto classes and pipelines, and to PEFT. Runs once, on import."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from peft import PeftModel
from peft.utils import constants
from transformers import AutoConfig, AutoModelForSequenceClassification
from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES

from dpt_peft._compatibility import call_when_an_adapter_is_saved

from .base import DISCRIMINATOR_HEAD, PretrainedHeadModel
from .discriminators import supported_model_types
from .dpt import DPTForSequenceClassification
from .dpt_hierarchical import DPTForHierarchicalClassification
from .dpt_multi_span import DPTForMultiSpanQuestionAnswering
from .verbalizer import VerbalizerForSequenceClassification

#: The wrappers.
WRAPPERS: tuple[Any, ...] = (
    DPTForSequenceClassification,
    DPTForHierarchicalClassification,
    DPTForMultiSpanQuestionAnswering,
    VerbalizerForSequenceClassification,
)


def _save_config_beside(model: PeftModel, folder: Path) -> None:
    """Save a wrapper's config beside an adapter over it; other adapters stay as PEFT writes them."""
    base = model.get_base_model()
    if isinstance(base, PretrainedHeadModel):
        base.config.save_pretrained(folder)


call_when_an_adapter_is_saved(_save_config_beside)


def register() -> None:
    """Register the wrappers, for the discriminators that are registered."""
    for model_class in WRAPPERS:
        config_class = model_class.config_class
        AutoConfig.register(config_class.model_type, config_class, exist_ok=True)
        config_class.auto_class.register(config_class, model_class, exist_ok=True)
        if config_class.auto_class is AutoModelForSequenceClassification:
            # The text-classification pipeline looks here by name, and otherwise logs that the model is not supported.
            MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES[config_class.model_type] = model_class.__name__
    # PEFT finds default target modules by model type: a wrapper's are those of the discriminators it may hold. A
    # method without a default for ELECTRA gets none: another family's names could fit half of ELECTRA's modules.
    for name, mapping in vars(constants).items():
        if name.endswith("_TARGET_MODULES_MAPPING") and "electra" in mapping:
            modules = {module for inner in supported_model_types() for module in mapping.get(inner, ())}
            for model_class in WRAPPERS:
                if model_class.config_class.head_kind is DISCRIMINATOR_HEAD:
                    mapping[model_class.config_class.model_type] = sorted(modules)
