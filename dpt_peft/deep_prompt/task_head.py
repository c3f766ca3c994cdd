"""Task heads that are switched as prompts are: one per row of a batch, and without compiling anew."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from peft import PeftConfig, TaskType
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import ModulesToSaveWrapper
from torch import nn

from .forward_pass import spread_over
from .mixed_batch import Planned, RowPlan


class TaskHead(Planned, ModulesToSaveWrapper):
    """PEFT's wrapper of a trained module, one copy per adapter, with a forward that does not read adapters' names.

    PEFT's own forward looks the active adapter's copy up by name, which makes a compiled graph good for that name
    only; and it mixes adapters in a batch for single layers only, while the heads of RoBERTa and ELECTRA are more.
    """

    _in_use: tuple[nn.Module]

    @classmethod
    def adopt(cls, model: nn.Module) -> None:
        """Make task heads of all of PEFT's wrappers in `model`: the same objects, with the same state."""
        head: Any
        for head in model.modules():
            if type(head) is ModulesToSaveWrapper:
                head.__class__ = cls
                head.refresh()

    @torch.compiler.assume_constant_result
    def refresh(self) -> None:
        """Find the copy in use; see `PromptBank.look_up` for when and why."""
        names = self.active_adapters
        if self.disable_adapters or not names or any(name not in self.modules_to_save for name in names):
            self._in_use = (self.original_module,)
        else:
            self._in_use = (self.modules_to_save[names[0]],)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the copy of the active adapter, of each row's own, or the backbone's own head."""
        if self.plan is not None and not self.disable_adapters:
            return self._forward_per_row(self.plan, *args, **kwargs)
        self.refresh()
        return self._in_use[0](*args, **kwargs)

    def _forward_per_row(self, plan: RowPlan, *args: Any, **kwargs: Any) -> Any:
        own: dict[str, Any] = dict(self.modules_to_save.items())
        heads: list[Any] = [own.get(name, self.original_module) for name in plan.names]
        if len(heads) == 1:
            return heads[0](*args, **kwargs)
        x, *further = args or (None,)
        if x is None or any(isinstance(value, torch.Tensor) for value in (*further, *kwargs.values())):
            raise TypeError(
                "`adapter_names`: the rows of a batch cannot be told apart for "
                f"{type(self.original_module).__name__} of `modules_to_save`, which takes more than one tensor, or "
                "takes it by name. Use one adapter at a time."
            )
        if not further and not kwargs and _can_be_stacked(heads):
            outputs = _run_stacked(heads, plan, x)
            if isinstance(outputs, torch.Tensor):
                return outputs.flatten(0, 1)[plan.blocks(x.shape[0], x.device)[2]]
        # sorted by adapter, the rows of each are one slice
        order = spread_over(plan.on(x.device), x.shape[0]).argsort(stable=True)
        repeats = x.shape[0] // len(plan.rows)
        counts = [plan.rows.count(adapter) * repeats for adapter in range(len(heads))]
        parts = [head(mine, *further, **kwargs) for head, mine in zip(heads, x[order].split(counts), strict=True)]
        return torch.cat(parts)[order.argsort()]


#: What PEFT trains and saves whole for a task type.
_OF_TASK_TYPE = {
    TaskType.SEQ_CLS: ("classifier", "score"),
    TaskType.TOKEN_CLS: ("classifier", "score"),
    TaskType.QUESTION_ANS: ("qa_outputs",),
}


def modules_left_out(model: nn.Module, config: PeftConfig, *, in_peft_model: bool = True) -> list[str]:
    """Return what of a task's head an adapter neither trains nor saves.

    Args:
        model: The model that the adapter is for.
        config: The adapter's.
        in_peft_model: Whether PEFT's class for the task is around the model: it adds the head to what is trained and
            saved, which transformers' `add_adapter` and `inject_adapter_in_model` do not.

    Returns:
        Names of modules outside the backbone, if the model is for classes, choices or answers, whose heads are new
        unless the model was tuned before; in other models the head is pretrained.
    """
    backbone = getattr(model, "base_model", model)
    if backbone is model or not type(model).__name__.endswith(("Classification", "MultipleChoice", "Answering")):
        return []
    added = _OF_TASK_TYPE.get(config.task_type, ()) if in_peft_model else ()
    saved = (*(getattr(config, "modules_to_save", None) or ()), *added)
    return [
        name
        for name, child in model.named_children()
        if child is not backbone
        and not isinstance(child, BaseTunerLayer)
        and any(True for _ in child.parameters())
        and not any(f"{name}.{inner}".rstrip(".").endswith(saved) for inner, _ in child.named_modules())
    ]


def _can_be_stacked(heads: Sequence[nn.Module]) -> bool:
    """Return whether heads are linear layers of the same sizes, and what has no weights; others may be too large."""
    if any(len(list(head.buffers())) for head in heads):
        return False
    first, *others = (
        [
            (name, type(module), parameter.shape)
            for name, module in head.named_modules()
            for parameter in module.parameters(recurse=False)
        ]
        for head in heads
    )
    return all(kind is nn.Linear for _, kind, _ in first) and all(other == first for other in others)


def _run_stacked(heads: Sequence[nn.Module], plan: RowPlan, x: torch.Tensor) -> Any:
    """Run all heads, each on its blocks of rows, in as many products as one head has, however many there are."""
    adapters, rows, _ = plan.blocks(x.shape[0], x.device)
    named = [dict(head.named_parameters()) for head in heads]
    weights = {name: torch.stack([parameters[name] for parameters in named])[adapters] for name in named[0]}

    def run(parameters: dict[str, torch.Tensor], block: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(heads[0], parameters, (block,))

    return torch.vmap(run, randomness="different")(weights, x[rows])
