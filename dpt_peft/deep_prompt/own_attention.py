"""Prompts for attention modules that compute scores, softmax and context themselves, without transformers' interface.

Attention over prompts and tokens together is a mean of attention over each alone, weighted by the two sums of
exponentials. So the module runs unchanged over its tokens; a `TorchFunctionMode` follows its scores from the product
of queries and keys to the softmax and the context, and mixes the prompts' part into the context:

    gate = sigmoid(logsumexp(prompt scores) - logsumexp(token scores))
    context = (1 - gate) * context over tokens + gate * context over prompts

Prompts get content scores only, at the scale of the module's own; biases of relative positions do not touch them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from .attention import projection_sizes
from .layer import DeepPromptLayer

# Attention classes of transformers that are known to work this way: one name a row, each with its test.
CLASS_NAMES = frozenset(
    {
        "BigBirdSelfAttention",
        "BloomAttention",
        "CanineSelfAttention",
        "ConvBertSelfAttention",
        "FunnelRelMultiheadAttention",
        "GPTJAttention",
        "GPTNeoSelfAttention",
        "MPNetSelfAttention",
        "MegatronBertSelfAttention",
        "MptAttention",
        "MvpAttention",
        "RemBertSelfAttention",
        "RoFormerSelfAttention",
        "TapasSelfAttention",
        "XLNetRelativeAttention",
    }
)
# Names that several architectures use, told apart by the modeling file.
QUALIFIED_NAMES = frozenset(
    {
        "xlm.modeling_xlm.MultiHeadAttention",
        "flaubert.modeling_flaubert.MultiHeadAttention",
        "deberta.modeling_deberta.DisentangledSelfAttention",
    }
)

_PRODUCTS = {"matmul", "__matmul__", "bmm"}
_MULTIPLICATIONS = {"mul", "multiply", "__mul__", "__rmul__", "mul_", "__imul__"}
_DIVISIONS = {"div", "true_divide", "divide", "__truediv__", "div_", "__itruediv__", "__idiv__"}
# What may happen to scores, besides factors: biases and masks are added, shapes and types changed.
_HARMLESS = frozenset(
    {"add", "__add__", "__radd__", "add_", "__iadd__", "sub", "__sub__", "sub_", "__isub__"}
    | {"masked_fill", "masked_fill_", "where", "dropout", "max", "maximum"}
    | {"view", "reshape", "flatten", "unflatten", "contiguous", "clone", "float", "to", "type", "type_as", "half"}
)


class OwnAttentionLayer(DeepPromptLayer):
    """Prompts for one of the modules named above."""

    @classmethod
    def supports(cls, module: nn.Module) -> bool:
        """Whether the module's class is named above."""
        kind = type(module)
        qualified = f"{kind.__module__.removeprefix('transformers.models.')}.{kind.__name__}"
        return kind.__name__ in CLASS_NAMES or qualified in QUALIFIED_NAMES

    @classmethod
    def prompt_sizes(cls, module: nn.Module) -> tuple[int, int]:
        """As for modules that go through the interface."""
        return projection_sizes(module)

    # a compiled graph would drop the mode without a word
    @torch.compiler.disable
    def attend(self, *args: Any, **kwargs: Any) -> Any:
        """Run the module with the prompts mixed into its context.

        Raises:
            RuntimeError: if the module's scores could not be followed from product to context.
        """
        mixer = _Mixer(self)
        with mixer:
            output = self.base_layer(*args, **kwargs)
        if not mixer.contexts:
            raise RuntimeError(
                f"Deep prompts could not follow the attention of {type(self.base_layer).__name__}: no softmax over "
                "products of queries and keys was seen. Please report the architecture and its configuration."
            )
        return output


@dataclass(frozen=True)
class _Scores:
    """What is known of a tensor of attention scores.

    Attributes:
        query: (batch, heads, queries, size), or (batch * heads, queries, size).
        scale: factor between the product of query and key, and the scores.
        values: the scores themselves where they enter the softmax; the weights follow from there.
        dropout: probability of dropping a weight, seen between softmax and context.
    """

    query: torch.Tensor
    scale: float | torch.Tensor = 1.0
    values: torch.Tensor | None = None
    dropout: float = 0.0


class _Mixer(TorchFunctionMode):
    """Follows scores through a module's forward and mixes the prompts into the context made of them."""

    def __init__(self, layer: DeepPromptLayer) -> None:
        super().__init__()
        self.layer = layer
        self.contexts = 0
        # by identity; the tensors are kept so that their identity is not given to others
        self.followed: dict[int, tuple[torch.Tensor, _Scores]] = {}
        self.factors: dict[int, tuple[torch.Tensor, float | torch.Tensor]] = {}
        self.statistics: dict[int, torch.Tensor] = {}

    def __torch_function__(self, func: Callable, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        output = func(*args, **kwargs)
        if not isinstance(output, torch.Tensor):
            return output
        name = getattr(func, "__name__", "")
        tensors = [arg for arg in (*args, *kwargs.values()) if isinstance(arg, torch.Tensor)]
        scores = next((self.followed[id(t)][1] for t in tensors if id(t) in self.followed), None)
        if scores is None:
            self._maybe_start(name, args, kwargs, output)
            self._remember_factor(name, args, tensors, output)
        elif scores.values is not None and (name in _PRODUCTS or name == "einsum"):
            self.contexts += 1
            return self._mix(scores, output, *_einsum_letters(args))
        elif name == "softmax":
            self._follow(output, replace(scores, values=_first(tensors, self.followed)))
        elif output.numel() != _first(tensors, self.followed).numel():
            self.statistics[id(output)] = output
        elif not any(id(tensor) in self.statistics for tensor in tensors):
            # scores less their own maximum, for instance, would no longer compare with those of prompts
            transformed = _transformed(scores, name, args, kwargs)
            if transformed is not None:
                self._follow(output, transformed)
        return output

    def _follow(self, tensor: torch.Tensor, scores: _Scores) -> None:
        self.followed[id(tensor)] = (tensor, scores)

    def _maybe_start(self, name: str, args: Any, kwargs: Any, output: torch.Tensor) -> None:
        """Start following a product of four-dimensional queries and keys, or three-dimensional ones by heads."""
        if name in _PRODUCTS and output.dim() in (3, 4) and args[0].dim() == output.dim():
            self._follow(output, _Scores(args[0], self.factors.get(id(args[1]), (None, 1.0))[1]))
        elif name in ("baddbmm", "baddbmm_"):
            query = kwargs["batch1"] if "batch1" in kwargs else args[1]
            self._follow(output, _Scores(query, kwargs.get("alpha", 1.0)))
        elif name == "einsum":
            letters, result = _einsum_letters(args)
            if result == "bnij" and "j" not in letters[0]:
                self._follow(output, _Scores(_permuted(args[1], letters[0], "bnid")))

    def _remember_factor(self, name: str, args: Any, tensors: list[torch.Tensor], output: torch.Tensor) -> None:
        """Remember numbers that a tensor was multiplied by: keys may be scaled before their product with queries."""
        source = next((t for t in tensors if id(t) in self.factors and t.numel() == output.numel()), None)
        known = 1.0 if source is None else self.factors[id(source)][1]
        factor = known * _factor(name, args)
        if source is not None or isinstance(factor, torch.Tensor) or factor != 1.0:
            self.factors[id(output)] = (output, factor)

    def _mix(
        self, scores: _Scores, context: torch.Tensor, letters: tuple[str, ...] = (), result: str = ""
    ) -> torch.Tensor:
        """The context over prompts and tokens, given that over tokens."""
        assert scores.values is not None
        if result:
            context = _permuted(context, result, "bnid")
        query, token_scores = scores.query, scores.values
        if query.dim() == 3:
            # rows of the batch and heads lie in one dimension
            heads = self.layer.key_size // query.shape[-1]
            query, context, token_scores = (
                t.view(-1, heads, *t.shape[-2:]) for t in (query, context, token_scores.reshape(*query.shape[:2], -1))
            )
        prompts = self.layer.joined_prompts(query.shape[0])
        key, value = (
            p.to(query.dtype).unflatten(-1, (query.shape[1], -1)).transpose(1, 2) for p in (prompts.key, prompts.value)
        )
        prompt_scores = (query @ key.mT * scores.scale).float()
        if prompts.visible is not None:
            hidden = ~prompts.visible[:, None, None, :]
            prompt_scores = prompt_scores.masked_fill(hidden, torch.finfo(prompt_scores.dtype).min)
        weights = nn.functional.dropout(prompt_scores.softmax(-1), scores.dropout).to(value.dtype)
        token_sum = token_scores.view(*prompt_scores.shape[:3], -1).float().logsumexp(-1, keepdim=True)
        gate = torch.sigmoid(prompt_scores.logsumexp(-1, keepdim=True) - token_sum).to(context.dtype)
        mixed = context + gate * (weights @ value - context)
        if scores.query.dim() == 3:
            return mixed.flatten(0, 1)
        return _permuted(mixed, "bnid", result) if result else mixed


def _transformed(scores: _Scores, name: str, args: Any, kwargs: Any) -> _Scores | None:
    """What is known of the scores after one more operation on them; `None` if it is not known to leave them scores."""
    factor = _factor(name, args)
    if isinstance(factor, torch.Tensor) or factor != 1.0:
        # weights that are multiplied are no longer those of the softmax
        return replace(scores, scale=scores.scale * factor) if scores.values is None else None
    if name not in _HARMLESS:
        return None
    if name == "dropout" and scores.values is not None and kwargs.get("training", True):
        return replace(scores, dropout=kwargs.get("p", args[1] if len(args) > 1 else 0.5))
    return scores


def _factor(name: str, args: Any) -> float | torch.Tensor:
    """The number that an operation multiplies its first argument by."""
    number = args[1] if len(args) > 1 else None
    if isinstance(number, int | float) or (isinstance(number, torch.Tensor) and number.dim() == 0):
        if name in _MULTIPLICATIONS:
            return number
        if name in _DIVISIONS:
            return 1.0 / number
    return 1.0


def _first(tensors: list[torch.Tensor], followed: dict[int, Any]) -> torch.Tensor:
    return next(tensor for tensor in tensors if id(tensor) in followed)


def _einsum_letters(args: Any) -> tuple[tuple[str, ...], str]:
    """Operands and result of an einsum, or nothing for another function's arguments."""
    if not args or not isinstance(args[0], str):
        return (), ""
    operands, _, result = args[0].replace(" ", "").partition("->")
    return tuple(operands.split(",")), result


def _permuted(tensor: torch.Tensor, letters: str, wanted: str) -> torch.Tensor:
    return tensor.permute([letters.index(letter) for letter in wanted])
