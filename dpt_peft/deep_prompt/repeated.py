"""One attention module run as many layers: one prompt per run."""

from __future__ import annotations

from typing import Any

from torch import nn

from .layer import DeepPromptLayer


class RepeatedAttentionLayer(DeepPromptLayer):
    """Counts the runs of a module within one pass through its stack; mixed into a class that brings prompts in."""

    @classmethod
    def stack(cls, model: nn.Module, name: str) -> Any:
        """The module of `model` whose forward runs the attention module `name` as all of its layers."""
        raise NotImplementedError

    def bind(self, model: nn.Module, name: str) -> None:
        """Start counting runs anew with every pass through the stack, whatever became of the last one."""
        self._handle = self.stack(model, name).register_forward_pre_hook(self._first_run)

    def unwrap(self) -> nn.Module:
        """Also take the counter's hook off the stack."""
        self._handle.remove()
        return super().unwrap()

    def _first_run(self, *_: Any) -> None:
        self.run = 0
