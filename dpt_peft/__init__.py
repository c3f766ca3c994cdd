"""Prompt tuning for encoders and discriminative language models, inside transformers and PEFT.

Importing the package registers deep prompts with PEFT, and the task wrappers and pipelines with transformers;
nothing else happens.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .auto import (
    AutoPeftModel,
    AutoPeftModelForQuestionAnswering,
    AutoPeftModelForSequenceClassification,
    AutoPeftModelForTokenClassification,
)
from .deep_prompt import (
    DeepPromptConfig,
    DeepPromptLayer,
    DeepPromptModel,
    copy_adapter,
    hotswap_adapter,
    prompts_set_aside,
)
from .deep_prompt.targets import find_attention_modules
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
    register_discriminator,
    supported_model_types,
)
from .pretraining.embedded import embedded_discriminator
from .tasks.question_answering import pipelines

if TYPE_CHECKING:
    from .training.fit import fit, load


def __getattr__(name: str) -> Any:
    """Import what trains when it is asked for: it needs libraries that are slow to import."""
    if name not in ("fit", "load"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(".training.fit", __name__), name)


pipelines.register()

__version__ = "0.1.0"

__all__ = [
    "AutoPeftModel",
    "AutoPeftModelForQuestionAnswering",
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
    "find_attention_modules",
    "fit",
    "hotswap_adapter",
    "load",
    "prompts_set_aside",
    "register_discriminator",
    "supported_model_types",
]
