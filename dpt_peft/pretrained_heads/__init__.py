"""Models whose pretrained head answers: discriminators (DPT), and masked language models (verbalizers)."""

from __future__ import annotations

from .discriminators import Discriminator, register_discriminator, supported_model_types
from .dpt import DPTForSequenceClassification
from .dpt_config import DPTForSequenceClassificationConfig
from .dpt_hierarchical import DPTForHierarchicalClassification
from .dpt_hierarchical_config import DPTForHierarchicalClassificationConfig
from .dpt_multi_span import DPTForMultiSpanQuestionAnswering, DPTForMultiSpanQuestionAnsweringConfig
from .label_tree import LabelTree
from .registration import register
from .verbalizer import VerbalizerForSequenceClassification
from .verbalizer_config import VerbalizerForSequenceClassificationConfig

register()

__all__ = [
    "DPTForHierarchicalClassification",
    "DPTForHierarchicalClassificationConfig",
    "DPTForMultiSpanQuestionAnswering",
    "DPTForMultiSpanQuestionAnsweringConfig",
    "DPTForSequenceClassification",
    "DPTForSequenceClassificationConfig",
    "Discriminator",
    "LabelTree",
    "VerbalizerForSequenceClassification",
    "VerbalizerForSequenceClassificationConfig",
    "register_discriminator",
    "supported_model_types",
]
