"""One adapter per row of a batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from peft.utils import ModulesToSaveWrapper
from torch import nn

BASE = "__base__"


@dataclass(frozen=True)
class RowPlan:
    """Which adapter each row of a batch uses.

    Attributes:
        names: the adapters in use, each once.
        rows: for each row the index of its adapter in `names`; `len(names)` for rows of the bare backbone.
    """

    names: tuple[str, ...]
    rows: tuple[int, ...]

    @classmethod
    def of(cls, adapter_names: Sequence[str], existing: Sequence[str]) -> RowPlan:
        """Plan a batch.

        Raises:
            TypeError: if `adapter_names` is no list of strings.
            ValueError: if one of the names is no existing adapter and not `"__base__"`.
        """
        if isinstance(adapter_names, str) or not all(isinstance(name, str) for name in adapter_names):
            raise TypeError(f"`adapter_names` must be a list with one adapter name per row, got {adapter_names!r}.")
        unknown = sorted(set(adapter_names) - set(existing) - {BASE})
        if unknown:
            raise ValueError(
                f"`adapter_names` names adapters that do not exist: {', '.join(map(repr, unknown))}. "
                f"There are {', '.join(map(repr, sorted(existing)))}, and {BASE!r} for the bare backbone."
            )
        names = tuple(dict.fromkeys(name for name in adapter_names if name != BASE))
        index = {name: i for i, name in enumerate(names)} | {BASE: len(names)}
        return cls(names, tuple(index[name] for name in adapter_names))

    def index(self, batch_size: int, device: torch.device) -> torch.Tensor:
        """`rows` as a tensor (batch_size,); rows that generation has multiplied (beams) stay with their adapter.

        Raises:
            ValueError: if the batch does not have one row, or one group of beams, per name.
        """
        if not self.rows or batch_size % len(self.rows):
            raise ValueError(f"`adapter_names` has {len(self.rows)} names, but the batch has {batch_size} rows.")
        return torch.tensor(self.rows, device=device).repeat_interleave(batch_size // len(self.rows))


@contextmanager
def heads_per_row(model: nn.Module, plan: RowPlan) -> Iterator[None]:
    """Let the task heads that PEFT keeps per adapter take each row's own, for the length of the context.

    PEFT's wrapper does so for single layers; the heads of RoBERTa and ELECTRA are more than that.
    """
    heads = [module for module in model.modules() if isinstance(module, ModulesToSaveWrapper)]
    for head in heads:
        head.forward = partial(_forward_per_row, head, plan)
    try:
        yield
    finally:
        for head in heads:
            del head.forward


def _forward_per_row(head: ModulesToSaveWrapper, plan: RowPlan, x: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
    own = dict(head.modules_to_save.items())
    rows = plan.index(x.shape[0], x.device)
    output: torch.Tensor | None = None
    for adapter, name in enumerate([*plan.names, BASE]):
        mine = (rows == adapter).nonzero().flatten()
        if len(mine) == 0:
            continue
        result = own.get(name, head.original_module)(x[mine], *args, **kwargs)
        if output is None:
            output = result.new_zeros(x.shape[0], *result.shape[1:])
        output = output.index_copy(0, mine, result)
    return output
