"""Folders of tiny language models for all tests here."""

from __future__ import annotations

from pathlib import Path

import pytest

from .models import write_language_models


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the folders `discriminator` and `language_model`."""
    return write_language_models(tmp_path_factory.mktemp("plain"))
