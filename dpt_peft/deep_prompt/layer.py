"""The prompts of one attention module."""

from __future__ import annotations

from typing import Any, NoReturn

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

from .config import DeepPromptConfig
from .encoder import DeepPromptEncoder, device_and_dtype, init_linear
from .mixed_batch import RowPlan, spread_over
from .projections import record_projections
from .prompts import AdapterPrompts, EncodedPrompts, GatedPrompts, Prompts, StoredPrompts

CANNOT_BE_MERGED = (
    "Deep prompts cannot be merged into the backbone's weights. Use `unload()` to get the backbone back, or "
    "keep the adapter: it is small."
)


class DeepPromptLayer(nn.Module, BaseTunerLayer):
    """Wraps one attention module and holds its prompts, by adapter name.

    Subclasses bring the prompts into their kind of attention; this class creates, stores and computes them.

    Attributes:
        can_be_gated: whether the class adds `gated_context`, so that adapters may have `use_gate`.
        base_layer: the attention module as the backbone made it.
        deep_prompt_key: keys by adapter name, each (runs, num_virtual_tokens, key size). `runs` is 1, except in
            modules that one forward pass runs several times (ALBERT), which have one prompt per run.
        deep_prompt_value: values by adapter name, each (runs, num_virtual_tokens, value size).
        deep_prompt_projection: second layer of the "mlp" encoder by adapter name; such adapters have no entries in the
            two dictionaries above.
        deep_prompt_gate: gates by adapter name, each (runs,), of adapters with `use_gate`.
        deep_prompt_dropout: dropout by adapter name.
    """

    adapter_layer_names = ("deep_prompt_key", "deep_prompt_value", "deep_prompt_projection", "deep_prompt_gate")
    other_param_names = ("deep_prompt_dropout", "slots")
    can_be_gated = True

    def __init__(self, base_layer: nn.Module, layer_indices: tuple[int, ...]) -> None:
        """Wrap `base_layer`, which is run as the layers `layer_indices` of its stack (several if it is shared)."""
        super().__init__()
        self.base_layer: Any = base_layer
        self.layer_indices = layer_indices
        self.run = 0
        self.slots: dict[str, dict[int, int]] = {}
        self.deep_prompt_key = nn.ParameterDict()
        self.deep_prompt_value = nn.ParameterDict()
        self.deep_prompt_projection = nn.ModuleDict()
        self.deep_prompt_gate = nn.ParameterDict()
        self.deep_prompt_dropout = nn.ModuleDict()
        self.key_size, self.value_size = self.prompt_sizes(base_layer)
        self.rows: torch.Tensor | None = None
        # keys and values (tokens, size) of each run, while a text is run to make prompts of
        self.recorded: list[tuple[torch.Tensor, torch.Tensor]] | None = None
        self._disable_adapters = False
        self._active_adapter: list[str] = []
        # in a tuple: a reference, not a submodule
        self._shared_encoder: tuple[DeepPromptEncoder, ...] = ()
        self._in_use: tuple[AdapterPrompts | None, ...] = ()
        self._row_names: tuple[str, ...] | None = None
        self.register_load_state_dict_post_hook(_after_loading)

    @classmethod
    def supports(cls, module: nn.Module) -> bool:
        """Whether this class knows how to bring prompts into `module`."""
        raise NotImplementedError

    @classmethod
    def prompt_sizes(cls, module: nn.Module) -> tuple[int, int]:
        """Key size and value size of the attention module, summed over its key/value heads."""
        raise NotImplementedError

    @classmethod
    def runs(cls, model: nn.Module, name: str, position: int) -> tuple[int, ...]:
        """The layers that the module `name` of `model` is run as; `position` counts modules within the stack."""
        return (position,)

    def bind(self, model: nn.Module, name: str) -> None:
        """Called once after wrapping, for classes that need more of the model than the attention module."""

    def update_layer(
        self,
        adapter_name: str,
        config: DeepPromptConfig,
        layers: set[int],
        shared_encoder: DeepPromptEncoder | None = None,
    ) -> None:
        """Create the prompts of a new adapter for those runs of this module that are in `layers`."""
        runs = [run for run, layer in enumerate(self.layer_indices) if layer in layers]
        self.slots[adapter_name] = {run: slot for slot, run in enumerate(runs)}
        self.deep_prompt_dropout[adapter_name] = nn.Dropout(config.prompt_dropout).train(self.training)
        if shared_encoder is not None:
            self._shared_encoder = (shared_encoder,)
            out_features = len(runs) * (self.key_size + self.value_size)
            projection = nn.Linear(config.encoder_hidden_size, out_features)
            init_linear(projection, config.init_std)
            self.deep_prompt_projection[adapter_name] = projection
        else:
            for prompts, size in ((self.deep_prompt_key, self.key_size), (self.deep_prompt_value, self.value_size)):
                prompt = nn.Parameter(torch.empty(len(runs), config.num_virtual_tokens, size))
                nn.init.normal_(prompt, std=config.init_std)
                prompts[adapter_name] = prompt
        if config.use_gate:
            self.deep_prompt_gate[adapter_name] = nn.Parameter(torch.zeros(len(runs)))
        self._move_adapter_to_device_of_base_layer(adapter_name)
        self.set_adapter(self.active_adapters, inference_mode=config.inference_mode)

    def keys_and_values(self, adapter_name: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys (runs, num_virtual_tokens, key size) and values (..., value size) of one adapter, before dropout."""
        return self._source(adapter_name).keys_and_values()

    def fold(self, adapter_name: str) -> None:
        """Replace the "mlp" encoder of the adapter by the keys and values that it makes, to the last bit."""
        with torch.no_grad():
            key, value = (t.contiguous().clone() for t in self.keys_and_values(adapter_name))
        trainable = any(p.requires_grad for p in self.deep_prompt_projection[adapter_name].parameters())
        del self.deep_prompt_projection[adapter_name]
        self.deep_prompt_key[adapter_name] = nn.Parameter(key, requires_grad=trainable)
        self.deep_prompt_value[adapter_name] = nn.Parameter(value, requires_grad=trainable)
        self._look_up()

    def set_adapter(self, adapter_names: str | list[str], inference_mode: bool = False) -> None:
        """As in PEFT."""
        super().set_adapter(adapter_names, inference_mode=inference_mode)
        self._look_up()

    def enable_adapters(self, enabled: bool) -> None:
        """As in PEFT."""
        super().enable_adapters(enabled)
        self._look_up()

    def plan_rows(self, plan: RowPlan | None) -> None:
        """Let the rows of the batches to come have an adapter each, or with `None` the active ones again."""
        self._row_names = None if plan is None else plan.names
        self.rows = None if plan is None else plan.on(device_and_dtype(self.base_layer)[0])
        self._look_up()

    def _apply(self, *args: Any, **kwargs: Any) -> Any:
        super()._apply(*args, **kwargs)
        self._look_up()
        return self

    @torch.compiler.assume_constant_result
    def _look_up(self) -> None:
        """Find what the adapters in use have here.

        A compiled graph must not see names of adapters: it would have to be made again for each. So they are looked up
        outside of it: when the choice changes, in every pass that is not compiled (parameters may be replaced at any
        time, by FSDP for instance), and by the compiler while it traces, which takes this method for a constant.
        """
        names = self.active_adapters if self._row_names is None else self._row_names
        found = (self._prompts_of(name) if name in self.slots else None for name in names)
        self._in_use = tuple(prompts for prompts in found if prompts is not None or self._row_names is not None)
        if self.disable_adapters:
            self._in_use = ()
        self.switch(self.has_prompts())

    def _prompts_of(self, adapter_name: str) -> AdapterPrompts:
        gate = self.deep_prompt_gate.get(adapter_name)
        return AdapterPrompts(
            self._source(adapter_name), self.slots[adapter_name], self.deep_prompt_dropout[adapter_name], gate
        )

    def _source(self, adapter_name: str) -> StoredPrompts | EncodedPrompts:
        if adapter_name in self.deep_prompt_key:
            return StoredPrompts(self.deep_prompt_key[adapter_name], self.deep_prompt_value[adapter_name])
        (encoder,) = self._shared_encoder
        return EncodedPrompts(
            encoder.deep_prompt_table[adapter_name],
            encoder.deep_prompt_hidden[adapter_name],
            self.deep_prompt_projection[adapter_name],
            (self.key_size, self.value_size),
        )

    def has_prompts(self) -> bool:
        """Whether an adapter in use has prompts for the current run of this module."""
        return any(prompts is not None and self.run in prompts.slots for prompts in self._in_use)

    def _parts(self, gated: bool) -> list[AdapterPrompts | None]:
        """Of the adapters in use, those that have prompts for the current run, gated or not; `None` for the others."""
        return [
            prompts if prompts is not None and self.run in prompts.slots and prompts.is_gated is gated else None
            for prompts in self._in_use
        ]

    def joined_prompts(self, batch_size: int) -> Prompts:
        """The prompts of the current run that join the tokens: those of several active adapters, or each row's own.

        They are of length 0 if all prompts of the run are gated.
        """
        pairs = [None if part is None else part.of_run(self.run) for part in self._parts(gated=False)]
        found = [pair for pair in pairs if pair is not None]
        if not found:
            gated = next(part for part in self._parts(gated=True) if part is not None)
            key, value = gated.of_run(self.run)
            return Prompts.shared([(key[:0], value[:0])])
        return Prompts.shared(found) if self.rows is None else Prompts.per_row(pairs, self._rows_of(batch_size))

    def gated_context(self, query: torch.Tensor, scale: float | torch.Tensor) -> torch.Tensor | None:
        """What the gated prompts of the current run add to the context of the tokens; see [`GatedPrompts.context`].

        Args:
            query: (batch, heads, queries, head size).
            scale: factor between products of queries and keys, and scores.

        Returns:
            (batch, heads, queries, value head size), or `None` if no prompts of the run are gated.
        """
        parts = self._parts(gated=True)
        found = [part for part in parts if part is not None]
        if not found:
            return None
        if self.rows is None:
            each = [GatedPrompts(Prompts.shared([p.of_run(self.run)]), p.gate_of_run(self.run)) for p in found]
            first, *others = (gated.context(query, scale) for gated in each)
            return sum(others, first)
        rows = self._rows_of(query.shape[0])
        closed = found[0].gate_of_run(self.run).new_zeros(())
        gates = torch.stack([closed if part is None else part.gate_of_run(self.run) for part in parts])
        pairs = [None if part is None else part.of_run(self.run) for part in parts]
        return GatedPrompts(Prompts.per_row(pairs, rows), gates[rows]).context(query, scale)

    def _rows_of(self, batch_size: int) -> torch.Tensor:
        assert self.rows is not None
        return spread_over(self.rows, batch_size)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the attention module, with the prompts in use where there are any, else just as the backbone would."""
        if self.recorded is not None:
            return self.record(*args, **kwargs)
        self._look_up()
        prompted = self.has_prompts()
        if len(self.layer_indices) > 1:
            self.switch(prompted)
        output = self.attend(*args, **kwargs) if prompted else self.base_layer(*args, **kwargs)
        if len(self.layer_indices) > 1:
            self.run = (self.run + 1) % len(self.layer_indices)
        return output

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
        """Run the attention module with `joined_prompts`; the arguments are those of the base module's forward."""
        raise NotImplementedError

    def unwrap(self) -> nn.Module:
        """Take every trace of the prompts off the base module and return it."""
        return self.base_layer

    def unload_and_optionally_merge_module(
        self, merge: bool, safe_merge: bool, adapter_names: list[str] | None
    ) -> nn.Module:
        """PEFT's hook for unloading a layer."""
        if merge:
            self.merge()
        return self.unwrap()

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> NoReturn:
        """Deep prompts are inputs of attention, not weights.

        Raises:
            ValueError: always.
        """
        raise ValueError(CANNOT_BE_MERGED)

    def _get_base_layer_device_and_dtype(self, base_layer: nn.Module) -> tuple[Any, Any]:
        # an attention module has no weight of its own to read the device from
        return device_and_dtype(base_layer)

    def __getattr__(self, name: str) -> Any:
        """Forward missing attributes to the attention module: backbones read some from outside."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "base_layer":
                raise
            return getattr(self.base_layer, name)

    def __repr__(self) -> str:
        return "deep_prompt." + super().__repr__()


def _after_loading(layer: DeepPromptLayer, _: Any) -> None:
    # loading may have put new parameters in the place of the old
    layer._look_up()
