"""Attention that is followed from the outside gives what attention over prompts and tokens together gives."""

from __future__ import annotations

import copy

import pytest
import torch

from dpt_peft.deep_prompt.attention import InterfaceAttentionLayer
from dpt_peft.deep_prompt.deberta import DebertaV2AttentionLayer
from dpt_peft.deep_prompt.layer import DeepPromptLayer
from dpt_peft.deep_prompt.mixed_batch import RowPlan
from dpt_peft.deep_prompt.own_attention import OwnAttentionLayer
from tests.architectures import make_model
from tests.deep_prompt.test_common import prompt_config


def two_layers(
    kind: type[DeepPromptLayer], module: torch.nn.Module, mixed: bool = False
) -> tuple[DeepPromptLayer, OwnAttentionLayer]:
    """The same prompts around the same module: by its own layer class, and followed from the outside."""
    reference, followed = kind(copy.deepcopy(module), (0,)), OwnAttentionLayer(copy.deepcopy(module), (0,))
    for layer in (reference, followed):
        for name, length in (("a", 5), ("b", 2)):
            torch.manual_seed(length)
            layer.update_layer(name, prompt_config(num_virtual_tokens=length), {0})
        layer.set_adapter(["a", "b"] if mixed else "a")
        layer.eval()
    return reference, followed


@pytest.mark.parametrize("plan", [None, RowPlan(("a", "b"), (1, 2))], ids=["one adapter", "mixed batch"])
def test_same_as_through_the_interface(plan):
    module = make_model("bert", "eager").bert.encoder.layer[0].attention.self
    reference, followed = two_layers(InterfaceAttentionLayer, module, mixed=plan is not None)
    reference.row_plan = followed.row_plan = plan
    hidden = torch.randn(2, 6, 32, requires_grad=True)
    mask = torch.zeros(2, 1, 1, 6)
    mask[1, ..., 4:] = torch.finfo(torch.float32).min
    outputs = [layer(hidden, mask)[0] for layer in (reference, followed)]
    assert torch.allclose(*outputs, atol=1e-6)
    for layer, output in zip((reference, followed), outputs, strict=True):
        output.square().sum().backward()
        layer.input_gradient, hidden.grad = hidden.grad, None
    assert torch.allclose(reference.input_gradient, followed.input_gradient, atol=1e-5)
    for name in ("a",) if plan is None else ("b",):
        for kind in ("deep_prompt_key", "deep_prompt_value"):
            assert torch.allclose(getattr(reference, kind)[name].grad, getattr(followed, kind)[name].grad, atol=1e-5)


@pytest.mark.parametrize("name", ["deberta-v2", "deberta-v2-own-keys", "deberta-v2-no-positions"])
def test_same_as_the_layer_written_for_deberta(name):
    encoder = make_model(name).deberta.encoder
    reference, followed = two_layers(DebertaV2AttentionLayer, encoder.layer[0].attention.self)
    hidden = torch.randn(2, 6, 32)
    mask = torch.ones(2, 1, 6, 6, dtype=torch.bool)
    mask[1, ..., 4:] = False
    positions = {}
    if encoder.relative_attention:
        positions = {"rel_embeddings": encoder.get_rel_embedding(), "relative_pos": encoder.get_rel_pos(hidden)}
    with torch.no_grad():
        assert torch.allclose(
            reference(hidden, mask, **positions)[0], followed(hidden, mask, **positions)[0], atol=1e-6
        )


def test_attention_that_cannot_be_followed_says_so():
    module = make_model("bert", "sdpa").bert.encoder.layer[0].attention.self
    _, followed = two_layers(InterfaceAttentionLayer, module)
    with pytest.raises(RuntimeError, match="could not follow the attention of BertSelfAttention"):
        followed(torch.randn(1, 3, 32))
