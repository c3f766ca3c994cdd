"""Models whose pretrained head answers: discriminators (DPT), and masked language models (verbalizers)."""

from __future__ import annotations

from .discriminators import register_discriminator, supported_model_types
from .dpt import DPTForSequenceClassification
from .dpt_config import DPTForSequenceClassificationConfig
from .dpt_hierarchical import DPTForHierarchicalClassification, DPTForHierarchicalClassificationConfig
from .dpt_multi_span import DPTForMultiSpanQuestionAnswering, DPTForMultiSpanQuestionAnsweringConfig
from .label_tree import LabelTree
from .registration import register
from .verbalizer import VerbalizerForSequenceClassification, VerbalizerForSequenceClassificationConfig

register()

__all__ = [
    "DPTForHierarchicalClassification",
    "DPTForHierarchicalClassificationConfig",
    "DPTForMultiSpanQuestionAnswering",
    "DPTForMultiSpanQuestionAnsweringConfig",
    "DPTForSequenceClassification",
    "DPTForSequenceClassificationConfig",
    "LabelTree",
    "VerbalizerForSequenceClassification",
    "VerbalizerForSequenceClassificationConfig",
    "register_discriminator",
    "supported_model_types",
]
