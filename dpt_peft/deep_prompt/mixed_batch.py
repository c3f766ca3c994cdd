"""One adapter per row of a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import torch

from .forward_pass import AdapterPrompts, Layout, spread_over

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
    _blocks: dict[Any, tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = field(
        default_factory=dict, compare=False, repr=False
    )

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
        """Return `rows` as a tensor, moved to each device once."""
        device = device or torch.device("cpu")
        if device not in self._on_devices:
            self._on_devices[device] = torch.tensor(self.rows, device=device)
        return self._on_devices[device]

    def blocks(self, batch_size: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the batch cut into blocks of the same number of rows, each of one adapter; worked out once.

        Args:
            batch_size: how many rows there are, in groups for the planned ones.
            device: where the answer is wanted.

        Returns:
            The adapter of each block; the rows of each block (blocks, rows), the last of which may be repeated; and
            for each row of the batch its place among all rows of blocks.
        """
        if (batch_size, device) not in self._blocks:
            rows = spread_over(self.on(torch.device("cpu")), batch_size).tolist()
            size = -(-batch_size // len(self.names))
            adapters: list[int] = []
            blocks: list[list[int]] = []
            places = [0] * batch_size
            for adapter in range(len(self.names)):
                own = [row for row, of in enumerate(rows) if of == adapter]
                for start in range(0, len(own), size):
                    block = own[start : start + size]
                    for place, row in enumerate(block):
                        places[row] = len(blocks) * size + place
                    adapters.append(adapter)
                    blocks.append(block + block[-1:] * (size - len(block)))
            self._blocks[batch_size, device] = (
                torch.tensor(adapters, device=device),
                torch.tensor(blocks, device=device),
                torch.tensor(places, device=device),
            )
        return self._blocks[batch_size, device]


class Planned:
    """Mixed into PEFT's layers: finds what is in use anew whenever that changes, so that a forward need not."""

    plan: RowPlan | None = None

    def refresh(self) -> None:
        """Find what is in use: by the active adapters, or by `plan` where each row has its own."""
        raise NotImplementedError

    def plan_rows(self, plan: RowPlan | None) -> None:
        """Let the rows of the batches to come have an adapter each, or with `None` the active ones again."""
        self.plan = plan
        self.refresh()

    def set_adapter(self, *args: Any, **kwargs: Any) -> None:
        """Do as PEFT does, and find what is in use."""
        super().set_adapter(*args, **kwargs)  # type: ignore[misc]
        self.refresh()

    def enable_adapters(self, enabled: bool) -> None:
        """Do as PEFT does, and find what is in use."""
        super().enable_adapters(enabled)  # type: ignore[misc]
        self.refresh()


@dataclass(frozen=True)
class Mixture:
    """The prompts of several adapters, all gated or none, gathered row by row.

    All that follows from the rows' adapters is worked out when the batch is planned. A forward pass puts the adapters'
    prompts one below the other and picks each row's own with one look-up, however many adapters and rows there are.

    Attributes:
        layout: of the layers that any of the adapters has prompts in.
        slots: for each attention module its runs that have prompts, and their rows in `layout`.
        depths: adapters with prompts in the same layers: their places among those in use, and the columns of theirs
            that come to stand in the columns of `layout`; `None` if they are the same.
        index: (rows, longest prompt) which of all virtual tokens.
        visible: for each layer which prompts a row has, boolean (rows, longest prompt); `None` if all rows have all.
        gate_index: (layers, rows) which of all gates, the last of which is closed; `None` without gates.
    """

    layout: Layout
    slots: tuple[dict[int, int], ...]
    depths: tuple[tuple[tuple[int, ...], torch.Tensor | None], ...]
    index: torch.Tensor
    visible: tuple[torch.Tensor | None, ...]
    gate_index: torch.Tensor | None

    @property
    def is_gated(self) -> bool:
        """Whether the prompts have gates."""
        return self.gate_index is not None

    @classmethod
    def of(
        cls,
        plan: RowPlan,
        adapters: Mapping[str, AdapterPrompts],
        slots: Mapping[str, Sequence[Mapping[int, int]]],
        gated: bool,
        device: torch.device,
    ) -> Mixture:
        """Work out where each row finds its prompts.

        Args:
            plan: the rows' adapters.
            adapters: the prompts in use, by name.
            slots: by name, for each attention module its runs that have prompts, and their rows in the adapter.
            gated: whether to mix the gated adapters, or the others.
            device: where the prompts are.
        """
        mixed = {name: adapter for name, adapter in adapters.items() if adapter.is_gated is gated}
        modules = range(len(next(iter(slots.values()))))
        places = [(m, run) for m in modules for run in sorted({run for name in mixed for run in slots[name][m]})]
        # each adapter's own row of each place
        own: dict[str, tuple[Any, ...]] = {name: tuple(slots[name][m].get(run) for m, run in places) for name in mixed}
        sizes = []
        for place in range(len(places)):
            name, row = next((name, rows[place]) for name, rows in own.items() if rows[place] is not None)
            sizes.append(mixed[name].layout.sizes(row))
        layout = Layout.of(sizes)
        joint: list[dict[int, int]] = [{} for _ in modules]
        for place, (module, run) in enumerate(places):
            joint[module][run] = place

        in_use = {name: i for i, name in enumerate(adapters)}
        depths, order = [], []
        for rows in dict.fromkeys(own.values()):
            same = [name for name in mixed if own[name] == rows]
            order += same
            columns = _columns(mixed[same[0]].layout, layout, rows)
            depths.append((tuple(in_use[name] for name in same), None if columns is None else columns.to(device)))
        lengths = [mixed[name].length if name in mixed else 0 for name in plan.names]
        longest = max(lengths)
        starts, start = {}, 0
        for name in order:
            starts[name], start = start, start + mixed[name].length
        table = [
            [starts[name] + token if token < length else 0 for token in range(longest)]
            for name, length in zip(plan.names, lengths, strict=True)
        ]
        row_of = plan.on(device)

        # by place, for each of the plan's names: its row there, if it has one
        present = [
            [own[name][place] if name in mixed else None for name in plan.names] for place in range(len(places))
        ]
        # rows without gated prompts have a closed gate, but their softmax needs something to see
        nothing = longest if gated else 0
        seen = [
            tuple(nothing if row is None else length for row, length in zip(rows, lengths, strict=True))
            for rows in present
        ]
        masks = {pattern: _mask(pattern, longest, row_of) for pattern in dict.fromkeys(seen)}
        gate_index = None
        if gated:
            counts = [mixed[name].layout.layers if name in mixed else 0 for name in plan.names]
            first = list(accumulate(counts, initial=0))
            closed = first.pop()
            gates = [
                [closed if row is None else start + row for row, start in zip(rows, first, strict=True)]
                for rows in present
            ]
            gate_index = torch.tensor(gates, device=device)[:, row_of]
        return cls(
            layout,
            tuple(joint),
            tuple(depths),
            torch.tensor(table, device=device)[row_of],
            tuple(masks[pattern] for pattern in seen),
            gate_index,
        )

    def gather(self, flats: Sequence[torch.Tensor], batch_size: int) -> torch.Tensor:
        """Return each row's prompts (batch, longest prompt, width).

        Args:
            flats: of the adapters in use, each (num_virtual_tokens, width).
            batch_size: how many rows there are, in groups for the planned ones.
        """
        tables = []
        for members, columns in self.depths:
            table = torch.cat([flats[member] for member in members])
            tables.append(table if columns is None else table.index_select(1, columns))
        table = tables[0] if len(tables) == 1 else torch.cat(tables)
        return table[spread_over(self.index, batch_size)]

    def gates(self, gates: Sequence[torch.Tensor | None], batch_size: int) -> torch.Tensor:
        """Return the gate of each layer and row, (layers, batch, 1, 1, 1).

        Args:
            gates: of the adapters in use, each (layers,), or `None`.
            batch_size: how many rows there are, in groups for the planned ones.
        """
        assert self.gate_index is not None
        found = [gate for gate in gates if gate is not None]
        every = torch.cat([*found, found[0].new_zeros(1)])
        index = spread_over(self.gate_index.T, batch_size).T
        return every[index][:, :, None, None, None]


def _columns(layout: Layout, joint: Layout, rows: Sequence[int | None]) -> torch.Tensor | None:
    """Which columns of an adapter's `layout` come to stand in those of the joint one; any, where it has no row."""
    if layout == joint and list(rows) == list(range(layout.layers)):
        return None
    found = [
        torch.zeros(sum(joint.sizes(place)), dtype=torch.long)
        if row is None
        else torch.arange(layout.columns(row).start, layout.columns(row).stop)
        for place, row in enumerate(rows)
    ]
    return torch.cat(found)


def _mask(lengths: Sequence[int], longest: int, rows: torch.Tensor) -> torch.Tensor | None:
    """Which of the longest prompt's tokens each row has, given each adapter's length; `None` if all have all."""
    if min(lengths) == longest:
        return None
    columns = torch.arange(longest, device=rows.device)
    return (columns < torch.tensor(lengths, device=rows.device)[:, None])[rows]
