"""Prompts that are copies of a text's own keys and values leave its attention as it was.

Softmax over every key twice is a mean of the same values with the same weights. That needs no second implementation:
it fails if prompts meet other queries, another scale, other heads or other values than tokens do. Position biases, of
which prompts have none, are set to zero for it; where later tokens are hidden, the last token is looked at.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch

from dpt_peft.deep_prompt.attention.followed import MODULES
from dpt_peft.deep_prompt.targets import find_attention_modules
from tests.architectures import AUDIO, IMAGES, TEXT, tiny_config
from tests.deep_prompt.alone import wrap
from tests.deep_prompt.test_common import keys_of, values_of

_KEYS = ("key", "k_proj", "k_lin", "key_proj", "k")
_VALUES = ("value", "v_proj", "v_lin", "value_proj", "v")


def projected(module: Any, hidden: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Keys and values of one text, each (tokens, size), by the module's own projections."""
    key, value = (next(getattr(module, name) for name in names if hasattr(module, name)) for names in (_KEYS, _VALUES))
    if isinstance(key, torch.nn.Conv1d):
        return key(hidden)[0].mT, value(hidden)[0].mT
    return key(hidden)[0], value(hidden)[0]


def by_heads(name: str, parts: int, key: int, value: int) -> Callable:
    """Fused projections that lie as heads x parts x size."""

    def split(module: Any, hidden: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        heads = getattr(module, name)(hidden)[0].unflatten(-1, (module.num_heads, parts, -1))
        return heads[:, :, key].flatten(1), heads[:, :, value].flatten(1)

    return split


def thirds(name: str) -> Callable:
    """Fused projections that lie as query, key, value."""
    return lambda module, hidden: getattr(module, name)(hidden)[0].chunk(3, dim=-1)[1:]


def falcon(module: Any, hidden: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    if not module.multi_query:
        return by_heads("query_key_value", 3, 1, 2)(module, hidden)
    if not module.new_decoder_architecture:
        return module.query_key_value(hidden)[0].split([module.hidden_size, module.head_dim, module.head_dim], -1)[1:]
    groups = module.num_heads // module.num_kv_heads
    fused = module.query_key_value(hidden)[0].unflatten(-1, (module.num_kv_heads, groups + 2, module.head_dim))
    return tuple(fused[:, :, part].repeat_interleave(groups, 1).flatten(1) for part in (-2, -1))


def deberta(module: Any, hidden: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    heads = module.in_proj(hidden)[0].unflatten(-1, (module.num_attention_heads, 3, -1))
    return heads[:, :, 1].flatten(1), heads[:, :, 2].flatten(1) + module.v_bias


def xlnet(module: Any, hidden: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return tuple((hidden[:, 0] @ weight.flatten(1)) for weight in (module.k, module.v))


def lilt(module: Any, hidden: torch.Tensor, layout: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return tuple(
        torch.cat([getattr(module, name)(hidden)[0], getattr(module, f"layout_{name}")(layout)[0]], -1)
        for name in ("key", "value")
    )


def ibert(module: Any, hidden: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return module.key(hidden, None)[0][0], module.value(hidden, None)[0][0]


def perceiver(module: Any, hidden: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return projected(module, module.layernorm1(hidden))


def funnel(module: Any, hidden: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return module.k_head(hidden)[0], module.v_head(hidden)[0]


def zeroed(*names: str) -> Callable:
    """Set the arguments of those names to zero: biases, rotation angles."""

    def neutralise(module: Any, arguments: dict[str, Any]) -> None:
        for name in names:
            arguments[name] = torch.zeros_like(arguments[name])

    return neutralise


def no_rotation(module: Any, arguments: dict[str, Any]) -> None:
    if arguments.get("position_embeddings") is not None:
        cos, sin = arguments["position_embeddings"]
        arguments["position_embeddings"] = torch.ones_like(cos), torch.zeros_like(sin)


def no_angles(module: Any, arguments: dict[str, Any]) -> None:
    arguments["sinusoidal_pos"] = None


def no_relative_positions(module: Any, arguments: dict[str, Any]) -> None:
    for name in ("r_r_bias", "r_s_bias", "r_kernel", "seg_embed", "relative_position_bias_table"):
        if isinstance(getattr(module, name, None), torch.nn.Parameter):
            getattr(module, name).data.zero_()
    if "r" in arguments:
        arguments["r"] = torch.zeros_like(arguments["r"])


def nothing(module: Any, arguments: dict[str, Any]) -> None: ...


# model type -> changes to its configuration, how to read keys and values, what has to be neutralised, whether causal
CASES: dict[str, tuple[dict[str, Any], Callable, Callable, bool]] = {
    "big_bird": ({}, projected, nothing, False),
    "bloom": ({}, by_heads("query_key_value", 3, 1, 2), zeroed("alibi"), True),
    "canine": ({}, projected, nothing, False),
    "convbert": ({}, projected, nothing, False),
    "deberta": ({"relative_attention": False}, deberta, nothing, False),
    "falcon": ({}, falcon, no_rotation, True),
    "falcon-alibi": ({"alibi": True}, falcon, zeroed("alibi", "attention_mask"), True),
    "falcon-groups": ({"new_decoder_architecture": True, "num_kv_heads": 2}, falcon, no_rotation, True),
    "falcon-heads": ({"multi_query": False}, falcon, no_rotation, True),
    "flaubert": ({}, projected, nothing, False),
    "funnel": ({}, funnel, no_relative_positions, False),
    "gpt_neo": ({}, projected, nothing, True),
    "gptj": ({}, projected, zeroed("position_ids"), True),
    "ibert": ({}, ibert, nothing, False),
    "layoutlmv3": ({}, projected, zeroed("rel_pos", "rel_2d_pos"), False),
    "lilt": ({}, lilt, nothing, False),
    "luke": ({}, projected, nothing, False),
    "megatron-bert": ({}, projected, nothing, False),
    "mpnet": ({}, projected, zeroed("position_bias"), False),
    "mpt": ({}, thirds("Wqkv"), zeroed("position_bias"), True),
    "mvp": ({}, projected, nothing, False),
    "openai-gpt": ({}, thirds("c_attn"), nothing, True),
    "perceiver": ({}, perceiver, nothing, False),
    "rembert": ({}, projected, nothing, False),
    "roformer": ({}, projected, no_angles, False),
    "squeezebert": ({}, projected, nothing, False),
    "tapas": ({}, projected, nothing, False),
    "xlm": ({}, projected, nothing, False),
    "xlnet": ({}, xlnet, no_relative_positions, False),
}


# the same for images and audio; the last attention module is looked at, where no stage reduces its keys
OTHERS: dict[str, tuple[Any, Callable, Callable]] = {
    "audio-spectrogram-transformer": (AUDIO, projected, nothing),
    "beit": (IMAGES, projected, nothing),
    "clip": (IMAGES, projected, nothing),
    "data2vec-vision": (IMAGES, projected, nothing),
    "deit": (IMAGES, projected, nothing),
    "dinov2": (IMAGES, projected, nothing),
    "donut-swin": (IMAGES, projected, no_relative_positions),
    "hubert": (AUDIO, projected, nothing),
    "mobilevit": (IMAGES, projected, nothing),
    "pvt": (IMAGES, projected, nothing),
    "pvt_v2": (IMAGES, projected, nothing),
    "swin": (IMAGES, projected, no_relative_positions),
    "vit": (IMAGES, projected, nothing),
    "wav2vec2": (AUDIO, projected, nothing),
    "whisper": (AUDIO, projected, nothing),
}


def captured_call(model: torch.nn.Module, batch: dict[str, torch.Tensor], module: torch.nn.Module) -> tuple[Any, dict]:
    """The arguments of the first attention module, for one row."""
    calls = []
    handle = module.register_forward_pre_hook(
        lambda _module, args, kwargs: calls.append((args, kwargs)), with_kwargs=True
    )
    model(**{key: value[:1] for key, value in batch.items()})
    handle.remove()
    return calls[0]


def copies_change_nothing(
    layer_class: type, module: Any, args: Any, kwargs: Any, split: Callable, neutralise: Callable, causal: bool
) -> None:
    arguments = inspect.signature(module.forward).bind(*args, **kwargs).arguments
    arguments.update(arguments.pop("kwargs", {}))
    arguments.update({name: None for name in ("cache", "layer_past", "past_key_values") if name in arguments})
    neutralise(module, arguments)
    hidden = list(arguments.values())[: 2 if split is lilt else 1]
    if split is funnel:
        hidden = [arguments["key"]]
    key, value = split(module, *hidden)
    before = module(**arguments)
    layer = wrap(layer_class, module, default=len(key))
    keys_of(layer).copy_(key[None])
    values_of(layer).copy_(value[None])
    after = layer(**arguments)
    for ours, theirs in zip(after, before, strict=True):
        if not isinstance(ours, torch.Tensor):
            continue
        # of one window, where an image is cut into several
        rows = (slice(1), slice(-1, None) if causal else slice(None))
        assert torch.allclose(ours[rows], theirs[rows], atol=1e-5)
        # the values of prompts reach the output at all
        values_of(layer).neg_()
        changed = layer(**arguments)[0]
        assert not torch.allclose(changed[rows], theirs[rows], atol=1e-4)
        break


def larger(model: torch.nn.Module) -> torch.nn.Module:
    """Weights of a size at which scores differ: attention that is nearly uniform would hide errors of scale."""
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.data.mul_(10)
    return model


@pytest.mark.parametrize(
    ("name", "attn_implementation"),
    [(name, "eager") for name in CASES] + [(name, "sdpa") for name in CASES if name.startswith("falcon")],
)
def test_text(name, attn_implementation):
    overrides, split, neutralise, causal = CASES[name]
    config = tiny_config(name.partition("-")[0] if name.startswith("falcon") else name)
    for key, value in overrides.items():
        setattr(config, key, value)
    model = larger(TEXT.make(config, attn_implementation))
    attention = next(a for a in find_attention_modules(model) if not a.is_cross)
    module = model.get_submodule(attention.name)
    with torch.no_grad():
        args, kwargs = captured_call(model, TEXT.make_batch(model), module)
        copies_change_nothing(attention.layer_class, module, args, kwargs, split, neutralise, causal)


@pytest.mark.parametrize("attn_implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("name", OTHERS)
def test_images_and_audio(name, attn_implementation):
    family, split, neutralise = OTHERS[name]
    config = tiny_config(name)
    if attn_implementation == "sdpa" and not family.make(config)._supports_sdpa:
        return
    model = larger(family.make(config, attn_implementation))
    attention = find_attention_modules(model)[-1]
    module = model.get_submodule(attention.name)
    with torch.no_grad():
        args, kwargs = captured_call(model, family.make_batch(model), module)
        copies_change_nothing(attention.layer_class, module, args, kwargs, split, neutralise, causal=False)


def test_every_row_of_followed_modules_is_tested():
    tested = set()
    for name in CASES:
        config = tiny_config(name.partition("-")[0] if name.startswith("falcon") else name)
        tested |= {type(module).__name__ for module in TEXT.make(config).modules()}
    for name, (family, *_) in OTHERS.items():
        for kernel in ("eager", "sdpa") if name == "data2vec-vision" else (None,):
            tested |= {type(module).__name__ for module in family.make(tiny_config(name), kernel).modules()}
    assert {name.rpartition(".")[2] for name in MODULES} - tested == {"LEDDecoderAttention"}
