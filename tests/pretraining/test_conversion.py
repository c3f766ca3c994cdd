"""An encoder inside ElectraForPreTraining computes what it did before."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoConfig, AutoModel, AutoModelForMaskedLM, ElectraForPreTraining

from dpt_peft.pretraining.discriminators import discriminator_from_encoder
from tests.pretrained_heads.conftest import make_config

SIZES = {
    "vocab_size": 60,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 32,
    "max_position_embeddings": 40,
    "initializer_range": 0.3,
    "pad_token_id": 1,
}


@pytest.mark.parametrize("model_type", ["bert", "roberta", "xlm-roberta", "camembert"])
def test_hidden_states_are_the_encoders(tmp_path, model_type):
    # saved with a masked-language-model head, as on the Hub
    AutoModelForMaskedLM.from_config(AutoConfig.for_model(model_type, **SIZES)).save_pretrained(tmp_path)
    encoder = AutoModel.from_pretrained(tmp_path).eval()
    discriminator = discriminator_from_encoder(tmp_path)
    input_ids = torch.randint(2, 60, (2, 9))
    mask = torch.ones_like(input_ids)
    input_ids[1, 6:], mask[1, 6:] = 1, 0
    expected = encoder(input_ids=input_ids, attention_mask=mask).last_hidden_state
    found = discriminator.electra(input_ids=input_ids, attention_mask=mask).last_hidden_state
    torch.testing.assert_close(found[mask.bool()], expected[mask.bool()], atol=1e-6, rtol=1e-5)
    assert not discriminator.training


def test_a_discriminator_stays_what_it_is(tmp_path):
    original = ElectraForPreTraining(make_config()).eval()
    original.save_pretrained(tmp_path)
    found = discriminator_from_encoder(tmp_path, dropout=0.0)
    input_ids = torch.randint(5, 30, (2, 9))
    torch.testing.assert_close(found(input_ids=input_ids).logits, original(input_ids=input_ids).logits)
    assert found.config.hidden_dropout_prob == found.config.attention_probs_dropout_prob == 0.0


def test_half_precision_is_widened(tmp_path):
    ElectraForPreTraining(make_config()).half().save_pretrained(tmp_path)
    assert {p.dtype for p in discriminator_from_encoder(tmp_path).parameters()} == {torch.float32}


def test_the_new_head_is_seeded_and_dropout_is_set(tmp_path):
    AutoModel.from_config(AutoConfig.for_model("bert", **SIZES)).save_pretrained(tmp_path)
    state = torch.get_rng_state()
    heads = [discriminator_from_encoder(tmp_path, seed=seed).discriminator_predictions for seed in (1, 1, 2)]
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(heads[0].dense.weight, heads[1].dense.weight)
    assert not torch.equal(heads[0].dense.weight, heads[2].dense.weight)
    assert discriminator_from_encoder(tmp_path).config.hidden_dropout_prob == 0.1
    assert discriminator_from_encoder(tmp_path, dropout=0.3).config.hidden_dropout_prob == 0.3


def test_no_report_is_printed(tmp_path, capfd):
    AutoModelForMaskedLM.from_config(AutoConfig.for_model("bert", **SIZES)).save_pretrained(tmp_path)
    capfd.readouterr()
    discriminator_from_encoder(tmp_path)
    assert "LOAD REPORT" not in "".join(capfd.readouterr())


def test_other_models_are_refused_by_name(tmp_path):
    config = AutoConfig.for_model("distilbert", vocab_size=30, dim=16, n_layers=1, n_heads=2, hidden_dim=16)
    AutoModel.from_config(config).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"'distilbert'.*bert, roberta"):
        discriminator_from_encoder(tmp_path)
