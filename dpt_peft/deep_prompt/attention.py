"""Prompts for every attention module that goes through transformers' attention interface.

The wrapped module is given a copy of its config that names the implementation "deep_prompt". The function registered
under that name puts the prompts before keys and values, widens the mask, and calls the kernel that the backbone's own
config names at that moment. The rest of the model sees the config it always had.

Touched private names of transformers, all here and checked by `tests/deep_prompt/test_attention.py`:
`PreTrainedConfig._attn_implementation` / `_attn_implementation_internal`, and the convention that an attention forward
asks `ALL_ATTENTION_FUNCTIONS.get_interface(..., <name ending in eager_attention_forward>)`.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from transformers import AttentionInterface

from .layer import DeepPromptLayer
from .projections import key_and_value_projections, output_size
from .prompts import Prompts

IMPLEMENTATION = "deep_prompt"
_LAYER = "_deep_prompt_layer"

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


class InterfaceAttentionLayer(DeepPromptLayer):
    """Prompts for an attention module that asks transformers' attention interface for its kernel."""

    base_config: Any
    prompt_config: Any

    def __init__(self, base_layer: nn.Module, layer_indices: tuple[int, ...]) -> None:
        super().__init__(base_layer, layer_indices)
        self.base_config = base_layer.config
        self.prompt_config = copy.copy(self.base_config)
        self.prompt_config._attn_implementation_internal = IMPLEMENTATION
        # in a tuple: a reference, not a submodule
        setattr(base_layer, _LAYER, (self,))

    @classmethod
    def supports(cls, module: nn.Module) -> bool:
        """Whether the module's forward asks the attention interface for a kernel chosen by its `config`."""
        return "get_interface" in _forward_code(module).co_names and hasattr(module, "config")

    @classmethod
    def prompt_sizes(cls, module: nn.Module) -> tuple[int, int]:
        """Read from the module: see [`projection_sizes`]."""
        return projection_sizes(module)

    def switch(self, prompted: bool) -> None:
        """Give the module the config that leads to `deep_prompt_attention`, or its own."""
        base, config = self.base_layer, self.prompt_config if prompted else self.base_config
        if base.config is not config:
            base.config = config

    def attend(self, *args: Any, **kwargs: Any) -> Any:
        """Run the module, which asks the attention interface and is led to `deep_prompt_attention`."""
        return self.base_layer(*args, **kwargs)

    def record(self, *args: Any, **kwargs: Any) -> Any:
        """Run the module, whose keys and values `deep_prompt_attention` notes."""
        self.switch(prompted=True)
        return self.base_layer(*args, **kwargs)

    def unwrap(self) -> nn.Module:
        """Give the attention module its own config back."""
        self.base_layer.config = self.base_config
        delattr(self.base_layer, _LAYER)
        return self.base_layer

    def kernel(self) -> Callable:
        """The attention function that the backbone would have called without prompts."""
        code_globals = inspect.unwrap(type(self.base_layer).forward).__globals__
        implementation = self.base_config._attn_implementation
        if implementation in (None, "eager"):
            return code_globals[_eager_name(self.base_layer)]
        # some modeling files have an interface of their own with local kernels
        return code_globals["ALL_ATTENTION_FUNCTIONS"][implementation]


def deep_prompt_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: Any,
    **kwargs: Any,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The configured kernel, with the module's prompts before its keys and values (P-tuning v2, section 3.2).

    Args:
        module: the attention module, wrapped in an [`InterfaceAttentionLayer`].
        query: (batch, heads, queries, head size).
        key: (batch, key/value heads, tokens, head size), positions already applied; prompts have none.
        value: (batch, key/value heads, tokens, value head size).
        attention_mask: what transformers made for the kernel: `None`, (batch, 1 or heads, 1 or queries, tokens)
            boolean or additive, or (batch, tokens) for flash attention.
        kwargs: passed to the kernel; a `position_bias` gets zero columns for the prompts.

    Returns:
        The kernel's output (batch, queries, heads, value head size), and attention weights with `num_virtual_tokens`
        more columns in front where the kernel returns any; gated prompts have no columns there.

    Raises:
        NotImplementedError: for masks that are no tensors (flex attention); the message names the way out.
    """
    layer: InterfaceAttentionLayer = getattr(module, _LAYER)[0]
    kernel = layer.kernel()
    if layer.recorded is not None:
        layer.recorded.append((_as_row(key), _as_row(value)))
        return kernel(module, query, key, value, attention_mask, **kwargs)
    added = layer.gated_context(query, _scale(query, kwargs))
    prompts = layer.joined_prompts(query.shape[0])
    if prompts.length == 0:
        context, weights = kernel(module, query, key, value, attention_mask, **kwargs)
        return _plus(context, added), weights
    if attention_mask is None and _relies_on_is_causal(layer, module, query, kwargs):
        # the kernel would have masked the future by its own flag, which knows nothing of columns in front
        key, value = key[:, :, : query.shape[2]], value[:, :, : query.shape[2]]
        attention_mask = torch.ones(query.shape[2], query.shape[2], dtype=torch.bool, device=query.device).tril()[
            None, None
        ]
    elif attention_mask is None and prompts.visible is not None:
        attention_mask = _see_everything(layer, query, key)
    if kwargs.get("position_bias") is not None:
        kwargs["position_bias"] = nn.functional.pad(kwargs["position_bias"][..., : key.shape[2]], (prompts.length, 0))
    key = torch.cat([_as_heads(prompts.key, key), key], dim=2)
    value = torch.cat([_as_heads(prompts.value, value), value], dim=2)
    context, weights = kernel(module, query, key, value, _widen(attention_mask, prompts), **kwargs)
    return _plus(context, added), weights


def _scale(query: torch.Tensor, kwargs: dict[str, Any]) -> float:
    scale = kwargs.get("scaling")
    return query.shape[-1] ** -0.5 if scale is None else scale


def _plus(context: torch.Tensor, added: torch.Tensor | None) -> torch.Tensor:
    """Context of the kernel (batch, queries, heads, size) and of gated prompts (batch, heads, queries, size)."""
    return context if added is None else context + added.transpose(1, 2).to(context.dtype)


def _as_heads(prompt: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """(1 or batch, length, heads * size) -> (batch, heads, length, size), device and dtype as `like`."""
    batch, heads, _, size = like.shape
    split = prompt.to(device=like.device, dtype=like.dtype).unflatten(-1, (heads, size))
    return split.transpose(1, 2).expand(batch, -1, -1, -1)


def _as_row(tokens: torch.Tensor) -> torch.Tensor:
    """(1, heads, tokens, size) -> (tokens, heads * size): how prompts are stored."""
    return tokens[0].transpose(0, 1).flatten(1)


def _widen(mask: Any, prompts: Prompts) -> Any:
    """Add the prompts' columns in front of a mask."""
    if mask is None:
        return None
    if not isinstance(mask, torch.Tensor):
        raise NotImplementedError(
            f"Deep prompts cannot widen a mask of type {type(mask).__name__}. "
            "Call `model.set_attn_implementation('sdpa')` (or 'eager') on the backbone first."
        )
    if mask.dim() == 4 and mask.stride(2) == 0 and mask.shape[2] > 1:
        # transformers expands padding masks over the queries without a copy; widening one row keeps it so
        return _widen(mask[:, :, :1], prompts).expand(-1, -1, mask.shape[2], -1)
    # additive masks are 0 where a token is seen, boolean and padding masks are 1
    seen, hidden = (0.0, torch.finfo(mask.dtype).min) if mask.is_floating_point() else (1, 0)
    if prompts.visible is None:
        return nn.functional.pad(mask, (prompts.length, 0), value=seen)
    columns = prompts.visible.new_full(prompts.visible.shape, hidden, dtype=mask.dtype)
    columns = columns.masked_fill(prompts.visible, seen)
    if mask.dim() == 4:
        columns = columns[:, None, None, :].expand(-1, *mask.shape[1:3], -1)
        mask = mask.expand(columns.shape[0], -1, -1, -1)
    return torch.cat([columns, mask], dim=-1)


def _see_everything(layer: InterfaceAttentionLayer, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    """A mask that hides nothing, in the form that the configured kernel takes."""
    batch, _, tokens, _ = key.shape
    implementation = layer.base_config._attn_implementation or "eager"
    if "flash" in implementation:
        return torch.ones(batch, tokens, dtype=torch.long, device=key.device)
    if implementation == "sdpa":
        return torch.ones(batch, 1, 1, tokens, dtype=torch.bool, device=key.device)
    return torch.zeros(batch, 1, 1, tokens, dtype=query.dtype, device=key.device)


def _relies_on_is_causal(
    layer: InterfaceAttentionLayer, module: nn.Module, query: torch.Tensor, kwargs: dict[str, Any]
) -> bool:
    """Whether the kernel called without a mask would hide later tokens by its `is_causal` flag.

    Only sdpa does so with a flag that counts columns from the left. Eager kernels always get their mask, and flash
    attention aligns queries with the last keys, so that columns in front are seen by all.
    """
    if layer.base_config._attn_implementation != "sdpa" or query.shape[2] == 1:
        return False
    is_causal = kwargs.get("is_causal")
    return bool(getattr(module, "is_causal", True) if is_causal is None else is_causal)


def projection_sizes(module: Any) -> tuple[int, int]:
    """Output sizes of an attention module's key and value projections, or heads times head size where they are fused.

    Raises:
        ValueError: if the module has neither under a known name.
    """
    if isinstance(getattr(module, "qk_head_dim", None), int):
        # multi-head latent attention makes keys and values of two sizes from one compressed vector
        return module.num_heads * module.qk_head_dim, module.num_heads * module.v_head_dim
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


def _forward_code(module: nn.Module) -> Any:
    return inspect.unwrap(type(module).forward).__code__


def _eager_name(module: nn.Module) -> str:
    return next(name for name in _forward_code(module).co_names if name.endswith("eager_attention_forward"))


def _first_number(module: nn.Module, names: tuple[str, ...]) -> int | None:
    for holder in (module, getattr(module, "config", None)):
        for name in names:
            number = getattr(holder, name, None)
            if isinstance(number, int):
                return number
    return None


AttentionInterface.register(IMPLEMENTATION, deep_prompt_attention)
