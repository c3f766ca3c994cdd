"""The layers that make keys and values, by the names that modeling files give them."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

_KEY_NAMES = ("key", "k_proj", "k_lin", "key_proj", "k")
_VALUE_NAMES = ("value", "v_proj", "v_lin", "value_proj", "v")


def key_and_value_projections(module: nn.Module) -> tuple[nn.Module, nn.Module] | None:
    """The attention module's own layers for keys and for values; `None` if they are fused or unknown."""
    key, value = (_first_linear(module, names) for names in (_KEY_NAMES, _VALUE_NAMES))
    return None if key is None or value is None else (key, value)


def output_size(projection: Any) -> int | None:
    """Features, or channels, that a projection makes; `None` if it is no projection."""
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
