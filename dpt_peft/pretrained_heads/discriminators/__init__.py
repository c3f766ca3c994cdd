"""Discriminators: model families with a pretrained replaced-token head, by model type.

The class of a family is a `PreTrainedModel`, made from its config. Its forward pass takes `input_ids`,
`attention_mask` and `token_type_ids` and returns `logits` (batch, length), one number a token, high = replaced, with
`hidden_states` and `attentions` as in every transformers model. None of its modules may be called `classifier` or
`score`: PEFT would take it for a new head and train it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import transformers
from transformers import PreTrainedConfig, PreTrainedModel

PRETRAINING_EXAMPLE = "examples/pretrain_discriminator.py"


def _deberta_v3() -> type[PreTrainedModel]:
    from .deberta_v3 import DebertaV2ForReplacedTokenDetection

    return DebertaV2ForReplacedTokenDetection


# Functions, so that `import dpt_peft` does not import every architecture.
_CLASSES: dict[str, Callable[[], type[PreTrainedModel]]] = {
    # Clark et al. 2020: dense -> activation -> Linear(hidden size, 1) over every token.
    "electra": lambda: transformers.ElectraForPreTraining,
    "deberta-v2": _deberta_v3,
    # Dai et al. 2020, pretrained as ELECTRA is, with the same head. Funnel pools neighbouring tokens, padding among
    # them: the logits of a row depend a little on how much padding stands behind it, here as in every use of Funnel.
    "funnel": lambda: transformers.FunnelForPreTraining,
}


def register_discriminator(model_class: type[PreTrainedModel]) -> None:
    """Make a family of discriminators known; the latest one registered for a model type counts.

    Args:
        model_class: The class, as described for this module; its `config_class` tells the model type.
    """
    config_class: Any = model_class.config_class
    _CLASSES[config_class.model_type] = lambda: model_class


def supported_model_types() -> tuple[str, ...]:
    """Return the model types with a known discriminator."""
    return tuple(_CLASSES)


def get_discriminator(config: PreTrainedConfig) -> type[PreTrainedModel]:
    """Return the class of discriminators that a language model's config belongs to.

    Raises:
        ValueError: None is known for the model type.
    """
    if config.model_type not in _CLASSES:
        raise ValueError(
            f"DPT needs a model with a pretrained replaced-token head; {config.model_type!r} models have none "
            f"(supported model types: {', '.join(_CLASSES)}). Continue the pre-training of an encoder as a "
            f"discriminator with {PRETRAINING_EXAMPLE}, or make another architecture known with "
            "dpt_peft.pretrained_heads.register_discriminator."
        )
    return _CLASSES[config.model_type]()
