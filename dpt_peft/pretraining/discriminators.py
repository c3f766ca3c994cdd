"""Models to continue replaced-token detection with: a discriminator, an encoder inside ELECTRA's class, a LoRA on one.

The LoRA is the difference between two models, so that a fine-tuned encoder travels as a small file.
"""

from __future__ import annotations

import re
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
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


def low_rank_discriminator(
    base: ElectraForPreTraining, tuned: ElectraForPreTraining | None = None, *, rank: int = 48
) -> PeftModel:
    """Put a LoRA adapter on every matrix of a discriminator; LayerNorms, biases and head are trained whole.

    Args:
        base: The discriminator that stays frozen; it is changed in place, as `peft.get_peft_model` does.
        tuned: A discriminator of the same shape whose difference to `base` the adapter starts from: each matrix's best
            approximation of this rank (truncated singular value decomposition, the singular values split evenly
            between both factors), the rest exactly. None starts from no difference.
        rank: Rank of every difference.

    Returns:
        The PEFT model, with adapter "default"; only what the adapter holds requires gradients.

    Raises:
        ValueError: `rank` is not positive, or `tuned` has other shapes than `base`.
    """
    if rank < 1:
        raise ValueError(f"rank={rank} must be at least 1.")
    before = {name: weight.detach().clone() for name, weight in base.state_dict().items()}
    config = LoraConfig(
        r=rank,
        lora_alpha=rank,
        target_modules=LOW_RANK_MODULES,
        modules_to_save=WHOLE_MODULES,
        bias="lora_only",
    )
    with quiet_peft():
        model = get_peft_model(base, config)
    if tuned is None:
        return model
    after = tuned.state_dict()
    if {name: weight.shape for name, weight in after.items()} != {
        name: weight.shape for name, weight in before.items()
    }:
        raise ValueError("tuned must have exactly the parameters and shapes of base.")
    factors: dict[str, torch.Tensor] = {}
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            plain = re.sub(r"^base_model\.model\.|\.base_layer|\.modules_to_save\.default|\.original_module", "", name)
            if match := re.fullmatch(r"(.*)\.lora_(embedding_)?([AB])\.default(?:\.weight)?", plain):
                weight, is_embedding, factor = match[1] + ".weight", match[2], match[3]
                if factor not in factors:
                    factors.update(_factors(after[weight] - before[weight], rank, transposed=is_embedding is not None))
                parameter.copy_(factors.pop(factor))
            elif parameter.requires_grad:
                parameter.copy_(after[plain])
    return model


def _factors(difference: torch.Tensor, rank: int, *, transposed: bool) -> dict[str, torch.Tensor]:
    """Factors of the nearest matrix of this rank; PEFT reads an embedding's as (B A)^T, a linear layer's as B A."""
    matrix = (difference.T if transposed else difference).float()
    rank_there_is = min(rank, *matrix.shape)
    if max(matrix.shape) > 8 * min(matrix.shape):
        # A vocabulary is much longer than wide: the eigenvectors of the small Gram matrix cost a fraction of the SVD.
        values, left = torch.linalg.eigh((matrix @ matrix.T).double())
        left = left.flip(1)[:, :rank_there_is].float()
        singular = values.flip(0)[:rank_there_is].clamp(min=0).sqrt().float()
        right = (left.T @ matrix) / singular.clamp(min=1e-12)[:, None]
    else:
        left, singular, right = torch.linalg.svd(matrix, full_matrices=False)
        left, singular, right = left[:, :rank_there_is], singular[:rank_there_is], right[:rank_there_is]
    pad = rank - rank_there_is
    root = singular.sqrt()
    return {
        "A": nn.functional.pad(root[:, None] * right, (0, 0, 0, pad)),
        "B": nn.functional.pad(left * root, (0, pad)),
    }
