"""One adapter per row of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

BASE = "__base__"


@dataclass(frozen=True)
class RowPlan:
    """Which adapter each row of a batch uses.

    Attributes:
        names: the adapters in use, each once; `"__base__"` is among them if there are rows of the bare backbone.
        rows: for each row the index of its adapter in `names`.
    """

    names: tuple[str, ...]
    rows: tuple[int, ...]
    _on_devices: dict[torch.device, torch.Tensor] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def of(cls, adapter_names: Sequence[str], existing: Sequence[str]) -> RowPlan:
        """Plan a batch.

        Raises:
            TypeError: if `adapter_names` is no list of strings.
            ValueError: if it is empty, or one of the names is no existing adapter and not `"__base__"`.
        """
        if not isinstance(adapter_names, list | tuple) or not all(isinstance(name, str) for name in adapter_names):
            raise TypeError(f"`adapter_names` must be a list with one adapter name per row, got {adapter_names!r}.")
        if len(adapter_names) == 0:
            raise ValueError("`adapter_names` is empty: there must be one adapter name per row.")
        unknown = sorted(set(adapter_names) - set(existing) - {BASE})
        if unknown:
            raise ValueError(
                f"`adapter_names` names adapters that do not exist: {', '.join(map(repr, unknown))}. "
                f"There are {', '.join(map(repr, sorted(existing)))}, and {BASE!r} for the bare backbone."
            )
        index = {name: i for i, name in enumerate(dict.fromkeys(adapter_names))}
        return cls(tuple(index), tuple(index[name] for name in adapter_names))

    def on(self, device: torch.device | None) -> torch.Tensor:
        """`rows` as a tensor, moved to each device once."""
        device = device or torch.device("cpu")
        if device not in self._on_devices:
            self._on_devices[device] = torch.tensor(self.rows, device=device)
        return self._on_devices[device]


def spread_over(rows: torch.Tensor, batch_size: int) -> torch.Tensor:
    """`rows` for a batch that generation has multiplied (beams): its rows stay with their adapter.

    Raises:
        ValueError: if the batch does not have one row, or one group of beams, per name.
    """
    if batch_size == len(rows):
        return rows
    if batch_size % len(rows):
        raise ValueError(f"`adapter_names` has {len(rows)} names, but the batch has {batch_size} rows.")
    return rows.repeat_interleave(batch_size // len(rows))
