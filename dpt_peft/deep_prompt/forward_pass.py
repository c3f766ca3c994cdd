"""What one forward pass needs of the prompts, made once for all layers.

A bank's numbers lie as (num_virtual_tokens, width). Attention wants them as (batch, heads, num_virtual_tokens, size),
on the device and in the dtype of its keys. All layers of one kind want the same, so the first one to ask has it done
for all: one cast, one view, one expansion over the batch, and one `unbind` whose pieces are the layers' keys and
values. The gradient comes back through that one `unbind`, in one piece.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, groupby
from operator import is_
from typing import Any, NamedTuple

import torch
from torch import nn

from dpt_peft._compatibility import in_backward


@dataclass(frozen=True)
class Stretch:
    """Layers that follow one another and have keys and values of the same sizes.

    Attributes:
        layers: how many.
        key_size: numbers of one token's key, over all heads.
        value_size: the same for values.
    """

    layers: int
    key_size: int
    value_size: int

    @property
    def width(self) -> int:
        """Numbers of one token."""
        return self.layers * (self.key_size + self.value_size)


@dataclass(frozen=True)
class Layout:
    """Where the layers' keys and values are in the width of a bank.

    Attributes:
        stretches: the layers, in order.
        places: for each layer its stretch, and its place there.
        starts: first column of each stretch.
    """

    stretches: tuple[Stretch, ...]
    places: tuple[tuple[int, int], ...]
    starts: tuple[int, ...]

    @classmethod
    def of(cls, sizes: Sequence[tuple[int, int]]) -> Layout:
        """Return the layout of layers with these key and value sizes."""
        stretches = tuple(Stretch(len(list(same)), *pair) for pair, same in groupby(sizes))
        places = ((index, place) for index, stretch in enumerate(stretches) for place in range(stretch.layers))
        ends = tuple(accumulate(stretch.width for stretch in stretches))
        return cls(stretches, tuple(places), (0, *ends[:-1]))

    @property
    def layers(self) -> int:
        """How many layers there are."""
        return len(self.places)

    @property
    def width(self) -> int:
        """Numbers of one token in all layers."""
        return sum(stretch.width for stretch in self.stretches)

    def sizes(self, row: int) -> tuple[int, int]:
        """Return the key size and the value size of the layer `row`."""
        stretch = self.stretches[self.places[row][0]]
        return stretch.key_size, stretch.value_size

    def rows(self, index: int) -> list[int]:
        """Return the layers of a stretch."""
        return [row for row, (stretch, _) in enumerate(self.places) if stretch == index]

    def columns(self, row: int) -> slice:
        """Return the columns of the layer `row`."""
        index, place = self.places[row]
        each = sum(self.sizes(row))
        start = self.starts[index] + place * each
        return slice(start, start + each)


@dataclass(frozen=True)
class AdapterPrompts:
    """One adapter's prompts. It does not know its adapter's name: a compiled graph serves all of the same shape.

    Attributes:
        table: keys and values themselves, (num_virtual_tokens, width), or what the encoder makes them of.
        encoder: of the "mlp" encoder the first linear layer, and weight and bias of the second; else `None`.
        layout: where each layer's are.
        dropout: what they go through.
        gate: (layers,) factors of an adapter with `use_gate`, else `None`.
    """

    table: torch.Tensor
    encoder: tuple[nn.Module, torch.Tensor, torch.Tensor] | None
    layout: Layout
    dropout: Any
    gate: torch.Tensor | None

    @property
    def is_gated(self) -> bool:
        """Whether the adapter has `use_gate`."""
        return self.gate is not None

    @property
    def length(self) -> int:
        """The number of virtual tokens."""
        return len(self.table)

    def flat(self) -> torch.Tensor:
        """Return keys and values (num_virtual_tokens, width), before dropout."""
        if self.encoder is None:
            return self.table
        hidden, weight, bias = self.encoder
        return nn.functional.linear(torch.tanh(hidden(self.table)), weight, bias)

    def dropped(self) -> torch.Tensor:
        """Return keys and values (num_virtual_tokens, width), dropout applied."""
        return self.dropout(self.flat())

    def of_row(self, row: int) -> AdapterPrompts:
        """Return the prompts of one layer alone."""
        columns, layout = self.layout.columns(row), Layout.of([self.layout.sizes(row)])
        gate = None if self.gate is None else self.gate[row : row + 1]
        if self.encoder is None:
            return replace(self, table=self.table[:, columns], layout=layout, gate=gate)
        hidden, weight, bias = self.encoder
        return replace(self, encoder=(hidden, weight[columns], bias[columns]), layout=layout, gate=gate)


class Shape(NamedTuple):
    """How an attention module wants its prompts.

    Attributes:
        batch: rows of its batch.
        key_heads: heads of its keys.
        value_heads: heads of its values.
        repeats: how often each of them is repeated, for heads of queries that share one.
        device: where it computes.
        dtype: in what.
    """

    batch: int
    key_heads: int
    value_heads: int
    repeats: int
    device: torch.device
    dtype: torch.dtype


@dataclass(slots=True)
class Prompts:
    """What joins the keys and values of one attention module in one pass.

    Attributes:
        keys: of each adapter in use, (batch, key heads, length, size); one after the other they are the prompts.
        values: the same, (batch, value heads, length, size).
        length: columns that the prompts take.
        visible: which prompts each row has, boolean (batch, length); `None` if all rows have all.
    """

    keys: tuple[torch.Tensor, ...]
    values: tuple[torch.Tensor, ...]
    length: int
    visible: torch.Tensor | None = None

    @property
    def key(self) -> torch.Tensor:
        """All keys in one tensor."""
        return self.keys[0] if len(self.keys) == 1 else torch.cat(self.keys, dim=2)

    @property
    def value(self) -> torch.Tensor:
        """All values in one tensor."""
        return self.values[0] if len(self.values) == 1 else torch.cat(self.values, dim=2)

    def before(self, key: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the keys and values of tokens, (batch, heads, tokens, size), with the prompts in front."""
        return torch.cat([*self.keys, key], dim=2), torch.cat([*self.values, value], dim=2)


@dataclass(frozen=True)
class GatedPrompts:
    """Prompts that are attended to apart from the tokens, and whose context is scaled by a gate.

    Attributes:
        prompts: keys and values, with as many heads as the queries.
        gate: factor of their context: a single number, or (batch, 1, 1, 1).
    """

    prompts: Prompts
    gate: torch.Tensor

    def add_to(self, context: torch.Tensor, query: torch.Tensor, scale: float) -> torch.Tensor:
        """Add the gate times softmax(scale * query keys^T) values (LLaMA-Adapter, equation 6).

        Args:
            context: what attention read from the tokens, (batch, queries, heads, value head size).
            query: (batch, heads, queries, head size).
            scale: factor of the scores.
        """
        visible = self.prompts.visible
        mask = None if visible is None else visible[:, None, None]
        added = nn.functional.scaled_dot_product_attention(
            query, self.prompts.key, self.prompts.value, attn_mask=mask, scale=scale
        )
        return torch.addcmul(context, self.gate, added.transpose(1, 2))


class ForwardPass:
    """The prompts of one forward pass.

    Attributes:
        has_gates: whether any of the prompts are gated.
        is_open: whether the model's forward is still running.
        with_gradients: whether it can be differentiated.
        version: of the bank, once it was asked for.
        last: what the last layer that was asked was given, as its class notes it with `remember`.
    """

    def __init__(self, adapters: tuple[AdapterPrompts, ...], mixtures: tuple[Any, ...]) -> None:
        """Open a pass.

        Args:
            adapters: those in use.
            mixtures: how they share a batch, if each row has its own; else every row has all of them.
        """
        self.adapters = adapters
        self.mixtures = mixtures
        self._parts: tuple[Any, ...] = mixtures or adapters
        self.has_gates = any(part.is_gated for part in self._parts)
        self.is_open = True
        self.with_gradients = torch.is_grad_enabled()
        self.version: int | None = None
        self.last: Any = None
        # a list: in `torch.export` sizes of a batch can be compared, and not be keys
        self._made: list[tuple[tuple[Any, ...], Any, Any]] = []
        self._served: set[Any] = set()
        # Dropout and encoder keep tensors for the backward pass: they must not run within a checkpoint of some layer.
        # `torch.jit.trace` compares a trace with gradients and one without: there they run in one place.
        at_once = self.with_gradients and not torch.jit.is_tracing()
        self._flats = tuple(adapter.dropped() for adapter in adapters) if at_once else None

    def __reduce__(self) -> tuple[Any, ...]:
        # copies and pickles of a model are not in the middle of a pass
        return type(None), ()

    def close(self) -> None:
        """End the pass. What was made for its masks is let go."""
        self.is_open, self.last = False, None
        self._made = [made for made in self._made if not made[0]]

    def serves(self, user: Any) -> bool:
        """Return whether `user`, a layer and its run, is to take its prompts from this pass.

        Checkpoints recompute layers in the backward pass, when this pass is over. They get what they had the first
        time. Reentrant checkpoints, which run without gradients first, get nothing here either time.
        """
        if not self.is_open:
            return not torch.compiler.is_compiling() and user in self._served and in_backward()
        if torch.is_grad_enabled() is not self.with_gradients:
            return False
        if self.with_gradients:
            self._served.add(user)
        return True

    def prompts(self, places: Sequence[tuple[int, int]], shape: Shape) -> Prompts | None:
        """Return the prompts that join the tokens of a layer, or `None` if it has none but gated ones.

        Args:
            places: the layer's adapters (or mixtures) and its row in each.
            shape: how it wants them.
        """
        found = [place for place in places if not self._parts[place[0]].is_gated] if self.has_gates else places
        if len(found) == 1:
            part, row = found[0]
            return self._prompts(part, row, shape)
        if not found:
            return None
        each = [self._prompts(part, row, shape) for part, row in found]
        return Prompts(
            tuple(prompts.keys[0] for prompts in each),
            tuple(prompts.values[0] for prompts in each),
            sum(prompts.length for prompts in each),
        )

    def remember(
        self, places: Sequence[tuple[int, int]], shape: Shape, note: Callable[[dict[Any, Prompts]], Any]
    ) -> None:
        """Keep in `last` what a layer was given, if others can be given the same.

        Graphs, which run without Python, have no use for it.

        Args:
            places: the layer's places, as for `prompts`.
            shape: how it wants its prompts.
            note: makes what is kept, given the prompts of all layers that get theirs in this shape, by their places.
        """
        if not self.is_open or self.has_gates or len(places) != 1 or _makes_a_graph():
            return
        part, row = places[0]
        layout = self._parts[part].layout
        index, _ = layout.places[row]

        def by_place() -> dict[Any, Prompts]:
            return {((part, row),): self._prompts(part, row, shape) for row in layout.rows(index)}

        self.last = note(self.memo((), ("by place", part, index, shape), by_place))

    def gated(self, places: Sequence[tuple[int, int]], shape: Shape) -> list[GatedPrompts]:
        """Return the gated prompts of a layer: those of each adapter, or those of all rows."""
        result = []
        for part, row in places:
            if self._parts[part].is_gated:
                result.append(GatedPrompts(self._prompts(part, row, shape), self._gate(part, row, shape)))
        return result

    def memo(self, same: tuple[Any, ...], equal: Any, make: Callable[[], Any]) -> Any:
        """Return `make()`, made once for the same objects and equal further values."""
        for objects, values, made in self._made:
            # objects first: in `torch.export` a comparison of sizes is kept as a condition
            if len(objects) == len(same) and all(map(is_, objects, same)) and values == equal:
                return made
        made = make()
        self._made.append((same, equal, made))
        return made

    def _prompts(self, part: int, row: int, shape: Shape) -> Prompts:
        """Return one layer's prompts, made ready with those of all layers in its stretch."""
        index, place = self._parts[part].layout.places[row]
        return self.memo((), ("stretch", part, index, shape), lambda: self._stretch(part, index, shape))[place]

    def _stretch(self, part: int, index: int, shape: Shape) -> list[Prompts]:
        """Return the prompts of all layers of a stretch."""
        layout = self._parts[part].layout
        stretch, start = layout.stretches[index], layout.starts[index]
        flat = self._flat(part, shape)
        if len(layout.stretches) > 1:
            flat = flat.narrow(-1, start, stretch.width)
        rows, length = (flat.shape[0] if flat.dim() == 3 else 1), flat.shape[-2]
        if stretch.key_size == stretch.value_size and shape.key_heads == shape.value_heads:
            both = flat.view(rows, length, 2 * stretch.layers, shape.key_heads, -1)
            pieces = _by_layer(both, shape)
            keys, values = pieces[0::2], pieces[1::2]
        else:
            pairs = flat.view(rows, length, stretch.layers, -1).split((stretch.key_size, stretch.value_size), dim=-1)
            keys, values = (
                _by_layer(each.unflatten(-1, (heads, -1)), shape)
                for each, heads in zip(pairs, (shape.key_heads, shape.value_heads), strict=True)
            )
        if self.mixtures:
            seen = [self._visible(part, row, shape) for row in layout.rows(index)]
        else:
            seen = [None] * stretch.layers
        return [
            Prompts((key,), (value,), length, visible) for key, value, visible in zip(keys, values, seen, strict=True)
        ]

    def _flat(self, part: int, shape: Shape) -> torch.Tensor:
        """(num_virtual_tokens, width) of an adapter, or (batch, longest, width) of a mixture."""

        def make() -> torch.Tensor:
            if self._flats is None:
                self._flats = tuple(adapter.dropped() for adapter in self.adapters)
            flat = self.mixtures[part].gather(self._flats, shape.batch) if self.mixtures else self._flats[part]
            return flat.to(device=shape.device, dtype=shape.dtype)

        return self.memo((), ("flat", part, shape.batch if self.mixtures else None, shape.device, shape.dtype), make)

    def _gate(self, part: int, row: int, shape: Shape) -> torch.Tensor:
        """A single number, or (batch, 1, 1, 1)."""

        def make() -> Any:
            gates: Any
            if self.mixtures:
                gates = self.mixtures[part].gates([adapter.gate for adapter in self.adapters], shape.batch)
            else:
                gates = self.adapters[part].gate
            return gates.to(device=shape.device, dtype=shape.dtype).unbind(0)

        return self.memo((), ("gate", part, shape.batch, shape.device, shape.dtype), make)[row]

    def _visible(self, part: int, row: int, shape: Shape) -> torch.Tensor | None:
        """Which prompts each row of the batch sees, boolean (batch, length); `None` if all see all."""
        visible = self.mixtures[part].visible[row]
        if visible is None:
            return None
        rest = (shape.batch, shape.device)
        return self.memo((visible,), rest, lambda: spread_over(visible, shape.batch).to(shape.device))


def _makes_a_graph() -> bool:
    return torch.compiler.is_compiling() or torch.jit.is_tracing()


def _by_layer(parts: torch.Tensor, shape: Shape) -> Sequence[torch.Tensor]:
    """(1 or batch, length, layers, heads, size) -> (batch, heads, length, size) of each layer."""
    parts = parts.permute(2, 0, 3, 1, 4)
    if shape.repeats > 1:
        parts = parts.repeat_interleave(shape.repeats, dim=2)
    if parts.shape[1] != shape.batch:
        parts = parts.expand(-1, shape.batch, -1, -1, -1)
    return parts.unbind(0)


def spread_over(rows: torch.Tensor, batch_size: int) -> torch.Tensor:
    """Return `rows` for a batch that generation has multiplied (beams): its rows stay with their adapter.

    Raises:
        ValueError: if the batch does not have one row, or one group of beams, per name.
    """
    if batch_size == len(rows):
        return rows
    if batch_size % len(rows):
        raise ValueError(f"`adapter_names` has {len(rows)} names, but the batch has {batch_size} rows.")
    return rows.repeat_interleave(batch_size // len(rows), dim=0)
