"""Task heads that are switched as prompts are: one per row of a batch, and without compiling anew."""

from __future__ import annotations

from typing import Any

import torch
from peft.utils import ModulesToSaveWrapper
from torch import nn

from .mixed_batch import RowPlan, spread_over


class TaskHead(ModulesToSaveWrapper):
    """PEFT's wrapper of a trained module, one copy per adapter, with a forward that does not read adapters' names.

    PEFT's own forward looks the active adapter's copy up by name, which makes a compiled graph good for that name
    only; and it mixes adapters in a batch for single layers only, while the heads of RoBERTa and ELECTRA are more.
    """

    _in_use: tuple[nn.Module]
    _plan: RowPlan | None

    @classmethod
    def adopt(cls, model: nn.Module) -> None:
        """Make task heads of all of PEFT's wrappers in `model`: the same objects, with the same state."""
        for module in model.modules():
            if type(module) is ModulesToSaveWrapper:
                head: Any = module
                head.__class__ = cls
                head._plan = None
                head._look_up()

    def plan_rows(self, plan: RowPlan | None) -> None:
        """Let each row of the batches to come go through its adapter's copy, or with `None` all through one again."""
        self._plan = plan

    @torch.compiler.assume_constant_result
    def _look_up(self) -> None:
        """Find the copy in use; see `DeepPromptLayer._look_up` for when and why."""
        names = self.active_adapters
        if self.disable_adapters or not names or any(name not in self.modules_to_save for name in names):
            self._in_use = (self.original_module,)
        else:
            self._in_use = (self.modules_to_save[names[0]],)

    def set_adapter(self, *args: Any, **kwargs: Any) -> None:
        """As in PEFT."""
        super().set_adapter(*args, **kwargs)
        self._look_up()

    def enable_adapters(self, enabled: bool) -> None:
        """As in PEFT."""
        super().enable_adapters(enabled)
        self._look_up()

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the copy of the active adapter, of each row's own, or the backbone's own head."""
        if self._plan is not None and not self.disable_adapters:
            return self._forward_per_row(self._plan, *args, **kwargs)
        self._look_up()
        return self._in_use[0](*args, **kwargs)

    def _forward_per_row(self, plan: RowPlan, x: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        own: dict[str, Any] = dict(self.modules_to_save.items())
        original: Any = self.original_module
        rows = spread_over(plan.on(x.device), x.shape[0])
        if len(plan.names) == 1:
            return own.get(plan.names[0], original)(x, *args, **kwargs)
        # sorted by adapter, the rows of each are one slice
        order = rows.argsort(stable=True)
        repeats = x.shape[0] // len(plan.rows)
        counts = [plan.rows.count(adapter) * repeats for adapter in range(len(plan.names))]
        outputs = [
            own.get(name, original)(mine, *args, **kwargs)
            for name, mine in zip(plan.names, x[order].split(counts), strict=True)
        ]
        return torch.cat(outputs)[order.argsort()]
