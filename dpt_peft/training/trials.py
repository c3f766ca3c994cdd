"""Several trials trained in one batch over one frozen backbone: seeds, or learning rates, as one adapter each.

Every batch holds each trial's own rows, and each row goes through its trial's adapter (`adapter_names`). The frozen
backbone runs once over all of them, which fills a GPU that a single trial leaves half empty; the adapters share
nothing, so that each ends as if it had been trained alone (on its rows in this trainer's order, by the trial's seed).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any

import torch
from datasets import Dataset
from peft import PeftModel, get_peft_model_state_dict, set_peft_model_state_dict
from torch.utils.data import DataLoader
from transformers import EvalPrediction, PrinterCallback, Trainer, TrainingArguments

from dpt_peft.deep_prompt.model import check_name


@dataclass(frozen=True)
class Trial:
    """What is a trial's own.

    Attributes:
        name: Of its adapter.
        seed: Of its new parameters (which `build` draws) and of the order of its examples.
        learning_rate: Its highest learning rate; the schedule is everybody's.
    """

    name: str
    seed: int
    learning_rate: float


def join_trials(trials: Sequence[Trial], build: Callable[[Trial], PeftModel]) -> PeftModel:
    """Put the adapters of all trials on one backbone, each as `build` has drawn it.

    Args:
        trials: The trials.
        build: Makes a trial's model with one adapter named "default", as for training it alone. The frozen backbones
            have to be the same.

    Returns:
        The first trial's model with an adapter for every trial, all of them trainable.

    Raises:
        ValueError: If there are no trials, two have one name, a name is that of something in the model, or a trial
            trains anything but its adapter and head.
    """
    names = [trial.name for trial in trials]
    if not names or len(set(names)) < len(names) or "default" in names:
        raise ValueError(
            f"`trials` need names of their own, none of them 'default', got {', '.join(names) or 'none'}."
        )
    for name in names:
        check_name(name)
    joined: PeftModel | None = None
    for trial in trials:
        model = build(trial)
        state = get_peft_model_state_dict(model)
        trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
        if trained != sum(tensor.numel() for tensor in state.values()):
            raise ValueError(
                f"trial {trial.name!r} trains more than its adapter holds: trials can share a frozen model only."
            )
        joined = joined or model
        # by their names the trials' parameters are told apart
        taken = {part for name, _ in model.named_parameters() for part in name.split(".")} & {trial.name}
        if taken:
            raise ValueError(
                f"`trials`: something in the model is called {trial.name!r}. Name it like 'seed_{trial.seed}'."
            )
        joined.add_adapter(trial.name, model.peft_config["default"])
        set_peft_model_state_dict(joined, state, adapter_name=trial.name)
    assert joined is not None
    joined.set_adapter(names[0])
    joined.delete_adapter("default")
    for trial in trials:
        for parameter in parameters_of(joined, trial.name):
            parameter.requires_grad_(True)
    return joined


def parameters_of(model: PeftModel, adapter: str) -> list[torch.nn.Parameter]:
    """Return an adapter's own parameters, its head among them."""
    return [parameter for name, parameter in model.named_parameters() if adapter in name.split(".")]


class _RowsOfTrials:
    """Batches of row numbers: each trial's next rows in its own random order, trial by trial."""

    def __init__(self, trials: Sequence[Trial], rows: int, batch_size: int) -> None:
        self.rows, self.batch_size = rows, batch_size
        self.generators = [torch.Generator().manual_seed(trial.seed) for trial in trials]

    def __len__(self) -> int:
        return -(-self.rows // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        orders = [torch.randperm(self.rows, generator=generator).tolist() for generator in self.generators]
        for start in range(0, self.rows, self.batch_size):
            yield [row for order in orders for row in order[start : start + self.batch_size]]


class TrialsTrainer(Trainer):
    """A Trainer whose batches hold `per_device_train_batch_size` rows of every trial.

    Each trial has its own learning rate and its own gradient norm; `max_grad_norm` holds for each. The model's loss
    has to be a mean over rows that count alike, as in text classification. Dropout draws other numbers than in a trial
    alone; without dropout the results are the same within rounding.

    Args:
        model: From `join_trials`.
        trials: The trials.
        args: The Trainer's arguments; `learning_rate` and `seed` are the trials' own.
        train_dataset: The rows that every trial sees, in its own order.
        data_collator: Pads rows to a batch.
        **kwargs: As for `Trainer`.

    Raises:
        ValueError: If there are several processes, batches are accumulated, or an option of the Trainer is set that is
            for one model alone: `load_best_model_at_end`, "group_by_length", `data_seed`.
    """

    def __init__(
        self,
        model: PeftModel,
        trials: Sequence[Trial],
        args: TrainingArguments,
        train_dataset: Dataset,
        data_collator: Callable[..., Any],
        **kwargs: Any,
    ) -> None:
        if args.world_size > 1 or args.gradient_accumulation_steps > 1:
            raise ValueError("trials are trained together in one process, without `gradient_accumulation_steps`.")
        unused = {
            "load_best_model_at_end": args.load_best_model_at_end,
            "train_sampling_strategy": args.train_sampling_strategy != "random",
            "data_seed": args.data_seed is not None,
        }
        for name in (name for name, given in unused.items() if given):
            raise ValueError(f"`{name}` is not possible with trials that are trained together. Leave it out.")
        args, self.trials = copy(args), list(trials)
        self.norm_limit, args.max_grad_norm = args.max_grad_norm, 0.0
        super().__init__(model, args, data_collator=data_collator, train_dataset=train_dataset, **kwargs)

    def get_train_dataloader(self) -> DataLoader:
        """Batches of all trials."""
        dataset: Any = self.train_dataset
        if self.args.remove_unused_columns:
            dataset = self._remove_unused_columns(dataset, description="training")
        rows = _RowsOfTrials(self.trials, len(dataset), self.args.per_device_train_batch_size)
        return DataLoader(dataset, batch_sampler=rows, collate_fn=self.data_collator)

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """One group of parameters a trial and kind (with weight decay or without), at the trial's learning rate."""
        optimizer: torch.optim.Optimizer = super().create_optimizer(model)
        groups = []
        for trial in self.trials:
            mine = {id(parameter) for parameter in parameters_of(self.model, trial.name)}
            for group in optimizer.param_groups:
                params = [parameter for parameter in group["params"] if id(parameter) in mine]
                groups.append({**group, "params": params, "lr": trial.learning_rate})
        optimizer.param_groups[:] = [group for group in groups if group["params"]]
        if self.norm_limit:
            optimizer.register_step_pre_hook(self._clip)
        return optimizer

    def _clip(self, *_: Any) -> None:
        for trial in self.trials:
            torch.nn.utils.clip_grad_norm_(parameters_of(self.model, trial.name), self.norm_limit)

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Return the sum of the trials' losses: each adapter gets the gradient of its own."""
        if not model.training:
            return super().compute_loss(model, inputs, *args, **kwargs)
        rows = len(inputs["labels"]) // len(self.trials)
        outputs = model(**inputs, adapter_names=[trial.name for trial in self.trials for _ in range(rows)])
        return outputs.loss * len(self.trials)


def train_together(
    trials: Sequence[Trial],
    build: Callable[[Trial], PeftModel],
    args: TrainingArguments,
    train_dataset: Dataset,
    eval_dataset: Dataset,
    data_collator: Callable[..., Any],
    compute_metrics: Callable[[EvalPrediction], Mapping[str, float]] | None = None,
) -> tuple[PeftModel, dict[str, dict[str, float]]]:
    """Train all trials at once and measure each.

    Args:
        trials: The trials.
        build: Makes a trial's model as for training it alone; draws its new parameters by the trial's seed.
        args: The Trainer's arguments, the same for all trials.
        train_dataset: Training rows.
        eval_dataset: Rows to measure on.
        data_collator: Pads rows to a batch.
        compute_metrics: As for `Trainer`.

    Returns:
        The model with one adapter a trial (`model.save_pretrained(folder, selected_adapters=[name])`), and each
        trial's metrics.

    Raises:
        ValueError: See `join_trials` and `TrialsTrainer`.
    """
    model = join_trials(trials, build)
    trainer = TrialsTrainer(
        model, trials, args, train_dataset, data_collator, eval_dataset=eval_dataset, compute_metrics=compute_metrics
    )
    if args.disable_tqdm:
        trainer.remove_callback(PrinterCallback)
    trainer.train()
    metrics = {}
    for trial in trials:
        model.set_adapter(trial.name)
        metrics[trial.name] = trainer.evaluate()
    return model, metrics
