"""Gated prompts: zero-initialised attention, as in LLaMA-Adapter."""

from __future__ import annotations

import math

import pytest
import torch
from peft import AdaptionPromptConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, LiltConfig

from dpt_peft import DeepPromptConfig
from dpt_peft.deep_prompt.attention.interface import deep_prompt_attention
from tests.architectures import CONFIGS, make_batch, make_config, make_model
from tests.deep_prompt.test_common import (
    bank_of,
    every_encoder_once,
    keys_of,
    layers_of,
    logits,
    prompt_config,
    prompted,
    values_of,
)

every_architecture = pytest.mark.parametrize("name", CONFIGS)
GATE = 0.7


def open_gates(model: torch.nn.Module, gate: float = GATE) -> torch.nn.Module:
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if "deep_prompt_gate" in key:
                parameter.fill_(gate)
    return model


@every_encoder_once
def test_training_starts_at_the_base_model_and_moves_the_gates_first(name, encoder):
    expected = logits(make_model(name), name)
    model = prompted(name, encoder, use_gate=True)
    assert torch.allclose(logits(model, name), expected, atol=1e-6)
    model(**make_batch(name).asdict(), labels=torch.tensor([0, 1])).loss.backward()
    assert (bank_of(model).deep_prompt_gate["default"].grad.abs() > 0).all()
    assert (logits(open_gates(model), name) - expected).abs().max() > 1e-5
    with model.disable_adapter():
        assert torch.equal(logits(model, name), expected)


@every_encoder_once
def test_gates_are_saved_loaded_and_kept_by_folding(name, encoder, tmp_path):
    model = open_gates(prompted(name, encoder, use_gate=True))
    expected = logits(model, name)
    if encoder == "mlp":
        model.fold_encoder()
        assert torch.equal(logits(model, name), expected)
    model.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(make_model(name), tmp_path).eval()
    assert torch.equal(logits(loaded, name), expected)


@every_architecture
def test_rows_with_and_without_gates_in_one_batch(name):
    model = prompted(name, num_virtual_tokens=2)
    model.add_adapter("gated", prompt_config(num_virtual_tokens=4, use_gate=True))
    model.add_adapter("other", prompt_config(num_virtual_tokens=3, use_gate=True, layers_to_transform="last 1"))
    open_gates(model)
    names = ["gated", "__base__", "default", "other"]
    batch = {key: value[:1].repeat(4, 1) for key, value in make_batch(name).asdict().items()}
    with torch.no_grad():
        mixed = model(**batch, adapter_names=names).logits
        for row, adapter in enumerate(names):
            alone = model(**{key: value[:1] for key, value in batch.items()}, adapter_names=[adapter]).logits
            assert torch.allclose(mixed[row], alone[0], atol=1e-5), adapter
        model.set_adapter("gated")
        assert torch.allclose(mixed[0], logits(model, name)[0], atol=1e-5)


def by_hand(query: torch.Tensor, layer: torch.nn.Module) -> torch.Tensor:
    """gate * softmax(q P_k / sqrt(d)) P_v for every head, in float64; queries (batch, heads, queries, size)."""
    batch, heads, queries, size = query.shape
    key = keys_of(layer)[0].double()
    value = values_of(layer)[0].double()
    groups = heads // (key.shape[-1] // size)
    output = torch.zeros(batch, queries, heads, size, dtype=torch.float64)
    for head in range(heads):
        columns = slice(head // groups * size, (head // groups + 1) * size)
        weights = torch.softmax(query[:, head].double() @ key[:, columns].T / math.sqrt(size), dim=-1)
        output[:, :, head] = GATE * weights @ value[:, columns]
    return output


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@pytest.mark.parametrize("name", ["bert", "llama"])
def test_the_gated_context_by_hand(name, implementation):
    model = open_gates(prompted(name, base=make_model(name, implementation), use_gate=True))
    layer = layers_of(model)[0]
    query = torch.randn(2, 4, 6, 8)
    key, value = torch.randn(2, 2, 4 if name == "bert" else 2, 6, 8).unbind(0)
    mask = torch.ones(2, 1, 6, 6, dtype=torch.bool).tril()
    if implementation == "eager":
        mask = torch.zeros(mask.shape).masked_fill(~mask, torch.finfo(torch.float32).min)
    arguments = {"scaling": 8**-0.5, "dropout": 0.0}
    output, _ = deep_prompt_attention(layer.base_layer, query, key, value, mask, **arguments)
    _, kernel = layer.kernel()
    tokens, _ = kernel(layer.base_layer, query, key, value, mask, **arguments)
    assert torch.allclose(output.double(), tokens + by_hand(query, layer), atol=1e-6)


@pytest.mark.parametrize("name", ["deberta-v2-no-positions", "mpnet"])
def test_own_attention_adds_the_same_context(name):
    """Modules that compute attention themselves, against their own output without prompts."""
    model = open_gates(prompted(name, use_gate=True))
    layer = layers_of(model)[0]
    hidden = torch.randn(2, 6, 32)
    base = layer.base_layer
    arguments = (hidden, torch.ones(2, 1, 6, 6)) if name.startswith("deberta") else (hidden,)
    with torch.no_grad():
        project = base.query_proj if name.startswith("deberta") else base.q
        query = project(hidden).view(2, 6, 4, 8).transpose(1, 2)
        added = by_hand(query, layer).flatten(2).float()
        if name == "mpnet":
            # the module ends in its output projection
            added = base.o(added) - base.o(torch.zeros_like(added))
        assert torch.allclose(layer(*arguments)[0], base(*arguments)[0] + added, atol=1e-5)


def test_same_output_as_pefts_adaption_prompts():
    def causal_lm() -> torch.nn.Module:
        torch.manual_seed(0)
        return AutoModelForCausalLM.from_config(make_config("llama", num_key_value_heads=4)).eval()

    adaption = get_peft_model(
        causal_lm(), AdaptionPromptConfig(task_type="CAUSAL_LM", adapter_len=5, adapter_layers=3)
    ).eval()
    config = DeepPromptConfig(task_type="CAUSAL_LM", num_virtual_tokens=5, use_gate=True)
    deep = get_peft_model(causal_lm(), config).eval()
    open_gates(deep)
    theirs = [module for module in adaption.modules() if hasattr(module, "adaption_prompt")]
    with torch.no_grad():
        for ours, peer in zip(layers_of(deep), theirs, strict=True):
            peer.adaption_gate.fill_(GATE)
            keys_of(ours).copy_(peer.model.k_proj(peer.adaption_prompt))
            values_of(ours).copy_(peer.model.v_proj(peer.adaption_prompt))
        input_ids = make_batch("llama").input_ids[:1]
        expected = adaption(input_ids=input_ids).logits
        assert torch.allclose(deep(input_ids=input_ids).logits, expected, atol=1e-5)
        assert not torch.allclose(causal_lm()(input_ids=input_ids).logits, expected, atol=1e-3)


def test_two_active_gated_adapters_add_up():
    base = make_model("bert").base_model
    model = prompted("bert", base=base, use_gate=True, task_type="FEATURE_EXTRACTION")
    model.add_adapter("other", prompt_config(use_gate=True, task_type="FEATURE_EXTRACTION"))
    open_gates(model)
    layer = layers_of(model)[0]
    query = torch.randn(2, 4, 6, 8)
    parts = []
    for adapter in ("default", "other"):
        model.set_adapter(adapter)
        parts.append(layer.add_gated(torch.zeros(2, 6, 4, 8), query, 1.0))
    model.base_model.set_adapter(["default", "other"])
    assert torch.allclose(layer.add_gated(torch.zeros(2, 6, 4, 8), query, 1.0), parts[0] + parts[1])


def test_attention_with_two_streams_has_no_gates():
    config = LiltConfig(vocab_size=50, hidden_size=32, num_hidden_layers=1, num_attention_heads=4, intermediate_size=8)
    with pytest.raises(ValueError, match="use_gate.*attention.self"):
        get_peft_model(AutoModelForSequenceClassification.from_config(config), prompt_config(use_gate=True))


def test_combining_gated_adapters():
    model = prompted("bert", use_gate=True)
    model.add_adapter("b", prompt_config(use_gate=True))
    open_gates(model)
    model.add_weighted_adapter(["default", "b"], [0.5, 0.25], "mean")
    assert torch.allclose(bank_of(model).deep_prompt_gate["mean"], torch.tensor(0.75 * GATE))
    with pytest.raises(ValueError, match="combination_type.*gated"):
        model.add_weighted_adapter(["default", "b"], [1, 1], "row", combination_type="cat")
    model.add_adapter("open", prompt_config())
    with pytest.raises(ValueError, match="same `use_gate`"):
        model.add_weighted_adapter(["default", "open"], [1, 1], "c")
