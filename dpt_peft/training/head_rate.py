"""A learning rate of its own for the new head: prompts want a far higher one than a head can bear."""

from __future__ import annotations

from peft.utils import ModulesToSaveWrapper
from torch import nn
from torch.optim import Optimizer
from transformers import PreTrainedModel


def head_parameters(model: nn.Module) -> list[nn.Parameter]:
    """Finds the trained parameters of the new head.

    Args:
        model: A `PeftModel`, or a module that holds some: what PEFT trains and saves whole (`modules_to_save`). Or a
            model that is trained in full: all that stands outside its backbone (`base_model`).

    Returns:
        The parameters; none where a pretrained head is reused.
    """
    saved_whole = [module for module in model.modules() if isinstance(module, ModulesToSaveWrapper)]
    if saved_whole:
        found = [parameter for module in saved_whole for parameter in module.parameters()]
    elif isinstance(model, PreTrainedModel):
        backbone = {id(parameter) for parameter in model.base_model.parameters()}
        found = [parameter for parameter in model.parameters() if id(parameter) not in backbone]
    else:
        found = []
    return [parameter for parameter in found if parameter.requires_grad]


def set_head_rate(optimizer: Optimizer, model: nn.Module, learning_rate: float) -> None:
    """Moves the head's parameters into parameter groups of their own. Call before a schedule is made.

    Args:
        optimizer: Its groups are changed; those of the head keep the other settings of the groups they come from.
        model: See `head_parameters`.
        learning_rate: Of the head.

    Raises:
        ValueError: If the model has no new head.
    """
    head = {id(parameter) for parameter in head_parameters(model)}
    if not head:
        raise ValueError("`head_learning_rate` is for models with a new head; this one has none that is trained.")
    for group in list(optimizer.param_groups):
        of_head = [parameter for parameter in group["params"] if id(parameter) in head]
        if of_head:
            group["params"] = [parameter for parameter in group["params"] if id(parameter) not in head]
            optimizer.add_param_group({**group, "params": of_head, "lr": learning_rate})
    optimizer.param_groups[:] = [group for group in optimizer.param_groups if group["params"]]
