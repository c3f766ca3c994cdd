"""Prompts for every attention module that goes through transformers' attention interface.

The wrapped module is given a copy of its config that names the implementation "deep_prompt". The function registered
under that name puts the prompts before keys and values, widens the mask, and calls the kernel that the backbone's own
config names at that moment. The rest of the model sees the config it always had.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import AttentionInterface

from dpt_peft._compatibility import (
    asks_attention_interface,
    attention_implementation,
    attention_kernels,
    cache_of_call,
    config_with_attention,
)
from dpt_peft.deep_prompt.forward_pass import Prompts, Shape

from .base import DeepPromptLayer
from .cache import PromptedCacheLayer, cache_layer, with_prompts
from .masks import causal, open_mask, widen, widen_additive

IMPLEMENTATION = "deep_prompt"


class InterfaceAttentionLayer(DeepPromptLayer):
    """Prompts for an attention module that asks transformers' attention interface for its kernel."""

    can_be_gated = True

    def __init__(self, base_layer: nn.Module, layer_indices: tuple[int, ...], bank: Any) -> None:
        super().__init__(base_layer, layer_indices, bank)
        self.base_config: Any = base_layer.config
        self.prompt_config = config_with_attention(self.base_config, IMPLEMENTATION)
        self.cache: Any = None
        # a position bias that the module has made for prompts and tokens, and its columns for tokens
        self.cropped: tuple[torch.Tensor, torch.Tensor] | None = None
        self.eager, self.kernels = attention_kernels(base_layer)
        self._link()

    @classmethod
    def supports(cls, module: nn.Module) -> bool:
        """Return whether the module's forward asks the attention interface for a kernel chosen by its `config`."""
        return asks_attention_interface(module)

    def switch(self, prompted: bool) -> None:
        """Give the module the config that leads to `deep_prompt_attention`, or its own."""
        base, config = self.base_layer, self.prompt_config if prompted else self.base_config
        if base.config is not config:
            base.config = config

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the attention module; where there are prompts, it is led to `deep_prompt_attention`."""
        if self.recorded is not None:
            return self.record(*args, **kwargs)
        # torch's look-up of submodules by attribute is slow
        base: Any = self._modules["base_layer"]
        if base._deep_prompt_layer[0] is not self:
            # a replica's module finds the layer that it was copied from
            self._link()
        cache = cache_of_call(kwargs)
        if cache is None:
            return base(*args, **kwargs)
        layer = cache_layer(cache, getattr(base, "layer_idx", None))
        if isinstance(layer, PromptedCacheLayer) and layer.owner != self.owner():
            # prompts that are no longer in use
            layer.take_out()
        if not self.places[self.run]:
            return base(*args, **kwargs)
        self.cache = cache
        output = base(*args, **kwargs)
        self.cache = None
        if self.cropped is not None:
            # layers without prompts are handed it too
            (made, bias), self.cropped = self.cropped, None
            output = tuple(bias if part is made else part for part in output)
        return output

    def record(self, *args: Any, **kwargs: Any) -> Any:
        """Run the module, whose keys and values `deep_prompt_attention` notes."""
        self.switch(prompted=True)
        self._link()
        return self.base_layer(*args, **kwargs)

    def _link(self) -> None:
        """Let the module find this layer."""
        # in a tuple: a reference, not a submodule
        self.base_layer._deep_prompt_layer = (self,)

    def owner(self) -> Any:
        """Return what tells the prompts in use from others, in a cache."""
        return (self.bank.use, self.bank.version()) if self.has_prompts() else None

    def cached(self, key: torch.Tensor) -> PromptedCacheLayer | None:
        """Return the cache's layer that these keys come from, if prompts are or can be put into it."""
        index: Any = getattr(self.base_layer, "layer_idx", None)
        layer = cache_layer(self.cache, index)
        if layer is None or layer.keys is not key:
            return None
        if isinstance(layer, PromptedCacheLayer):
            return layer
        # compiled graphs read what is there, and have the prompts join anew if nothing is
        return None if torch.compiler.is_compiling() else with_prompts(self.cache, index)

    def unwrap(self) -> nn.Module:
        """Give the attention module its own config back."""
        self.base_layer.config = self.base_config
        del self.base_layer._deep_prompt_layer
        return self.base_layer

    def kernel(self) -> tuple[str, Callable]:
        """Return the name and the function of the attention that the backbone would have called without prompts."""
        # the setting may be changed at any time
        implementation = attention_implementation(self.base_config)
        return implementation, self.eager if implementation == "eager" else self.kernels[implementation]


def deep_prompt_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: Any,
    **kwargs: Any,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Run the configured kernel with the module's prompts before its keys and values (P-tuning v2, section 3.2).

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
    found: Any = module
    layer: InterfaceAttentionLayer = found._deep_prompt_layer[0]
    if layer.recorded is not None:
        layer.recorded.append((_as_row(key), _as_row(value)))
        return layer.kernel()[1](module, query, key, value, attention_mask, **kwargs)
    bias, is_causal = kwargs.get("position_bias"), kwargs.get("is_causal")
    if is_causal is None:
        is_causal = getattr(module, "is_causal", True)
    inputs = (query.shape, key.shape, value.shape, query.dtype, key.dtype, key.device, is_causal)
    last = _last_layer(layer)
    if last is not None and bias is None and last.is_like(layer, inputs, attention_mask):
        key, value = last.prompts[layer.places[layer.run]].before(key, value)
        return last.call.kernel(module, query, key, value, last.call.mask, **kwargs)
    forward_pass, places = layer.forward_pass()
    cached = None if layer.cache is None else layer.cached(key)
    batch, key_heads, tokens, _ = key.shape
    _, heads, queries, _ = query.shape
    if cached is not None and cached.length:
        prompts, length, visible, tokens = None, cached.length, cached.visible, tokens - cached.length
    else:
        shape = Shape(batch, key_heads, value.shape[1], 1, key.device, key.dtype)
        prompts = forward_pass.prompts(places, shape)
        length, visible = (0, None) if prompts is None else (prompts.length, prompts.visible)

    if bias is not None and cached is not None and bias.shape[-1] > tokens:
        made, bias = bias, bias[..., :tokens]
        layer.cropped = (made, bias)
    sizes = (batch, key_heads, heads, queries, tokens, length)
    same = (attention_mask, visible, layer.base_config, layer.kernels)
    equal = (sizes, is_causal, bias is None, query.dtype)
    call = forward_pass.memo(
        same, equal, lambda: _prepare(layer, query, sizes, attention_mask, visible, is_causal, bias is not None)
    )
    if prompts is not None:
        if bias is None and layer.cache is None and call.tokens == tokens and not call.queries_in_front:
            forward_pass.remember(places, shape, lambda prompts: _LastLayer(inputs, same, prompts, call))
        if call.tokens < tokens:
            key, value = key[:, :, : call.tokens], value[:, :, : call.tokens]
        key, value = prompts.before(key, value)
        if cached is not None:
            cached.put(prompts, layer.owner(), key, value)
    if bias is not None and length:
        kwargs["position_bias"] = forward_pass.memo(
            (bias,), (length, call.tokens), lambda: _with_columns(length, bias, call.tokens)
        )
    if call.queries_in_front:
        context, weights = call.kernel(module, _behind(length, query), key, value, None, **kwargs)
        context = context.narrow_copy(1, length, queries)
    else:
        context, weights = call.kernel(module, query, key, value, call.mask, **kwargs)
    if forward_pass.has_gates:
        scale = kwargs.get("scaling")
        context = layer.add_gated(context, query, query.shape[-1] ** -0.5 if scale is None else scale)
    return context, weights


@dataclass(frozen=True)
class _KernelCall:
    """How to call the kernel, the same for all layers alike.

    Attributes:
        kernel: the function.
        tokens: how many tokens it looks at: not the empty end of a static cache.
        mask: over prompts and tokens.
        queries_in_front: whether as many queries as there are prompts go in front, whose answers nobody reads.
    """

    kernel: Callable
    tokens: int
    mask: Any
    queries_in_front: bool = False


@dataclass(frozen=True)
class _LastLayer:
    """What a layer was given and what came of it: most layers of a model are given the same.

    Attributes:
        inputs: what must be equal: sizes, types, device, whether it is causal.
        same: what must be the same objects, as `deep_prompt_attention` lists them.
        prompts: those of all layers that take theirs in the same shape, by their `places`.
        call: how the kernel is called.
    """

    inputs: tuple[Any, ...]
    same: tuple[Any, ...]
    prompts: Mapping[Any, Prompts]
    call: _KernelCall

    def is_like(self, layer: InterfaceAttentionLayer, inputs: tuple[Any, ...], mask: Any) -> bool:
        """Return whether the layer has its prompts here and is given the same."""
        prompts = self.prompts.get(layer.places[layer.run])
        if prompts is None:
            return False
        own_mask, visible, config, kernels = self.same
        same = mask is own_mask and prompts.visible is visible
        return same and layer.base_config is config and layer.kernels is kernels and inputs == self.inputs


def _last_layer(layer: InterfaceAttentionLayer) -> _LastLayer | None:
    """Return what the layer before was given, if this one is in the same pass and has no cache."""
    current = layer.bank.current
    if current is None or current.last is None or layer.cache is not None:
        return None
    return current.last if current.serves((layer, layer.run)) else None


def _prepare(
    layer: InterfaceAttentionLayer,
    query: torch.Tensor,
    sizes: tuple[int, ...],
    mask: Any,
    visible: torch.Tensor | None,
    is_causal: bool,
    has_bias: bool,
) -> _KernelCall:
    """Work out the call, given what [`deep_prompt_attention`] knows."""
    batch, key_heads, heads, queries, tokens, length = sizes
    implementation, kernel = layer.kernel()
    if not length:
        return _KernelCall(kernel, tokens, mask)
    # Eager kernels always get their mask, and flash attention aligns queries with the last keys, so that columns in
    # front are seen by all.
    if mask is None and implementation == "sdpa" and is_causal and queries > 1:
        tokens = queries
        if heads > key_heads and visible is None and not has_bias:
            # with a mask, keys and values would be repeated for every head; with queries for the prompts' places the
            # kernel's own flag hides the right tokens
            return _KernelCall(kernel, tokens, None, queries_in_front=True)
        # the kernel's own flag knows nothing of columns in front
        mask = causal(queries, query.device)
    elif mask is None and visible is not None:
        mask = open_mask(implementation, batch, tokens, query)
    if implementation == "sdpa" and not has_bias and isinstance(mask, torch.Tensor) and mask.dtype == torch.bool:
        return _KernelCall(kernel, tokens, widen_additive(mask, length, visible, query.dtype))
    return _KernelCall(kernel, tokens, widen(mask, length, visible))


def _behind(length: int, query: torch.Tensor) -> torch.Tensor:
    """Return queries with so many empty ones in front, in memory token by token as the kernel's output is to be."""
    return nn.functional.pad(query.transpose(1, 2), (0, 0, 0, 0, length, 0)).transpose(1, 2)


def _with_columns(length: int, bias: torch.Tensor, tokens: int) -> torch.Tensor:
    """Return the bias of so many tokens with so many empty columns in front."""
    return nn.functional.pad(bias if bias.shape[-1] == tokens else bias[..., :tokens], (length, 0))


def _as_row(tokens: torch.Tensor) -> torch.Tensor:
    """(1, heads, tokens, size) -> (tokens, heads * size): how prompts are stored."""
    return tokens[0].transpose(0, 1).flatten(1)


AttentionInterface.register(IMPLEMENTATION, deep_prompt_attention)
