"""Deep prompts that several tasks share (P-tuning v2, section 3.3, "multi-task learning"): model, batches, Trainer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from datasets import Dataset, concatenate_datasets
from peft import PeftModel
from peft.utils import ModulesToSaveWrapper
from torch import nn
from torch.utils.data import DataLoader, Sampler
from transformers import EvalPrediction

from dpt_peft.training.trainer import TaskTrainer

#: Column, and argument of the model, that names a row's task.
TASK_COLUMN = "task"
ComputeMetrics = Callable[[EvalPrediction], dict[str, float]]


class SharedPromptModel(nn.Module):
    """Several tasks on one frozen backbone and one set of deep prompts, each with a head of its own.

    Every task keeps a `PeftModel` of its own, whose backbone and prompts are those of the first: each can be used and
    saved by itself, as if it had been trained alone.

    Args:
        models: A `PeftModel` with deep prompts for every task, all made of the same base model and configuration.

    Attributes:
        tasks: The tasks' models by name.

    Raises:
        ValueError: If there is no model, or their prompts or backbones differ.
    """

    #: Heads are means over their own batch, see `TaskTrainer`.
    accepts_loss_kwargs = False

    def __init__(self, models: Mapping[str, PeftModel]) -> None:
        super().__init__()
        if not models:
            raise ValueError("`models` is empty: give one model per task.")
        self.tasks = nn.ModuleDict(models)
        (first_name, first), *others = models.items()
        for name, model in others:
            _share(first.get_base_model(), model.get_base_model(), f"{first_name!r} and {name!r}")

    def forward(self, task: str, labels: torch.Tensor | None = None, **inputs: Any) -> Any:
        """Run a batch of one task.

        Args:
            task: Its name.
            labels: What the task's model takes.
            **inputs: What the task's model takes.

        Returns:
            The output of the task's model.
        """
        return self.tasks[task](labels=labels, **inputs)

    def _trained(self) -> set[str]:
        """Names of the trained parameters; what tasks share is named once, by the first."""
        return {name for name, parameter in self.named_parameters() if parameter.requires_grad}

    def state_dict(self, *args: Any, prefix: str = "", **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        """Return what is trained: the shared prompts once, and every head. The frozen backbone is left out."""
        state = super().state_dict(*args, prefix=prefix, **kwargs)
        trained = self._trained()
        for key in list(state):
            if key.startswith(prefix) and key.removeprefix(prefix) not in trained:
                del state[key]
        return state

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load what `state_dict` gives.

        Raises:
            RuntimeError: If `strict` and a trained parameter is missing, or there are others.
        """
        result = super().load_state_dict(state_dict, strict=False, assign=assign)
        trained = self._trained()
        missing = [key for key in result.missing_keys if key in trained]
        if strict and (missing or result.unexpected_keys):
            raise RuntimeError(f"Missing keys: {missing}. Unexpected keys: {result.unexpected_keys}.")
        return type(result)(missing, result.unexpected_keys)


def _share(source: nn.Module, target: nn.Module, names: str) -> None:
    """Give `target` all modules of `source` but the heads, which PEFT trains for each adapter."""
    ours, theirs = (
        {name: child for name, child in model.named_children() if not isinstance(child, ModulesToSaveWrapper)}
        for model in (source, target)
    )
    if _shapes(ours) != _shapes(theirs):
        raise ValueError(f"`models` {names} have different backbones or prompts, which cannot be shared.")
    for name, child in ours.items():
        setattr(target, name, child)


def _shapes(children: Mapping[str, nn.Module]) -> dict[str, torch.Size]:
    return {
        key: value.shape for name, child in children.items() for key, value in child.state_dict(prefix=name).items()
    }


def join_tasks(datasets: Mapping[str, Dataset]) -> Dataset:
    """Put the tasks' rows behind each other, with a column that names the task.

    Raises:
        ValueError: If the tasks' columns are not of the same kind.
    """
    named = [data.add_column(TASK_COLUMN, [task] * len(data)) for task, data in datasets.items()]
    features = [dict(data.features) for data in named]
    if any(other != features[0] for other in features):
        raise ValueError(f"The tasks {', '.join(datasets)} have columns of different kinds and cannot be joined.")
    return concatenate_datasets(named)


class OneTask:
    """A data collator for rows of one task: its name goes into the batch beside what `collator` makes of the rest."""

    def __init__(self, collator: Callable[[list[dict[str, Any]]], Mapping[str, Any]]) -> None:
        self.collator = collator

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Make a batch.

        Raises:
            ValueError: If the rows are of several tasks.
        """
        names = {row[TASK_COLUMN] for row in rows}
        if len(names) != 1:
            raise ValueError(f"A batch must be of one task, got rows of {', '.join(sorted(names))}.")
        rest = [{name: value for name, value in row.items() if name != TASK_COLUMN} for row in rows]
        return {**self.collator(rest), TASK_COLUMN: names.pop()}


class TaskBatchSampler(Sampler[list[int]]):
    """Batches of one task each; the task of a batch is drawn with a probability of about (its rows)^(1 / temperature).

    An epoch has as many batches as all rows make. Within it, a task's rows come in random order; when it runs out they
    begin anew in another one, so that all batches are full. The order depends on seed and epoch alone.

    Args:
        sizes: Rows of every task, which lie behind each other.
        batch_size: Rows of a batch.
        temperature: 1: as the data is; larger: small tasks more often; infinity: all tasks alike.
        seed: Seed of the order.
        together: Batches in a row that are of the same task, for processes that share an update.

    Raises:
        ValueError: If a task has no rows, or an argument is out of range.
    """

    drop_last = False

    def __init__(
        self, sizes: Sequence[int], batch_size: int, *, temperature: float = 1.0, seed: int = 0, together: int = 1
    ) -> None:
        if not sizes or min(sizes) < 1 or batch_size < 1 or together < 1:
            raise ValueError(
                f"Every task needs rows and every batch too: `sizes` {list(sizes)}, `batch_size` {batch_size}."
            )
        if not temperature > 0:
            raise ValueError(f"`temperature` must be above 0, got {temperature}.")
        self.sizes, self.batch_size, self.seed, self.together, self.epoch = list(sizes), batch_size, seed, together, 0
        weights = (np.array(sizes) / max(sizes)) ** (1 / temperature)
        self.probabilities = weights / weights.sum()

    @property
    def sampler(self) -> TaskBatchSampler:
        """Itself: where accelerate looks for what is told the epoch, also within a wrapper for several processes."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch the next pass is."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-sum(self.sizes) // (self.batch_size * self.together)) * self.together

    def __iter__(self) -> Iterator[list[int]]:
        random = np.random.default_rng([self.seed, self.epoch])
        tasks = random.choice(len(self.sizes), size=len(self) // self.together, p=self.probabilities)
        starts = np.cumsum([0, *self.sizes])
        left: list[np.ndarray] = [np.empty(0, dtype=np.int64) for _ in self.sizes]
        for task in np.repeat(tasks, self.together):
            while len(left[task]) < self.batch_size:
                left[task] = np.concatenate([left[task], starts[task] + random.permutation(self.sizes[task])])
            batch, left[task] = left[task][: self.batch_size], left[task][self.batch_size :]
            yield batch.tolist()


class SharedPromptTrainer(TaskTrainer):
    """A Trainer for a `SharedPromptModel`: one task per batch, metrics task by task and their means.

    Args:
        *args: As for the Trainer; `train_dataset` and `eval_dataset` map tasks to data sets without a task column.
        temperature: See `TaskBatchSampler`.
        task_metrics: For every task its `compute_metrics`.
        **kwargs: As for the Trainer.
    """

    def __init__(
        self,
        *args: Any,
        train_dataset: Mapping[str, Dataset] | None = None,
        eval_dataset: Mapping[str, Dataset] | None = None,
        data_collator: Callable[..., Any],
        temperature: float = 1.0,
        task_metrics: Mapping[str, ComputeMetrics] | None = None,
        **kwargs: Any,
    ) -> None:
        self.sizes = [len(data) for data in (train_dataset or {}).values()]
        self.temperature, self.task_metrics = temperature, dict(task_metrics or {})
        super().__init__(
            *args,
            train_dataset=join_tasks(train_dataset) if train_dataset else None,
            eval_dataset={task: join_tasks({task: data}) for task, data in (eval_dataset or {}).items()} or None,
            data_collator=OneTask(data_collator),
            **kwargs,
        )
        # the model takes whatever its tasks take
        self.args.remove_unused_columns = False

    def get_train_dataloader(self) -> DataLoader:
        """Return batches of one task each."""
        batches = TaskBatchSampler(
            self.sizes,
            self._train_batch_size,  # smaller than asked for after `auto_find_batch_size`
            temperature=self.temperature,
            seed=self.args.data_seed if self.args.data_seed is not None else self.args.seed,
            together=self.args.world_size,
        )
        return self.accelerator.prepare(
            DataLoader(
                self.train_dataset,
                batch_sampler=batches,
                collate_fn=self.data_collator,
                num_workers=self.args.dataloader_num_workers,
                pin_memory=self.args.dataloader_pin_memory,
            )
        )

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Evaluate task by task: `eval_<task>_f1`, and `eval_mean_f1` for every metric that all tasks have."""
        if isinstance(eval_dataset, str):
            self.compute_metrics = self.task_metrics.get(eval_dataset)
        metrics = super().evaluate(eval_dataset, ignore_keys, metric_key_prefix)
        if eval_dataset is None and isinstance(self.eval_dataset, dict):
            metrics |= mean_over_tasks(metrics, list(self.eval_dataset), metric_key_prefix)
        return metrics


def mean_over_tasks(metrics: Mapping[str, float], tasks: Sequence[str], prefix: str) -> dict[str, float]:
    """Return the plain mean over the tasks of every metric that all have, as `<prefix>_mean_<metric>`."""
    technical = ("runtime", "per_second", "model_preparation_time")
    first = f"{prefix}_{tasks[0]}_"
    names = [key.removeprefix(first) for key in metrics if key.startswith(first) and not key.endswith(technical)]
    return {
        f"{prefix}_mean_{name}": float(np.mean([metrics[f"{prefix}_{task}_{name}"] for task in tasks]))
        for name in names
        if all(f"{prefix}_{task}_{name}" in metrics for task in tasks)
    }
