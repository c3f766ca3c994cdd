"""A tiny discriminator folder with random weights, and a small task."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.training.tiny import write_discriminator


@pytest.fixture(scope="session")
def discriminator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_discriminator(tmp_path_factory.mktemp("discriminator"))
