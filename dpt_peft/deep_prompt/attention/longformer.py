"""Longformer (and LED's encoder) attends in a sliding window, and to and from a few global tokens."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from dpt_peft._compatibility import torch_operation

from .base import DeepPromptLayer
from .scores import mix


class LongformerAttentionLayer(DeepPromptLayer):
    """Prompts for `LongformerSelfAttention`: every token sees them, whatever its window; so do global tokens.

    A global token meets prompts with its global query. The module runs unchanged over its tokens; the prompts' part
    is mixed into its context by the sums of exponentials, see `scores`.
    """

    can_be_gated = True

    @classmethod
    def supports(cls, module: nn.Module) -> bool:
        """Return whether the module is the attention of Longformer or of LED's encoder."""
        return type(module).__name__ in ("LongformerSelfAttention", "LEDEncoderSelfAttention")

    # a compiled graph would drop the mode without a word
    @torch.compiler.disable
    def attend(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        is_index_masked: torch.Tensor | None = None,
        is_index_global_attn: torch.Tensor | None = None,
        is_global_attn: bool | None = None,
        output_attentions: bool = False,
    ) -> tuple[torch.Tensor, ...]:
        """Take and return what `LongformerSelfAttention.forward` does, its first result over prompts and tokens."""
        base = self.base_layer
        with _Softmaxes() as softmaxes:
            output = base(
                hidden_states, attention_mask, is_index_masked, is_index_global_attn, is_global_attn, output_attentions
            )
        local_scores, *global_scores = softmaxes.scores
        query = base.query(hidden_states)
        token_sum = local_scores.float().logsumexp(-1)  # (batch, tokens, heads)
        if is_global_attn:
            assert is_index_global_attn is not None
            query = torch.where(is_index_global_attn[..., None], base.query_global(hidden_states), query)
            # (batch * heads, most global tokens of a row, tokens) -> those that are there, row by row
            sums = global_scores[0].float().logsumexp(-1).unflatten(0, (-1, base.num_heads)).transpose(1, 2)
            there = torch.arange(sums.shape[1], device=sums.device) < is_index_global_attn.sum(1, keepdim=True)
            token_sum = token_sum.masked_scatter(is_index_global_attn[..., None], sums[there])

        def heads(projected: torch.Tensor) -> torch.Tensor:
            return projected.unflatten(-1, (base.num_heads, -1)).transpose(1, 2)

        query, context = heads(query), heads(output[0])
        scale = 1 / math.sqrt(base.head_dim)
        prompts = self.prompts(context, len(context), base.num_heads)
        if prompts is not None:
            scores = (query @ prompts.key.mT * scale).float()
            dropout = base.dropout if base.training else 0.0
            context = mix(context, token_sum.transpose(1, 2)[..., None], scores, prompts, dropout)
        mixed = self.add_gated(context.transpose(1, 2), query, scale).flatten(2)
        if is_index_masked is not None:
            # as the module has it, padding comes to nothing
            mixed = mixed.masked_fill(is_index_masked[..., None], 0.0)
        return mixed, *output[1:]


class _Softmaxes(TorchFunctionMode):
    """Keep what the softmaxes within it were taken of."""

    def __init__(self) -> None:
        super().__init__()
        self.scores: list[torch.Tensor] = []

    def __torch_function__(self, func: Callable, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if torch_operation(func) == "softmax":
            self.scores.append(args[0])
        return func(*args, **kwargs or {})
