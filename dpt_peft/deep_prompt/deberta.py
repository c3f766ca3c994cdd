"""DeBERTa-v2/v3 compute attention themselves: content scores plus a bias for relative positions."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from .layer import DeepPromptLayer


class DebertaV2AttentionLayer(DeepPromptLayer):
    """Prompts for DeBERTa-v2's `DisentangledSelfAttention`.

    A prompt has no position: its columns get content scores only, and a disentangled bias of zero.
    """

    @classmethod
    def supports(cls, module: nn.Module) -> bool:
        """Whether the module is the disentangled attention of DeBERTa-v2 (others have one of the same name)."""
        return type(module).__name__ == "DisentangledSelfAttention" and ".deberta_v2." in type(module).__module__

    @classmethod
    def prompt_sizes(cls, module: Any) -> tuple[int, int]:
        """Output sizes of the key and value projections."""
        return module.key_proj.out_features, module.value_proj.out_features

    def attend(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor,
        output_attentions: bool = False,
        query_states: torch.Tensor | None = None,
        relative_pos: torch.Tensor | None = None,
        rel_embeddings: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The arguments and results of `DisentangledSelfAttention.forward`, with prompts before keys and values."""
        base = self.base_layer
        heads = base.num_attention_heads
        batch = hidden_states.shape[0]

        def split(projected: torch.Tensor) -> torch.Tensor:
            return base.transpose_for_scores(projected, heads)  # (batch * heads, tokens, head size)

        query = split(base.query_proj(hidden_states if query_states is None else query_states))
        key = split(base.key_proj(hidden_states))
        value = split(base.value_proj(hidden_states))
        prompts = self.joined_prompts(batch)
        prompt_key, prompt_value = (
            p.to(key.dtype).expand(batch, -1, -1).unflatten(-1, (heads, -1)).transpose(1, 2).flatten(0, 1)
            for p in (prompts.key, prompts.value)
        )

        # one part for content, one for each kind of position score
        scale_factor = 1 + ("c2p" in base.pos_att_type) + ("p2c" in base.pos_att_type)
        scale = math.sqrt(query.shape[-1] * scale_factor)
        scores = torch.bmm(query, torch.cat([prompt_key, key], dim=1).transpose(1, 2) / scale)
        if base.relative_attention:
            bias = base.disentangled_attention_bias(
                query, key, relative_pos, base.pos_dropout(rel_embeddings), scale_factor
            )
            scores = scores + nn.functional.pad(bias, (prompts.length, 0))
        scores = scores.view(batch, heads, *scores.shape[1:])
        visible = nn.functional.pad(attention_mask.bool(), (prompts.length, 0), value=True)
        if prompts.visible is not None:
            visible = visible.repeat(batch // visible.shape[0], 1, 1, 1)
            visible[..., : prompts.length] = prompts.visible[:, None, None]
        scores = scores.masked_fill(~visible, torch.finfo(scores.dtype).min)
        weights = base.dropout(nn.functional.softmax(scores, dim=-1))
        context = weights @ torch.cat([prompt_value, value], dim=1).view(batch, heads, -1, value.shape[-1])
        added = self.gated_context(query.view(batch, heads, *query.shape[1:]), 1 / scale)
        if added is not None:
            context = context + added
        context = context.transpose(1, 2).flatten(2)
        return context, weights if output_attentions else None
