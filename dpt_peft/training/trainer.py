"""The Trainer of all runs: its arguments, learning rates over time and parameters, rows of like length together."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from peft import PeftModel
from peft.utils import ModulesToSaveWrapper
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler
from transformers import PreTrainedModel, Trainer, TrainingArguments
from transformers.hf_argparser import HfArg

from dpt_peft.auto import save_task
from dpt_peft.tasks.base import Predictions


@dataclass
class ScriptTrainingArguments(TrainingArguments):
    """The Trainer's arguments as the example scripts have them."""

    learning_rate: float | None = HfArg(default=None, help="Default: by method, see dpt_peft.training.METHODS.")
    num_train_epochs: float | None = HfArg(
        default=None, help="Passes over the training rows. Default: as many updates as the method wants, at least 3."
    )
    warmup_steps: float = HfArg(
        default=0.1, help="Updates over which the learning rate grows; below 1, their share of all."
    )
    lr_decay_per_epoch: float | None = HfArg(
        default=None,
        help="Multiply the learning rate by this after every epoch, in place of `lr_scheduler_type`. The "
        "released P-tuning v2 code does so with 0.95 for names, roles and answers.",
    )
    head_learning_rate: float | None = HfArg(
        default=None,
        help="Learning rate of the new head. Default: `learning_rate`; if that is not given either, the "
        "method's. Deep prompts want a far higher rate (1e-2 and more) than a head of several layers can bear "
        "(1e-3).",
    )

    def __post_init__(self) -> None:
        """Check what is new here; of an error (mse) less is better, which the Trainer knows of losses only.

        Raises:
            ValueError: If `lr_decay_per_epoch` is not above 0 and at most 1, `head_learning_rate` is not above 0, or
                `batch_eval_metrics` is set or `eval_do_concat_batches` is not, or there is `prediction_loss_only` with
                `do_predict`.
        """
        if self.batch_eval_metrics:
            raise ValueError(
                "`batch_eval_metrics` measures batch by batch, and the metrics here need all rows of a split. Leave "
                "it out; `eval_accumulation_steps` saves memory on the accelerator."
            )
        if not self.eval_do_concat_batches:
            raise ValueError("`eval_do_concat_batches`: metrics and predictions need all rows; leave it on.")
        if self.prediction_loss_only and self.do_predict:
            raise ValueError("`prediction_loss_only` leaves nothing for `do_predict` to write; give one of them.")
        if self.head_learning_rate is not None and self.head_learning_rate <= 0:
            raise ValueError(f"`head_learning_rate` must be above 0, got {self.head_learning_rate}.")
        if self.lr_decay_per_epoch is not None and not 0 < self.lr_decay_per_epoch <= 1:
            raise ValueError(f"`lr_decay_per_epoch` must be above 0 and at most 1, got {self.lr_decay_per_epoch}.")
        if self.greater_is_better is None and (self.metric_for_best_model or "").endswith("mse"):  # type: ignore[has-type]
            self.greater_is_better = False
        super().__post_init__()


def decay_by_epochs(optimizer: Optimizer, decay: float, updates_per_epoch: int, warmup_updates: int = 0) -> LambdaLR:
    """Return a schedule that multiplies the learning rate by `decay` after every epoch.

    Args:
        optimizer: Its learning rates are those of the first epoch.
        decay: Factor per epoch.
        updates_per_epoch: Updates of an epoch.
        warmup_updates: Updates at the start over which the rate grows from 0.

    Returns:
        A schedule that counts updates, so that checkpoints within an epoch go on where they were.
    """

    def factor(update: int) -> float:
        warm = min(1.0, update / warmup_updates) if warmup_updates else 1.0
        return warm * decay ** (update // updates_per_epoch)

    return LambdaLR(optimizer, factor)


def head_parameters(model: nn.Module) -> list[nn.Parameter]:
    """Return the trained parameters of the new head.

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
    """Move the head's parameters into parameter groups of their own. Call before a schedule is made.

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


class TaskTrainer(Trainer):
    """A Trainer that knows `lr_decay_per_epoch` and `head_learning_rate`, where its arguments have them.

    Rows of an evaluation stay in their order, so that metrics may know more of a row than its label.
    """

    def __init__(self, model: nn.Module | None = None, args: TrainingArguments | None = None, **kwargs: Any) -> None:
        args = TrainingArguments("trainer_output") if args is None else copy(args)
        if args.device.type == "cpu":
            args.dataloader_pin_memory = False  # torch warns that there is nothing to pin for
        super().__init__(model=model, args=args, **kwargs)
        base = self.model.get_base_model() if isinstance(self.model, PeftModel) else self.model
        if not hasattr(base, "accepts_loss_kwargs"):
            # The Trainer takes a head with **kwargs for one that divides by the `num_items_in_batch` it is given, and
            # then adds up accumulated batches and processes. Most heads are means of their own batch.
            self.model_accepts_loss_kwargs = False

    def create_optimizer(self, model: torch.nn.Module | None = None) -> Optimizer:
        """Return the Trainer's, with a learning rate of its own for the head where one is asked for."""
        is_new = self.optimizer is None
        optimizer = super().create_optimizer(model)
        rate = getattr(self.args, "head_learning_rate", None)
        if rate is not None and is_new:
            set_head_rate(optimizer, self.model if model is None else model, rate)
        return optimizer

    def updates_per_epoch(self) -> int:
        """Return the number of updates of an epoch."""
        batches = len(self.get_train_dataloader())
        return max(1, math.ceil(batches / self.args.gradient_accumulation_steps))

    def create_scheduler(self, num_training_steps: int, optimizer: Optimizer | None = None) -> LRScheduler:
        """Return the Trainer's, or the decay by epochs where it is asked for."""
        decay, given = getattr(self.args, "lr_decay_per_epoch", None), self.lr_scheduler
        # made in any case: the Trainer notes that the schedule is its own, and begins the next training with a new one
        of_trainer = super().create_scheduler(num_training_steps, optimizer)
        if decay is None or given is not None:
            return of_trainer
        warmup = self.args.get_warmup_steps(num_training_steps)
        schedule = decay_by_epochs(optimizer or self.optimizer, decay, self.updates_per_epoch(), warmup)
        self.lr_scheduler: LRScheduler | None = schedule
        return schedule

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save model or adapter, and beside an adapter over a plain model what its config says of the task."""
        super().save_model(output_dir, _internal_call=_internal_call)
        if self.args.should_save:
            save_task(self.accelerator.unwrap_model(self.model), output_dir or self.args.output_dir)

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Evaluate the rows in their order."""
        with self._rows_in_order():
            return super().evaluate(*args, **kwargs)

    def predict(self, *args: Any, **kwargs: Any) -> Any:
        """Predict the rows in their order."""
        with self._rows_in_order():
            return super().predict(*args, **kwargs)

    @contextmanager
    def _rows_in_order(self) -> Iterator[None]:
        """Keep the Trainer from shuffling rows, which "group_by_length" does, and from dropping the last batch."""
        args = self.args
        training = args.train_sampling_strategy, args.dataloader_drop_last
        args.train_sampling_strategy, args.dataloader_drop_last = "random", False
        try:
            yield
        finally:
            args.train_sampling_strategy, args.dataloader_drop_last = training


class RowsByLength:
    """A data set with rows of like length beside one another, and the way back to its own order.

    Args:
        dataset: Tokenized rows.

    Attributes:
        dataset: The rows, short ones first; rows of the same length stay as they are.
    """

    def __init__(self, dataset: Dataset) -> None:
        order = np.argsort([len(ids) for ids in dataset["input_ids"]], kind="stable")
        self.dataset = dataset.select(order)
        self._place = np.argsort(order, kind="stable")

    def restore(self, predictions: Predictions) -> Predictions:
        """Return predictions on `dataset` in the order of the data set that was given."""
        if isinstance(predictions, tuple):
            return tuple(part[self._place] for part in predictions)
        return predictions[self._place]
