"""LiLT attends to text and layout at once: two streams with one sum of scores."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from .base import DeepPromptLayer
from .masks import widen


class LiltAttentionLayer(DeepPromptLayer):
    """Prompts for `LiltSelfAttention`, with a part in the text stream and a part in the layout stream.

    As a token has, a prompt has a key and a value in each stream, side by side in the bank; the scores of both streams
    are summed.
    """

    @classmethod
    def supports(cls, module: nn.Module) -> bool:
        """Return whether the module is LiLT's attention."""
        return type(module).__name__ == "LiltSelfAttention"

    @classmethod
    def prompt_sizes(cls, module: Any) -> tuple[int, int]:
        """Return the sizes of text and layout together."""
        return (
            module.key.out_features + module.layout_key.out_features,
            module.value.out_features + module.layout_value.out_features,
        )

    def attend(
        self,
        hidden_states: torch.Tensor,
        layout_inputs: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        output_attentions: bool = False,
    ) -> tuple[torch.Tensor, ...]:
        """Take and return what `LiltSelfAttention.forward` does, with prompts before keys and values."""
        base = self.base_layer
        prompts = self.prompts(hidden_states, hidden_states.shape[0], key_heads=1)
        assert prompts is not None  # none are gated
        sizes = base.key.out_features, base.layout_key.out_features

        def heads(projected: torch.Tensor) -> torch.Tensor:
            return projected.unflatten(-1, (base.num_attention_heads, -1)).transpose(1, 2)

        scores: torch.Tensor | float = 0.0
        values = []
        for states, names, prompt_key, prompt_value in zip(
            (hidden_states, layout_inputs),
            (("query", "key", "value"), ("layout_query", "layout_key", "layout_value")),
            prompts.key[:, 0].split(sizes, dim=-1),
            prompts.value[:, 0].split(sizes, dim=-1),
            strict=True,
        ):
            query, key, value = (getattr(base, name)(states) for name in names)
            key, value = (
                torch.cat([prompt.to(tokens.dtype), tokens], dim=1)
                for prompt, tokens in ((prompt_key, key), (prompt_value, value))
            )
            query, key = heads(query), heads(key)
            scores = scores + query @ key.mT / math.sqrt(query.shape[-1])
            values.append(heads(value))
        if attention_mask is None:
            attention_mask = hidden_states.new_zeros(1, 1, 1, hidden_states.shape[1])
        weights = torch.softmax(scores + widen(attention_mask, prompts.length, prompts.visible), dim=-1)
        contexts = tuple((base.dropout(weights) @ value).transpose(1, 2).flatten(2) for value in values)
        return (*contexts, weights) if output_attentions else contexts
