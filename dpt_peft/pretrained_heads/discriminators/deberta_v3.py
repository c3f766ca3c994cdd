"""DeBERTa-v3: transformers' model type `deberta-v2`, with a head of its own class here."""

from __future__ import annotations

from transformers import PreTrainedModel

from .base import Discriminator


def _load_class() -> type[PreTrainedModel]:
    from .deberta_v3_model import DebertaV2ForReplacedTokenDetection

    return DebertaV2ForReplacedTokenDetection


DEBERTA_V3 = Discriminator(model_type="deberta-v2", load_class=_load_class, head="mask_predictions")
