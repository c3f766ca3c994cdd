"""Copies of a model that share nothing with it: those of `DataParallel`, of `copy` and of `pickle`."""

from __future__ import annotations

import copy
import io
from typing import Any

import pytest
import torch
from peft import get_peft_model
from torch import nn
from torch.utils.checkpoint import checkpoint

from tests.architectures import CONFIGS, TEXT, make_batch, make_config, make_model, tiny_config
from tests.deep_prompt.test_common import bank_of, every_encoder, logits, prompt_config, prompted

# kinds of attention beside those of the shared list: two streams, a sliding window, a block that is run several times
OTHERS = ("lilt", "longformer", "perceiver")


def replica_of(module: nn.Module) -> Any:
    """What `torch.nn.parallel.replicate` makes for one device, with copies of the parameters that gradients reach."""
    modules = list(module.modules())
    replicas: list[Any] = [each._replicate_for_data_parallel() for each in modules]
    place = {each: index for index, each in enumerate(modules)}
    for original, replica in zip(modules, replicas, strict=True):
        replica._former_parameters = {}
        for name, child in original._modules.items():
            replica._modules[name] = None if child is None else replicas[place[child]]
        for name, parameter in original._parameters.items():
            if parameter is None:
                replica._parameters[name] = None
            else:
                setattr(replica, name, parameter.clone())
                replica._former_parameters[name] = getattr(replica, name)
        for name, buffer in original._buffers.items():
            if buffer is not None:
                setattr(replica, name, buffer.clone())
    return replicas[0]


def model_and_batch(name: str, **options: Any) -> tuple[nn.Module, dict[str, torch.Tensor]]:
    if name in CONFIGS:
        return prompted(name, **options), make_batch(name).asdict()
    base = TEXT.make(tiny_config(name))
    batch = TEXT.make_batch(base)
    torch.manual_seed(2)
    return get_peft_model(base, prompt_config(**options)).eval(), batch


@pytest.mark.parametrize("name", [*CONFIGS, *OTHERS])
def test_replicas_give_the_same_outputs_and_gradients(name):
    model, batch = model_and_batch(name)
    expected = model(**batch).logits
    expected.square().sum().backward()
    trained = {key: parameter for key, parameter in model.named_parameters() if parameter.requires_grad}
    gradients = {key: parameter.grad.clone() for key, parameter in trained.items()}
    model.zero_grad()
    # one after the other, as the threads of `DataParallel` take turns; each has its rows
    for _ in range(2):
        replica = replica_of(model)
        outputs = replica(**batch).logits
        assert torch.equal(outputs, expected)
    outputs.square().sum().backward()
    for key, parameter in trained.items():
        assert torch.allclose(parameter.grad, gradients[key], atol=1e-6), key
    assert torch.equal(model(**batch).logits, expected)


@pytest.mark.parametrize("name", ["bert", "albert", "mpnet"])
@every_encoder
def test_a_replica_takes_nothing_from_its_original(name, encoder):
    """Weights of the original that change after the replica was made must not show."""
    model = prompted(name, encoder, use_gate=True)
    with torch.no_grad():
        bank_of(model).deep_prompt_gate["default"].fill_(0.7)
    expected = logits(model, name)
    replica = replica_of(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    assert torch.equal(logits(replica, name), expected)
    assert not torch.allclose(logits(model, name), expected, atol=1e-3)


@pytest.mark.parametrize("name", ["bert", "albert", "albert-groups", "deberta-v2", "mpnet", "llama"])
@pytest.mark.parametrize("shift_positions", [False, True])
def test_pickled_and_copied_models_are_whole_and_independent(name, shift_positions):
    if shift_positions and name in ("deberta-v2", "mpnet"):
        return
    model = prompted(name, shift_positions=shift_positions)
    # a pass that can be differentiated leaves something behind
    model(**make_batch(name).asdict()).logits.sum().backward()
    expected = logits(model, name)
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    for twin in (torch.load(file, weights_only=False), copy.deepcopy(model)):
        assert torch.equal(logits(twin, name), expected)
        with torch.no_grad():
            bank_of(twin).deep_prompt_stored["default"].add_(1.0)
        assert not torch.allclose(logits(twin, name), expected, atol=1e-5)
        assert torch.equal(logits(model, name), expected)
        unloaded = twin.unload()
        assert not unloaded._forward_pre_hooks
        assert torch.equal(logits(unloaded, name), logits(make_model(name), name))


@pytest.mark.parametrize("use_reentrant", [True, False])
@pytest.mark.parametrize("options", [{}, {"prompt_dropout": 0.5}, {"encoder": "mlp"}], ids=["", "dropout", "mlp"])
def test_checkpoints_of_ones_own_recompute_with_the_same_prompts(options, use_reentrant):
    """Not transformers' switch but a wrapper around each layer, as FSDP's activation checkpointing has it."""
    base = make_model("bert", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    model = prompted("bert", base=base, **options).train()
    model.enable_input_require_grads()
    batch, labels = make_batch("bert").asdict(), torch.tensor([0, 1])

    def gradients() -> dict[str, torch.Tensor]:
        model.zero_grad()
        torch.manual_seed(0)
        model(**batch, labels=labels).loss.backward()
        return {key: p.grad.clone() for key, p in model.named_parameters() if p.grad is not None}

    class Checkpointed(nn.Module):
        def __init__(self, layer: nn.Module) -> None:
            super().__init__()
            self.layer = layer

        def forward(self, hidden: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            return checkpoint(lambda h: self.layer(h, *args, **kwargs), hidden, use_reentrant=use_reentrant)

    expected = gradients()
    layers = base.bert.encoder.layer
    for index, layer in enumerate(layers):
        layers[index] = Checkpointed(layer)
    drawn: list[torch.Tensor] = []
    dropout = bank_of(model).deep_prompt_dropout["default"]
    dropout.register_forward_hook(lambda _module, _args, output: drawn.append(output.detach()))
    found = gradients()
    if use_reentrant and "prompt_dropout" in options:
        # other numbers than outside of checkpoints, but for each layer the same ones both times
        assert len(drawn) == 1 + 2 * len(layers)
        for first, second in zip(drawn[1 : 1 + len(layers)], reversed(drawn[1 + len(layers) :]), strict=True):
            assert torch.equal(first, second)
        return
    assert {key.replace(".layer.layer.", ".layer.") for key in found} >= {k for k in expected if "deep_prompt" in k}
    for key, gradient in expected.items():
        if "deep_prompt" in key:
            assert torch.allclose(found[key], gradient, atol=1e-6), key


def test_albert_runs_are_counted_in_the_replica():
    model = prompted("albert", layers_to_transform=[1])
    replica = replica_of(model)
    num_layers = make_config("albert").num_hidden_layers
    seen = []
    (layer,) = bank_of(replica).layers
    replicas_layer = next(module for module in replica.modules() if type(module) is type(layer))
    replicas_layer.base_layer.query.register_forward_hook(lambda *_: seen.append(replicas_layer.run))
    logits(replica, "albert")
    assert seen == list(range(num_layers))
    assert layer.run == 0
