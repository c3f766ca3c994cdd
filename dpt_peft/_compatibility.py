"""The one door to what is not public in the libraries underneath, and to what differs between their versions."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from transformers import PreTrainedModel


@contextmanager
def quiet_peft() -> Iterator[None]:
    """Hide a warning that no user can help: peft 0.21 reads a transformers attribute under its former name."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)
        yield


class _HoldBackLoadReport(logging.Filter):
    """Keep back the report of one load (transformers' own text), so that it can be shown if it says too much."""

    def __init__(self) -> None:
        super().__init__()
        self.held: list[logging.LogRecord] = []

    def filter(self, record: logging.LogRecord) -> bool:
        if "LOAD REPORT" not in str(record.msg):
            return True
        self.held.append(record)
        return False


def load_with_new_head(auto_class: Any, path: str, **kwargs: Any) -> PreTrainedModel:
    """Load a backbone under a new head, without the report that the head is new.

    A head that is not in the checkpoint is what fine-tuning means. If a backbone's weight is missing too, the report
    is shown as transformers wrote it.

    Args:
        auto_class: One of transformers' `AutoModelFor...`.
        path: Hub id or folder.
        **kwargs: For `from_pretrained`.
    """
    hold, logger = _HoldBackLoadReport(), logging.getLogger("transformers.modeling_utils")
    logger.addFilter(hold)
    try:
        model, loading = auto_class.from_pretrained(path, output_loading_info=True, **kwargs)
    finally:
        logger.removeFilter(hold)
    if any(key.startswith(f"{model.base_model_prefix}.") for key in loading["missing_keys"]):
        for record in hold.held:
            logging.getLogger(record.name).handle(record)
    return model
