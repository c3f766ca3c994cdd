"""Prompt tuning for encoders and discriminative language models, inside transformers and PEFT.

Importing the package registers deep prompts with PEFT, and the task wrappers and pipelines with transformers;
nothing else happens.
"""

from typing import TYPE_CHECKING

from ._lazy import lazily
from .auto import AutoPeftModel, AutoPeftModelForSequenceClassification, AutoPeftModelForTokenClassification
from .deep_prompt import (
    DeepPromptConfig,
    DeepPromptLayer,
    DeepPromptModel,
    copy_adapter,
    hotswap_adapter,
    prompts_set_aside,
)
from .pretrained_heads import (
    DPTForHierarchicalClassification,
    DPTForHierarchicalClassificationConfig,
    DPTForMultiSpanQuestionAnswering,
    DPTForMultiSpanQuestionAnsweringConfig,
    DPTForSequenceClassification,
    DPTForSequenceClassificationConfig,
    LabelTree,
    VerbalizerForSequenceClassification,
    VerbalizerForSequenceClassificationConfig,
)
from .pretraining.embedded import embedded_discriminator
from .tasks.question_answering import pipelines

if TYPE_CHECKING:
    from .training.fit import fit, load

# Training needs libraries that are slow to import.
__getattr__ = lazily(__name__, {"training.fit": ["fit", "load"]})

pipelines.register()

__version__ = "0.1.0.dev0"

__all__ = [
    "AutoPeftModel",
    "AutoPeftModelForSequenceClassification",
    "AutoPeftModelForTokenClassification",
    "DPTForHierarchicalClassification",
    "DPTForHierarchicalClassificationConfig",
    "DPTForMultiSpanQuestionAnswering",
    "DPTForMultiSpanQuestionAnsweringConfig",
    "DPTForSequenceClassification",
    "DPTForSequenceClassificationConfig",
    "DeepPromptConfig",
    "DeepPromptLayer",
    "DeepPromptModel",
    "LabelTree",
    "VerbalizerForSequenceClassification",
    "VerbalizerForSequenceClassificationConfig",
    "copy_adapter",
    "embedded_discriminator",
    "fit",
    "hotswap_adapter",
    "load",
    "prompts_set_aside",
]
