"""`generate` with deep prompts, against PEFT's prefix tuning and against runs without a cache."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from peft import PeftModel, PrefixTuningConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, StaticCache

from dpt_peft import DeepPromptConfig
from tests.architectures import make_batch, make_config
from tests.deep_prompt.test_common import bank_of, keys_of, layers_of, values_of
from tests.deep_prompt.test_parity import copy_prefix

LENGTH = 5
NEW_TOKENS = 6
DECODERS: dict[str, Any] = {
    "gpt2": {},
    "llama": {},
    "qwen2": {
        "vocab_size": 99,
        "hidden_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 37,
        "max_position_embeddings": 64,
    },
}
STRATEGIES = {
    "greedy": {"do_sample": False},
    "sampling": {"do_sample": True, "temperature": 0.7, "top_k": 20},
    "beams": {"do_sample": False, "num_beams": 3, "num_return_sequences": 2},
    "beam sampling": {"do_sample": True, "num_beams": 2},
}


def causal_lm(name: str, attn_implementation: str = "sdpa") -> torch.nn.Module:
    torch.manual_seed(0)
    config = AutoConfig.for_model(name, **DECODERS[name]) if DECODERS[name] else make_config(name)
    config.pad_token_id, config.bos_token_id, config.eos_token_id = 0, 1, 2
    # wide weights: a random model of the usual spread repeats itself
    config.initializer_range = 0.3
    return AutoModelForCausalLM.from_config(config, attn_implementation=attn_implementation).eval()


def pair(name: str, attn_implementation: str = "sdpa") -> tuple[PeftModel, PeftModel]:
    """The same prompts as PEFT's prefix and as deep prompts."""
    prefix = PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=LENGTH)
    prefix_model = get_peft_model(causal_lm(name, attn_implementation), prefix).eval()
    prefix_model.prompt_encoder["default"].embedding.weight.data.normal_()
    deep = DeepPromptConfig(task_type="CAUSAL_LM", num_virtual_tokens=LENGTH, shift_positions=True)
    deep_model = get_peft_model(causal_lm(name, attn_implementation), deep).eval()
    copy_prefix(prefix_model, deep_model)
    return prefix_model, deep_model


def generate(model: torch.nn.Module, batch: dict[str, torch.Tensor], **kwargs: Any) -> Any:
    torch.manual_seed(3)
    return model.generate(
        **batch,
        max_new_tokens=NEW_TOKENS,
        min_new_tokens=NEW_TOKENS,
        output_scores=True,
        return_dict_in_generate=True,
        **kwargs,
    )


def same(ours: Any, theirs: Any, atol: float = 1e-4) -> None:
    assert torch.equal(ours.sequences, theirs.sequences)
    for our_scores, their_scores in zip(ours.scores, theirs.scores, strict=True):
        assert torch.allclose(our_scores, their_scores, atol=atol)


@pytest.mark.parametrize("padding", ["none", "left"])
@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("name", DECODERS)
def test_generation_equals_that_of_peft_prefix_tuning(name, strategy, padding):
    prefix, deep = pair(name)
    batch = make_batch("llama", "left").asdict()
    if padding == "none":
        batch = {key: value[:1] for key, value in batch.items()}
    expected = generate(prefix, batch, **STRATEGIES[strategy])
    same(generate(deep, batch, **STRATEGIES[strategy]), expected)
    # the prompts matter
    with deep.disable_adapter():
        assert not torch.allclose(generate(deep, batch, **STRATEGIES[strategy]).scores[0], expected.scores[0])


@pytest.mark.parametrize("attn_implementation", ["sdpa", "eager"])
@pytest.mark.parametrize("name", DECODERS)
@pytest.mark.parametrize("shift_positions", [False, True], ids=["", "shifted"])
@pytest.mark.parametrize("strategy", ["greedy", "beams"])
def test_every_cache_gives_what_generation_without_one_gives(name, attn_implementation, shift_positions, strategy):
    config = DeepPromptConfig(
        task_type="CAUSAL_LM", num_virtual_tokens=LENGTH, init_std=1.0, shift_positions=shift_positions
    )
    model = get_peft_model(causal_lm(name, attn_implementation), config).eval()
    batch = make_batch("llama", "left").asdict()
    expected = generate(model, batch, use_cache=False, **STRATEGIES[strategy])
    same(generate(model, batch, **STRATEGIES[strategy]), expected)
    if strategy == "greedy":
        same(generate(model, batch, cache_implementation="static"), expected)
        # a cache of the plain backbone's size has room: prompts never enter it
        cache = generate(model, batch).past_key_values
        assert cache.get_seq_length() == batch["input_ids"].shape[1] + NEW_TOKENS - 1


@pytest.mark.parametrize("name", DECODERS)
def test_static_cache_equals_peft_prefix_tuning(name):
    prefix, deep = pair(name)
    batch = make_batch("llama", "left").asdict()
    same(generate(deep, batch, cache_implementation="static"), generate(prefix, batch))


def seq2seq(name: str, layers: int = 2) -> torch.nn.Module:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"vocab_size": 99, "d_model": 32, "decoder_start_token_id": 0, "eos_token_id": 2}
    if name in ("t5", "mt5"):
        sizes |= {"d_kv": 8, "d_ff": 37, "num_layers": layers, "num_heads": 4, "initializer_factor": 2.0}
    else:
        sizes |= {"init_std": 0.3, "forced_eos_token_id": None}
        sizes |= {f"{part}_layers": 2 for part in ("encoder", "decoder")}
        sizes |= {f"{part}_attention_heads": 4 for part in ("encoder", "decoder")}
        sizes |= {f"{part}_ffn_dim": 37 for part in ("encoder", "decoder")}
    return AutoModelForSeq2SeqLM.from_config(AutoConfig.for_model(name, **sizes)).eval()


@pytest.mark.parametrize("name", ["t5", "bart", "led"])
def test_encoder_decoders_generate_with_a_cache_what_they_do_without(name):
    config = DeepPromptConfig(task_type="SEQ_2_SEQ_LM", num_virtual_tokens=LENGTH, init_std=1.0)
    model = get_peft_model(seq2seq(name), config).eval()
    batch = make_batch("llama", "right").asdict()
    for strategy in ("greedy", "beams"):
        expected = generate(model, batch, use_cache=False, **STRATEGIES[strategy])
        same(generate(model, batch, **STRATEGIES[strategy]), expected)
        with model.disable_adapter():
            plain = generate(seq2seq(name), batch, **STRATEGIES[strategy])
            same(generate(model, batch, **STRATEGIES[strategy]), plain)
    if name != "led":
        whole = {key: value[:1] for key, value in batch.items()}
        same(generate(model, whole, cache_implementation="static"), generate(model, whole, use_cache=False))


@pytest.mark.parametrize("strategy", ["greedy", "beams"])
@pytest.mark.parametrize("layers", [[0], "first 2", [0, 2], [1]], ids=str)
@pytest.mark.parametrize("name", ["t5", "mt5"])
def test_layers_without_prompts_get_the_position_bias_of_their_tokens(name, layers, strategy):
    """T5 makes it in layer 0, for all keys in the cache of that layer, and hands it to the others."""
    config = DeepPromptConfig(
        task_type="SEQ_2_SEQ_LM", num_virtual_tokens=LENGTH, init_std=1.0, layers_to_transform=layers
    )
    model = get_peft_model(seq2seq(name, layers=3), config).eval()
    batch = make_batch("llama", "right").asdict()
    expected = generate(model, batch, use_cache=False, **STRATEGIES[strategy])
    same(generate(model, batch, **STRATEGIES[strategy]), expected, atol=1e-3)
    model.add_adapter("other", DeepPromptConfig(task_type="SEQ_2_SEQ_LM", num_virtual_tokens=2, init_std=1.0))
    names = {"adapter_names": ["default", "other"]}
    expected = generate(model, batch, use_cache=False, **names, **STRATEGIES[strategy])
    same(generate(model, batch, **names, **STRATEGIES[strategy]), expected, atol=1e-3)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("name", ["t5", "bart"])
def test_encoder_decoder_generation_equals_that_of_peft_prefix_tuning(name, strategy):
    """PEFT's prefix stands before the decoder's own keys and values alone, with positions, which ours do not have."""
    prefix = PrefixTuningConfig(task_type="SEQ_2_SEQ_LM", num_virtual_tokens=LENGTH)
    prefix_model = get_peft_model(seq2seq(name), prefix).eval()
    prefix_model.prompt_encoder["default"].embedding.weight.data.normal_()
    deep = DeepPromptConfig(
        task_type="SEQ_2_SEQ_LM", num_virtual_tokens=LENGTH, target_modules=r".*decoder\..*(self_attn|SelfAttention)"
    )
    deep_model = get_peft_model(seq2seq(name), deep).eval()
    cache = prefix_model.get_prompt(batch_size=1).self_attention_cache
    for layer, in_cache in zip(layers_of(deep_model), cache.layers, strict=True):
        keys_of(layer).copy_(in_cache.keys.detach().transpose(1, 2).flatten(2))
        values_of(layer).copy_(in_cache.values.detach().transpose(1, 2).flatten(2))
    with torch.no_grad():
        if name == "t5":
            for model in (prefix_model, deep_model):
                decoder = model.base_model.get_submodule("" if model is prefix_model else "model").decoder
                attention = decoder.block[0].layer[0].SelfAttention
                attention.relative_attention_bias.weight.zero_()
        else:
            table = deep_model.base_model.model.model.decoder.embed_positions.weight
            table[2:] = table[2:].roll(-LENGTH, 0)  # BART's table begins with two rows that stand for nothing
    batch = make_batch("llama", "right").asdict()
    same(generate(deep_model, batch, **STRATEGIES[strategy]), generate(prefix_model, batch, **STRATEGIES[strategy]))


def with_adapters(name: str) -> PeftModel:
    config = DeepPromptConfig(task_type="CAUSAL_LM", num_virtual_tokens=LENGTH, init_std=1.0)
    model = get_peft_model(causal_lm(name), config).eval()
    model.add_adapter("other", DeepPromptConfig(task_type="CAUSAL_LM", num_virtual_tokens=2, init_std=1.0))
    return model


@pytest.mark.parametrize("name", DECODERS)
def test_prompts_are_in_the_cache_and_the_cache_is_as_long_as_its_tokens(name):
    model, batch = with_adapters(name), make_batch("llama", "left").asdict()
    with torch.no_grad():
        cache = model(**batch, use_cache=True).past_key_values
    for layer in cache.layers:
        assert layer.keys.shape[2] == LENGTH + 7
        assert layer.get_seq_length() == 7
        assert layer.get_mask_sizes(1)[0] == 8
    cache.batch_repeat_interleave(2)
    cache.batch_select_indices(torch.tensor([0, 2]))
    cache.crop(-3)
    assert cache.get_seq_length() == 4
    assert cache.layers[0].keys.shape[2] == LENGTH + 4
    with torch.no_grad():
        after_cut = model(
            input_ids=batch["input_ids"][:, 4:], attention_mask=batch["attention_mask"], past_key_values=cache
        ).logits
        assert torch.allclose(after_cut, model(**batch).logits[:, 4:], atol=1e-5)
    cache.reset()
    assert cache.get_seq_length() == 0
    with torch.no_grad():
        again = model(**batch, past_key_values=cache).logits
        assert torch.allclose(again, model(**batch).logits, atol=1e-5)


@pytest.mark.parametrize("name", DECODERS)
def test_a_cache_goes_on_under_other_prompts_and_under_none(name):
    """The tokens' keys stay as they were computed; the prompts that meet new tokens are those in use."""
    model = with_adapters(name)
    batch = make_batch("llama", "left").asdict()
    text = {key: value[:, :5] for key, value in batch.items()}
    rest = {"input_ids": batch["input_ids"][:, 5:], "attention_mask": batch["attention_mask"]}

    def go_on(cache: Any, adapter: str | None) -> torch.Tensor:
        if adapter is None:
            with model.disable_adapter():
                return model(**rest, past_key_values=cache).logits
        model.set_adapter(adapter)
        return model(**rest, past_key_values=cache).logits

    with torch.no_grad():
        for first in ("default", None):
            for second in ("other", None, "default"):
                outputs = []
                for implementation in ("dynamic", "static"):
                    # prompts do not enter a static cache: they join anew at every step
                    cache = None
                    if implementation == "static":
                        cache = StaticCache(config=model.config, max_cache_len=16)
                    model.set_adapter(first or "default")
                    with nullcontext() if first else model.disable_adapter():
                        cache = model(**text, past_key_values=cache, use_cache=True).past_key_values
                    outputs.append(go_on(cache, second))
                assert torch.allclose(*outputs, atol=1e-5), (first, second)


def test_prompts_that_have_changed_are_not_read_from_the_cache():
    model = with_adapters("llama")
    batch = {key: value[:1] for key, value in make_batch("llama").asdict().items()}
    with torch.no_grad():
        caches = [model(**batch, use_cache=True).past_key_values for _ in range(2)]
        step = {"input_ids": batch["input_ids"][:, :1]}
        before = model(**step, past_key_values=caches[0]).logits
        for parameter in bank_of(model).parameters():
            parameter.add_(1.0)
        assert not torch.allclose(model(**step, past_key_values=caches[1]).logits, before, atol=1e-3)
