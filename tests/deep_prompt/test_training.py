"""The training stack: checkpointing, compilation, mixed precision."""

from __future__ import annotations

import pytest
import torch
from torch._dynamo.testing import CompileCounter

from dpt_peft.deep_prompt.own_attention import OwnAttentionLayer
from tests.architectures import CONFIGS, make_batch, make_model
from tests.deep_prompt.test_common import layers_of, logits, prompted


def gradients(model: torch.nn.Module, name: str) -> dict[str, torch.Tensor]:
    # the backbone's own dropout off: two runs have to agree
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    model.train()
    model.zero_grad()
    model(**make_batch(name).asdict(), labels=torch.tensor([0, 1])).loss.backward()
    return {key: p.grad.clone() for key, p in model.named_parameters() if p.requires_grad}


def assert_same(ours: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert ours.keys() == expected.keys()
    for key, gradient in expected.items():
        assert torch.allclose(ours[key], gradient, atol=1e-6), key


@pytest.mark.parametrize("name", [name for name in CONFIGS if make_model(name).supports_gradient_checkpointing])
@pytest.mark.parametrize("use_reentrant", [True, False])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("encoder", ["none", "mlp"])
def test_gradient_checkpointing_gives_the_same_gradients(name, use_reentrant, when, encoder):
    expected = gradients(prompted(name, encoder), name)
    base = make_model(name)
    kwargs = {"gradient_checkpointing_kwargs": {"use_reentrant": use_reentrant}}
    if when == "before":
        base.gradient_checkpointing_enable(**kwargs)
        model = prompted(name, encoder, base)
    else:
        model = prompted(name, encoder, base)
        model.base_model.model.gradient_checkpointing_enable(**kwargs)
        if use_reentrant:
            model.base_model.model.enable_input_require_grads()
    assert_same(gradients(model, name), expected)


@pytest.mark.parametrize("name", ["bert", "distilbert", "albert", "modernbert", "deberta-v2", "llama", "mpnet"])
def test_compiled_gives_the_same_in_one_graph(name):
    model = prompted(name)
    expected = logits(model, name)
    counter = CompileCounter()
    # attention that is followed from the outside runs outside of the graph, and has to be right all the same
    whole = not isinstance(layers_of(model)[0], OwnAttentionLayer)
    compiled = torch.compile(model.base_model.model, backend=counter, fullgraph=whole)
    assert torch.allclose(logits(compiled, name), expected, atol=1e-5)
    assert counter.frame_count == 1 or not whole
