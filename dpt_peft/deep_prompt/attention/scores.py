"""Attention scores followed from outside: from the product of queries and keys to the softmax and the context.

Attention over prompts and tokens together is a mean of attention over each alone, weighted by the two sums of
exponentials. So a module runs unchanged over its tokens, a `TorchFunctionMode` watches what becomes of its scores, and
the prompts' part is mixed into the context:

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

from dpt_peft._compatibility import torch_operation
from dpt_peft.deep_prompt.forward_pass import Prompts

from .base import DeepPromptLayer
from .masks import widen

_PRODUCTS = {"matmul", "bmm"}
# Numbers per query, made of its scores, that may be taken off the scores again.
_REDUCTIONS = {"max", "amax", "mean", "logsumexp"}
# What may happen to scores, besides factors: biases and masks are added, shapes and types changed.
_HARMLESS = frozenset(
    {"add", "sub", "masked_fill", "where", "dropout", "max", "maximum"}
    | {"view", "reshape", "flatten", "unflatten", "contiguous", "clone", "float", "to", "type", "type_as", "half"}
)


@dataclass(frozen=True)
class Scores:
    """What is known of a tensor of attention scores.

    Attributes:
        query: (batch, heads, queries, size), or (batch * heads, queries, size).
        scale: factor between the product of query and key, and the scores.
        shift: what was taken off every score of a query, to compute a softmax stably: (..., queries, 1).
        values: the scores themselves as the softmax sees them, before the shift; the weights follow from there.
        dropout: probability of dropping a weight, seen between softmax and context.
    """

    query: torch.Tensor
    scale: float | torch.Tensor = 1.0
    shift: float | torch.Tensor = 0.0
    values: torch.Tensor | None = None
    dropout: float = 0.0


class Mixer(TorchFunctionMode):
    """Follows scores through a module's forward and mixes the prompts into the context made of them.

    Attributes:
        contexts: how many contexts the prompts were mixed into.
    """

    def __init__(self, layer: DeepPromptLayer, harmless: frozenset[str] = frozenset()) -> None:
        """Follow the forward of `layer`'s module.

        Args:
            layer: holds the prompts.
            harmless: functions that leave this module's scores comparable, besides the usual ones.
        """
        super().__init__()
        self.layer = layer
        self.harmless = _HARMLESS | harmless
        self.contexts = 0
        # by identity; the tensors are kept so that their identity is not given to others
        self.followed: dict[int, tuple[torch.Tensor, Scores]] = {}
        self.factors: dict[int, tuple[torch.Tensor, float | torch.Tensor]] = {}
        self.statistics: dict[int, torch.Tensor] = {}

    def __torch_function__(self, func: Callable, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = torch_operation(func)
        if name == "scaled_dot_product_attention":
            self.contexts += 1
            return self._attend(func, *args, **kwargs)
        output = func(*args, **kwargs)
        tensors = [arg for arg in (*args, *kwargs.values()) if isinstance(arg, torch.Tensor)]
        statistic = next((t for t in tensors if id(t) in self.statistics), None)
        source = next((t for t in tensors if id(t) in self.followed), None)
        if not isinstance(output, torch.Tensor):
            if source is not None and name in _REDUCTIONS:
                self._remember_statistics(*output)
            return output
        if name == "cat":
            self._concatenate(args, kwargs, output)
        elif source is None:
            if statistic is not None:
                self._remember_statistics(output)
            else:
                self._maybe_start(name, args, kwargs, output)
                self._remember_factor(name, args, tensors, output)
        else:
            scores = self.followed[id(source)][1]
            if scores.values is not None and (name in _PRODUCTS or name == "einsum"):
                self.contexts += 1
                return self._mix(scores, output, *_einsum_letters(args))
            if name == "softmax":
                self._follow(output, replace(scores, values=source + scores.shift))
            elif output.numel() != source.numel():
                if name in _REDUCTIONS:
                    self._remember_statistics(output)
            elif statistic is None or _shifts(name, args, statistic):
                transformed = _transformed(scores, name, args, kwargs, self.harmless)
                if transformed is not None and statistic is not None:
                    # prompts' scores are to be compared with those before the shift
                    transformed = replace(transformed, shift=transformed.shift + statistic)
                if transformed is not None:
                    self._follow(output, transformed)
        return output

    def _follow(self, tensor: torch.Tensor, scores: Scores) -> None:
        self.followed[id(tensor)] = (tensor, scores)

    def _remember_statistics(self, *outputs: Any) -> None:
        """Remember reductions of scores: scores less their own maximum do not compare with those of prompts."""
        self.statistics.update({id(output): output for output in outputs if isinstance(output, torch.Tensor)})

    def _maybe_start(self, name: str, args: Any, kwargs: Any, output: torch.Tensor) -> None:
        """Start following a product of four-dimensional queries and keys, or three-dimensional ones by heads."""
        if name in _PRODUCTS and output.dim() in (3, 4) and args[0].dim() == args[1].dim() == output.dim():
            self._follow(output, Scores(args[0], self.factors.get(id(args[1]), (None, 1.0))[1]))
        elif name == "baddbmm":
            query = kwargs["batch1"] if "batch1" in kwargs else args[1]
            self._follow(output, Scores(query, kwargs.get("alpha", 1.0)))
        elif name == "einsum":
            letters, result = _einsum_letters(args)
            if result == "bnij" and "j" not in letters[0]:
                self._follow(output, Scores(_permuted(args[1], letters[0], "bnid")))

    def _concatenate(self, args: Any, kwargs: Any, output: torch.Tensor) -> None:
        """Follow scores put side by side (more keys of the same queries) or one below the other (more queries)."""
        known = [self.followed[id(part)][1] for part in args[0] if id(part) in self.followed]
        if len(known) != len(args[0]) or any(
            scores.values is not None or scores.scale != known[0].scale for scores in known
        ):
            return
        dim = kwargs.get("dim", args[1] if len(args) > 1 else 0) % output.dim()
        if dim == output.dim() - 1:
            # prompts stand with the first part's keys: the queries made for those are theirs
            self._follow(output, known[0])
        elif dim == output.dim() - 2:
            self._follow(output, replace(known[0], query=torch.cat([scores.query for scores in known], dim=dim)))

    def _remember_factor(self, name: str, args: Any, tensors: list[torch.Tensor], output: torch.Tensor) -> None:
        """Remember numbers that a tensor was multiplied by: keys may be scaled before their product with queries."""
        source = next((t for t in tensors if id(t) in self.factors and t.numel() == output.numel()), None)
        known = 1.0 if source is None else self.factors[id(source)][1]
        factor = known * _factor(name, args)
        if source is not None or isinstance(factor, torch.Tensor) or factor != 1.0:
            self.factors[id(output)] = (output, factor)

    def _mix(
        self, scores: Scores, context: torch.Tensor, letters: tuple[str, ...] = (), result: str = ""
    ) -> torch.Tensor:
        """The context over prompts and tokens, given that over tokens."""
        assert scores.values is not None
        if result:
            context = _permuted(context, result, "bnid")
        query, token_scores = scores.query, scores.values
        key_heads = self.layer.key_size // query.shape[-1]
        if query.dim() == 3:
            # rows of the batch and heads lie in one dimension
            query, context, token_scores = (
                t.view(-1, key_heads, *t.shape[-2:])
                for t in (query, context, token_scores.reshape(*query.shape[:2], -1))
            )
        heads = query.shape[1]
        prompts = self.layer.prompts(query, query.shape[0], key_heads, repeats=heads // key_heads)
        mixed = context
        if prompts is not None:
            prompt_scores = (query @ prompts.key.mT * scores.scale).float()
            token_scores = token_scores.view(*prompt_scores.shape[:3], -1)
            token_sum = token_scores.float().logsumexp(-1, keepdim=True)
            mixed = mix(context, token_sum, prompt_scores, prompts, scores.dropout)
        mixed = self.layer.add_gated(mixed.transpose(1, 2), query, scores.scale).transpose(1, 2)
        if scores.query.dim() == 3:
            return mixed.flatten(0, 1)
        return _permuted(mixed, "bnid", result) if result else mixed

    def _attend(
        self,
        kernel: Callable,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attn_mask: torch.Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        **kwargs: Any,
    ) -> torch.Tensor:
        """`torch.nn.functional.scaled_dot_product_attention`, with the prompts before keys and values."""
        tokens = query.shape[-2], key.shape[-2]
        prompts = self.layer.prompts(key, key.shape[0], key.shape[1], value.shape[1])
        if prompts is None:
            context = kernel(query, key, value, attn_mask, dropout_p, is_causal, **kwargs)
        else:
            if is_causal:
                attn_mask = torch.ones(tokens, dtype=torch.bool, device=query.device).tril()[None, None]
            elif attn_mask is None and prompts.visible is not None:
                attn_mask = torch.ones((1, 1, 1, tokens[1]), dtype=torch.bool, device=query.device)
            key, value = prompts.before(key, value)
            mask = widen(attn_mask, prompts.length, prompts.visible)
            context = kernel(query, key, value, attn_mask=mask, dropout_p=dropout_p, **kwargs)
        scale = kwargs.get("scale") or query.shape[-1] ** -0.5
        return self.layer.add_gated(context.transpose(1, 2), query, scale).transpose(1, 2)


def mix(
    context: torch.Tensor,
    token_sum: torch.Tensor,
    prompt_scores: torch.Tensor,
    prompts: Prompts,
    dropout: float = 0.0,
) -> torch.Tensor:
    """The context over prompts and tokens.

    Args:
        context: over tokens alone, (batch, heads, queries, size).
        token_sum: logarithm of the sum of exponentials of the tokens' scores, (batch, heads, queries, 1), float32.
        prompt_scores: (batch, heads, queries, prompts), float32.
        prompts: where the scores come from, with as many heads as the context.
        dropout: probability of dropping a prompt's weight.
    """
    if prompts.visible is not None:
        hidden = ~prompts.visible[:, None, None, :]
        prompt_scores = prompt_scores.masked_fill(hidden, torch.finfo(prompt_scores.dtype).min)
    value = prompts.value
    weights = nn.functional.dropout(prompt_scores.softmax(-1), dropout).to(value.dtype)
    gate = torch.sigmoid(prompt_scores.logsumexp(-1, keepdim=True) - token_sum).to(context.dtype)
    return context + gate * (weights @ value - context)


def _transformed(scores: Scores, name: str, args: Any, kwargs: Any, harmless: frozenset[str]) -> Scores | None:
    """What is known of the scores after one more operation on them; `None` if it is not known to leave them scores."""
    factor = _factor(name, args)
    if isinstance(factor, torch.Tensor) or factor != 1.0:
        # weights that are multiplied are no longer those of the softmax
        if scores.values is not None:
            return None
        return replace(scores, scale=scores.scale * factor, shift=scores.shift * factor)
    if name not in harmless:
        return None
    if name == "dropout" and scores.values is not None and kwargs.get("training", True):
        return replace(scores, dropout=kwargs.get("p", args[1] if len(args) > 1 else 0.5))
    return scores


def _shifts(name: str, args: Any, statistic: torch.Tensor) -> bool:
    """Whether the operation takes one number per query, made of its own scores, off all of them."""
    return name == "sub" and args[1] is statistic and statistic.dim() == args[0].dim() and statistic.shape[-1] == 1


def _factor(name: str, args: Any) -> float | torch.Tensor:
    """The number that an operation multiplies its first argument by."""
    number = args[1] if len(args) > 1 else None
    if isinstance(number, int | float) or (isinstance(number, torch.Tensor) and number.dim() == 0):
        if name == "mul":
            return number
        if name == "div":
            return 1.0 / number
    return 1.0


def _einsum_letters(args: Any) -> tuple[tuple[str, ...], str]:
    """Operands and result of an einsum, or nothing for another function's arguments."""
    if not args or not isinstance(args[0], str):
        return (), ""
    operands, _, result = args[0].replace(" ", "").partition("->")
    return tuple(operands.split(",")), result


def _permuted(tensor: torch.Tensor, letters: str, wanted: str) -> torch.Tensor:
    return tensor.permute([letters.index(letter) for letter in wanted])
