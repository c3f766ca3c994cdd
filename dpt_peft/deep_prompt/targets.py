"""Which attention modules and layers of a backbone a configuration gives prompts to."""

from __future__ import annotations

from dataclasses import replace

from peft.tuners.tuners_utils import check_target_module_exists
from torch import nn

from .attention.find import AttentionModule, describe_refusal, find_attention_modules
from .config import DeepPromptConfig, select_layers
from .saved import shorten


def choose_targets(config: DeepPromptConfig, model: nn.Module) -> dict[str, tuple[AttentionModule, set[int]]]:
    """Return the attention modules to prompt, by name, each with those of its layers that get prompts.

    Raises:
        ValueError: if the backbone has no attention that prompts could join, or the configuration names modules or
            layers that it does not have.
    """
    available = find_attention_modules(model)
    if not available:
        raise ValueError(describe_refusal(model))
    chosen = available
    if config.target_modules is None:
        chosen = [attention for attention in chosen if not attention.is_cross]
    if config.target_modules is not None or config.exclude_modules is not None:
        names = replace(config, target_modules=".*" if config.target_modules is None else config.target_modules)
        chosen = [attention for attention in chosen if check_target_module_exists(names, attention.name)]
    if not chosen:
        raise ValueError(
            f"`target_modules={config.target_modules!r}` and `exclude_modules={config.exclude_modules!r}` choose none "
            f"of the attention modules: {shorten([attention.name for attention in available])}."
        )
    ungated = [attention.name for attention in chosen if not attention.layer_class.can_be_gated]
    if config.use_gate and ungated:
        raise ValueError(f"`use_gate` is not supported by the attention modules {shorten(ungated)}.")
    layers = _choose_layers(config, chosen)
    return {a.name: (a, prompted) for a in chosen if (prompted := layers[a.stack].intersection(a.runs))}


def _choose_layers(config: DeepPromptConfig, chosen: list[AttentionModule]) -> dict[tuple[str, bool], set[int]]:
    """Return the layers to prompt, by stack. They have to exist in the deepest; "last" counts from each one's end."""
    depths: dict[tuple[str, bool], int] = {}
    for attention in chosen:
        depths[attention.stack] = max(depths.get(attention.stack, 0), 1 + max(attention.runs))
    deepest = max(depths.values())
    layers = set(select_layers(config.layers_to_transform, deepest))
    # "last 8" are a shallower stack's last as well
    from_end = isinstance(config.layers_to_transform, str) and config.layers_to_transform.strip().startswith("last")
    return {
        stack: {layer - (deepest - depth) for layer in layers} if from_end else layers
        for stack, depth in depths.items()
    }
