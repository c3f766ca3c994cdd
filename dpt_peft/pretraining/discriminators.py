"""Discriminators to go on with, of encoders too; and as small files, with weights of eight bits, to hand on."""

from __future__ import annotations

from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel, ElectraConfig, ElectraForPreTraining, PreTrainedConfig, PreTrainedModel

from dpt_peft._compatibility import quiet_peft
from dpt_peft.pretrained_heads.base import unused_positions
from dpt_peft.pretrained_heads.discriminators import get_discriminator, supported_model_types

# Encoders whose layers are computed as ELECTRA's are, with the same parameter names.
_LIKE_ELECTRA = ("bert", "roberta", "xlm-roberta", "camembert")
_SAME_IN_ELECTRA = (
    *("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act"),
    *("hidden_dropout_prob", "attention_probs_dropout_prob", "type_vocab_size", "layer_norm_eps"),
    *("initializer_range", "pad_token_id"),
)
# What the families call dropout on hidden states and on attention.
_DROPOUT_ATTRIBUTES = ("hidden_dropout_prob", "attention_probs_dropout_prob", "hidden_dropout", "attention_dropout")

LOW_RANK_MODULES = r"electra\..*(query|key|value|dense|embeddings_project|word_embeddings|position_embeddings)"
"""Every matrix of an ELECTRA encoder (regular expression over module names)."""
WHOLE_MODULES = ["LayerNorm", "token_type_embeddings", "discriminator_predictions"]
"""What is small enough to be trained and stored whole."""

#: The file of `save_packed`.
PACKED_WEIGHTS = "model_int8.safetensors"
_SCALE = ".scale"
_LARGEST = 127


def discriminator_from_encoder(
    encoder_name_or_path: str | Path, *, dropout: float | None = None, seed: int = 0
) -> PreTrainedModel:
    """Load an existing discriminator in float32, or an encoder as `ElectraForPreTraining`.

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
        model_class = get_discriminator(config)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return model_class.from_pretrained(
                encoder_name_or_path, dtype=torch.float32, **_dropout_changes(config, dropout)
            )
    if config.model_type not in _LIKE_ELECTRA:
        raise ValueError(
            f"encoder_name_or_path={str(encoder_name_or_path)!r} is of type {config.model_type!r}; the types that can "
            f"become a discriminator are {', '.join([*_LIKE_ELECTRA, *supported_model_types()])}."
        )
    encoder = AutoModel.from_pretrained(encoder_name_or_path, dtype=torch.float32)
    skip = unused_positions(config)
    electra_config = ElectraConfig(
        **{name: getattr(config, name) for name in _SAME_IN_ELECTRA},
        embedding_size=config.hidden_size,
        max_position_embeddings=config.max_position_embeddings - skip,
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


def low_rank_discriminator(base: ElectraForPreTraining, *, rank: int = 48) -> PeftModel:
    """Put a LoRA adapter on every matrix of a discriminator; LayerNorms, biases and head are trained whole.

    Args:
        base: The discriminator that stays frozen; it is changed in place, as `peft.get_peft_model` does.
        rank: Rank of every difference.

    Returns:
        The PEFT model, with adapter "default"; only what the adapter holds requires gradients.

    Raises:
        ValueError: `rank` is not positive.
    """
    if rank < 1:
        raise ValueError(f"rank={rank} must be at least 1.")
    config = LoraConfig(
        r=rank,
        lora_alpha=rank,
        target_modules=LOW_RANK_MODULES,
        modules_to_save=WHOLE_MODULES,
        bias="lora_only",
    )
    with quiet_peft():
        return get_peft_model(base, config)


def save_packed(model: PreTrainedModel, folder: str | Path) -> None:
    """Write a model's config, and its weights with every matrix in eight bits a number.

    A row's scale is its largest absolute value / 127, in float32. What is no matrix (biases, LayerNorms) is kept in
    float32. A number is off by half a scale at most, so by 0.4 % of the largest of its row.

    Args:
        model: What is written.
        folder: Where to; made if it is missing.
    """
    tensors = {}
    for name, weight in model.state_dict().items():
        if weight.dim() != 2 or not weight.is_floating_point():
            tensors[name] = weight.float() if weight.is_floating_point() else weight
            continue
        rows = weight.float()
        scale = rows.abs().amax(1) / _LARGEST
        tensors[name] = (rows / scale.clamp(min=torch.finfo(scale.dtype).tiny)[:, None]).round().to(torch.int8)
        tensors[name + _SCALE] = scale
    Path(folder).mkdir(parents=True, exist_ok=True)
    save_file(tensors, Path(folder) / PACKED_WEIGHTS)
    model.config.save_pretrained(folder)


def load_packed(folder: str | Path) -> PreTrainedModel:
    """Return the discriminator that `save_packed` wrote, in float32 and evaluation mode.

    Args:
        folder: Its folder.

    Raises:
        RuntimeError: The file lacks weights of the model, or has others.
    """
    tensors = load_file(Path(folder) / PACKED_WEIGHTS)
    weights = {}
    for name, weight in tensors.items():
        if not name.endswith(_SCALE):
            scale = tensors.get(name + _SCALE)
            weights[name] = weight if scale is None else weight.float() * scale[:, None]
    config = AutoConfig.from_pretrained(folder)
    config.dtype = torch.float32
    with torch.random.fork_rng(devices=[]):
        model = get_discriminator(config)(config)
    model.load_state_dict(weights)
    return model.eval()
