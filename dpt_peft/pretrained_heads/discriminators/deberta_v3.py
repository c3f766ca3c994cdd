"""DeBERTa-v3 (He et al. 2021): the replaced-token head that its public checkpoints carry and transformers leaves out.

The head adds the representation of [CLS] to every token before it looks: LayerNorm(h + h[CLS]) -> dense -> activation
-> Linear(hidden size, 1). The checkpoints (microsoft/deberta-v3-*) hold it as
`mask_predictions.{LayerNorm, dense, classifier}`, beside a language modeling head, `lm_predictions.*`, which is not
needed. Checkpoints of DeBERTa-v2, of the same model type, have no such head and are refused.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import DebertaV2Config, DebertaV2Model, DebertaV2PreTrainedModel
from transformers.activations import ACT2FN
from transformers.conversion_mapping import register_checkpoint_conversion_mapping
from transformers.core_model_loading import WeightRenaming
from transformers.models.electra.modeling_electra import ElectraForPreTrainingOutput
from transformers.utils import can_return_tuple


class DebertaV2ReplacedTokenHead(nn.Module):
    """LayerNorm(h + h[CLS]) -> dense -> activation -> 1."""

    def __init__(self, config: DebertaV2Config) -> None:
        super().__init__()
        self.LayerNorm = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.activation = ACT2FN[config.hidden_act]
        # `classifier` in the checkpoints, a name by which PEFT would take it for a new head.
        self.output = nn.Linear(config.hidden_size, 1)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """(batch, length, hidden size) -> (batch, length), high = replaced."""
        states = self.LayerNorm(hidden_states + hidden_states[:, :1])
        return self.output(self.activation(self.dense(states))).squeeze(-1)


class DebertaV2ForReplacedTokenDetection(DebertaV2PreTrainedModel):
    """DeBERTa-v3 with its pretrained replaced-token head.

    Saved and loaded with the key names of the public checkpoints.
    """

    _keys_to_ignore_on_load_unexpected = ("position_embeddings", "lm_predictions")

    def __init__(self, config: DebertaV2Config) -> None:
        super().__init__(config)
        self.deberta = DebertaV2Model(config)
        self.mask_predictions = DebertaV2ReplacedTokenHead(config)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> ElectraForPreTrainingOutput:
        """Score every token of a batch whose rows begin with [CLS].

        Returns:
            `logits` (batch, length), high = replaced, with `hidden_states` and `attentions` as in every transformers
            model.
        """
        outputs = self.deberta(
            input_ids=input_ids,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            position_ids=position_ids,
            inputs_embeds=inputs_embeds,
            **{**kwargs, "return_dict": True},
        )
        return ElectraForPreTrainingOutput(
            logits=self.mask_predictions(outputs.last_hidden_state),
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )


register_checkpoint_conversion_mapping(
    DebertaV2ForReplacedTokenDetection.__name__,
    [WeightRenaming("mask_predictions.classifier.", "mask_predictions.output.")],
    overwrite=True,
)
