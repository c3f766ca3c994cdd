"""How much memory one training step takes."""

from __future__ import annotations

import resource
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def step_memory(
    model: nn.Module, batch: dict[str, torch.Tensor], step: Callable[[], None], device: str
) -> dict[str, int]:
    """Bytes kept for the backward pass, and the peak of two training steps.

    Returns:
        `kept_bytes`: storages that autograd holds between forward and backward, weights not counted. Exact.
        `step_bytes`: the peak above what the process (CPU) or the allocator (GPU) held before: activations, gradients,
            optimizer state and the allocator's slack.
        `peak_bytes`: the peak itself, weights and libraries included.
    """
    kept = kept_bytes(model, batch)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    else:
        if _CLEAR.exists():
            _CLEAR.write_text("5")  # the kernel forgets the peak so far
        before = _resident("VmRSS")
    for _ in range(2):
        step()
    peak = torch.cuda.max_memory_allocated() if device == "cuda" else _resident("VmHWM")
    return {"kept_bytes": kept, "step_bytes": peak - before, "peak_bytes": peak}


def kept_bytes(model: nn.Module, batch: dict[str, torch.Tensor]) -> int:
    """Bytes of the storages that one forward pass leaves for the backward pass, without parameters and inputs."""
    known = {t.untyped_storage().data_ptr() for t in (*model.parameters(), *model.buffers(), *batch.values())}
    storages: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    model.train()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        # held until the count is done: the graph keeps the storages apart
        loss = model(**batch).loss
    total = sum(storages.values())
    del loss
    return total


def _resident(field: str) -> int:
    """VmRSS or VmHWM of this process in bytes; where there is no /proc, the peak since the start for both."""
    if not _STATUS.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024
