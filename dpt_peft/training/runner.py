"""Train, evaluate, predict and save: the part that all task families' scripts share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from peft import PeftModel
from transformers import EvalPrediction, PreTrainedTokenizerBase, PrinterCallback, Trainer, TrainingArguments
from transformers.trainer_utils import PredictionOutput, get_last_checkpoint

from dpt_peft.auto import save_wrapper_config
from dpt_peft.training.model_card import ModelCardFacts, write_model_card
from dpt_peft.training.schedules import ScheduledTrainer

ComputeMetrics = Callable[[EvalPrediction], dict[str, float]]


@contextmanager
def rows_in_order(args: TrainingArguments) -> Iterator[None]:
    """Keeps the Trainer from shuffling the rows of an evaluation, which "group_by_length" does without saying how."""
    strategy, args.train_sampling_strategy = args.train_sampling_strategy, "random"
    try:
        yield
    finally:
        args.train_sampling_strategy = strategy


def _by_length(dataset: Dataset) -> np.ndarray:
    """Returns the order that puts rows of like length into a batch; rows of the same length stay as they are."""
    return np.argsort([len(ids) for ids in dataset["input_ids"]], kind="stable")


class _CardTrainer(ScheduledTrainer):
    """A Trainer whose card, wherever it writes one (also when it pushes to the Hub), is ours.

    It evaluates the rows in their order, so that metrics may know more of a row than its label.
    """

    card: ModelCardFacts
    command: str | None = None
    all_metrics: dict[str, float]

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        if self.is_world_process_zero():
            write_model_card(self.args.output_dir, self.card, self.all_metrics, self.command)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        super().save_model(output_dir, _internal_call=_internal_call)
        if self.args.should_save:
            # Label words and template, without which an adapter over a wrapper is of no use.
            save_wrapper_config(self.accelerator.unwrap_model(self.model), output_dir or self.args.output_dir)

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        with rows_in_order(self.args):
            return super().evaluate(*args, **kwargs)


@dataclass(frozen=True)
class RunResult:
    """Outcome of `run_training`.

    Attributes:
        metrics: All metrics, as the Trainer names them.
        predictions: The test split's predictions, if it was predicted.
    """

    metrics: dict[str, float]
    predictions: PredictionOutput | None


def checkpoint_to_resume(args: TrainingArguments) -> str | None:
    """Reads `resume_from_checkpoint`: a checkpoint's folder, or "last" (or "True") for the last in `output_dir`.

    Args:
        args: The Trainer's arguments.

    Returns:
        The folder, or None if nothing is to be resumed.

    Raises:
        ValueError: If it is "last" and there is none.
    """
    asked = args.resume_from_checkpoint
    if asked is None or str(asked).lower() == "false":
        return None
    if str(asked).lower() not in ("last", "true"):
        return str(asked)
    last = get_last_checkpoint(args.output_dir)
    if last is None:
        raise ValueError(
            f"`resume_from_checkpoint` is {asked!r}, but there is no checkpoint in `output_dir` {args.output_dir!r}. "
            "Leave it out to start anew."
        )
    return last


def _predict_in_order(trainer: Trainer, dataset: Dataset) -> PredictionOutput:
    """Predicts with rows of like length in a batch, and gives the predictions in the data's own order."""
    order = _by_length(dataset)
    place = np.argsort(order, kind="stable")
    with rows_in_order(trainer.args):
        output = trainer.predict(dataset.select(order))
    predictions = output.predictions
    ordered = tuple(part[place] for part in predictions) if isinstance(predictions, tuple) else predictions[place]
    labels = output.label_ids[place] if isinstance(output.label_ids, np.ndarray) else output.label_ids
    return PredictionOutput(predictions=ordered, label_ids=labels, metrics=output.metrics)


def run_training(
    model: torch.nn.Module,
    args: TrainingArguments,
    *,
    tokenizer: PreTrainedTokenizerBase,
    card: ModelCardFacts,
    compute_metrics: ComputeMetrics | Mapping[str, ComputeMetrics],
    train_dataset: Dataset | None = None,
    eval_dataset: Dataset | None = None,
    test_dataset: Dataset | None = None,
    data_collator: Callable[..., Any] | None = None,
    preprocess_logits_for_metrics: Callable[..., torch.Tensor] | None = None,
    after_training: Callable[[Trainer], None] | None = None,
    write_files: bool = True,
    command: str | None = None,
) -> RunResult:
    """Does what `do_train`, `do_eval` and `do_predict` ask for, with the files that transformers' examples write.

    In `output_dir`: the model or adapter, the tokenizer, `train_results.json`, `eval_results.json`,
    `test_results.json`, `all_results.json`, `trainer_state.json` and the model card.

    Args:
        model: Model to train.
        args: The Trainer's arguments; `resume_from_checkpoint` takes a folder or "last".
        tokenizer: Saved with the model, and used to pad.
        card: Facts for the model card.
        compute_metrics: From predictions to metrics; or one such function each for "eval" and "test". Rows come
            sorted by length, rows of the same length in the order of the data set.
        train_dataset: Needed for `do_train`.
        eval_dataset: Needed for `do_eval`.
        test_dataset: Needed for `do_predict`; its labels may be missing.
        data_collator: Default: the Trainer's (padding by the tokenizer).
        preprocess_logits_for_metrics: From logits and labels of a batch to what metrics and predictions are made of.
        after_training: Called before the trained model is saved and evaluated, for what is set on a finished model.
        write_files: Whether model, files and card are written. Experiments that only need the numbers say False.
        command: For the card; default: this process's command.

    Returns:
        Metrics and predictions.

    Raises:
        ValueError: If a data set is missing for what is asked, or if there is no checkpoint to resume from.
    """
    needed = {"do_train": train_dataset, "do_eval": eval_dataset, "do_predict": test_dataset}
    for flag, dataset in needed.items():
        if getattr(args, flag) and dataset is None:
            split = {"do_train": "train", "do_eval": "validation", "do_predict": "test"}[flag]
            raise ValueError(f"`{flag}` is set, but there is no {split} data.")

    if args.device.type == "cpu":
        args.dataloader_pin_memory = False  # torch warns that there is nothing to pin for
    metrics = {"eval": compute_metrics, "test": compute_metrics} if callable(compute_metrics) else compute_metrics
    base = model.get_base_model() if isinstance(model, PeftModel) else model
    if not hasattr(base, "accepts_loss_kwargs"):
        # The Trainer takes a head with **kwargs for one that divides by the `num_items_in_batch` it is given, and then
        # adds up accumulated batches and processes. Most heads of transformers are means of their own batch.
        base.accepts_loss_kwargs = False
    trainer = _CardTrainer(
        model=model,
        args=args,
        train_dataset=train_dataset,
        eval_dataset=None if eval_dataset is None else eval_dataset.select(_by_length(eval_dataset)),
        processing_class=tokenizer,
        data_collator=data_collator,
        compute_metrics=metrics.get("eval"),
        preprocess_logits_for_metrics=preprocess_logits_for_metrics,
    )
    if not write_files:
        trainer.remove_callback(PrinterCallback)
    trainer.card, trainer.command, trainer.all_metrics = card, command, {}

    def record(split: str, values: dict[str, float]) -> None:
        trainer.all_metrics.update(values)
        if write_files:
            trainer.log_metrics(split, values)
            trainer.save_metrics(split, values)

    if args.do_train:
        output = trainer.train(resume_from_checkpoint=checkpoint_to_resume(args))
        if after_training is not None:
            after_training(trainer)
        if write_files:
            trainer.save_model()
            trainer.save_state()
        record("train", output.metrics)
    if args.do_eval:
        record("eval", trainer.evaluate())
    predictions = None
    if args.do_predict:
        assert test_dataset is not None
        trainer.compute_metrics = metrics.get("test")
        predictions = _predict_in_order(trainer, test_dataset)
        record("test", predictions.metrics or {})
    if write_files:
        trainer.create_model_card()
        if args.push_to_hub:
            trainer.push_to_hub()
    return RunResult(dict(trainer.all_metrics), predictions)
