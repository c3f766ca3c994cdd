"""Hidden states of many rows in one memory-mapped file, rows of different lengths behind one another."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

logger = logging.getLogger(__name__)


def _numpy_dtype(dtype: torch.dtype) -> np.dtype:
    # numpy knows no bfloat16: its bits are kept.
    return np.dtype("uint16" if dtype == torch.bfloat16 else str(dtype).removeprefix("torch."))


def to_numpy(tensor: torch.Tensor) -> np.ndarray:
    """Returns a tensor's numbers; those of bfloat16 as their bits."""
    tensor = tensor.contiguous().cpu()
    return (tensor.view(torch.uint16) if tensor.dtype == torch.bfloat16 else tensor).numpy()


class StatesFile:
    """A finished file, open for reading.

    Args:
        path: The numbers; `path` with the ending .json holds where each row begins, and further facts.
        dtype: Type of the numbers.

    Attributes:
        facts: What was written beside the numbers.
    """

    def __init__(self, path: Path, dtype: torch.dtype) -> None:
        described = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        self.path = path
        self.dtype = dtype
        self.offsets: list[int] = described["offsets"]
        self.facts: dict[str, Any] = described["facts"]
        self._states = np.memmap(path, dtype=_numpy_dtype(dtype), mode="r").reshape(self.offsets[-1], -1)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> torch.Tensor:
        """The states of a row, (length, hidden size)."""
        values = torch.from_numpy(np.array(self._states[self.offsets[row] : self.offsets[row + 1]]))
        return values.view(torch.bfloat16) if self.dtype == torch.bfloat16 else values

    @staticmethod
    def exists(path: Path) -> bool:
        """Whether there is a finished file: the description is written last."""
        return path.with_suffix(".json").exists()

    @staticmethod
    def remove(path: Path) -> None:
        """Deletes a file, finished or not."""
        for suffix in (path.suffix, ".json", ".partial"):
            path.with_suffix(suffix).unlink(missing_ok=True)

    @staticmethod
    def write(
        path: Path,
        dtype: torch.dtype,
        lengths: Sequence[int],
        width: int,
        states: Iterable[tuple[int, torch.Tensor]],
        facts: dict[str, Any],
    ) -> None:
        """Writes a file, after logging its size.

        Args:
            path: Where to.
            dtype: Type of the numbers.
            lengths: Tokens of each row.
            width: Numbers a token.
            states: Row and its states (length, width), in any order.
            facts: Kept beside the numbers; read when all states are written.

        Raises:
            OSError: If the disk has less room than the file needs.
        """
        offsets = [0, *np.cumsum(lengths).tolist()]
        size = offsets[-1] * width * _numpy_dtype(dtype).itemsize
        logger.info("Writing %d rows (%d tokens), %.1f MB, to %s", len(lengths), offsets[-1], size / 1e6, path)
        free = shutil.disk_usage(path.parent).free
        if size > free:
            raise OSError(f"{path.parent} has {free / 1e6:.0f} MB free, but the cache needs {size / 1e6:.0f} MB.")
        partial = path.with_suffix(".partial")
        file = np.memmap(partial, dtype=_numpy_dtype(dtype), mode="w+", shape=(offsets[-1], width))
        try:
            for row, values in states:
                file[offsets[row] : offsets[row + 1]] = to_numpy(values.to(dtype))
            file.flush()
        except BaseException:
            partial.unlink()
            raise
        partial.replace(path)
        path.with_suffix(".json").write_text(json.dumps({"offsets": offsets, "facts": facts}), encoding="utf-8")
