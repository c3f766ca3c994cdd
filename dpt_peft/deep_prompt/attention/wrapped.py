"""A module of the backbone inside one of ours."""

from __future__ import annotations

from typing import Any

from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn


class WrappedModule(nn.Module, BaseTunerLayer):
    """Stands in the place of a module of the backbone and answers for it.

    Attributes:
        base_layer: the module as the backbone made it.
    """

    adapter_layer_names = ()

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
