"""A model to continue replaced-token detection with: a discriminator as it is, an encoder inside ELECTRA's class."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoConfig, AutoModel, ElectraConfig, ElectraForPreTraining, PreTrainedConfig, PreTrainedModel

from dpt_peft.pretrained_heads.discriminators import get_discriminator, supported_model_types

# Encoders whose layers are computed as ELECTRA's are, with the same parameter names; the value tells how many rows at
# the head of the position table the tokens never use (RoBERTa counts positions from padding_idx + 1).
_UNUSED_POSITIONS = {"bert": 0, "roberta": 2, "xlm-roberta": 2, "camembert": 2}
# What the families call dropout on hidden states and on attention.
_DROPOUT_ATTRIBUTES = ("hidden_dropout_prob", "attention_probs_dropout_prob", "hidden_dropout", "attention_dropout")


def discriminator_from_encoder(
    encoder_name_or_path: str | Path, *, dropout: float | None = None, seed: int = 0
) -> PreTrainedModel:
    """Loads an existing discriminator in float32, or an encoder as `ElectraForPreTraining`.

    A BERT-like encoder computes what ELECTRA's does when `embedding_size == hidden_size`, so its parameters only
    change their names; hidden states stay equal. The replaced-token head is kept for a discriminator, and new (random)
    for an encoder or for a checkpoint of a discriminator's type that was saved without it.

    Args:
        encoder_name_or_path: Folder or Hub id of a discriminator (ELECTRA, DeBERTa-v3, Funnel, or registered with
            `register_discriminator`), or of a `bert`, `roberta`, `xlm-roberta` or `camembert` encoder.
        dropout: Probability for hidden states and attention while training; None keeps the model's own.
        seed: Seed of the new head's initial weights. The global random state is left as it was.

    Returns:
        The discriminator, in evaluation mode.

    Raises:
        ValueError: The model's type is none of the above.
    """
    config = AutoConfig.from_pretrained(encoder_name_or_path)
    if config.model_type in supported_model_types():
        model_class = get_discriminator(config).load_class()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return model_class.from_pretrained(
                encoder_name_or_path, dtype=torch.float32, **_dropout_changes(config, dropout)
            )
    if config.model_type not in _UNUSED_POSITIONS:
        raise ValueError(
            f"encoder_name_or_path={str(encoder_name_or_path)!r} is of type {config.model_type!r}; the types that can "
            f"become a discriminator are {', '.join([*_UNUSED_POSITIONS, *supported_model_types()])}."
        )
    encoder = AutoModel.from_pretrained(encoder_name_or_path, dtype=torch.float32)
    skip = _UNUSED_POSITIONS[config.model_type]
    electra_config = ElectraConfig(
        vocab_size=config.vocab_size,
        embedding_size=config.hidden_size,
        hidden_size=config.hidden_size,
        num_hidden_layers=config.num_hidden_layers,
        num_attention_heads=config.num_attention_heads,
        intermediate_size=config.intermediate_size,
        hidden_act=config.hidden_act,
        hidden_dropout_prob=config.hidden_dropout_prob,
        attention_probs_dropout_prob=config.attention_probs_dropout_prob,
        max_position_embeddings=config.max_position_embeddings - skip,
        type_vocab_size=config.type_vocab_size,
        layer_norm_eps=config.layer_norm_eps,
        initializer_range=config.initializer_range,
        pad_token_id=config.pad_token_id,
    )
    electra_config.update(_dropout_changes(electra_config, dropout))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        discriminator = ElectraForPreTraining(electra_config)
    weights = encoder.state_dict()
    weights["embeddings.position_embeddings.weight"] = weights["embeddings.position_embeddings.weight"][skip:]
    kept = {name: weight for name, weight in weights.items() if not name.startswith("pooler.")}
    discriminator.electra.load_state_dict(kept, strict=True)
    return discriminator.eval()


def _dropout_changes(config: PreTrainedConfig, dropout: float | None) -> dict[str, float]:
    names = [name for name in _DROPOUT_ATTRIBUTES if hasattr(config, name)]
    return {} if dropout is None else dict.fromkeys(names, dropout)
