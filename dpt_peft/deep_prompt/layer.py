"""The prompts of one attention module."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NoReturn

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

from .config import DeepPromptConfig
from .encoder import DeepPromptEncoder, device_and_dtype, init_linear
from .mixed_batch import RowPlan


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


class DeepPromptLayer(nn.Module, BaseTunerLayer):
    """Wraps one attention module and holds its prompts, by adapter name.

    Subclasses bring the prompts into their kind of attention; this class creates, stores and computes them.

    Attributes:
        base_layer: the attention module as the backbone made it.
        deep_prompt_key: keys by adapter name, each (runs, num_virtual_tokens, key size). `runs` is 1, except in
            modules that one forward pass runs several times (ALBERT), which have one prompt per run.
        deep_prompt_value: values by adapter name, each (runs, num_virtual_tokens, value size).
        deep_prompt_projection: second layer of the "mlp" encoder by adapter name; such adapters have no entries in the
            two dictionaries above.
        deep_prompt_dropout: dropout by adapter name.
    """

    adapter_layer_names = ("deep_prompt_key", "deep_prompt_value", "deep_prompt_projection")
    other_param_names = ("deep_prompt_dropout", "slots")

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
        self.deep_prompt_dropout = nn.ModuleDict()
        self.key_size, self.value_size = self.prompt_sizes(base_layer)
        self.row_plan: RowPlan | None = None
        self._disable_adapters = False
        self._active_adapter: list[str] = []
        # in a tuple: a reference, not a submodule
        self._shared_encoder: tuple[DeepPromptEncoder, ...] = ()

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
        self.deep_prompt_dropout[adapter_name] = nn.Dropout(config.prompt_dropout)
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
        self._move_adapter_to_device_of_base_layer(adapter_name)
        self.set_adapter(self.active_adapters, inference_mode=config.inference_mode)

    def keys_and_values(self, adapter_name: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys (runs, num_virtual_tokens, key size) and values (..., value size) of one adapter, before dropout."""
        if adapter_name in self.deep_prompt_key:
            return self.deep_prompt_key[adapter_name], self.deep_prompt_value[adapter_name]
        hidden = self._shared_encoder[0](adapter_name)
        projected = self.deep_prompt_projection[adapter_name](hidden)
        by_run = projected.view(hidden.shape[0], -1, self.key_size + self.value_size).transpose(0, 1)
        return by_run.split([self.key_size, self.value_size], dim=-1)

    def fold(self, adapter_name: str) -> None:
        """Replace the "mlp" encoder of the adapter by the keys and values that it makes, to the last bit."""
        with torch.no_grad():
            key, value = (t.contiguous().clone() for t in self.keys_and_values(adapter_name))
        trainable = any(p.requires_grad for p in self.deep_prompt_projection[adapter_name].parameters())
        del self.deep_prompt_projection[adapter_name]
        self.deep_prompt_key[adapter_name] = nn.Parameter(key, requires_grad=trainable)
        self.deep_prompt_value[adapter_name] = nn.Parameter(value, requires_grad=trainable)

    def active_prompts(self) -> list[str]:
        """The adapters in use that have prompts for the current run of this module."""
        if self.disable_adapters:
            return []
        names = self.active_adapters if self.row_plan is None else self.row_plan.names
        return [name for name in names if self.run in self.slots.get(name, ())]

    def joined_prompts(self, batch_size: int) -> Prompts:
        """The prompts of the current run: those of several active adapters in a row, or of each row's own adapter."""
        names = self.active_prompts()
        pairs = {name: self._prompts_of(name) for name in names}
        if self.row_plan is None:
            key, value = (torch.cat(parts)[None] for parts in zip(*pairs.values(), strict=True))
            return Prompts(key, value)
        any_key, any_value = pairs[names[0]]
        nothing = (any_key[:0], any_value[:0])
        # the last entry is that of rows without an adapter
        keys, values = zip(*(pairs.get(name, nothing) for name in (*self.row_plan.names, "")), strict=True)
        rows = self.row_plan.index(batch_size, any_key.device)
        lengths = torch.tensor([len(key) for key in keys], device=any_key.device)
        key, value = (nn.utils.rnn.pad_sequence(list(parts), batch_first=True)[rows] for parts in (keys, values))
        if len({len(keys[row]) for row in self.row_plan.rows}) == 1:
            return Prompts(key, value)
        return Prompts(key, value, torch.arange(key.shape[1], device=key.device) < lengths[rows, None])

    def _prompts_of(self, adapter_name: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys (num_virtual_tokens, key size) and values of one adapter for the current run, dropout applied."""
        key, value = self.keys_and_values(adapter_name)
        slot = self.slots[adapter_name][self.run]
        dropout = self.deep_prompt_dropout[adapter_name]
        return dropout(key[slot]), dropout(value[slot])

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the attention module, with the prompts in use where there are any, else just as the backbone would."""
        prompted = bool(self.active_prompts())
        self.switch(prompted)
        output = self.attend(*args, **kwargs) if prompted else self.base_layer(*args, **kwargs)
        if len(self.layer_indices) > 1:
            self.run = (self.run + 1) % len(self.layer_indices)
        return output

    def switch(self, prompted: bool) -> None:
        """Called before each pass, for classes that have to make the base module ready for it."""

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
        raise ValueError(
            "Deep prompts cannot be merged into the backbone's weights. Use `unload()` to get the backbone back, or "
            "keep the adapter: it is small."
        )

    def unmerge(self) -> None:
        """Nothing is ever merged."""

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
