"""The function behind the attention interface, against attention computed by hand in float64."""

from __future__ import annotations

import math

import pytest
import torch
from peft import get_peft_model
from torch import nn
from transformers import AttentionInterface, AutoModelForCausalLM, LlamaConfig, StaticCache
from transformers.models.bert.modeling_bert import BertSelfAttention

from dpt_peft import DeepPromptConfig
from dpt_peft._compatibility import config_with_attention
from dpt_peft.deep_prompt.attention.interface import IMPLEMENTATION, InterfaceAttentionLayer, deep_prompt_attention
from dpt_peft.deep_prompt.forward_pass import ForwardPass
from tests.architectures import make_batch, make_config, make_model
from tests.deep_prompt.test_common import bank_of, keys_of, layers_of, logits, prompted, values_of

LENGTH = 3


def by_hand(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, layer: InterfaceAttentionLayer, visible: torch.Tensor
) -> torch.Tensor:
    """softmax(q [P_k; k] / sqrt(d)) [P_v; v], one query at a time; `visible` is (batch, queries, keys)."""
    batch, heads, queries, size = query.shape
    groups = heads // key.shape[1]
    prompt_key = keys_of(layer)[0].double()
    prompt_value = values_of(layer)[0].double()
    output = torch.zeros(batch, queries, heads, size, dtype=torch.float64)
    for b in range(batch):
        for h in range(heads):
            kv = h // groups
            columns = slice(kv * size, (kv + 1) * size)
            for q in range(queries):
                seen = visible[b, q].nonzero().flatten()
                keys = torch.cat([prompt_key[:, columns], key[b, kv, seen].double()])
                values = torch.cat([prompt_value[:, columns], value[b, kv, seen].double()])
                weights = torch.softmax(keys @ query[b, h, q].double() / math.sqrt(size), dim=0)
                output[b, q, h] = weights @ values
    return output


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@pytest.mark.parametrize("kind", ["no mask", "padding", "causal", "causal and padding"])
@pytest.mark.parametrize("name", ["bert", "llama"])
def test_attention_by_hand(name, kind, implementation):
    model = prompted(name, base=make_model(name, implementation), num_virtual_tokens=LENGTH)
    layer = layers_of(model)[0]
    heads, kv_heads = 4, 2 if name == "llama" else 4
    query = torch.randn(2, heads, 6, 8)
    key, value = torch.randn(2, 2, kv_heads, 6, 8).unbind(0)
    visible = torch.ones(2, 6, 6, dtype=torch.bool)
    if "padding" in kind:
        visible[1, :, 4:] = False
    if "causal" in kind:
        visible &= torch.ones(6, 6, dtype=torch.bool).tril()
    mask = None
    if kind != "no mask" and not (kind == "causal" and implementation == "sdpa"):
        mask = visible[:, None]
        if implementation == "eager":
            mask = torch.zeros(mask.shape).masked_fill(~mask, torch.finfo(torch.float32).min)
    output, _ = deep_prompt_attention(
        layer.base_layer, query, key, value, mask, scaling=8**-0.5, dropout=0.0, is_causal="causal" in kind
    )
    assert torch.allclose(output.double(), by_hand(query, key, value, layer, visible), atol=1e-6)


@pytest.mark.parametrize(
    ("change", "shared"),
    [
        ("nothing", True),
        ("mask", False),
        ("no mask", False),
        ("causal", False),
        ("fewer tokens", False),
        ("bias of nothing", False),
        ("other kernel", False),
        ("gradients", False),
    ],
)
def test_a_layer_takes_over_from_the_last_one_only_what_is_the_same(change, shared, monkeypatch):
    model = prompted("bert", base=make_model("bert", "sdpa"), num_virtual_tokens=LENGTH)
    bank, (first, second, *_) = bank_of(model), layers_of(model)
    visible, mask = torch.ones(2, 6, 6, dtype=torch.bool), None
    if change not in ("causal", "other kernel"):
        visible[1, :, 4:] = False
        mask = visible[:, None]
    looked_up = []
    general = ForwardPass.prompts
    monkeypatch.setattr(ForwardPass, "prompts", lambda *args: looked_up.append(1) or general(*args))

    def attend(layer, mask, *states, **further):
        given = {"scaling": 8**-0.5, "dropout": 0.0, "is_causal": False, **further}
        return deep_prompt_attention(layer.base_layer, *states, mask, **given)[0]

    with torch.no_grad():
        bank.begin()
        for layer in (first, second):
            query, key, value = torch.randn(3, 2, 4, 6, 8).unbind(0)
            further = {}
            if layer is second and change == "mask":
                visible = torch.rand(2, 6, 6) > 0.3
                mask = visible[:, None]
            if layer is second and change == "no mask":
                visible, mask = torch.ones_like(visible), None
            if layer is second and change == "causal":
                visible = visible.tril()
                further = {"is_causal": True}
            if layer is second and change == "fewer tokens":
                query, key, value, visible = query[:, :, :5], key[:, :, :5], value[:, :, :5], visible[:, :5, :5]
                mask = visible[:, None]
            if layer is second and change == "bias of nothing":
                further = {"position_bias": torch.zeros(1, 4, 6, 6)}
            if layer is second and change == "other kernel":
                second.base_config = config_with_attention(second.base_config, "eager")
            with torch.set_grad_enabled(layer is second and change == "gradients"):
                output = attend(layer, mask, query, key, value, **further)
            assert torch.allclose(output.double(), by_hand(query, key, value, layer, visible), atol=1e-6)
        bank.end()
    assert (len(looked_up) == 1) is shared


@pytest.mark.parametrize("layers", [4, 8])
def test_what_can_be_taken_over_is_noted_once_in_a_pass(layers, monkeypatch):
    """ModernBERT's masks take turns, so that no layer is given what the last one was."""
    made = []
    one = ForwardPass._prompts
    monkeypatch.setattr(ForwardPass, "_prompts", lambda *args: made.append(1) or one(*args))
    base = make_model("modernbert", "sdpa", num_hidden_layers=layers, global_attn_every_n_layers=2)
    logits(prompted("modernbert", base=base), "modernbert")
    assert len(made) == 2 * layers  # each layer's own, and once those of all


def test_nothing_is_noted_for_a_cache():
    """What a layer with a cache is given is never taken over."""
    model = prompted("llama", base=make_model("llama", "sdpa"))
    noted = []
    for layer in layers_of(model):
        layer.register_forward_hook(lambda *_: noted.append(bank_of(model).current.last))
    model.get_base_model().config.use_cache = True
    logits(model, "llama", past_key_values=StaticCache(config=model.get_base_model().config, max_cache_len=16))
    assert noted == [None] * len(noted)
    assert noted


def test_nothing_is_left_of_the_last_layer_when_a_pass_is_over():
    model = prompted("bert")
    logits(model, "bert")
    assert bank_of(model).current is None
    kept = model(**make_batch("bert").asdict()).logits
    assert bank_of(model).current.last is None
    assert kept.requires_grad


def test_position_bias_is_zero_over_prompt_columns():
    model = prompted("bert", base=make_model("bert", "sdpa"), num_virtual_tokens=LENGTH)
    layer = layers_of(model)[0]
    query, key, value = torch.randn(3, 2, 4, 6, 8).unbind(0)
    bias = torch.randn(1, 4, 6, 6)
    output, _ = deep_prompt_attention(
        layer.base_layer, query, key, value, None, scaling=1.0, position_bias=bias, is_causal=False
    )
    prompt_key = keys_of(layer)[0].reshape(LENGTH, 4, 8).transpose(0, 1).expand(2, -1, -1, -1)
    prompt_value = values_of(layer)[0].reshape(LENGTH, 4, 8).transpose(0, 1).expand(2, -1, -1, -1)
    scores = torch.cat([query @ prompt_key.mT, query @ key.mT + bias], dim=-1).double()
    expected = torch.softmax(scores, -1) @ torch.cat([prompt_value, value], dim=2).double()
    assert torch.allclose(output.double(), expected.transpose(1, 2), atol=1e-6)


def test_position_bias_is_cut_with_the_empty_end_of_a_static_cache():
    model = prompted("llama", base=make_model("llama", "sdpa"), num_virtual_tokens=LENGTH)
    layer = layers_of(model)[0]
    query, key, value = torch.randn(1, 4, 6, 8), *torch.randn(2, 1, 2, 6, 8).unbind(0)
    bias = torch.randn(1, 4, 6, 6)
    empty = [nn.functional.pad(t, (0, 0, 0, 10)) for t in (key, value)]
    outputs = [
        deep_prompt_attention(layer.base_layer, query, *kv, None, scaling=1.0, position_bias=b, is_causal=True)[0]
        for kv, b in (((key, value), bias), (empty, nn.functional.pad(bias, (0, 10))))
    ]
    assert torch.allclose(*outputs, atol=1e-6)


def test_masks_that_are_no_tensors_are_refused_with_the_way_out():
    layer = layers_of(prompted("bert"))[0]
    query = torch.randn(2, 4, 6, 8)
    with pytest.raises(NotImplementedError, match="set_attn_implementation"):
        deep_prompt_attention(layer.base_layer, query, query, query, object())


def test_the_kernel_follows_the_backbones_setting():
    model = prompted("bert", base=make_model("bert", "sdpa"))
    batch = make_batch("bert").asdict()
    before = logits(model, "bert")
    model.base_model.model.set_attn_implementation("eager")
    with torch.no_grad():
        output = model(**batch, output_attentions=True)
    assert torch.allclose(output.logits, before, atol=1e-5)
    assert [a.shape[-1] for a in output.attentions] == [5 + 7] * 3
    assert torch.allclose(output.attentions[0].sum(-1), torch.ones(()), atol=1e-5)


@pytest.mark.parametrize("name", ["distilbert", "deberta-v2"])
def test_attention_weights_are_returned_over_prompts_and_tokens(name):
    base = make_model(name) if name.startswith("deberta") else make_model(name, "eager")
    model = prompted(name, base=base)
    with torch.no_grad():
        attentions = model(**make_batch(name).asdict(), output_attentions=True).attentions
    assert [tuple(a.shape) for a in attentions] == [(2, 4, 7, 5 + 7)] * 3


def test_generation_with_a_cache_equals_generation_without():
    torch.manual_seed(0)
    config = LlamaConfig(**make_config("llama").to_dict())
    model = get_peft_model(
        AutoModelForCausalLM.from_config(config), DeepPromptConfig(task_type="CAUSAL_LM", init_std=0.5)
    ).eval()
    batch = make_batch("llama", padding_side="left").asdict()
    kwargs = {"max_new_tokens": 6, "do_sample": False, "eos_token_id": None}
    expected = model.generate(**batch, **kwargs, use_cache=False)
    assert torch.equal(model.generate(**batch, **kwargs), expected)
    assert torch.equal(model.generate(**batch, **kwargs, cache_implementation="static"), expected)
    with model.disable_adapter():
        assert not torch.equal(model.generate(**batch, **kwargs), expected)


def test_private_names_of_transformers_that_the_interface_layer_touches():
    """If one of these fails after an upgrade, `dpt_peft/_compatibility.py` has to follow it."""
    config = make_config("bert")
    config._attn_implementation = "sdpa"
    assert config._attn_implementation_internal == "sdpa"
    config._attn_implementation_internal = IMPLEMENTATION
    assert config._attn_implementation == IMPLEMENTATION
    assert "_attn_implementation_internal" not in config.to_dict()
    attention = BertSelfAttention(config)
    assert InterfaceAttentionLayer.supports(attention)
    assert not InterfaceAttentionLayer.supports(torch.nn.Linear(2, 2))
    assert AttentionInterface()[IMPLEMENTATION] is deep_prompt_attention
