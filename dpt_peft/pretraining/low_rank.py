"""The difference between two models as a PEFT LoRA adapter, so that a fine-tuned encoder travels as a small file."""

from __future__ import annotations

import re

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from transformers import ElectraForPreTraining

from dpt_peft._compatibility import quiet_peft

LOW_RANK_MODULES = r"electra\..*(query|key|value|dense|embeddings_project|word_embeddings|position_embeddings)"
"""Every matrix of an ELECTRA encoder (regular expression over module names)."""
WHOLE_MODULES = ["LayerNorm", "token_type_embeddings", "discriminator_predictions"]
"""What is small enough to be trained and stored whole."""


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
