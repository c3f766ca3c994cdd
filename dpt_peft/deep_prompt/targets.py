"""Which attention modules a backbone has, which class brings prompts into each, and which of them get prompts."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, replace

from peft.tuners.tuners_utils import BaseTunerLayer, check_target_module_exists
from torch import nn

from .attention.base import DeepPromptLayer
from .attention.deberta_v2 import DebertaV2AttentionLayer
from .attention.followed import FollowedAttentionLayer
from .attention.interface import InterfaceAttentionLayer
from .attention.lilt import LiltAttentionLayer
from .attention.longformer import LongformerAttentionLayer
from .attention.repeated import AlbertAttentionLayer, PerceiverAttentionLayer
from .config import DeepPromptConfig, select_layers, shorten

# The first class that supports a module is taken: special cases stand before the general one.
LAYER_CLASSES: tuple[type[DeepPromptLayer], ...] = (
    AlbertAttentionLayer,
    PerceiverAttentionLayer,
    LiltAttentionLayer,
    LongformerAttentionLayer,
    FollowedAttentionLayer,
    DebertaV2AttentionLayer,
    InterfaceAttentionLayer,
)

# Attention without a softmax over tokens, which prompts cannot join: by class, what it does instead.
_WITHOUT_SOFTMAX = {
    "MraSelfAttention": "approximates attention block by block at several resolutions",
    "NystromformerSelfAttention": "approximates attention by landmarks, means over segments of a text of fixed length",
    "YosoSelfAttention": "replaces the softmax by how often hashes of queries and keys collide",
    "LSHSelfAttention": "attends within chunks of keys that are sorted by their hashes",
    "SwiftFormerEfficientAdditiveAttention": "multiplies keys by one weighted mean of the queries",
}

_CROSS_ATTENTION = re.compile(r"cross|encoder_attn|EncDecAttention|encdec", re.IGNORECASE)


@dataclass(frozen=True)
class AttentionModule:
    """One attention module of a backbone.

    Attributes:
        name: its dotted name in the model.
        layer_class: the class that brings prompts into it.
        runs: the layers of its stack that it is run as, usually one.
        is_cross: whether it attends to another stack's output.
        stack: what layers are counted in: modules with the same value stand in one stack.
    """

    name: str
    layer_class: type[DeepPromptLayer]
    runs: tuple[int, ...]
    is_cross: bool
    stack: tuple[str, bool]


def find_attention_modules(model: nn.Module) -> list[AttentionModule]:
    """Return every attention module of `model` that deep prompts support, in the order of `named_modules`.

    Modules that are wrapped already are found as well, by the name of their wrapper. Layers are counted per stack: an
    encoder-decoder has two, both starting at 0.
    """
    found: list[AttentionModule] = []
    wrapped: list[str] = []
    positions: Counter[tuple[str, bool]] = Counter()
    for name, module in model.named_modules():
        if wrapped and name.startswith(wrapped[-1]):
            continue
        if isinstance(module, DeepPromptLayer):
            wrapped.append(f"{name}.")
            layer_class: type[DeepPromptLayer] | None = type(module)
            module = module.base_layer
        elif isinstance(module, BaseTunerLayer):
            continue
        else:
            layer_class = next((cls for cls in LAYER_CLASSES if cls.supports(module)), None)
        if layer_class is None:
            continue
        is_cross = bool(
            getattr(module, "is_cross_attention", False)
            or _CROSS_ATTENTION.search(type(module).__name__)
            or any(_CROSS_ATTENTION.search(part) for part in name.split(".")[-3:])
        )
        stack = (re.split(r"\.\d+\.", name, maxsplit=1)[0], is_cross)
        runs = layer_class.runs(model, name, positions[stack])
        positions[stack] += 1
        found.append(AttentionModule(name, layer_class, runs, is_cross, stack))
    return found


def describe_refusal(model: nn.Module) -> str:
    """Say why no attention module was found, by the name of the architecture."""
    kind = getattr(getattr(model, "config", None), "model_type", type(model).__name__)
    own = sorted({type(m).__name__ for m in model.modules() if re.search("attention|attn", type(m).__name__, re.I)})
    without_softmax = next((name for name in own if name in _WITHOUT_SOFTMAX), None)
    if not own:
        reason = "it has no attention modules whose keys and values prompts could join"
    elif without_softmax:
        reason = (
            f"its attention ({without_softmax}) {_WITHOUT_SOFTMAX[without_softmax]}; there is no softmax over tokens "
            "that prompts could join"
        )
    else:
        reason = (
            f"its attention ({', '.join(own)}) does not go through transformers' attention interface, and no layer "
            "class has been written for it (docs/how_to/add_an_architecture.md says how)"
        )
    return f"Deep prompts do not support `{kind}` ({type(model).__name__}): {reason}."


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
