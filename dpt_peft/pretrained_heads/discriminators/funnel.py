"""Funnel (Dai et al. 2020), pretrained as ELECTRA is: dense -> activation -> Linear(hidden size, 1) over every token.

Funnel pools neighbouring tokens, padding among them: the logits of a row depend a little on how much padding stands
behind it, here as in every use of Funnel.
"""

from __future__ import annotations

from transformers import PreTrainedModel

from .base import Discriminator


def _load_class() -> type[PreTrainedModel]:
    from transformers import FunnelForPreTraining

    return FunnelForPreTraining


FUNNEL = Discriminator(model_type="funnel", load_class=_load_class, head="discriminator_predictions")
