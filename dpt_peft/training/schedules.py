"""Learning rates over time and parameters: what the scripts' Trainer knows besides transformers' schedules."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler
from transformers import Trainer, TrainingArguments

from dpt_peft.training.head_rate import set_head_rate


@dataclass
class ScriptTrainingArguments(TrainingArguments):
    """The Trainer's arguments as the example scripts have them."""

    learning_rate: float | None = field(
        default=None, metadata={"help": "Default: by method, see dpt_peft.training.methods.METHODS."}
    )
    lr_decay_per_epoch: float | None = field(
        default=None,
        metadata={
            "help": "Multiply the learning rate by this after every epoch, in place of `lr_scheduler_type`. The "
            "released P-tuning v2 code does so with 0.95 for names, roles and answers."
        },
    )

    head_learning_rate: float | None = field(
        default=None,
        metadata={
            "help": "Learning rate of the new head. Default: `learning_rate`. Deep prompts want a far higher rate "
            "(1e-2 and more) than a head of several layers can bear (1e-3)."
        },
    )

    def __post_init__(self) -> None:
        """Checks what is new here, then does as the Trainer's arguments do.

        Raises:
            ValueError: If `lr_decay_per_epoch` is not above 0 and at most 1, or `head_learning_rate` is not above 0.
        """
        if self.head_learning_rate is not None and self.head_learning_rate <= 0:
            raise ValueError(f"`head_learning_rate` must be above 0, got {self.head_learning_rate}.")
        if self.lr_decay_per_epoch is not None and not 0 < self.lr_decay_per_epoch <= 1:
            raise ValueError(f"`lr_decay_per_epoch` must be above 0 and at most 1, got {self.lr_decay_per_epoch}.")
        super().__post_init__()


def decay_by_epochs(optimizer: Optimizer, decay: float, updates_per_epoch: int, warmup_updates: int = 0) -> LambdaLR:
    """Makes a schedule that multiplies the learning rate by `decay` after every epoch.

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


class ScheduledTrainer(Trainer):
    """A Trainer that knows `lr_decay_per_epoch` and `head_learning_rate`, where its arguments have them."""

    def create_optimizer(self, model: torch.nn.Module | None = None) -> Optimizer:
        """As the Trainer's, with a learning rate of its own for the head where one is asked for."""
        is_new = self.optimizer is None
        optimizer = super().create_optimizer(model)
        rate = getattr(self.args, "head_learning_rate", None)
        if rate is not None and is_new:
            set_head_rate(optimizer, self.model if model is None else model, rate)
        return optimizer

    def updates_per_epoch(self) -> int:
        """Counts the updates of an epoch.

        Raises:
            ValueError: If the training data does not know its length.
        """
        try:
            rows = len(self.train_dataset)
        except TypeError as error:
            raise ValueError("`lr_decay_per_epoch` needs training data that knows its length.") from error
        whole = math.floor if self.args.dataloader_drop_last else math.ceil
        batches = whole(rows / (self.args.train_batch_size * self.args.world_size))
        return max(1, math.ceil(batches / self.args.gradient_accumulation_steps))

    def create_scheduler(self, num_training_steps: int, optimizer: Optimizer | None = None) -> LRScheduler:
        """As the Trainer's, or the decay by epochs where it is asked for."""
        decay = getattr(self.args, "lr_decay_per_epoch", None)
        if decay is None or self.lr_scheduler is not None:
            return super().create_scheduler(num_training_steps, optimizer)
        warmup = self.args.get_warmup_steps(num_training_steps)
        schedule = decay_by_epochs(optimizer or self.optimizer, decay, self.updates_per_epoch(), warmup)
        self.lr_scheduler: LRScheduler | None = schedule
        return schedule
