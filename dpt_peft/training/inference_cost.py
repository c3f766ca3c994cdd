"""What a classifier costs when it is used: time a text, tokens a text, peak memory."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from datasets import Dataset
from transformers import PreTrainedTokenizerBase


def inference_cost(
    model: torch.nn.Module,
    features: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    *,
    batch_size: int = 32,
    max_texts: int | None = None,
) -> dict[str, float]:
    """Measures one pass over texts, rows of like length in a batch, after one batch to warm up.

    Args:
        model: The classifier; a PEFT model too. Put in evaluation mode.
        features: Tokenized texts; labels are left out.
        tokenizer: Pads.
        batch_size: Texts a batch.
        max_texts: Measure on this many texts, evenly spaced by length. Default: all.

    Returns:
        `milliseconds_per_text` by the clock; `cpu_milliseconds_per_text` of this process over all its threads, which
        other work on the machine hardly changes (on a GPU: of the host alone); `tokens_per_text` that the backbone
        reads, templates included and padding left out, summed over all passes over a text; `padded_tokens_per_text`
        with padding.
    """
    columns = [name for name in features.column_names if name in tokenizer.model_input_names]
    rows = sorted(features.select_columns(columns), key=lambda row: len(row["input_ids"]))
    if max_texts is not None and max_texts < len(rows):
        rows = [rows[index * len(rows) // max_texts] for index in range(max_texts)]
    device = next(model.parameters()).device
    batches = [
        tokenizer.pad(rows[start : start + batch_size], return_tensors="pt").to(device)
        for start in range(0, len(rows), batch_size)
    ]
    counts = _TokenCounts()
    hook = _backbone(model).register_forward_pre_hook(counts, with_kwargs=True)
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            for batch in batches:
                model(**batch)
            hook.remove()
            _wait(device)
            clock, cpu = time.perf_counter(), time.process_time()
            for batch in batches:
                model(**batch)
            _wait(device)
            clock, cpu = time.perf_counter() - clock, time.process_time() - cpu
    finally:
        hook.remove()
        model.train(was_training)
    return {
        "milliseconds_per_text": 1000 * clock / len(rows),
        "cpu_milliseconds_per_text": 1000 * cpu / len(rows),
        "tokens_per_text": counts.visible / len(rows),
        "padded_tokens_per_text": counts.all / len(rows),
    }


class _TokenCounts:
    def __init__(self) -> None:
        self.visible = self.all = 0

    def __call__(self, _module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        ids = kwargs["input_ids"] if "input_ids" in kwargs else args[0]
        mask = kwargs.get("attention_mask")
        self.all += ids.numel()
        self.visible += ids.numel() if mask is None else int(mask.ne(0).sum())


def _backbone(model: torch.nn.Module) -> torch.nn.Module:
    """Finds what reads the spliced rows: a wrapper's discriminator, or else the model itself."""
    return next((module for name, module in model.named_modules() if name.split(".")[-1] == "discriminator"), model)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_memory_mb() -> float:
    """Returns the most memory so far in MB: allocated on the GPU if there is one, else of this process.

    The peak of a process never goes down, so runs to be compared need a process each (`in_new_process`).
    """
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak / 1e3  # bytes there, kilobytes on Linux


def in_new_process(function: Callable[..., Any], *args: Any) -> Any:
    """Calls a module's function in a process of its own, so that its memory can be told from what ran before.

    Args:
        function: Importable by name.
        *args: Its arguments, which can be pickled.

    Returns:
        Its result. Its exceptions are raised here.
    """
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    with ProcessPoolExecutor(max_workers=1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *args).result()
