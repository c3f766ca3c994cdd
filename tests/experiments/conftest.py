"""The tiny models of the training tests."""

from __future__ import annotations

from tests.training.conftest import discriminator, language_model

__all__ = ["discriminator", "language_model"]
