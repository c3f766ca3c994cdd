"""Rough edges between the versions of the libraries underneath."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from transformers.utils import logging


@contextmanager
def quiet_peft() -> Iterator[None]:
    """Hide a warning that no user can help: peft 0.21 reads a transformers attribute under its former name."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)
        yield


@contextmanager
def no_progress_bars() -> Iterator[None]:
    """Hide transformers' progress bars while something is loaded that the user did not ask for."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
