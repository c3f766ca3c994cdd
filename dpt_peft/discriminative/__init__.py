"""DPT: discriminative language models (ELECTRA and its kin) tuned with their own pretrained head."""

from __future__ import annotations

from .configuration import DPTForSequenceClassificationConfig
from .discriminators import Discriminator, register_discriminator, supported_model_types
from .hierarchy import DPTForHierarchicalClassification
from .hierarchy_config import DPTForHierarchicalClassificationConfig
from .label_tree import LabelTree
from .modeling import DPTForSequenceClassification
from .multi_span import DPTForMultiSpanQuestionAnswering, DPTForMultiSpanQuestionAnsweringConfig
from .registration import register

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
    "register_discriminator",
    "supported_model_types",
]
