"""Losses that are not the wrapper's own: a Trainer's, a user's; and what every library reads from a config."""

from __future__ import annotations

import logging
from dataclasses import fields
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from peft import LoraConfig, get_peft_model
from transformers import (
    BertConfig,
    BertForMaskedLM,
    DataCollatorWithPadding,
    ElectraConfig,
    PreTrainedConfig,
    Trainer,
    TrainingArguments,
)

from dpt_peft import (
    DPTForHierarchicalClassification,
    DPTForMultiSpanQuestionAnswering,
    DPTForSequenceClassification,
    VerbalizerForSequenceClassification,
)
from dpt_peft.pretrained_heads.loss import NO_CLASS, dpt_loss

from .conftest import WORDS, make_config

TREE = {"sports": ["match", "goal"], "world": {"news": ["film", "bank"]}}
WRAPPERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "flat": (DPTForSequenceClassification, {"label_words": ["bad", "good", "very", "news"]}),
    "hierarchy": (DPTForHierarchicalClassification, {"label_tree": TREE, "beam_width": 1}),
    "reader": (DPTForMultiSpanQuestionAnswering, {}),
    "verbalizer": (
        VerbalizerForSequenceClassification,
        {"label_words": ["bad", "good", "very", "news"], "template": "{text} {mask}"},
    ),
}
TEXTS = ["the match ended", "a film", "", "news of technology and business"]


@pytest.fixture
def language_model_path(tokenizer, tmp_path):
    sizes = {name: value for name, value in make_config().to_dict().items() if name in BertConfig().to_dict()}
    BertForMaskedLM(BertConfig(**{**sizes, "model_type": "bert"})).save_pretrained(tmp_path / "lm")
    tokenizer.save_pretrained(tmp_path / "lm")
    return tmp_path / "lm"


@pytest.fixture
def load(discriminator_path, language_model_path):
    def load(name: str, **kwargs: Any) -> Any:
        wrapper, options = WRAPPERS[name]
        path = language_model_path if name == "verbalizer" else discriminator_path
        dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
        return wrapper.from_pretrained(path, **{**options, **dropout, **kwargs})

    return load


@pytest.fixture
def rows(tokenizer):
    return tokenizer(TEXTS, padding=True, return_tensors="pt")


def trainer_of(model: Any, tokenizer: Any, folder: Any, cls: Any = Trainer, **options: Any) -> Trainer:
    labels = [0, 1, 2, 3] if not isinstance(model, DPTForMultiSpanQuestionAnswering) else [[0, 1, 1]] * 4
    texts = TEXTS if not isinstance(labels[0], list) else ["film"] * 4
    data = [{**tokenizer(text), "labels": label} for text, label in zip(texts, labels, strict=True)] * 2
    defaults = {
        "max_steps": 2,
        "per_device_train_batch_size": 4,
        "learning_rate": 1e-3,
        "logging_steps": 1,
        "report_to": [],
        "use_cpu": True,
        "disable_tqdm": True,
        "save_strategy": "no",
    }
    arguments = TrainingArguments(str(folder), **{**defaults, **options})
    return cls(
        model, arguments, train_dataset=data, eval_dataset=data, data_collator=DataCollatorWithPadding(tokenizer)
    )


@pytest.mark.parametrize("name", ["flat", "hierarchy", "reader"])
@pytest.mark.parametrize("adapter", [False, True])
def test_trainers_own_label_smoothing_is_refused_with_the_way_round(load, tokenizer, tmp_path, name, adapter):
    model = load(name)
    if adapter:
        model = get_peft_model(model, LoraConfig(r=2, target_modules=["query"]))
    with pytest.raises(ValueError, match=r"`label_smoothing_factor` = 0\.1 .* softmax .*label_smoothing=0\.1"):
        trainer_of(model, tokenizer, tmp_path, label_smoothing_factor=0.1)
    trainer_of(model, tokenizer, tmp_path)


def test_a_verbalizers_loss_is_what_trainer_smooths(load, tokenizer, tmp_path, rows):
    """Cross entropy over the classes: the same by Trainer's argument as by the model's own."""
    model, labels = load("verbalizer"), torch.tensor([0, 1, 2, 3])
    trainer = trainer_of(model, tokenizer, tmp_path, label_smoothing_factor=0.25)
    own = load("verbalizer", label_smoothing=0.25)(**rows, labels=labels).loss
    assert trainer.compute_loss(model, {**rows, "labels": labels}).item() == pytest.approx(own.item(), rel=1e-5)


@pytest.mark.parametrize("name", WRAPPERS)
def test_the_models_own_label_smoothing(load, rows, name):
    smooth = load(name, label_smoothing=0.2)
    assert smooth.config.label_smoothing == 0.2
    labels = torch.tensor([0, 1, 2, 3])
    if name == "reader":
        labels = torch.where(rows["attention_mask"].bool(), rows["input_ids"] % 2, -100)
    plain, found = load(name)(**rows, labels=labels), smooth(**rows, labels=labels)
    logits = plain.logits
    if name == "reader":
        mask = labels.ne(-100)
        targets = labels[mask] * 0.8 + 0.1
        expected = torch.nn.functional.binary_cross_entropy(logits[mask].sigmoid(), targets)
    elif name == "verbalizer":
        targets = torch.eye(4)[labels] * 0.8 + 0.05
        expected = -(targets * logits.log_softmax(1)).sum(1).mean()
    elif name == "flat":
        targets = torch.eye(4)[labels] * 0.8 + 0.1
        expected = torch.nn.functional.binary_cross_entropy(logits.sigmoid(), targets, reduction="none").sum(1).mean()
    if name != "hierarchy":  # see below
        torch.testing.assert_close(found.loss, expected, rtol=1e-4, atol=1e-6)
    with pytest.raises(ValueError, match="`label_smoothing` must be at least 0 and less than 1"):
        load(name, label_smoothing=1.0)


def test_a_hierarchy_smooths_every_branch(load, discriminator_path, tokenizer, rows):
    nested = {"film": ["good", "bad"], "news": ["world", "business"]}
    labels = torch.tensor([0, 1, 2, 3])
    loss = load("hierarchy", label_tree=nested, label_smoothing=0.2)(**rows, labels=labels).loss
    expected = 0.0
    for row, (top, below) in enumerate([(0, 0), (0, 1), (1, 0), (1, 1)]):
        one = tokenizer(TEXTS[row], return_tensors="pt")
        words = [(list(nested), top), (list(nested.values())[top], below)]
        for names, index in words:
            flat = DPTForSequenceClassification.from_pretrained(discriminator_path, label_words=names)
            expected += dpt_loss(flat(**one).logits, torch.tensor([index]), multi_label=False, label_smoothing=0.2)
    torch.testing.assert_close(loss, expected / 4, rtol=1e-4, atol=1e-6)


class _OwnLoss(Trainer):
    def compute_loss(self, model, inputs, return_outputs=False, **kwargs):
        labels = inputs.pop("labels")
        outputs = model(**inputs)
        loss = torch.nn.functional.cross_entropy(outputs.logits, labels, label_smoothing=0.1)
        return (loss, outputs) if return_outputs else loss


@pytest.mark.parametrize("name", ["flat", "hierarchy", "verbalizer"])
def test_a_users_own_loss_is_finite_and_trains(load, tokenizer, tmp_path, name):
    model = load(name)
    before = {key: value.detach().clone() for key, value in model.named_parameters()}
    trainer = trainer_of(model, tokenizer, tmp_path, _OwnLoss, logging_nan_inf_filter=False)
    trainer.train()
    losses = [log["loss"] for log in trainer.state.log_history if "loss" in log]
    assert len(losses) == 2
    assert all(0 < loss < 1e5 for loss in losses)
    assert all(value.isfinite().all() for value in model.parameters())
    assert any(not torch.equal(value, before[key]) for key, value in model.named_parameters())
    assert 0 < trainer.evaluate()["eval_loss"] < 1e5


@pytest.mark.parametrize("name", ["flat", "hierarchy"])
def test_a_loss_function_given_to_trainer_and_an_accelerate_loop(load, tokenizer, tmp_path, rows, name):
    def loss_of(outputs, labels, num_items_in_batch=None):
        return torch.nn.functional.cross_entropy(outputs.logits, labels)

    trainer = trainer_of(load(name), tokenizer, tmp_path)
    trainer.compute_loss_func = loss_of
    trainer.train()
    assert all(torch.isfinite(torch.tensor(log["loss"])) for log in trainer.state.log_history if "loss" in log)

    model = load(name).train()
    accelerator = Accelerator(cpu=True)
    model, optimizer = accelerator.prepare(model, torch.optim.SGD(model.parameters(), lr=1e-3))
    loss = torch.nn.functional.cross_entropy(model(**rows).logits, torch.tensor([0, 1, 2, 3]))
    accelerator.backward(loss)
    optimizer.step()
    assert loss.isfinite()
    assert all(value.grad is None or value.grad.isfinite().all() for value in model.parameters())


def test_a_class_that_a_row_lacks_is_finite_in_half_precision(load, tokenizer, rows):
    model = load("flat", dtype=torch.bfloat16)
    model.add_label_list("mood", ["bad", "good"], tokenizer)
    names = ["mood", "default", "mood", "default"]
    outputs = model(**rows, list_names=names, labels=torch.tensor([1, 3, 0, 2]))
    assert (outputs.logits[[0, 2], 2:] == NO_CLASS).all()
    assert outputs.logits.isfinite().all()
    assert (outputs.logits[[0, 2], 2:].float().sigmoid() == 0).all()
    assert 0 < outputs.loss < 100
    assert torch.tensor(NO_CLASS, dtype=torch.float16).item() == NO_CLASS


@pytest.mark.parametrize("name", WRAPPERS)
def test_a_loss_that_is_no_number_says_so_at_that_step(load, tokenizer, tmp_path, rows, name, caplog):
    model = load(name)
    labels = torch.tensor([0, 1, 2, 3])
    if name == "reader":
        labels = torch.where(rows["attention_mask"].bool(), 1, -100)
    with torch.no_grad():
        model.get_input_embeddings().weight[WORDS.index("film")] = torch.nan
    with pytest.raises(FloatingPointError, match="the loss of this batch is nan"):
        model.train()(**rows, labels=labels)
    with pytest.raises(FloatingPointError, match="the loss of this batch is nan"):
        trainer_of(model, tokenizer, tmp_path).train()
    # Evaluation goes on, and a scaler of mixed precision may get over a step.
    with caplog.at_level(logging.WARNING, logger="dpt_peft"):
        model.eval()(**rows, labels=labels)
        with torch.autocast("cpu", torch.bfloat16):
            model.train()(**rows, labels=labels)
    assert [record.getMessage().startswith("the loss of this batch is nan") for record in caplog.records] == [True] * 2


@pytest.mark.parametrize("name", WRAPPERS)
def test_a_config_answers_as_the_language_models(load, name, tmp_path):
    model = load(name)
    config, inner = model.config, model.config.language_model_config
    of_every_config = {known.name for known in fields(PreTrainedConfig)}
    names = {known.name for known in fields(inner)} - of_every_config
    assert {
        "vocab_size",
        "hidden_size",
        "num_hidden_layers",
        "num_attention_heads",
        "max_position_embeddings",
    } <= names
    own = {"pad_token_id"} if name != "reader" else set()
    for attribute in names - own:
        assert getattr(config, attribute) == getattr(inner, attribute), attribute
    for attribute in ("is_encoder_decoder", "chunk_size_feed_forward"):
        assert getattr(config, attribute) == getattr(inner, attribute)
    assert not hasattr(config, "no_such_attribute")
    model.resize_token_embeddings(len(WORDS) + 3)
    assert config.vocab_size == len(WORDS) + 3
    assert "vocab_size" not in config.to_dict(), "written once, where it belongs"
    # What PEFT does to see whether embeddings were resized.
    inner.save_pretrained(tmp_path / "plain")
    assert type(config).from_pretrained(tmp_path / "plain").vocab_size == len(WORDS) + 3
    config.save_pretrained(tmp_path / "wrapper")
    assert type(config).from_pretrained(tmp_path / "wrapper").vocab_size == len(WORDS) + 3
    ElectraConfig().save_pretrained(tmp_path / "default")
    assert type(config).from_pretrained(tmp_path / "default").vocab_size == ElectraConfig().vocab_size
