"""DeBERTa-v2/v3 compute attention themselves: content scores plus a bias for relative positions."""

from __future__ import annotations

import math

import torch
from torch import nn

from .base import DeepPromptLayer
from .masks import widen


class DebertaV2AttentionLayer(DeepPromptLayer):
    """Prompts for DeBERTa-v2's `DisentangledSelfAttention`.

    A prompt has no position: its columns get content scores only, and a disentangled bias of zero.
    """

    can_be_gated = True

    @classmethod
    def supports(cls, module: nn.Module) -> bool:
        """Return whether the module is the attention of DeBERTa-v2 (others have one of the same name)."""
        return type(module).__name__ == "DisentangledSelfAttention" and ".deberta_v2." in type(module).__module__

    def attend(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor,
        output_attentions: bool = False,
        query_states: torch.Tensor | None = None,
        relative_pos: torch.Tensor | None = None,
        rel_embeddings: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Take and return what `DisentangledSelfAttention.forward` does, with prompts before keys and values."""
        base = self.base_layer
        batch, heads = hidden_states.shape[0], base.num_attention_heads

        def split(projected: torch.Tensor) -> torch.Tensor:
            return projected.view(batch, projected.shape[1], heads, -1).permute(0, 2, 1, 3)

        query = base.transpose_for_scores(
            base.query_proj(hidden_states if query_states is None else query_states), heads
        )  # (batch * heads, queries, head size)
        key, value = split(base.key_proj(hidden_states)), split(base.value_proj(hidden_states))
        prompts = self.prompts(key, batch, heads)
        length, visible = (0, None) if prompts is None else (prompts.length, prompts.visible)
        if prompts is not None:
            key, value = prompts.before(key, value)
        key, value = key.flatten(0, 1), value.flatten(0, 1)

        # one part for content, one for each kind of position score
        scale_factor = 1 + ("c2p" in base.pos_att_type) + ("p2c" in base.pos_att_type)
        scale = math.sqrt(query.shape[-1] * scale_factor)
        scores = torch.bmm(query, key.transpose(1, 2) / scale)
        if base.relative_attention:
            bias = base.disentangled_attention_bias(
                query, key[:, length:], relative_pos, base.pos_dropout(rel_embeddings), scale_factor
            )
            scores = scores + nn.functional.pad(bias, (length, 0))
        scores = scores.view(batch, heads, *scores.shape[1:])
        hidden = self.forward_pass()[0].memo(
            (attention_mask, visible), (batch, length), lambda: ~widen(attention_mask.bool(), length, visible)
        )
        scores = scores.masked_fill(hidden, torch.finfo(scores.dtype).min)
        weights = base.dropout(nn.functional.softmax(scores, dim=-1))
        context = torch.bmm(weights.view(-1, *weights.shape[2:]), value)
        context = context.view(batch, heads, *context.shape[1:]).transpose(1, 2)
        context = self.add_gated(context, query.view(batch, heads, *query.shape[1:]), 1 / scale)
        return context.flatten(2), weights if output_attentions else None
