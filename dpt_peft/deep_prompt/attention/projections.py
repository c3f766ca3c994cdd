"""The layers that make keys and values, by the names that modeling files give them."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

_KEY_NAMES = ("key", "k_proj", "k_lin", "key_proj", "k")
_VALUE_NAMES = ("value", "v_proj", "v_lin", "value_proj", "v")
_HEAD_SIZES = ("head_dim", "attention_head_size", "key_value_proj_dim", "head_size", "d_head")
_NUM_HEADS = (
    "num_key_value_heads",
    "num_kv_heads",
    "kv_heads",
    "num_attention_heads",
    "num_heads",
    "n_heads",
    "n_head",
)
# Modules that repeat keys and values over heads before they ask the interface.
_REPEATED_HEADS = {"JetMoeAttention": ("num_heads",)}


def projection_sizes(module: Any) -> tuple[int, int]:
    """Return the sizes of an attention module's keys and values: of its projections, or heads times head size.

    Raises:
        ValueError: if the module has neither under a known name.
    """
    if isinstance(getattr(module, "qk_head_dim", None), int):
        # multi-head latent attention makes keys and values of two sizes from one compressed vector
        return module.num_heads * module.qk_head_dim, module.num_heads * module.v_head_dim
    if getattr(module, "new_decoder_architecture", False):
        # Falcon repeats keys and values over heads before it computes scores
        return (module.num_heads * module.head_dim,) * 2
    projections = key_and_value_projections(module)
    if projections is not None:
        key, value = (output_size(projection) or 0 for projection in projections)
        return key, value
    names = _REPEATED_HEADS.get(type(module).__name__, _NUM_HEADS)
    heads, head_size = _first_number(module, names), _first_number(module, _HEAD_SIZES)
    if heads is not None and head_size is None and (width := _first_number(module, ("embed_dim", "split_size"))):
        head_size = width // heads
    if heads is None or head_size is None:
        raise ValueError(
            f"Cannot tell how many key/value heads {type(module).__name__} has, or their size. "
            "Add the architecture by hand: docs/how_to/add_an_architecture.md."
        )
    return heads * head_size, heads * head_size


def key_and_value_projections(module: nn.Module) -> tuple[nn.Module, nn.Module] | None:
    """Return the attention module's own layers for keys and for values; `None` if they are fused or unknown."""
    key, value = (_first_linear(module, names) for names in (_KEY_NAMES, _VALUE_NAMES))
    return None if key is None or value is None else (key, value)


def output_size(projection: Any) -> int | None:
    """Return features, or channels, that a projection makes; `None` if it is no projection."""
    return getattr(projection, "out_features", None) or getattr(projection, "out_channels", None)


def record_projections(
    module: nn.Module, sizes: tuple[int, int], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Any, tuple[torch.Tensor, torch.Tensor]]:
    """Run an attention module on a batch of one and note what its projections make of the tokens.

    Args:
        module: the attention module, run without prompts.
        sizes: its key size and value size.
        args: arguments of its forward.
        kwargs: arguments of its forward.

    Returns:
        The module's result, and keys (tokens, key size) and values (tokens, value size).

    Raises:
        ValueError: if the module does not make them in projections of their own.
    """
    projections = key_and_value_projections(module) or ()
    first_outputs: dict[nn.Module, torch.Tensor] = {}

    def keep(projection: nn.Module, _: Any, output: torch.Tensor) -> None:
        # DeBERTa projects its relative positions with the same layers, after the tokens
        first_outputs.setdefault(projection, output)

    hooks = [projection.register_forward_hook(keep) for projection in projections]
    try:
        result = module(*args, **kwargs)
    finally:
        for hook in hooks:
            hook.remove()
    outputs = [first_outputs[projection] for projection in projections if projection in first_outputs]
    if [(output.shape[0], output.shape[-1]) for output in outputs] != [(1, size) for size in sizes]:
        raise ValueError(
            f"`init_weights`: keys and values of {type(module).__name__} cannot be read from its projections. "
            "Use 'normal'."
        )
    return result, (outputs[0][0], outputs[1][0])


def _first_linear(module: nn.Module, names: tuple[str, ...]) -> nn.Module | None:
    projections = (getattr(module, name, None) for name in names)
    return next((projection for projection in projections if output_size(projection) is not None), None)


def _first_number(module: nn.Module, names: tuple[str, ...]) -> int | None:
    for holder in (module, getattr(module, "config", None)):
        for name in names:
            number = getattr(holder, name, None)
            if isinstance(number, int):
                return number
    return None
