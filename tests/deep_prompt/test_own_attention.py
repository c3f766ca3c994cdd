"""Attention that is followed from the outside gives what attention over prompts and tokens together gives."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from peft import get_peft_model

from dpt_peft.deep_prompt.attention.base import DeepPromptLayer
from dpt_peft.deep_prompt.attention.deberta_v2 import DebertaV2AttentionLayer
from dpt_peft.deep_prompt.attention.followed import FollowedAttentionLayer
from dpt_peft.deep_prompt.attention.interface import InterfaceAttentionLayer
from dpt_peft.deep_prompt.mixed_batch import RowPlan
from dpt_peft.deep_prompt.targets import LAYER_CLASSES
from tests.architectures import TEXT, make_model, tiny_config
from tests.deep_prompt.alone import wrap
from tests.deep_prompt.test_common import keys_of, prompt_config, values_of


def two_layers(
    kind: type[DeepPromptLayer], module: torch.nn.Module, mixed: bool = False
) -> tuple[DeepPromptLayer, FollowedAttentionLayer]:
    """The same prompts around the same module: by its own layer class, and followed from the outside."""
    active = ["a", "b"] if mixed else ["a"]
    reference, followed = (
        wrap(each, copy.deepcopy(module), active, a=5, b=2) for each in (kind, FollowedAttentionLayer)
    )
    return reference, followed


@pytest.mark.parametrize("plan", [None, RowPlan(("b", "__base__"), (0, 1))], ids=["one adapter", "mixed batch"])
@pytest.mark.parametrize("attn_implementation", ["eager", "sdpa"])
def test_same_as_through_the_interface(attn_implementation, plan):
    module = make_model("bert", attn_implementation).bert.encoder.layer[0].attention.self
    reference, followed = two_layers(InterfaceAttentionLayer, module, mixed=plan is not None)
    reference.bank.plan_rows(plan)
    followed.bank.plan_rows(plan)
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
        gradients = [layer.bank.deep_prompt_stored[name].grad for layer in (reference, followed)]
        assert torch.allclose(*gradients, atol=1e-5)


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


class SoftmaxOfItsOwn(torch.nn.Module):
    """Attention that divides exponentials by their sum."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = (torch.nn.Linear(8, 8) for _ in range(3))

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        query, key, value = (p(hidden)[:, None] for p in (self.query, self.key, self.value))
        weights = (query @ key.mT).exp()
        return (weights / weights.sum(-1, keepdim=True)) @ value


def test_attention_that_cannot_be_followed_says_so():
    layer = wrap(FollowedAttentionLayer, SoftmaxOfItsOwn(), default=2)
    with pytest.raises(RuntimeError, match="could not follow the attention of SoftmaxOfItsOwn"):
        layer(torch.randn(1, 3, 8))


def by_hand(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """softmax(q k / sqrt(d)) v of one head in float64: (queries, size), (keys, size), (keys, size)."""
    query, key, value = (t.double() for t in (query, key, value))
    return torch.softmax(query @ key.mT / math.sqrt(query.shape[-1]), -1) @ value


def wrapped(module: torch.nn.Module, length: int = 5) -> DeepPromptLayer:
    return wrap(next(cls for cls in LAYER_CLASSES if cls.supports(module)), module, default=length)


def heads_of(tensor: torch.Tensor, head: int, size: int = 8) -> torch.Tensor:
    """One head of the first row: (tokens, size)."""
    return tensor[0, :, head * size : (head + 1) * size]


def test_luke_with_entities_prompts_meet_the_queries_made_for_words():
    module = TEXT.make(tiny_config("luke")).luke.encoder.layer[0].attention.self
    layer = wrapped(module)
    words, entities = torch.randn(1, 6, 32), torch.randn(1, 2, 32)
    both = torch.cat([words, entities], 1)
    with torch.no_grad():
        output = torch.cat(layer(words, entities)[:2], 1)
        key, value = module.key(both), module.value(both)
        for head in range(4):
            prompt_key, prompt_value = heads_of(keys_of(layer), head), heads_of(values_of(layer), head)
            for row, (states, to_words, to_entities) in enumerate(
                [(words, module.query, module.w2e_query), (entities, module.e2w_query, module.e2e_query)]
            ):
                on_words, on_entities = (heads_of(q(states), head).double() for q in (to_words, to_entities))
                keys = heads_of(key, head).double()
                scores = torch.cat(
                    [on_words @ prompt_key.double().mT, on_words @ keys[:6].mT, on_entities @ keys[6:].mT], -1
                )
                values = torch.cat([prompt_value, heads_of(value, head)]).double()
                expected = torch.softmax(scores / math.sqrt(8), -1) @ values
                rows = slice(0, 6) if row == 0 else slice(6, 8)
                assert torch.allclose(heads_of(output, head)[rows].double(), expected, atol=1e-6)


@pytest.mark.parametrize("num_global", [0, 2])
def test_longformer_by_hand(num_global):
    """In a window wider than the text, local tokens attend to all, and global ones with projections of their own."""
    config = tiny_config("longformer")
    config.attention_window = [16] * 2
    module = TEXT.make(config).longformer.encoder.layer[0].attention.self
    layer = wrapped(module)
    real = 7  # the text is padded to the window
    hidden = torch.randn(1, 16, 32)
    mask = torch.zeros(1, 16)
    mask[:, real:] = -10000.0
    mask[:, :num_global] = 10000.0
    with torch.no_grad():
        output = layer(hidden, mask, mask < 0, mask > 0, num_global > 0)[0]
        for head in range(4):
            prompt_key, prompt_value = heads_of(keys_of(layer), head), heads_of(values_of(layer), head)
            for suffix, rows in (("_global", slice(0, num_global)), ("", slice(num_global, real))):
                query, key, value = (
                    heads_of(getattr(module, name + suffix)(hidden), head)[:real] for name in ("query", "key", "value")
                )
                expected = by_hand(query[rows], torch.cat([prompt_key, key]), torch.cat([prompt_value, value]))
                assert torch.allclose(heads_of(output, head)[rows].double(), expected, atol=1e-5)
    assert (output[:, real:] == 0).all()


def test_longformer_with_different_numbers_of_global_tokens_is_each_row_alone():
    config = tiny_config("longformer")
    module = TEXT.make(config).longformer.encoder.layer[0].attention.self
    layer = wrapped(module)
    hidden, mask = torch.randn(3, 24, 32), torch.zeros(3, 24)
    mask[0, 3] = mask[1, [0, 5, 20]] = mask[2, [1, 2]] = 10000.0
    mask[2, 20:] = -10000.0
    with torch.no_grad():
        together = layer(hidden, mask, mask < 0, mask > 0, True)[0]
        for row in range(3):
            alone = slice(row, row + 1)
            one = layer(hidden[alone], mask[alone], mask[alone] < 0, mask[alone] > 0, True)[0]
            assert torch.allclose(together[alone], one, atol=1e-6)


def test_perceiver_has_a_prompt_for_every_run_of_its_block():
    config = tiny_config("perceiver")
    config.num_blocks = 2
    base = TEXT.make(config)
    batch = TEXT.make_batch(base)
    model = get_peft_model(base, prompt_config(layers_to_transform=[3])).eval()
    layers = [module for module in model.modules() if isinstance(module, DeepPromptLayer)]
    assert [layer.layer_indices for layer in layers] == [(1, 3)]
    layer = layers[0]
    seen = []
    layer.base_layer.query.register_forward_hook(lambda *_: seen.append(bool(layer.has_prompts())))
    with torch.no_grad():
        model(**batch)
        model(**batch)
    assert seen == [False, True] * 2


@pytest.mark.parametrize(
    "model_type",
    ["falcon", "layoutlmv3", "lilt", "longformer", "luke", "openai-gpt", "perceiver", "squeezebert", "deepseek_v3"],
)
def test_rows_of_a_mixed_batch_are_each_as_if_alone(model_type):
    base = TEXT.make(tiny_config(model_type))
    batch = {key: torch.cat([value, value.flip(0)])[:3] for key, value in TEXT.make_batch(base).items()}
    model = get_peft_model(base, prompt_config(num_virtual_tokens=2)).eval()
    model.add_adapter("long", prompt_config(num_virtual_tokens=4))
    with torch.no_grad():
        mixed = model(**batch, adapter_names=["long", "__base__", "default"]).logits
        for row, name in ((0, "long"), (2, "default")):
            model.set_adapter(name)
            alone = model(**{key: value[row : row + 1] for key, value in batch.items()}).logits
            assert torch.allclose(mixed[row : row + 1], alone, atol=1e-6), name
        with model.disable_adapter():
            alone = model(**{key: value[1:2] for key, value in batch.items()}).logits
        assert torch.allclose(mixed[1:2], alone, atol=1e-6)
