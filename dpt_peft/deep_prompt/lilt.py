"""LiLT attends to text and layout at once: two streams with one sum of scores."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from .attention import _widen
from .layer import DeepPromptLayer


class LiltAttentionLayer(DeepPromptLayer):
    """Prompts for `LiltSelfAttention`, with a part in the text stream and a part in the layout stream.

    As a token has, a prompt has a key and a value in each stream, side by side in `deep_prompt_key` and
    `deep_prompt_value`; the scores of both streams are summed.
    """

    can_be_gated = False

    @classmethod
    def supports(cls, module: nn.Module) -> bool:
        """Whether the module is LiLT's attention."""
        return type(module).__name__ == "LiltSelfAttention"

    @classmethod
    def prompt_sizes(cls, module: Any) -> tuple[int, int]:
        """Text and layout together."""
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
        """The arguments and results of `LiltSelfAttention.forward`, with prompts before keys and values."""
        base = self.base_layer
        prompts = self.joined_prompts(hidden_states.shape[0])
        sizes = base.key.out_features, base.layout_key.out_features

        def heads(projected: torch.Tensor) -> torch.Tensor:
            return projected.unflatten(-1, (base.num_attention_heads, -1)).transpose(1, 2)

        scores: torch.Tensor | float = 0.0
        values = []
        for states, names, prompt_key, prompt_value in zip(
            (hidden_states, layout_inputs),
            (("query", "key", "value"), ("layout_query", "layout_key", "layout_value")),
            prompts.key.split(sizes, dim=-1),
            prompts.value.split(sizes, dim=-1),
            strict=True,
        ):
            query, key, value = (getattr(base, name)(states) for name in names)
            key, value = (
                torch.cat([prompt.to(tokens.dtype).expand(len(tokens), -1, -1), tokens], dim=1)
                for prompt, tokens in ((prompt_key, key), (prompt_value, value))
            )
            query, key = heads(query), heads(key)
            scores = scores + query @ key.mT / math.sqrt(query.shape[-1])
            values.append(heads(value))
        if attention_mask is None:
            attention_mask = hidden_states.new_zeros(1, 1, 1, hidden_states.shape[1])
        weights = torch.softmax(scores + _widen(attention_mask, prompts), dim=-1)
        contexts = tuple((base.dropout(weights) @ value).transpose(1, 2).flatten(2) for value in values)
        return (*contexts, weights) if output_attentions else contexts
