"""The layers that make keys and values, by the names that modeling files give them."""

from __future__ import annotations

from typing import Any

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


def _first_linear(module: nn.Module, names: tuple[str, ...]) -> nn.Module | None:
    projections = (getattr(module, name, None) for name in names)
    return next((projection for projection in projections if output_size(projection) is not None), None)
