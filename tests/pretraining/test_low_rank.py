"""Low-rank training: nothing but the adapter learns, and it is a plain PEFT adapter on disk."""

from __future__ import annotations

import pytest
import torch
from peft import PeftModel
from transformers import ElectraConfig, ElectraForPreTraining

from dpt_peft._compatibility import quiet_peft
from dpt_peft.pretraining.discriminators import low_rank_discriminator

SIZES = {
    "vocab_size": 300,
    "embedding_size": 16,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 20,
}


def make(seed: int, **changes) -> ElectraForPreTraining:
    torch.manual_seed(seed)
    model = ElectraForPreTraining(ElectraConfig(**{**SIZES, **changes})).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # biases and LayerNorms start alike: make everything differ
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


@pytest.fixture
def input_ids() -> torch.Tensor:
    return torch.randint(300, (3, 12))


def test_nothing_changes_before_training(input_ids):
    expected = make(0)(input_ids=input_ids).logits
    assert torch.equal(low_rank_discriminator(make(0), rank=2).eval()(input_ids=input_ids).logits, expected)


def test_adapter_on_disk_is_plain_peft(tmp_path, input_ids):
    model = low_rank_discriminator(make(0), rank=3).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(tmp_path)
    with quiet_peft():
        loaded = PeftModel.from_pretrained(make(0), tmp_path).eval()
    assert torch.equal(loaded(input_ids=input_ids).logits, model(input_ids=input_ids).logits)


def test_only_the_adapter_learns(input_ids):
    model = low_rank_discriminator(make(0), rank=3)
    learning = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    frozen = {name for name, _ in model.named_parameters()} - learning
    assert all("lora_" in name or "modules_to_save" in name or name.endswith("bias") for name in learning)
    assert all("base_layer.weight" in name or "original_module" in name for name in frozen)


def test_bad_input():
    with pytest.raises(ValueError, match="rank=0"):
        low_rank_discriminator(make(0), rank=0)
