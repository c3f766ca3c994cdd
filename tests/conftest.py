"""Settings for every test: no network, no threads fighting each other, the same numbers every time."""

from __future__ import annotations

import os
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import warnings
from collections.abc import Iterator

import pytest
import torch
from transformers.utils import logging

SHARED = Path(os.environ.get("DPT_PEFT_SHARED", Path(__file__).parents[2] / "shared"))


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _as_talkative_as_ever() -> Iterator[None]:
    """Commands that quieten the libraries for their process must not quieten the tests behind them."""
    verbosity, progress = logging.get_verbosity(), logging.is_progress_bar_enabled()
    with warnings.catch_warnings():
        yield
    logging.set_verbosity(verbosity)
    if progress:
        logging.enable_progress_bar()


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder with public data and models beside the checkout; tests that need it skip where it is missing."""
    if not SHARED.is_dir():
        pytest.skip(f"no shared data at {SHARED} (set DPT_PEFT_SHARED to its path)")
    return SHARED
