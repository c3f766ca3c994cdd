"""Weights in eight bits a number."""

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForPreTraining, DebertaV2Config, FunnelConfig

from dpt_peft.pretrained_heads.discriminators import get_discriminator
from dpt_peft.pretraining.discriminators import PACKED_WEIGHTS, load_packed, save_packed
from tests.training.tiny import write_discriminator


@pytest.fixture
def model(tmp_path):
    return AutoModelForPreTraining.from_pretrained(write_discriminator(tmp_path / "whole"))


def test_a_number_is_off_by_half_a_step_at_most(tmp_path, model):
    with torch.no_grad():
        model.electra.embeddings.word_embeddings.weight[3] = 0  # a row without a scale
    save_packed(model, tmp_path / "packed")
    loaded = load_packed(tmp_path / "packed")
    assert type(loaded) is type(model)
    assert not loaded.training
    weights = loaded.state_dict()
    assert weights.keys() == model.state_dict().keys()
    for name, weight in model.state_dict().items():
        if weight.dim() == 2 and weight.is_floating_point():
            step = weight.abs().amax(1, keepdim=True) / 127
            assert ((weights[name] - weight).abs() <= 0.5 * step + 1e-7).all(), name
        else:
            torch.testing.assert_close(weights[name], weight, rtol=0, atol=0)


def test_packing_what_was_packed_changes_nothing(tmp_path, model):
    save_packed(model, tmp_path / "once")
    save_packed(load_packed(tmp_path / "once"), tmp_path / "twice")
    once, twice = (load_file(tmp_path / name / PACKED_WEIGHTS) for name in ("once", "twice"))
    for name, weight in once.items():
        torch.testing.assert_close(twice[name], weight)


def test_a_missing_weight_is_an_error(tmp_path, model):
    save_packed(model, tmp_path)
    tensors = load_file(tmp_path / PACKED_WEIGHTS)
    del tensors["discriminator_predictions.dense.weight"]
    save_file(tensors, tmp_path / PACKED_WEIGHTS)
    with pytest.raises(RuntimeError, match=r"discriminator_predictions\.dense\.weight"):
        load_packed(tmp_path)


def test_the_global_random_state_is_left_alone(tmp_path, model):
    save_packed(model, tmp_path)
    before = torch.get_rng_state()
    load_packed(tmp_path)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("kind", [DebertaV2Config, FunnelConfig])
def test_other_discriminators_come_back_as_what_they_were(tmp_path, kind):
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    if kind is FunnelConfig:
        sizes = {"d_model": 16, "n_head": 2, "d_head": 8, "d_inner": 16, "block_sizes": [1, 1]}
    config = kind(vocab_size=20, **sizes)
    model = get_discriminator(config)(config).eval()
    save_packed(model, tmp_path)
    loaded = load_packed(tmp_path)
    assert type(loaded) is type(model)
    rows = torch.randint(20, (2, 8))
    torch.testing.assert_close(loaded(rows).logits, model(rows).logits, atol=0.02, rtol=0.02)
