"""One adapter's prompts in one attention module, and what several adapters bring into one pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn


@dataclass(frozen=True)
class StoredPrompts:
    """Keys and values that are parameters themselves: (runs, num_virtual_tokens, key size) and (..., value size)."""

    key: torch.Tensor
    value: torch.Tensor

    def keys_and_values(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values of all runs."""
        return self.key, self.value


@dataclass(frozen=True)
class EncodedPrompts:
    """Keys and values made by the "mlp" encoder: Linear(tanh(Linear(table))) (P-tuning v2, section 3.3).

    Attributes:
        table: (num_virtual_tokens, hidden size), shared by all layers.
        hidden: first linear layer, shared by all layers.
        projection: second linear layer, this module's own.
        sizes: key size and value size of the module.
    """

    table: torch.Tensor
    hidden: nn.Module
    projection: nn.Module
    sizes: tuple[int, int]

    def keys_and_values(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values of all runs."""
        projected = self.projection(torch.tanh(self.hidden(self.table)))
        by_run = projected.view(len(self.table), -1, sum(self.sizes)).transpose(0, 1)
        return by_run.split(self.sizes, dim=-1)


@dataclass(frozen=True)
class AdapterPrompts:
    """One adapter's prompts in one attention module.

    It does not know its adapter's name, so that a compiled graph serves every adapter of the same shape.

    Attributes:
        source: where keys and values come from.
        slots: for each run of the module that has prompts, their place in the first dimension of keys and values.
        dropout: what keys and values go through.
        gate: (runs,) factors of an adapter with `use_gate`, else `None`.
    """

    source: StoredPrompts | EncodedPrompts
    slots: dict[int, int]
    dropout: Any
    gate: torch.Tensor | None

    @property
    def is_gated(self) -> bool:
        """Whether the adapter has `use_gate`."""
        return self.gate is not None

    def gate_of_run(self, run: int) -> torch.Tensor:
        """The gate of one run, a single number."""
        assert self.gate is not None
        return self.gate[self.slots[run]]

    def of_run(self, run: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys (num_virtual_tokens, key size) and values of one run, dropout applied."""
        key, value = self.source.keys_and_values()
        slot = self.slots[run]
        return self.dropout(key[slot]), self.dropout(value[slot])


@dataclass(frozen=True)
class Prompts:
    """What joins the keys and values of one attention module in one pass.

    Attributes:
        key: (1 or batch, length, key size); one row if all rows of the batch share the prompts.
        value: (1 or batch, length, value size).
        visible: which prompts each row has, boolean (batch, length); `None` if all rows have all.
    """

    key: torch.Tensor
    value: torch.Tensor
    visible: torch.Tensor | None = None

    @property
    def length(self) -> int:
        """Columns that the prompts take."""
        return self.key.shape[1]

    @classmethod
    def shared(cls, pairs: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> Prompts:
        """The prompts of several adapters in a row, for all rows of a batch."""
        key, value = (parts[0] if len(parts) == 1 else torch.cat(parts) for parts in zip(*pairs, strict=True))
        return cls(key[None], value[None])

    @classmethod
    def per_row(cls, pairs: Sequence[tuple[torch.Tensor, torch.Tensor] | None], rows: torch.Tensor) -> Prompts:
        """Each row's own prompts.

        Args:
            pairs: keys and values by adapter; `None` for those without prompts here, but not for all.
            rows: (batch,) index into `pairs`.
        """
        key, value = next(pair for pair in pairs if pair is not None)
        keys, values = zip(*((key[:0], value[:0]) if pair is None else pair for pair in pairs), strict=True)
        padded = [nn.utils.rnn.pad_sequence(list(parts), batch_first=True) for parts in (keys, values)]
        lengths = [len(key) for key in keys]
        visible = None
        if len(set(lengths)) > 1:
            columns = torch.arange(padded[0].shape[1], device=rows.device)
            visible = (columns < torch.tensor(lengths, device=rows.device)[:, None])[rows]
        return cls(padded[0][rows], padded[1][rows], visible)


@dataclass(frozen=True)
class GatedPrompts:
    """Prompts that are attended to apart from the tokens, and whose context is scaled by a gate.

    Attributes:
        prompts: the keys and values.
        gate: factor of their context: a single number, or (batch,).
    """

    prompts: Prompts
    gate: torch.Tensor

    def context(self, query: torch.Tensor, scale: float | torch.Tensor) -> torch.Tensor:
        """The gate times softmax(scale * query keys^T) values (LLaMA-Adapter, equation 6).

        Args:
            query: (batch, heads, queries, head size).
            scale: factor of the scores.

        Returns:
            What the prompts add to the context of the tokens, (batch, heads, queries, value head size).
        """
        heads, size = query.shape[1], query.shape[-1]
        prompts = self.prompts
        groups = prompts.key.shape[-1] // size
        key, value = (
            # each key/value head serves several heads of queries where there are fewer
            p.to(query.dtype).unflatten(-1, (groups, -1)).transpose(1, 2).repeat_interleave(heads // groups, dim=1)
            for p in (prompts.key, prompts.value)
        )
        scores = (query @ key.mT * scale).float()
        if prompts.visible is not None:
            scores = scores.masked_fill(~prompts.visible[:, None, None, :], torch.finfo(scores.dtype).min)
        context = scores.softmax(-1).to(value.dtype) @ value
        return self.gate.to(context.dtype).view(-1, 1, 1, 1) * context
