"""Weights as whole numbers of eight bits, a scale for each row: a quarter of their size, for a model that travels."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, PreTrainedModel

from dpt_peft.pretrained_heads.discriminators import get_discriminator

#: The file of `save_packed`.
PACKED_WEIGHTS = "model_int8.safetensors"
_SCALE = ".scale"
_LARGEST = 127


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
