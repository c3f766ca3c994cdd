"""ELECTRA (Clark et al. 2020): dense -> activation -> Linear(hidden size, 1) over every token."""

from __future__ import annotations

from transformers import PreTrainedModel

from .base import Discriminator


def _load_class() -> type[PreTrainedModel]:
    from transformers import ElectraForPreTraining

    return ElectraForPreTraining


ELECTRA = Discriminator(model_type="electra", load_class=_load_class, head="discriminator_predictions")
