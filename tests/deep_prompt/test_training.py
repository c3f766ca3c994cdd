"""The training stack: checkpointing, compilation, mixed precision."""

from __future__ import annotations

import pytest
import torch
from torch._dynamo.testing import CompileCounter

from dpt_peft.deep_prompt.attention.followed import FollowedAttentionLayer
from tests.architectures import CONFIGS, make_batch, make_model
from tests.deep_prompt.test_common import layers_of, logits, prompt_config, prompted


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


CHECKPOINTED = [name for name in CONFIGS if make_model(name).supports_gradient_checkpointing]


@pytest.mark.parametrize("use_reentrant", [True, False])
@pytest.mark.parametrize(
    ("name", "when", "encoder"),
    [
        *((name, "before", "none") for name in CHECKPOINTED),
        *((name, "after", "none") for name in ("bert", "llama", "roformer")),
        *((name, "before", "mlp") for name in ("bert", "llama", "roformer")),
    ],
)
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


# others: in the test of switching, below
@pytest.mark.parametrize("name", ["distilbert", "modernbert", "mpnet"])
def test_compiled_gives_the_same_in_one_graph(name):
    model = prompted(name)
    expected = logits(model, name)
    counter = CompileCounter()
    # attention that is followed from the outside runs outside of the graph, and has to be right all the same
    whole = not isinstance(layers_of(model)[0], FollowedAttentionLayer)
    compiled = torch.compile(model.base_model.model, backend=counter, fullgraph=whole)
    assert torch.allclose(logits(compiled, name), expected, atol=1e-5)
    assert counter.frame_count == 1 or not whole


@pytest.mark.parametrize(
    ("name", "options"),
    [("bert", {}), ("roberta", {"encoder": "mlp"}), ("albert", {"use_gate": True}), ("deberta-v2", {}), ("llama", {})],
    ids=lambda value: value if isinstance(value, str) else "-".join(value),
)
def test_switching_between_adapters_of_one_shape_compiles_nothing(name, options):
    torch.compiler.reset()
    model = prompted(name, base=make_model(name, num_hidden_layers=2), **options)
    for adapter in ("b", "c"):
        model.add_adapter(adapter, prompt_config(**options))
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if "deep_prompt_gate" in key or ".modules_to_save." in key:
                parameter.add_(torch.randn_like(parameter))
    order = ["default", "b", "c", "default", "b"]
    expected = {}
    for adapter in order:
        model.set_adapter(adapter)
        expected[adapter] = logits(model, name)
    with model.disable_adapter():
        base = logits(model, name)
    model.set_adapter("default")
    counter = CompileCounter()
    model.get_base_model().compile(backend=counter, fullgraph=True)
    for adapter in order:
        model.set_adapter(adapter)
        assert torch.allclose(logits(model, name), expected[adapter], atol=1e-5)
        assert counter.frame_count == 1
    # disabling is another graph, once
    for _ in range(2):
        with model.disable_adapter():
            assert torch.allclose(logits(model, name), base, atol=1e-5)
        assert torch.allclose(logits(model, name), expected["b"], atol=1e-5)
    assert counter.frame_count == 2


def test_a_compiled_model_sees_replaced_parameters_and_rows_of_a_batch():
    model = prompted("bert")
    model.add_adapter("b", prompt_config())
    torch.compiler.reset()
    model.get_base_model().compile(backend="eager")
    compiled = logits(model, "bert")
    state = {key: value.clone() for key, value in model.state_dict().items()}
    for key in state:
        if "deep_prompt_" in key and key.endswith(".default"):
            state[key] = state[key.removesuffix("default") + "b"]
    model.load_state_dict(state, assign=True)
    swapped = logits(model, "bert")
    assert not torch.allclose(swapped, compiled, atol=1e-4)

    def by_rows() -> list[torch.Tensor]:
        return [logits(model, "bert", adapter_names=names) for names in (["default", "b"], ["__base__", "b"])]

    mixed = by_rows()
    model.get_base_model()._compiled_call_impl = None
    assert torch.allclose(swapped, logits(model, "bert"), atol=1e-5)
    for output, expected in zip(mixed, by_rows(), strict=True):
        assert torch.allclose(output, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "options"), [("bert", {}), ("albert", {"use_gate": True}), ("roberta", {"encoder": "mlp"})], ids=str
)
def test_a_compiled_step_has_the_same_gradients_in_one_graph(name, options):
    expected = gradients(prompted(name, **options), name)
    torch.compiler.reset()
    model = prompted(name, **options)
    model.get_base_model().compile(backend="aot_eager", fullgraph=True)
    for _ in range(2):
        assert_same(gradients(model, name), expected)
