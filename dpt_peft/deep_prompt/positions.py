"""Token positions that make room for prompts in front, as in the released code of P-tuning v2 and in PEFT.

Both put prompts into the cache of keys and values, so that the first token comes after them: its position is
`num_virtual_tokens`. Here prompts take no positions; `shift_positions` moves those of the tokens all the same, where
the backbone looks them up: at its position table, or at its rotary embedding.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import nn

from .attention.base import WrappedModule
from .config import DeepPromptConfig
from .forward_pass import spread_over
from .mixed_batch import Planned

# Names of position tables that are asked with position ids. Tables that compute those themselves cannot be shifted.
_TABLES = ("position_embeddings", "position_embedding", "embed_positions", "wpe", "positions_embed")


class ShiftedPositions(Planned, WrappedModule):
    """Wraps a position table or rotary embedding and adds the lengths of prompts in use to the position ids.

    Attributes:
        base_layer: the table (`nn.Embedding`) or rotary embedding as the backbone made it.
        lengths: `num_virtual_tokens` by adapter name, for adapters with `shift_positions`.
    """

    other_param_names = ("lengths",)

    def __init__(self, base_layer: nn.Module) -> None:
        """Wrap one of the modules that [`find_positions`] finds."""
        super().__init__(base_layer)
        self.lengths: dict[str, int] = {}
        self._shift: int | torch.Tensor = 0
        self._argument = _argument_index(base_layer)

    def update_layer(self, adapter_name: str, config: DeepPromptConfig, active_adapters: list[str]) -> None:
        """Shift positions for a new adapter, from now on if it is one of the active ones."""
        self.lengths[adapter_name] = config.num_virtual_tokens
        self.set_adapter(active_adapters)

    def shift(self, num_rows: int, device: torch.device) -> int | torch.Tensor:
        """Return what to add to position ids: a number for all rows, or a column of `num_rows` numbers.

        Several active adapters have their prompts in a row, and their lengths add up.
        """
        self.refresh()
        shift = self._shift
        if isinstance(shift, torch.Tensor):
            return spread_over(shift.to(device), max(num_rows, len(shift)))[:, None]
        return shift

    @torch.compiler.assume_constant_result
    def refresh(self) -> None:
        """Find the shift of the adapters in use; see `PromptBank.look_up` for when and why."""
        if self.plan is not None:
            lengths = [self.lengths.get(name, 0) for name in self.plan.names]
            self._shift = torch.tensor([lengths[row] for row in self.plan.rows])
        else:
            self._shift = sum(self.lengths.get(name, 0) for name in self.active_adapters)
        if self.disable_adapters:
            self._shift = 0

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the module with the position ids shifted.

        Raises:
            ValueError: if the text and the prompts together do not fit the position table.
        """
        name, index = self._argument
        positions = kwargs[name] if name in kwargs else args[index]
        shift = self.shift(positions.shape[0], positions.device)
        if isinstance(shift, torch.Tensor) or shift:
            shifted = positions + shift
            if isinstance(self.base_layer, nn.Embedding):
                if self.base_layer.padding_idx is not None:
                    # RoBERTa and its kin: padding keeps its place
                    shifted = torch.where(positions == self.base_layer.padding_idx, positions, shifted)
                self._check_room(shifted)
            positions = shifted
        if name in kwargs:
            return self.base_layer(*args, **{**kwargs, name: positions})
        return self.base_layer(*args[:index], positions, *args[index + 1 :], **kwargs)

    def _check_room(self, positions: torch.Tensor) -> None:
        if torch.compiler.is_compiling():
            return
        last, room = int(positions.max()), self.base_layer.num_embeddings
        if last >= room:
            raise ValueError(
                f"`shift_positions`: the last token would stand at position {last}, but the backbone's position table "
                f"ends at {room - 1}. Shorten the text by {last - room + 1} tokens, use fewer virtual tokens, or "
                "leave `shift_positions` off: prompts then take no positions."
            )


def find_positions(model: nn.Module) -> list[str]:
    """Return the names of the modules that `model` asks with position ids, wrapped already or not.

    Raises:
        ValueError: if there are none: positions are relative, computed inside attention, or added as a whole.
    """
    found: list[str] = []
    for name, module in model.named_modules():
        inner = module.base_layer if isinstance(module, ShiftedPositions) else module
        if name.endswith(".base_layer") and name.removesuffix(".base_layer") in found:
            continue
        if _argument_index(inner, name.rpartition(".")[2])[1] >= 0:
            found.append(name)
    if not found:
        kind = getattr(getattr(model, "config", None), "model_type", type(model).__name__)
        raise ValueError(
            f"`shift_positions`: `{kind}` ({type(model).__name__}) has neither a position table nor a rotary "
            "embedding that takes position ids. Leave `shift_positions` off."
        )
    return found


def shift_positions(model: nn.Module, adapter_name: str, config: DeepPromptConfig, active_adapters: list[str]) -> None:
    """Wrap what needs to be wrapped, and shift positions for the adapter."""
    for name in find_positions(model):
        module = model.get_submodule(name)
        if not isinstance(module, ShiftedPositions):
            parent, _, child = name.rpartition(".")
            wrapper = ShiftedPositions(module)
            wrapper.train(module.training)
            setattr(model.get_submodule(parent), child, wrapper)
            module = wrapper
        module.update_layer(adapter_name, config, active_adapters)


def _argument_index(module: nn.Module, name: str | None = None) -> tuple[str, int]:
    """Name and place of the position ids among a module's arguments; place -1 if it does not take any.

    Args:
        module: any module.
        name: its name within its parent, if it is yet to be told whether it is a position table.
    """
    if type(module).forward is nn.Embedding.forward:
        return "input", 0 if name is None or name in _TABLES else -1
    if "RotaryEmbedding" in type(module).__name__:
        names = list(inspect.signature(module.forward).parameters)
        if "position_ids" in names:
            return "position_ids", names.index("position_ids")
    return "", -1
