"""Backbones with a pretrained replaced-token head, behind one small protocol.

A new discriminator is one short file, which makes a `Discriminator`, and one line below.
"""

from __future__ import annotations

from .base import (
    PRETRAINING_EXAMPLE,
    Discriminator,
    ReplacedTokenOutput,
    get_discriminator,
    register_discriminator,
    supported_model_types,
)
from .deberta_v3 import DEBERTA_V3
from .electra import ELECTRA
from .funnel import FUNNEL

for _discriminator in (ELECTRA, DEBERTA_V3, FUNNEL):
    register_discriminator(_discriminator)

__all__ = [
    "PRETRAINING_EXAMPLE",
    "Discriminator",
    "ReplacedTokenOutput",
    "get_discriminator",
    "register_discriminator",
    "supported_model_types",
]
