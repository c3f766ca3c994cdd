"""The protocol of a backbone with a pretrained replaced-token head, and the register of known families."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from transformers import PreTrainedConfig, PreTrainedModel

PRETRAINING_EXAMPLE = "examples/pretrain_discriminator.py"


class ReplacedTokenOutput(Protocol):
    """What the forward pass of a discriminator returns.

    Attributes:
        logits: (batch, length), one number a token; a high one says that the token was replaced.
        hidden_states: As in every transformers model.
        attentions: As in every transformers model.
    """

    logits: torch.Tensor
    hidden_states: tuple[torch.Tensor, ...] | None
    attentions: tuple[torch.Tensor, ...] | None


@dataclass(frozen=True)
class Discriminator:
    """How to make and load one family of discriminators.

    Attributes:
        model_type: `config.model_type` of the backbone.
        load_class: Returns the `PreTrainedModel` class, constructed from the backbone's config, whose forward pass
            takes `input_ids`, `attention_mask` and `token_type_ids` and returns a `ReplacedTokenOutput`. A function,
            so that `import dpt_peft` does not import every architecture. No module of the class may be called
            `classifier` or `score`: PEFT would take it for a new head and train it.
        head: Name of the submodule which is the pretrained head. A checkpoint without its weights is refused.
    """

    model_type: str
    load_class: Callable[[], type[PreTrainedModel]]
    head: str

    def build(self, config: PreTrainedConfig) -> PreTrainedModel:
        """Construct the discriminator, with fresh weights, from the backbone's config."""
        model_class: Any = self.load_class()
        return model_class(config)


_DISCRIMINATORS: dict[str, Discriminator] = {}


def register_discriminator(discriminator: Discriminator) -> None:
    """Make a family of discriminators known; the latest one registered for a model type counts."""
    _DISCRIMINATORS[discriminator.model_type] = discriminator


def supported_model_types() -> tuple[str, ...]:
    """Model types with a known discriminator."""
    return tuple(_DISCRIMINATORS)


def get_discriminator(config: PreTrainedConfig) -> Discriminator:
    """Return the family of discriminators that a backbone's config belongs to.

    Raises:
        ValueError: None is known for the model type.
    """
    discriminator = _DISCRIMINATORS.get(config.model_type)
    if discriminator is None:
        raise ValueError(
            f"DPT needs a backbone with a pretrained replaced-token head; {config.model_type!r} models have none "
            f"(supported model types: {', '.join(_DISCRIMINATORS)}). Continue the pre-training of an encoder as a "
            f"discriminator with {PRETRAINING_EXAMPLE}, or make another architecture known with "
            "dpt_peft.pretrained_heads.register_discriminator."
        )
    return discriminator
