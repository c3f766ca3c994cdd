"""A tiny discriminator folder with random weights, and a small task."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.training.tiny import write_discriminator, write_language_model


@pytest.fixture(scope="session")
def discriminator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_discriminator(tmp_path_factory.mktemp("discriminator"))


@pytest.fixture(scope="session")
def language_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_language_model(tmp_path_factory.mktemp("language_model"))
