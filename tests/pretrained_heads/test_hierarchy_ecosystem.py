"""Loading, saving, Trainer, pipeline and PEFT on the tree classifier."""

from __future__ import annotations

import json

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
    pipeline,
)

from dpt_peft import DeepPromptConfig
from dpt_peft.pretrained_heads import DPTForHierarchicalClassification, DPTForSequenceClassification, LabelTree

from .conftest import split

TREE = LabelTree.from_nested(
    {"sports": ["match", "goal"], "world": {"news": ["film", "bank"]}}, label_words={"match": "game"}
)
TEXTS = ["the match ended", "a film", "", "news of technology and business"]


@pytest.fixture
def load(discriminator_path):
    def load(label_tree=TREE, **kwargs) -> DPTForHierarchicalClassification:
        return DPTForHierarchicalClassification.from_pretrained(discriminator_path, label_tree=label_tree, **kwargs)

    return load


@pytest.fixture
def rows(tokenizer):
    return tokenizer(TEXTS, padding=True, return_tensors="pt")


@pytest.fixture
def trainer(tokenizer, tmp_path):
    def make(model, **kwargs) -> Trainer:
        data = Dataset.from_dict({"text": TEXTS * 2, "labels": [0, 1, 2, 3] * 2})
        data = data.map(lambda row: tokenizer(row["text"], truncation=True))
        arguments = {"per_device_train_batch_size": 2, "learning_rate": 2e-3, "max_steps": 20, "seed": 0} | kwargs
        return Trainer(
            model,
            TrainingArguments(
                str(tmp_path / "trainer"),
                report_to=[],
                use_cpu=True,
                disable_tqdm=True,
                save_strategy="no",
                **arguments,
            ),
            train_dataset=data,
            eval_dataset=data,
            processing_class=tokenizer,
            data_collator=DataCollatorWithPadding(tokenizer),
            compute_metrics=lambda p: {"accuracy": float((p.predictions.argmax(-1) == p.label_ids).mean())},
        )

    return make


def test_saved_and_loaded_again(load, rows, tokenizer, tmp_path):
    model = load(beam_width=1, beam_threshold=0.25, path_score="softmax", template="topic {labels}: {text}")
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    for loaded in (
        DPTForHierarchicalClassification.from_pretrained(tmp_path),
        AutoModelForSequenceClassification.from_pretrained(tmp_path),
    ):
        assert type(loaded) is DPTForHierarchicalClassification
        assert torch.equal(loaded(**rows).logits, model(**rows).logits)
    config = AutoConfig.from_pretrained(tmp_path)
    assert config.tree == TREE
    assert (config.beam_width, config.beam_threshold, config.path_score) == (1, 0.25, "softmax")
    assert json.loads((tmp_path / "config.json").read_text())["label_tree"]["classes"] == list(TREE.classes)
    assert not [name for name in model.state_dict() if not name.startswith("language_model.")]

    wide = AutoModelForSequenceClassification.from_pretrained(tmp_path, beam_width=2)
    assert wide.config.beam_width == 2
    assert wide.config.template == "topic {labels}: {text}"
    other = DPTForHierarchicalClassification.from_pretrained(
        tmp_path, label_tree={"rose": ["good", "bad"], "sad": None}
    )
    assert other.config.tree.classes == ("good", "bad", "sad")
    assert other.config.template == "topic {labels}: {text}"
    assert other.config.id2label == {0: "good", 1: "bad", 2: "sad"}
    assert other(**rows).logits.shape == (4, 3)


def test_a_flat_wrapper_can_get_a_tree(discriminator_path, tokenizer, rows, tmp_path, load):
    flat = DPTForSequenceClassification.from_pretrained(discriminator_path, label_words=["good", "bad"])
    flat.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    model = DPTForHierarchicalClassification.from_pretrained(tmp_path, label_tree=TREE)
    assert torch.equal(model(**rows).logits, load()(**rows).logits)


def test_a_tree_of_label_words(discriminator_path, rows):
    words = split("world sports business film news bank rose goal game match good bad sad very technology topic ended")
    model = DPTForHierarchicalClassification.from_pretrained(discriminator_path, label_words=words)
    assert model.config.tree == LabelTree.from_label_words(words, discriminator_path)
    assert model.config.tree.depth == 2
    assert model(**rows).logits.shape == (4, len(words))


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"label_tree": None}, "`label_tree` is missing"),
        ({"label_words": ["a", "b"]}, "give `label_tree`, or `label_words`"),
        (
            {"label_tree": {"sports": ["bad", "badly"], "world": None}, "wordpieces": "first"},
            "below sports of the label tree: .*same token",
        ),
        ({"beam_width": 0}, "`beam_width` must be a whole number from 1"),
        ({"beam_threshold": 1.5}, "`beam_threshold` must be between 0 and 1"),
        ({"wordpieces": "last"}, "`wordpieces` must be one of"),
        ({"path_score": "sum"}, "`path_score` must be one of"),
        ({"problem_type": "multi_label_classification"}, "a text has one path"),
        ({"id2label": {0: "a"}}, "`id2label` says 1 classes, but there are 4 classes in the label tree"),
        ({"max_length": 8}, "no room for the text"),
    ],
)
def test_refusals(load, kwargs, message):
    with pytest.raises(ValueError, match=message):
        load(**kwargs)


def test_trainer(load, trainer, rows, tmp_path):
    # Dropout is noise that a model this small does not get over in a few steps.
    model = load(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    run = trainer(model)
    before = run.evaluate()
    run.train()
    after = run.evaluate()
    assert after["eval_loss"] < before["eval_loss"]
    assert "eval_accuracy" in after
    assert run.predict(run.eval_dataset).predictions.shape == (8, 4)
    run.save_model(tmp_path / "saved")
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path / "saved")
    assert torch.equal(loaded(**rows).logits, model.eval()(**rows).logits)


def test_gradient_accumulation_gives_the_gradient_of_the_whole_batch(load, trainer):
    weights = []
    for batch, steps in ((8, 1), (2, 4)):
        model = load(dtype=torch.float64, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
        trainer(
            model,
            max_steps=1,
            per_device_train_batch_size=batch,
            gradient_accumulation_steps=steps,
            optim="sgd",
            max_grad_norm=0.0,
        ).train()
        weights.append(model.get_input_embeddings().weight.detach())
    torch.testing.assert_close(weights[0], weights[1], rtol=0, atol=1e-10)


def test_pipeline(load, tokenizer, tmp_path):
    model = load(beam_width=1)
    logits = model(**tokenizer("a film", return_tensors="pt")).logits[0].detach()
    classify = pipeline("text-classification", model=model, tokenizer=tokenizer)
    assert classify("a film")[0]["label"] == TREE.classes[int(logits.argmax())]
    scores = {row["label"]: row["score"] for row in classify("a film", top_k=None, function_to_apply="sigmoid")}
    assert scores == pytest.approx(dict(zip(TREE.classes, logits.sigmoid().tolist(), strict=True)))
    assert len(classify(TEXTS, batch_size=2)) == len(TEXTS)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    assert pipeline("text-classification", model=str(tmp_path))("a film") == classify("a film")


@pytest.mark.parametrize(
    "config",
    [
        LoraConfig(task_type="SEQ_CLS", r=2),
        DeepPromptConfig(task_type="SEQ_CLS", num_virtual_tokens=3),
    ],
    ids=["lora", "deep prompts"],
)
def test_adapters(load, trainer, rows, tmp_path, config):
    untouched = load()(**rows).logits
    model = get_peft_model(load(), config)
    frozen = {n: p.detach().clone() for n, p in model.named_parameters() if not p.requires_grad}
    trainer(model, max_steps=3).train()
    for name, values in frozen.items():
        assert torch.equal(model.get_parameter(name), values)
    model.eval()
    trained = model(**rows).logits
    assert not torch.equal(trained, untouched)
    with model.disable_adapter():
        assert torch.equal(model(**rows).logits, untouched)
    model.save_pretrained(tmp_path)
    assert torch.equal(PeftModel.from_pretrained(load(), tmp_path)(**rows).logits, trained)


def test_checkpointing_gives_the_same_gradients(load, rows):
    gradients = []
    for checkpointing in (False, True):
        model = load(dtype=torch.float64, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0).train()
        if checkpointing:
            model.gradient_checkpointing_enable()
        model(**rows, labels=torch.tensor([0, 1, 2, 3])).loss.backward()
        gradients.append(model.get_input_embeddings().weight.grad)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=0, atol=1e-12)


@pytest.mark.parametrize("config", [DeepPromptConfig, LoraConfig])
def test_rows_with_adapters_of_their_own_are_refused(load, rows, config):
    options = {"r": 2} if config is LoraConfig else {"num_virtual_tokens": 2}
    model = get_peft_model(load(), config(task_type="SEQ_CLS", **options), adapter_name="a")
    model.add_adapter("b", config(task_type="SEQ_CLS", **options))
    model.eval()
    texts = {name: values for name, values in rows.items() if name != "labels"}
    count = len(texts["input_ids"])
    model.set_adapter("b")
    with torch.no_grad():
        expected = model(**texts).logits
        for names in (["a", *["b"] * (count - 1)], ["b"] * count):
            with pytest.raises(ValueError, match="`adapter_names`: a label tree"):
                model(**texts, adapter_names=names)
        assert torch.equal(model(**texts).logits, expected)  # nothing of it is left


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("path_score", "softmaxx"),
        ("beam_width", 0),
        ("beam_threshold", 7),
        ("label_smoothing", 1.5),
        ("wordpieces", 1),
    ],
)
def test_settings_of_a_finished_config_are_checked(load, name, value):
    config = load().config
    with pytest.raises(ValueError, match=f"`{name}` must be"):
        setattr(config, name, value)
    config.beam_width, config.beam_threshold, config.path_score = None, 0.5, "softmax"
