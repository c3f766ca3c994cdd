"""A module of the backbone inside one of ours, and of these the attention modules with prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

from dpt_peft.deep_prompt.forward_pass import ForwardPass, Prompts, Shape

from .projections import projection_sizes, record_projections

CANNOT_BE_MERGED = (
    "Deep prompts cannot be merged into the backbone's weights. Use `unload()` to get the backbone back, or "
    "keep the adapter: it is small."
)


class WrappedModule(nn.Module, BaseTunerLayer):
    """Stands in the place of a module of the backbone and answers for it.

    Attributes:
        base_layer: the module as the backbone made it.
    """

    adapter_layer_names = ()
    # what `peft.helpers.disable_input_dtype_casting` turns off: nothing is cast here
    cast_input_dtype_enabled = True

    def __init__(self, base_layer: nn.Module) -> None:
        super().__init__()
        self.base_layer: Any = base_layer
        self._active_adapter: list[str] = []

    def unwrap(self) -> nn.Module:
        """Take every trace of the wrapper off the module and return it."""
        return self.base_layer

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """Do nothing: there is nothing to merge."""

    def unmerge(self) -> None:
        """Do nothing: nothing is ever merged."""

    def unload_and_optionally_merge_module(
        self, merge: bool, safe_merge: bool, adapter_names: list[str] | None
    ) -> nn.Module:
        """Unload: PEFT's hook."""
        if merge:
            self.merge()
        return self.unwrap()

    def __getattr__(self, name: str) -> Any:
        """Forward missing attributes to the wrapped module: backbones read some from outside."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "base_layer":
                raise
            return getattr(self.base_layer, name)


class DeepPromptLayer(WrappedModule):
    """Wraps one attention module. Its prompts are in the model's [`PromptBank`].

    Subclasses bring the prompts into their kind of attention.

    Attributes:
        can_be_gated: whether the class adds gated prompts, so that adapters may have `use_gate`.
        base_layer: the attention module as the backbone made it.
        layer_indices: the layers of its stack that the module is run as: one, except in modules that one forward pass
            runs several times (ALBERT).
        slots: by adapter name, the runs that have prompts, and their rows in the bank.
        run: number of the current run.
        places: for each run the adapters in use that have prompts for it, and their rows there.
    """

    other_param_names = ("slots",)
    can_be_gated = False

    def __init__(self, base_layer: nn.Module, layer_indices: tuple[int, ...], bank: Any) -> None:
        """Wrap `base_layer`, which is run as the layers `layer_indices` of its stack, and join the bank."""
        super().__init__(base_layer)
        self.layer_indices = layer_indices
        self.slots: dict[str, dict[int, int]] = {}
        self.run = 0
        self.places: tuple[tuple[tuple[int, int], ...], ...] = ((),) * len(layer_indices)
        self.key_size, self.value_size = self.prompt_sizes(base_layer)
        # keys and values (tokens, size) of each run, while a text is run to make prompts of
        self.recorded: list[tuple[torch.Tensor, torch.Tensor]] | None = None
        self.join(bank)
        bank.layers = (*bank.layers, self)

    @classmethod
    def supports(cls, module: nn.Module) -> bool:
        """Return whether this class knows how to bring prompts into `module`."""
        raise NotImplementedError

    @classmethod
    def prompt_sizes(cls, module: nn.Module) -> tuple[int, int]:
        """Return key size and value size of the attention module, summed over its key/value heads."""
        return projection_sizes(module)

    @classmethod
    def runs(cls, model: nn.Module, name: str, position: int) -> tuple[int, ...]:
        """Return the layers that the module `name` is run as; `position` counts modules within the stack."""
        return (position,)

    def bind(self, model: nn.Module, name: str) -> None:
        """Take what the class needs of the model besides the attention module; called once after wrapping."""

    def join(self, bank: Any) -> None:
        """Take prompts from this bank."""
        # in a tuple: a reference, not a submodule
        self._bank = (bank,)

    @property
    def bank(self) -> Any:
        """Where the prompts are."""
        return self._bank[0]

    def use(self, slots: Sequence[Mapping[int, int]]) -> None:
        """Have these prompts from now on.

        Args:
            slots: for each adapter in use, the runs that have prompts, and their rows.
        """
        self.places = tuple(
            tuple((part, rows[run]) for part, rows in enumerate(slots) if run in rows)
            for run in range(len(self.layer_indices))
        )
        self.switch(self.has_prompts())

    def has_prompts(self) -> bool:
        """Return whether an adapter in use has prompts for the current run of this module."""
        return bool(self.places[self.run])

    def keys_and_values(self, adapter_name: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Return an adapter's keys (runs, num_virtual_tokens, key size) and values (..., value size), without dropout.

        Of prompts that are stored themselves they are views: what is written into them changes the prompts.
        """
        flat, layout = self.bank.flat(adapter_name).detach(), self.bank.layouts[adapter_name]
        rows = list(self.slots[adapter_name].values())
        columns = slice(layout.columns(rows[0]).start, layout.columns(rows[-1]).stop)
        by_run = flat[:, columns].unflatten(-1, (len(rows), -1)).transpose(0, 1)
        return by_run[..., : self.key_size], by_run[..., self.key_size :]

    def prompts(
        self,
        like: torch.Tensor,
        batch_size: int,
        key_heads: int,
        value_heads: int | None = None,
        repeats: int = 1,
    ) -> Prompts | None:
        """Return the prompts of the current run that join the tokens, or `None` if all of them are gated.

        Args:
            like: has their device and dtype.
            batch_size: rows of the attention's batch.
            key_heads: heads to split keys into.
            value_heads: heads to split values into; default: as many.
            repeats: how many heads of queries share one of keys and values.
        """
        shape = Shape(batch_size, key_heads, value_heads or key_heads, repeats, like.device, like.dtype)
        current, places = self.forward_pass()
        return current.prompts(places, shape)

    def add_gated(self, context: torch.Tensor, query: torch.Tensor, scale: Any) -> torch.Tensor:
        """Add what the gated prompts of the current run have to say, if there are any.

        Args:
            context: what attention read from the tokens, (batch, queries, heads, value head size).
            query: (batch, heads, queries, head size).
            scale: factor between products of queries and keys, and scores.
        """
        if not self.bank.has_gates:
            return context
        if isinstance(scale, torch.Tensor):
            query, scale = query * scale, 1.0
        heads = self.key_size // query.shape[-1]
        shape = Shape(query.shape[0], heads, heads, query.shape[1] // heads, query.device, query.dtype)
        current, places = self.forward_pass()
        for prompts in current.gated(places, shape):
            context = prompts.add_to(context, query, scale)
        return context

    def forward_pass(self) -> tuple[ForwardPass, Sequence[tuple[int, int]]]:
        """Return the pass to take the prompts of the current run from, and their places there."""
        places = self.places[self.run]
        current = self._bank[0].current
        if current is not None and current.serves((self, self.run)):
            return current, places
        return self.bank.alone(places)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the attention module, with the prompts in use where there are any, else just as the backbone would."""
        if self.recorded is not None:
            return self.record(*args, **kwargs)
        if self.places[self.run]:
            return self.attend(*args, **kwargs)
        return self.base_layer(*args, **kwargs)

    def record(self, *args: Any, **kwargs: Any) -> Any:
        """Run the attention module without prompts, on a batch of one, and note its keys and values in `recorded`.

        Raises:
            ValueError: if the module does not make them in projections of their own.
        """
        assert self.recorded is not None
        result, tokens = record_projections(self.base_layer, (self.key_size, self.value_size), args, kwargs)
        self.recorded.append(tokens)
        return result

    def switch(self, prompted: bool) -> None:
        """Make the base module ready for passes with prompts, or for such without, as the backbone would run it."""

    def attend(self, *args: Any, **kwargs: Any) -> Any:
        """Run the attention module with the prompts; the arguments are those of the base module's forward."""
        raise NotImplementedError

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> NoReturn:
        """Refuse: deep prompts are inputs of attention, not weights.

        Raises:
            ValueError: always.
        """
        raise ValueError(CANNOT_BE_MERGED)

    def __repr__(self) -> str:
        return "deep_prompt." + super().__repr__()


def device_and_dtype(module: nn.Module) -> tuple[torch.device | None, torch.dtype | None]:
    """Return where a module's first parameter is computed with, and as what; PEFT asks this of modules with a weight.

    A parameter that accelerate has offloaded stands on the meta device until it is needed. What joins it in the
    computation has to be where the computation is.
    """
    for part in module.modules():
        parameter = next(part.parameters(recurse=False), None)
        if parameter is not None:
            offloaded_to = getattr(getattr(part, "_hf_hook", None), "execution_device", None)
            return (torch.device(offloaded_to) if offloaded_to is not None else parameter.device), parameter.dtype
    return None, None
