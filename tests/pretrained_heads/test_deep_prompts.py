"""Two papers in one: deep prompts on the DPT wrapper, a frozen discriminator and no new head."""

from __future__ import annotations

import pytest
import torch
from peft import PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import DataCollatorWithPadding, Trainer, TrainingArguments

from dpt_peft import DeepPromptConfig, DPTForSequenceClassification

LABEL_WORDS = ["negative", "positive", "sports"]
TEXTS = ["a good film", "a bad film of the news", "the game ended"]


@pytest.fixture
def wrapper(discriminator_path):
    return DPTForSequenceClassification.from_pretrained(discriminator_path, label_words=LABEL_WORDS)


def prompts(**values) -> DeepPromptConfig:
    return DeepPromptConfig(task_type="SEQ_CLS", **{"num_virtual_tokens": 4, "init_std": 0.5} | values)


def logits(model, batch, **kwargs):
    with torch.no_grad():
        return model.eval()(**batch, **kwargs).logits


def test_nothing_but_prompts_is_trained_or_saved(wrapper, tokenizer, tmp_path):
    batch = tokenizer(TEXTS, padding=True, return_tensors="pt")
    expected = logits(wrapper, batch)
    model = get_peft_model(wrapper, prompts())
    changed = logits(model, batch)
    assert not torch.allclose(changed, expected, atol=1e-3)
    with model.disable_adapter():
        assert torch.equal(logits(model, batch), expected)
    trainable = {key for key, parameter in model.named_parameters() if parameter.requires_grad}
    assert trainable
    assert all("deep_prompt_" in key for key in trainable)
    model.save_pretrained(tmp_path)
    saved = load_file(tmp_path / "adapter_model.safetensors")
    assert sum(tensor.numel() for tensor in saved.values()) == 2 * 2 * 4 * 24
    assert torch.equal(logits(model.unload(), batch), expected)


def test_the_adapter_loads_around_a_fresh_wrapper(wrapper, tokenizer, discriminator_path, tmp_path):
    batch = tokenizer(TEXTS, padding=True, return_tensors="pt")
    model = get_peft_model(wrapper, prompts(encoder_reparameterization="mlp", encoder_hidden_size=8))
    expected = logits(model, batch)
    model.save_pretrained(tmp_path)
    fresh = DPTForSequenceClassification.from_pretrained(discriminator_path, label_words=LABEL_WORDS)
    assert torch.equal(logits(PeftModel.from_pretrained(fresh, tmp_path), batch), expected)


def test_trainer_lowers_the_loss_with_a_frozen_discriminator(discriminator_path, tokenizer, tmp_path):
    # the wide random discriminator is noisy enough without dropout
    wrapper = DPTForSequenceClassification.from_pretrained(
        discriminator_path, label_words=LABEL_WORDS, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0
    )
    model = get_peft_model(wrapper, prompts(num_virtual_tokens=8))
    before = {key: value.clone() for key, value in model.state_dict().items() if "deep_prompt_" not in key}
    rows = [tokenizer(text) | {"label": label} for label, text in enumerate(TEXTS)] * 4
    arguments = TrainingArguments(
        tmp_path, num_train_epochs=30, learning_rate=3e-2, per_device_train_batch_size=12, report_to="none", seed=0
    )
    trainer = Trainer(model, arguments, train_dataset=rows, data_collator=DataCollatorWithPadding(tokenizer))
    loss_before = trainer.evaluate(rows[:3])["eval_loss"]
    trainer.train()
    assert trainer.evaluate(rows[:3])["eval_loss"] < 0.8 * loss_before
    assert all(torch.equal(model.state_dict()[key], value) for key, value in before.items())


def test_one_adapter_per_row(wrapper, tokenizer):
    model = get_peft_model(wrapper, prompts())
    model.add_adapter("other", prompts(num_virtual_tokens=2))
    batch = tokenizer(TEXTS, padding=True, return_tensors="pt")
    mixed = logits(model, batch, adapter_names=["other", "__base__", "default"])
    model.set_adapter("other")
    other = logits(model, batch)
    model.set_adapter("default")
    default = logits(model, batch)
    with model.disable_adapter():
        base = logits(model, batch)
    assert torch.allclose(mixed, torch.stack([other[0], base[1], default[2]]), atol=1e-5)
