"""What a user of transformers' Trainer or of accelerate sets does to our models what it does to any other."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch.nn import functional
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback

from .models import (
    KINDS,
    assert_same,
    losses,
    make,
    make_collator,
    make_rows,
    make_trainer,
    trained,
)

EVERY_KIND = pytest.mark.parametrize("kind", KINDS)
# As one big batch: plain steps without momentum or clipping show the gradient itself.
ONE_STEP = {"max_steps": 1, "optim": "sgd", "max_grad_norm": 0.0, "learning_rate": 0.1}
# transformers' own heads are means of their batch, although Trainer takes them for sums over accumulated batches.
OF_TRANSFORMERS = ("prompted",)


def users_loss(outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
    """A loss that a user may bring: cross entropy over classes, or over tokens."""
    logits = outputs.logits
    if logits.shape == labels.shape:
        chosen = labels.ne(-100)
        total = functional.binary_cross_entropy_with_logits(
            logits[chosen], labels[chosen].to(logits.dtype), reduction="sum"
        )
    else:
        chosen = labels.ne(-100)
        total = functional.cross_entropy(logits, labels, reduction="sum")
    return total / (chosen.sum() if num_items_in_batch is None else num_items_in_batch)


@EVERY_KIND
def test_compute_loss_func_is_the_loss(kind, plain, tmp_path):
    """Accumulated over batches, too: the Trainer tells the function how many labels there are in all of them."""
    expected = make(kind, plain, dtype=torch.float64).train()
    before = trained(expected)
    batch = make_collator(kind)(list(make_rows(kind)))
    labels = batch.pop("labels")
    loss = users_loss(expected(**batch), labels)
    loss.backward()
    assert loss.isfinite()
    steps = {name: values.grad for name, values in expected.named_parameters() if values.grad is not None}
    assert any(step.abs().max() > 1e-6 for step in steps.values())
    for size, accumulated in ((8, 1), (2, 4)):
        model = make(kind, plain, dtype=torch.float64)
        trainer = make_trainer(
            kind,
            model,
            tmp_path,
            given={"compute_loss_func": users_loss},
            per_device_train_batch_size=size,
            gradient_accumulation_steps=accumulated,
            **ONE_STEP,
        )
        trainer.train()
        assert losses(trainer) == pytest.approx([float(loss.detach())], rel=1e-4)
        assert_same(
            trained(model), {name: values - 0.1 * steps.get(name, 0) for name, values in before.items()}, within=1e-8
        )


class TrainerWithItsOwnLoss(Trainer):
    """As the Trainer's documentation overrides `compute_loss`."""

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        labels = inputs.pop("labels")
        outputs = model(**inputs)
        loss = users_loss(outputs, labels)
        return (loss, outputs) if return_outputs else loss


@EVERY_KIND
def test_trainers_label_smoothing_smooths_a_softmax_or_is_refused(kind, plain, tmp_path):
    model = make(kind, plain)
    if kind not in ("verbalizer", "prompted"):  # their loss is no cross entropy
        with pytest.raises(ValueError, match=r"`label_smoothing_factor` = 0\.2 .*label_smoothing=0\.2"):
            make_trainer(kind, model, tmp_path, label_smoothing_factor=0.2)
        return
    batch = make_collator(kind)(list(make_rows(kind)))
    labels = batch.pop("labels")
    with torch.no_grad():
        expected = functional.cross_entropy(model.eval()(**batch).logits, labels, label_smoothing=0.2)
    options = {"label_smoothing_factor": 0.2, "per_device_train_batch_size": 8, "max_steps": 1}
    trainer = make_trainer(kind, model, tmp_path, **options)
    trainer.train()
    assert losses(trainer) == pytest.approx([float(expected)], rel=1e-4)


@EVERY_KIND
def test_a_users_own_compute_loss_is_the_loss(kind, plain, tmp_path):
    model = make(kind, plain)
    batch = make_collator(kind)(list(make_rows(kind)))
    labels = batch.pop("labels")
    with torch.no_grad():
        expected = users_loss(model.eval()(**batch), labels)
    trainer = make_trainer(kind, model, tmp_path, trainer=TrainerWithItsOwnLoss, per_device_eval_batch_size=8)
    assert trainer.evaluate()["eval_loss"] == pytest.approx(float(expected), rel=1e-5)
    before = trained(model)
    trainer.train()
    assert all(math.isfinite(loss) and loss > 0 for loss in losses(trainer))
    after = trained(model)
    assert any(not torch.equal(after[name], values) for name, values in before.items())
    assert all(values.isfinite().all() for values in after.values())


@EVERY_KIND
def test_accumulated_batches_have_the_gradient_of_one(kind, plain, tmp_path):
    weights = []
    for size, accumulated in ((8, 1), (2, 4)):
        model = make(kind, plain, dtype=torch.float64)
        trainer = make_trainer(
            kind,
            model,
            tmp_path,
            per_device_train_batch_size=size,
            gradient_accumulation_steps=accumulated,
            **ONE_STEP,
        )
        if kind in OF_TRANSFORMERS:
            trainer.model_accepts_loss_kwargs = False  # what docs/how_to/existing_pipelines.md says
        trainer.train()
        weights.append(trained(model))
    assert_same(*weights)
    untrained = trained(make(kind, plain, dtype=torch.float64))
    assert any((weights[0][name] - values).abs().max() > 1e-6 for name, values in untrained.items())


@EVERY_KIND
def test_the_labels_are_found_by_name(kind, plain, tmp_path):
    expected = make_trainer(kind, make(kind, plain), tmp_path).predict(make_rows(kind))
    named = make_trainer(kind, make(kind, plain), tmp_path, label_names=["labels"])
    found = named.predict(make_rows(kind))
    assert found.label_ids.shape[0] == 8
    assert np.array_equal(found.label_ids, expected.label_ids)
    assert found.metrics["test_loss"] == pytest.approx(expected.metrics["test_loss"])

    # No model here takes targets of another name: none is trained without them.
    rows = make_rows(kind).rename_column("labels", "targets")
    other = make_trainer(kind, make(kind, plain), tmp_path, rows=rows, label_names=["targets"])
    with pytest.raises((ValueError, TypeError), match=r"did not return a loss|targets"):
        other.train()


@EVERY_KIND
def test_neftune_adds_its_noise_to_what_is_read(kind, plain, tmp_path):
    seen = []
    for alpha in (None, 50.0):
        model = make(kind, plain)
        trainer = make_trainer(kind, model, tmp_path, neftune_noise_alpha=alpha, max_steps=1)
        trainer.train()
        seen.append(losses(trainer)[0])
        base = model.get_base_model() if hasattr(model, "get_base_model") else model
        embeddings = base.get_input_embeddings()
        assert not embeddings._forward_hooks
        with_noise = [trainer.evaluate()["eval_loss"] for _ in range(2)]
        assert with_noise[0] == with_noise[1], "evaluation is without noise"
    assert abs(seen[0] - seen[1]) > 1e-3


@EVERY_KIND
def test_compiled_it_trains_the_same(kind, plain, tmp_path):
    weights = []
    for compiled in (False, True):
        torch.compiler.reset()
        model = make(kind, plain, dtype=torch.float64)
        # "eager" runs what dynamo has traced: no compiler is needed.
        backend = {"torch_compile": True, "torch_compile_backend": "eager"} if compiled else {}
        trainer = make_trainer(kind, model, tmp_path, **ONE_STEP, **backend)
        trainer.train()
        weights.append(trained(model))
    assert_same(*weights)
    untrained = trained(make(kind, plain, dtype=torch.float64))
    assert any((weights[0][name] - values).abs().max() > 1e-6 for name, values in untrained.items())


@pytest.mark.parametrize("strategy", ["group_by_length", "sequential", "batch_rebalance"])
@EVERY_KIND
def test_sampling_strategies_change_the_batches_and_no_metric(kind, strategy, plain, tmp_path):
    def measure(prediction: Any) -> dict[str, float]:
        right = prediction.predictions.shape == prediction.label_ids.shape
        found = prediction.predictions > 0 if right else prediction.predictions.argmax(-1)
        return {"right": float((found == prediction.label_ids).mean())}

    metrics = []
    for options in ({}, {"train_sampling_strategy": strategy}):
        trainer = make_trainer(
            kind,
            make(kind, plain),
            tmp_path,
            given={"compute_metrics": measure},
            per_device_eval_batch_size=8,
            **options,
        )
        metrics.append(trainer.evaluate())
    assert metrics[1]["eval_right"] == metrics[0]["eval_right"]
    assert metrics[1]["eval_loss"] == pytest.approx(metrics[0]["eval_loss"], rel=1e-5)
    trainer.train()
    assert all(math.isfinite(loss) and loss > 0 for loss in losses(trainer))


@EVERY_KIND
def test_the_last_batch_can_be_dropped(kind, plain, tmp_path):
    rows = make_rows(kind, rows=7)
    for drop, steps in ((False, 4), (True, 3)):
        trainer = make_trainer(
            kind, make(kind, plain), tmp_path, rows=rows, max_steps=-1, num_train_epochs=1, dataloader_drop_last=drop
        )
        trainer.train()
        assert trainer.state.global_step == steps


@EVERY_KIND
def test_predictions_gathered_in_parts_are_the_same(kind, plain, tmp_path):
    found = [
        make_trainer(kind, make(kind, plain), tmp_path, **options).predict(make_rows(kind))
        for options in ({}, {"eval_accumulation_steps": 1})
    ]
    whole, in_parts = found
    assert whole.predictions.shape[0] == 8
    assert np.array_equal(in_parts.predictions, whole.predictions)
    assert np.array_equal(in_parts.label_ids, whole.label_ids)
    assert in_parts.metrics["test_loss"] == whole.metrics["test_loss"]


@EVERY_KIND
def test_a_batch_size_that_fits_is_found(kind, plain, tmp_path):
    model = make(kind, plain)
    sizes = []

    def run_out_of_memory(module: Any, args: Any, kwargs: dict[str, Any]) -> None:
        sizes.append(kwargs["input_ids"].shape[0])
        if sizes[-1] > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate")

    model.register_forward_pre_hook(run_out_of_memory, with_kwargs=True)
    trainer = make_trainer(kind, model, tmp_path, auto_find_batch_size=True, per_device_train_batch_size=3)
    trainer.train()
    assert sizes[0] == 3
    assert sizes[-2:] == [2, 2]
    assert trainer.state.global_step == 2


class RememberWeights(TrainerCallback):
    """Keeps what is trained, step by step."""

    def __init__(self) -> None:
        self.weights: dict[int, dict[str, torch.Tensor]] = {}

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        self.weights[state.global_step] = trained(model)


@EVERY_KIND
def test_the_best_model_is_loaded_at_the_end(kind, plain, tmp_path):
    remember = RememberWeights()
    model = make(kind, plain)
    trainer = make_trainer(
        kind,
        model,
        tmp_path,
        given={
            "callbacks": [remember],
            "compute_metrics": lambda _: {"score": float(trainer.state.global_step == 2)},
        },
        max_steps=4,
        eval_strategy="steps",
        eval_steps=2,
        save_strategy="steps",
        save_steps=2,
        load_best_model_at_end=True,
        metric_for_best_model="score",
    )
    trainer.train()
    assert Path(trainer.state.best_model_checkpoint).name == "checkpoint-2"
    assert any(not torch.equal(remember.weights[4][name], values) for name, values in remember.weights[2].items())
    assert_same(trained(model), remember.weights[2], within=0)


class Accuracy:
    """Counts batch by batch, as `batch_eval_metrics` wants it."""

    def __init__(self) -> None:
        self.right: list[torch.Tensor] = []

    def __call__(self, prediction: Any, compute_result: bool = True) -> dict[str, float]:
        logits, labels = (torch.as_tensor(part) for part in (prediction.predictions, prediction.label_ids))
        found = (logits > 0).long() if logits.shape == labels.shape else logits.argmax(-1)
        self.right.append(found.eq(labels)[labels.ne(-100)].float())
        return {"accuracy": float(torch.cat(self.right).mean())} if compute_result else {}


@EVERY_KIND
def test_metrics_batch_by_batch_are_those_of_the_whole(kind, plain, tmp_path):
    found = []
    for by_batch in (False, True):
        trainer = make_trainer(
            kind, make(kind, plain), tmp_path, given={"compute_metrics": Accuracy()}, batch_eval_metrics=by_batch
        )
        found.append(trainer.evaluate()["eval_accuracy"])
    assert found[0] == pytest.approx(found[1])


@EVERY_KIND
@pytest.mark.parametrize("accumulated", [1, 2])
def test_accelerates_own_loop_trains_what_torch_trains(kind, accumulated, plain):
    """Two steps of a batch of four rows each, whole or in two parts."""
    rows = list(make_rows(kind))
    collate = make_collator(kind)

    expected = make(kind, plain, dtype=torch.float64).train()
    optimizer = torch.optim.SGD([values for values in expected.parameters() if values.requires_grad], lr=0.1)
    for first in (0, 4):
        parts = [rows[first + 4 // accumulated * part :][: 4 // accumulated] for part in range(accumulated)]
        for part in parts:
            (expected(**collate(part)).loss / accumulated).backward()
        optimizer.step()
        optimizer.zero_grad()

    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=accumulated)
    model = make(kind, plain, dtype=torch.float64).train()
    before = trained(model)
    optimizer = torch.optim.SGD([values for values in model.parameters() if values.requires_grad], lr=0.1)
    loader = DataLoader(rows, batch_size=4 // accumulated, collate_fn=collate)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    for batch in loader:
        with accelerator.accumulate(model):
            accelerator.backward(model(**batch).loss)
            optimizer.step()
            optimizer.zero_grad()
    ours = trained(accelerator.unwrap_model(model))
    assert_same(ours, trained(expected))
    assert any((ours[name] - values).abs().max() > 1e-6 for name, values in before.items())
