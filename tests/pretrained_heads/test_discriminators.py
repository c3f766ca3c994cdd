"""Every discriminator that comes along: its head against hand computation, its checkpoints, and the wrapper on it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import (
    DebertaV2Config,
    DebertaV2ForMaskedLM,
    DebertaV2Model,
    ElectraForPreTraining,
    FunnelConfig,
    FunnelForPreTraining,
)

from dpt_peft import DeepPromptConfig
from dpt_peft.pretrained_heads import DPTForSequenceClassification
from dpt_peft.pretrained_heads.discriminators import get_discriminator, supported_model_types

from .conftest import MAX_LENGTH, WORDS, make_config

LABEL_WORDS = ["bad", "good", "news"]
TEXTS = ["the match ended", "a film", "", "news of technology and business"]


def deberta_config(**changes) -> DebertaV2Config:
    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 32}
    # As the public DeBERTa-v3 checkpoints are configured.
    version_3 = {
        "position_biased_input": False,
        "relative_attention": True,
        "pos_att_type": "p2c|c2p",
        "share_att_key": True,
        "norm_rel_ebd": "layer_norm",
        "position_buckets": 8,
        "type_vocab_size": 0,
    }
    values = {**sizes, **version_3, "max_position_embeddings": MAX_LENGTH, "initializer_range": 0.5}
    return DebertaV2Config(vocab_size=len(WORDS), **{**values, **changes})


def funnel_config() -> FunnelConfig:
    sizes = {"d_model": 16, "n_head": 2, "d_head": 8, "d_inner": 16, "block_sizes": [1, 1], "num_decoder_layers": 1}
    return FunnelConfig(vocab_size=len(WORDS), initializer_range=0.5, **sizes)


CONFIGS = {"electra": make_config, "deberta-v2": deberta_config, "funnel": funnel_config}


@pytest.fixture
def deberta_path(tmp_path: Path, tokenizer) -> Path:
    """A folder with exactly the keys of microsoft/deberta-v3-*, written without the class that reads it."""
    config = deberta_config()
    size = config.hidden_size
    weights = {f"deberta.{name}": values for name, values in DebertaV2Model(config).state_dict().items()}
    for head in ("mask_predictions", "lm_predictions.lm_head"):
        weights |= {f"{head}.dense.weight": torch.randn(size, size), f"{head}.dense.bias": torch.randn(size)}
        weights |= {f"{head}.LayerNorm.weight": torch.randn(size), f"{head}.LayerNorm.bias": torch.randn(size)}
    weights |= {"mask_predictions.classifier.weight": torch.randn(1, size)}
    weights |= {
        "mask_predictions.classifier.bias": torch.randn(1),
        "lm_predictions.lm_head.bias": torch.randn(len(WORDS)),
    }
    config.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    return tmp_path


def deberta_by_hand(weights: dict[str, torch.Tensor], ids: torch.Tensor) -> torch.Tensor:
    """LayerNorm(h + h[CLS]) -> dense -> activation -> 1, in float64."""
    weights = {name: values.double() for name, values in weights.items()}
    backbone = DebertaV2Model(deberta_config()).double().eval()
    backbone.load_state_dict({n.removeprefix("deberta."): v for n, v in weights.items() if n.startswith("deberta.")})
    states = backbone(ids).last_hidden_state
    states = states + states[:, 0].unsqueeze(1)
    mean, variance = states.mean(-1, keepdim=True), states.var(-1, unbiased=False, keepdim=True)
    states = (states - mean) / (variance + 1e-7).sqrt()
    head = {n.removeprefix("mask_predictions."): v for n, v in weights.items() if n.startswith("mask_predictions.")}
    states = states * head["LayerNorm.weight"] + head["LayerNorm.bias"]
    states = states @ head["dense.weight"].T + head["dense.bias"]
    states = states * 0.5 * (1 + torch.erf(states / 2**0.5))
    return (states @ head["classifier.weight"].T + head["classifier.bias"]).squeeze(-1)


def test_deberta_v3_is_loaded_exactly(deberta_path, tokenizer):
    weights = load_file(deberta_path / "model.safetensors")
    model, info = DPTForSequenceClassification.from_pretrained(
        deberta_path, label_words=LABEL_WORDS, dtype=torch.float64, output_loading_info=True
    )
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    for text in TEXTS:
        rows = tokenizer(text, return_tensors="pt")
        spliced = model.splicer(**rows)
        expected = -deberta_by_hand(weights, spliced.input_ids).gather(1, spliced.label_positions)
        torch.testing.assert_close(model(**rows).logits, expected, rtol=0, atol=1e-11)


def test_deberta_v3_is_written_as_it_was_read(deberta_path, tmp_path):
    weights = load_file(deberta_path / "model.safetensors")
    model = DPTForSequenceClassification.from_pretrained(deberta_path, label_words=LABEL_WORDS)
    model.language_model.save_pretrained(tmp_path / "plain")
    written = load_file(tmp_path / "plain" / "model.safetensors")
    assert set(written) == {name for name in weights if not name.startswith("lm_predictions.")}
    assert all(torch.equal(values, weights[name]) for name, values in written.items())


def test_deberta_v2_without_the_head_is_refused(tokenizer, tmp_path):
    DebertaV2ForMaskedLM(deberta_config()).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"no pretrained replaced-token head .*examples/pretrain_discriminator\.py"):
        DPTForSequenceClassification.from_pretrained(tmp_path, label_words=LABEL_WORDS, tokenizer=tokenizer)


@pytest.fixture(params=CONFIGS)
def path(request, tmp_path: Path, tokenizer) -> Path:
    config = CONFIGS[request.param]()
    get_discriminator(config)(config).save_pretrained(tmp_path / "plain")
    tokenizer.save_pretrained(tmp_path / "plain")
    return tmp_path / "plain"


@pytest.fixture
def rows(tokenizer):
    return tokenizer(TEXTS, padding=True, return_tensors="pt")


def test_all_of_them_are_tested_here():
    assert set(supported_model_types()) == set(CONFIGS)


def test_wrapper_saved_and_reloaded(path, rows, tmp_path):
    model = DPTForSequenceClassification.from_pretrained(path, label_words=LABEL_WORDS)
    model.save_pretrained(tmp_path / "wrapper")
    loaded, info = DPTForSequenceClassification.from_pretrained(tmp_path / "wrapper", output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    with torch.no_grad():
        assert torch.equal(loaded(**rows).logits, model(**rows).logits)


def test_training_reaches_the_head(path, rows):
    model = DPTForSequenceClassification.from_pretrained(path, label_words=LABEL_WORDS).train()
    model(**rows, labels=torch.tensor([0, 1, 2, 0])).loss.backward()
    inner = model.language_model
    head = {name: p for name, p in inner.named_parameters() if not name.startswith(f"{inner.base_model_prefix}.")}
    assert head
    assert all(parameter.grad is not None for parameter in head.values())


@pytest.mark.parametrize(
    "config",
    [LoraConfig(task_type="SEQ_CLS", r=2), DeepPromptConfig(task_type="SEQ_CLS", num_virtual_tokens=3)],
    ids=["lora", "deep_prompt"],
)
def test_adapters_leave_the_pretrained_head_alone(path, rows, config):
    if config.peft_type == "LORA" and "funnel" in (path / "config.json").read_text():
        config.target_modules = ["q_head", "v_head"]
    model = get_peft_model(DPTForSequenceClassification.from_pretrained(path, label_words=LABEL_WORDS), config)
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert trained
    assert all("lora_" in name or "deep_prompt_" in name for name in trained)
    model(**rows, labels=torch.tensor([0, 1, 2, 0])).loss.backward()


@pytest.mark.parametrize("name", ["electra", "deberta-v2"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_and_batch_do_not_matter(name, side, tokenizer, tmp_path):
    config = CONFIGS[name]()
    get_discriminator(config)(config).save_pretrained(tmp_path)
    model = DPTForSequenceClassification.from_pretrained(
        tmp_path, label_words=LABEL_WORDS, tokenizer=tokenizer, dtype=torch.float64
    )
    rows = tokenizer(TEXTS, padding="max_length", max_length=20, padding_side=side, return_tensors="pt")
    together = model(**rows).logits
    for index, text in enumerate(TEXTS):
        alone = model(**tokenizer(text, return_tensors="pt")).logits[0]
        torch.testing.assert_close(together[index], alone, rtol=0, atol=1e-11)


def test_classes_are_transformers_own_where_it_has_them():
    assert type(get_discriminator(make_config())(make_config())) is ElectraForPreTraining
    assert type(get_discriminator(funnel_config())(funnel_config())) is FunnelForPreTraining
