"""Prompts in state dicts: whose they are, and whether they fit a model."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import nn

from .attention.base import DeepPromptLayer
from .bank import BANK, PromptBank

_PREFIX = "base_model.model."
_OF_ANOTHER = "The adapter was trained on another backbone, or with another configuration, and was not loaded."
_LAYERWISE = re.compile(r"(?:(.+)\.)?deep_prompt_(key|value|projection\.weight|projection\.bias|gate)")


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
    known = {key: value for key, value in adapter_state.items() if key in model_state}
    ours, theirs = (prompts_of(state, adapter_name, prefix) for state in (model_state, known))
    foreign = [key for key in adapter_state if f".{prefix}" in key and key not in model_state]
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
        raise ValueError(f"{_OF_ANOTHER} Prompts {'; '.join(part for part in parts if part)}.")


def shorten(names: list[str], limit: int = 4) -> str:
    """Return the first few of many names, and how many there are more."""
    listed = ", ".join(names[:limit])
    return listed if len(names) <= limit else f"{listed}, and {len(names) - limit} more"


def from_layerwise(
    model: nn.Module, adapter_name: str, state: Mapping[str, torch.Tensor]
) -> Mapping[str, torch.Tensor]:
    """Return a saved adapter in the form of today, if it is one in which every layer kept its own prompts.

    Such files (of the code up to commit 6f00424) have, by attention module, `deep_prompt_key` and `deep_prompt_value`
    (runs, num_virtual_tokens, size), or `deep_prompt_projection` of the "mlp" encoder, and `deep_prompt_gate` (runs,).

    Args:
        model: the model that the adapter is loaded into, with room for it.
        adapter_name: the name that it gets there.
        state: the file, without adapter names.
    """
    parts: dict[str, dict[str, torch.Tensor]] = {}
    rest: dict[str, torch.Tensor] = {}
    for key, tensor in state.items():
        match = _LAYERWISE.fullmatch(key.removeprefix(_PREFIX))
        if match is None or (match[1] or "").split(".")[-1] == BANK:
            rest[key.replace(".shared_prompt_encoder.", f".{BANK}.")] = tensor
        else:
            parts.setdefault(match[2], {})[match[1] or ""] = tensor
    bank = PromptBank.of(model)
    if not parts or bank is None:
        return state
    layers = {
        name.removeprefix(_PREFIX): module
        for name, module in model.named_modules()
        if isinstance(module, DeepPromptLayer) and adapter_name in module.slots
    }
    foreign = sorted({name for by_module in parts.values() for name in by_module} ^ layers.keys())
    if foreign:
        raise ValueError(
            f"{_OF_ANOTHER} Prompts unknown to the backbone or missing in the adapter: {shorten(foreign)}."
        )
    rows: dict[int, tuple[str, int]] = {}
    for name, layer in layers.items():
        rows |= {row: (name, slot) for slot, row in enumerate(layer.slots[adapter_name].values())}
    order = [rows[row] for row in sorted(rows)]
    prefix = f"{_PREFIX}{BANK}.deep_prompt_"
    if "key" in parts:
        pairs = [parts[kind][name][slot] for name, slot in order for kind in ("key", "value")]
        rest[f"{prefix}stored"] = torch.cat(pairs, dim=-1)
    for kind in ("projection.weight", "projection.bias"):
        if kind in parts:
            # the outputs of a module's runs lay one after the other
            runs = {name: tensor.chunk(len(layers[name].slots[adapter_name])) for name, tensor in parts[kind].items()}
            rest[f"{prefix}{kind}"] = torch.cat([runs[name][slot] for name, slot in order])
    if "gate" in parts:
        rest[f"{prefix}gate"] = torch.stack([parts["gate"][name][slot] for name, slot in order])
    return rest
