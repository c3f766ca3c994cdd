"""The prompts of all layers in one place: a parameter per adapter, made ready once in a forward pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

from .attention.base import DeepPromptLayer, device_and_dtype
from .config import DeepPromptConfig
from .forward_pass import AdapterPrompts, ForwardPass, Layout
from .mixed_batch import Mixture, Planned

#: Name of the bank in the model. It must not begin with the tuner's prefix: transformers puts the adapter's name
#: behind the first part of a key that does.
BANK = "prompt_bank"


class PromptBank(Planned, nn.Module, BaseTunerLayer):
    """Keys and values of every prompted layer, by adapter name.

    It stands once, at the root of the wrapped model, and is the one place that knows which adapters are in use. Layers
    are told their rows when that changes; in a forward pass they take their share of what is made ready once for all.

    Attributes:
        deep_prompt_stored: by adapter name (num_virtual_tokens, width): side by side the key and the value of every
            prompted layer, in the order of PEFT's prefix tuning: key 0, value 0, key 1, value 1, ...
        deep_prompt_table: by adapter name, for adapters with the "mlp" encoder (P-tuning v2, section 3.3) instead:
            (num_virtual_tokens, hidden size).
        deep_prompt_hidden: its first linear layer.
        deep_prompt_projection: its second linear layer, whose outputs are in the order of `deep_prompt_stored`.
        deep_prompt_gate: gates by adapter name, (layers,), of adapters with `use_gate`.
        deep_prompt_dropout: dropout of keys and values by adapter name.
        layouts: where each layer's part is, by adapter name.
        layers: the attention modules that have prompts of any adapter.
        set_aside: whether the layers are taken out of the model for a while.
        has_gates: whether any adapter in use is gated.
        use: another object whenever other adapters are in use.
        current: the forward pass that is running, or the last one that can be differentiated.
    """

    cast_input_dtype_enabled = True  # see `WrappedModule`
    adapter_layer_names = (
        "deep_prompt_stored",
        "deep_prompt_table",
        "deep_prompt_hidden",
        "deep_prompt_projection",
        "deep_prompt_gate",
    )
    other_param_names = ("deep_prompt_dropout", "layouts")
    # of PEFT, without a type
    active_adapters: Any
    _move_adapter_to_device_of_base_layer: Any
    _handles: tuple[Any, ...] = ()

    def __init__(self, neighbour: nn.Module) -> None:
        """Make an empty bank that lives on the device of the backbone's module `neighbour`."""
        super().__init__()
        # in a tuple: a reference, not a submodule
        self._neighbour = (neighbour,)
        self.deep_prompt_stored = nn.ParameterDict()
        self.deep_prompt_table = nn.ParameterDict()
        self.deep_prompt_hidden = nn.ModuleDict()
        self.deep_prompt_projection = nn.ModuleDict()
        self.deep_prompt_gate = nn.ParameterDict()
        self.deep_prompt_dropout = nn.ModuleDict()
        self.layouts: dict[str, Layout] = {}
        self.layers: tuple[DeepPromptLayer, ...] = ()
        self.set_aside = False
        self.has_gates = False
        self.current: ForwardPass | None = None
        self._active_adapter: list[str] = []
        self.use = object()
        self._names: tuple[str, ...] = ()
        self._in_use: tuple[AdapterPrompts, ...] = ()
        self._mixtures: tuple[Mixture, ...] = ()

    @classmethod
    def of(cls, model: nn.Module) -> PromptBank | None:
        """Return the bank of a model, if there is one."""
        return next((module for module in model.modules() if isinstance(module, cls)), None)

    @classmethod
    def install(cls, model: nn.Module, neighbour: nn.Module) -> PromptBank:
        """Return the model's bank; make one and have it told of every forward pass if there is none."""
        bank = cls.of(model)
        if bank is None:
            bank = cls(neighbour).train(model.training)
            model.add_module(BANK, bank)
            bank._handles = (
                model.register_forward_pre_hook(_begin),
                model.register_forward_hook(_end, always_call=True),
            )
        return bank

    # PEFT's layers answer with those of their base layer; a bank has none, and would be asked without end.
    @property
    def weight(self) -> torch.Tensor:
        """Raise an `AttributeError`."""
        raise AttributeError

    bias = weight

    def merge(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: where there are prompts, their layers refuse."""

    unmerge = merge

    def remove(self, model: nn.Module) -> None:
        """Leave no trace of the bank in the model."""
        for handle in self._handles:
            handle.remove()
        delattr(model, BANK)

    def update_layer(
        self, adapter_name: str, config: DeepPromptConfig, sizes: Sequence[tuple[int, int]], hidden_size: int
    ) -> None:
        """Draw the prompts of a new adapter.

        Args:
            adapter_name: its name.
            config: its configuration.
            sizes: key size and value size of each layer that gets prompts, in order.
            hidden_size: width of the table of the "mlp" encoder.
        """
        layout = self.layouts[adapter_name] = Layout.of(sizes)
        self.deep_prompt_dropout[adapter_name] = nn.Dropout(config.prompt_dropout).train(self.training)
        if config.encoder_reparameterization == "none":
            # Part by part, so that a seed gives the prompts that it gave when layers held their own.
            parts = tuple(_drawn(config.num_virtual_tokens, size, config.init_std) for pair in sizes for size in pair)
            self.deep_prompt_stored[adapter_name] = nn.Parameter(torch.cat(parts, dim=1).detach())
        else:
            self.deep_prompt_table[adapter_name] = _drawn(config.num_virtual_tokens, hidden_size, config.init_std)
            self.deep_prompt_hidden[adapter_name] = _linear(hidden_size, config.encoder_hidden_size, config.init_std)
            self.deep_prompt_projection[adapter_name] = _linear(
                config.encoder_hidden_size, layout.width, config.init_std
            )
        if config.use_gate:
            self.deep_prompt_gate[adapter_name] = nn.Parameter(torch.zeros(len(sizes)))
        self._move_adapter_to_device_of_base_layer(adapter_name)
        self.set_adapter(self.active_adapters, inference_mode=config.inference_mode)

    def flat(self, adapter_name: str) -> torch.Tensor:
        """Return an adapter's keys and values (num_virtual_tokens, width) in the order of the bank, before dropout."""
        return self._prompts_of(adapter_name).flat()

    def fold(self, adapter_name: str) -> None:
        """Replace the "mlp" encoder of the adapter by the keys and values that it makes, to the last bit."""
        with torch.no_grad():
            flat = self.flat(adapter_name).clone()
        trainable = self.deep_prompt_table[adapter_name].requires_grad
        for parts in (self.deep_prompt_table, self.deep_prompt_hidden, self.deep_prompt_projection):
            del parts[adapter_name]
        self.deep_prompt_stored[adapter_name] = nn.Parameter(flat, requires_grad=trainable)
        self.refresh()

    def delete_adapter(self, adapter_name: str) -> None:
        """Do as PEFT does, and tell the layers."""
        super().delete_adapter(adapter_name)
        self.refresh()

    def refresh(self) -> None:
        """Decide which adapters are in use, and tell each layer where its prompts are.

        This runs when the choice changes. What runs in a forward pass sees no adapter names: a compiled graph that saw
        them would have to be made again for each adapter.
        """
        names = self.active_adapters if self.plan is None else self.plan.names
        if self.disable_adapters or self.set_aside:
            names = ()
        self._names = tuple(name for name in names if name in self.layouts)
        self.has_gates = any(name in self.deep_prompt_gate for name in self._names)
        self.look_up()
        self.current, self.use = None, object()
        if self.plan is None or not self._names:
            self._mixtures = ()
            for layer in self.layers:
                layer.use([layer.slots.get(name, {}) for name in self._names])
            return
        slots = {name: [layer.slots.get(name, {}) for layer in self.layers] for name in self._names}
        members = dict(zip(self._names, self._in_use, strict=True))
        device = next(self.parameters()).device
        self._mixtures = tuple(
            Mixture.of(self.plan, members, slots, gated, device)
            for gated in (False, True)
            if any(member.is_gated is gated for member in members.values())
        )
        for index, layer in enumerate(self.layers):
            layer.use([mixture.slots[index] for mixture in self._mixtures])

    @torch.compiler.assume_constant_result
    def look_up(self) -> None:
        """Find the parameters of the adapters in use: they may be replaced at any time, by FSDP for instance.

        The compiler takes this method for a constant: it runs while a graph is traced, and the graph reads what it
        leaves on the bank.
        """
        self._in_use = tuple(self._prompts_of(name) for name in self._names)

    def _prompts_of(self, name: str) -> AdapterPrompts:
        if name in self.deep_prompt_stored:
            table, encoder = self.deep_prompt_stored[name], None
        else:
            table = self.deep_prompt_table[name]
            projection: Any = self.deep_prompt_projection[name]
            encoder = self.deep_prompt_hidden[name], projection.weight, projection.bias
        gate = self.deep_prompt_gate.get(name)
        return AdapterPrompts(table, encoder, self.layouts[name], self.deep_prompt_dropout[name], gate)

    def begin(self) -> None:
        """Open a forward pass."""
        self.look_up()
        self.current = ForwardPass(self._in_use, self._mixtures) if self._in_use else None

    def end(self) -> None:
        """Close the forward pass. One that can be differentiated is kept: checkpoints recompute layers with it."""
        current = self.current  # another thread may begin or end a pass of its own in between
        if current is not None:
            current.close()
            if torch.compiler.is_compiling() or not current.with_gradients:
                self.current = None

    def alone(self, places: Sequence[tuple[int, int]]) -> tuple[ForwardPass, Sequence[tuple[int, int]]]:
        """Return a pass for one layer that is run outside of the model's, and the places of its prompts there.

        Args:
            places: of the layer's prompts in the bank.
        """
        self.look_up()
        if self._mixtures:
            return ForwardPass(self._in_use, self._mixtures), places
        own = tuple(self._in_use[part].of_row(row) for part, row in places)
        return ForwardPass(own, ()), [(part, 0) for part in range(len(own))]

    def version(self) -> int:
        """Return a number that changes with every change of the prompts in place; asked for once in a pass."""
        current = self.current if self.current is not None and self.current.is_open else None
        if current is not None and current.version is not None:
            return current.version
        version = sum(parameter._version for parameter in self.parameters() if not parameter.is_inference())
        if current is not None:
            current.version = version
        return version

    def _apply(self, *args: Any, **kwargs: Any) -> Any:
        super()._apply(*args, **kwargs)
        self.refresh()
        return self

    def _get_base_layer_device_and_dtype(self, base_layer: nn.Module) -> tuple[Any, Any]:
        return device_and_dtype(self._neighbour[0])


def _begin(model: nn.Module, _: Any) -> None:
    bank: Any = getattr(model, BANK)
    if getattr(model, "_is_replica", False):
        # made by `DataParallel` for one pass: its layers still refer to the bank of the model it was made of
        for module in model.modules():
            if isinstance(module, DeepPromptLayer):
                module.join(bank)
    bank.begin()


def _end(model: nn.Module, *_: Any) -> None:
    bank: Any = getattr(model, BANK)
    bank.end()


def _drawn(tokens: int, width: int, std: float) -> nn.Parameter:
    return nn.Parameter(nn.init.normal_(torch.empty(tokens, width), std=std))


def _linear(in_features: int, out_features: int, std: float) -> nn.Linear:
    """Normal weights and zero bias, as transformers initialises the new layers of the papers' backbones."""
    linear = nn.Linear(in_features, out_features)
    nn.init.normal_(linear.weight, std=std)
    nn.init.zeros_(linear.bias)
    return linear
