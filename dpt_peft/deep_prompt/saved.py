"""Prompts in state dicts: whose they are, and whether they fit a model."""

from __future__ import annotations

from collections.abc import Mapping

import torch


def prompts_of(state: Mapping[str, torch.Tensor], adapter_name: str, prefix: str) -> dict[str, torch.Tensor]:
    """Return those entries of a model's state that are prompts of one adapter."""
    marker = f".{prefix}"
    # the name of its kind is followed by that of its adapter, and in modules by a parameter's
    return {
        key: tensor
        for key, tensor in state.items()
        if marker in key and key.rpartition(marker)[2].split(".")[1] == adapter_name
    }


def check_fit(
    model_state: dict[str, torch.Tensor], adapter_state: dict[str, torch.Tensor], adapter_name: str, prefix: str
) -> None:
    """Raise if a saved adapter's prompts are not exactly those that this backbone has room for."""
    ours = prompts_of(model_state, adapter_name, prefix)
    theirs = {key: value for key, value in adapter_state.items() if f".{prefix}" in key}
    foreign = [key for key in theirs if key not in ours]
    wrong = [
        f"{key} is {tuple(theirs[key].shape)}, expected {tuple(value.shape)}"
        for key, value in ours.items()
        if key in theirs and theirs[key].shape != value.shape
    ]
    missing = [key for key in ours if key not in theirs]
    if wrong or missing or foreign:
        parts = [
            f"of another size: {shorten(wrong)}" if wrong else "",
            f"missing in the adapter: {shorten(missing)}" if missing else "",
            f"unknown to the backbone: {shorten(foreign)}" if foreign else "",
        ]
        raise ValueError(
            "The adapter was trained on another backbone, or with another configuration, and was not loaded. Prompts "
            f"{'; '.join(part for part in parts if part)}."
        )


def shorten(names: list[str], limit: int = 4) -> str:
    """Return the first few of many names, and how many there are more."""
    listed = ", ".join(names[:limit])
    return listed if len(names) <= limit else f"{listed}, and {len(names) - limit} more"
