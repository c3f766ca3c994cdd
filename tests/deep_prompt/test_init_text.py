"""Prompts that start as the keys and values of real tokens."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import PeftConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, BertTokenizer, FunnelConfig, FunnelForSequenceClassification

from tests.architectures import make_config, make_model
from tests.deep_prompt.test_common import bank_of, keys_of, layers_of, logits, prompt_config, prompted, values_of

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "is", "this", "film", "good", "or", "bad"]
TEXT = "is this film good or bad"
IDS = [2, 5, 6, 7, 8, 9, 10, 3]


@pytest.fixture
def tokenizer(tmp_path: Path) -> str:
    (tmp_path / "vocab.txt").write_text("\n".join(WORDS))
    BertTokenizer(str(tmp_path / "vocab.txt")).save_pretrained(tmp_path / "tokenizer")
    return str(tmp_path / "tokenizer")


def from_text(tokenizer: str, **values: object) -> dict[str, object]:
    return {"init_weights": "text", "init_text": TEXT, "tokenizer_name_or_path": tokenizer} | values


def projected(model: torch.nn.Module, ids: list[int], key: str, value: str) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Keys and values of each layer by hooks on the backbone's own projections."""
    seen: dict[torch.nn.Module, torch.Tensor] = {}
    modules = [module for module in model.modules() if isinstance(getattr(module, key, None), torch.nn.Linear)]
    for module in modules:
        for projection in (getattr(module, key), getattr(module, value)):
            projection.register_forward_hook(lambda p, _args, output: seen.setdefault(p, output[0]) is None or None)
    with torch.no_grad():
        model(torch.tensor([ids]))
    return [(seen[getattr(module, key)], seen[getattr(module, value)]) for module in modules]


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("bert", "key", "value"),
        ("roberta", "key", "value"),
        ("distilbert", "k_lin", "v_lin"),
        ("deberta-v2", "key_proj", "value_proj"),
        ("mpnet", "k", "v"),
    ],
)
@pytest.mark.parametrize("length", [4, 8, 20], ids=["cut", "whole", "repeated"])
def test_prompts_are_the_true_keys_and_values_of_every_layer(name, key, value, length, tokenizer):
    expected = projected(make_model(name), (IDS * 3)[:length], key, value)
    model = prompted(name, num_virtual_tokens=length, **from_text(tokenizer))
    for layer, (keys, values) in zip(layers_of(model), expected, strict=True):
        assert torch.allclose(keys_of(layer)[0], keys, atol=1e-6)
        assert torch.allclose(values_of(layer)[0], values, atol=1e-6)
    # nothing of it stays behind
    assert not any(module._forward_hooks for layer in layers_of(model) for module in layer.modules())
    assert torch.isfinite(logits(model, name)).all()


@pytest.mark.parametrize("name", ["llama", "glm"])
def test_a_causal_model_with_rotary_positions_reads_on_as_if_the_text_stood_before(name, tokenizer):
    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_config(make_config(name)).eval()
    rest = torch.randint(11, 90, (2, 6))
    with torch.no_grad():
        whole = torch.cat([torch.tensor(IDS).expand(2, -1), rest], dim=1)
        expected = base(whole).logits[:, len(IDS) :]
        config = prompt_config(task_type="CAUSAL_LM", num_virtual_tokens=len(IDS), **from_text(tokenizer))
        assert torch.allclose(get_peft_model(base, config).eval()(rest).logits, expected, atol=1e-5)


def test_shared_layers_get_the_text_of_each_run(tokenizer):
    model = prompted("albert", num_virtual_tokens=8, **from_text(tokenizer))
    (layer,) = layers_of(model)
    assert keys_of(layer).shape[0] == 3
    states = make_model("albert")(torch.tensor([IDS]), output_hidden_states=True).hidden_states
    for run in range(3):
        assert torch.allclose(keys_of(layer)[run], layer.base_layer.key(states[run])[0], atol=1e-6)


def test_vocabulary_samples_are_keys_and_values_of_some_tokens():
    torch.manual_seed(5)
    model = get_peft_model(make_model("bert"), prompt_config(num_virtual_tokens=6, init_weights="sample_vocab"))
    torch.manual_seed(5)
    again = get_peft_model(make_model("bert"), prompt_config(num_virtual_tokens=6, init_weights="sample_vocab"))
    base = make_model("bert").bert
    vocabulary = base.encoder.layer[0].attention.self.key(
        base.embeddings(torch.arange(99)[:, None].expand(-1, 6))
    )  # (token, position, size)
    keys = keys_of(layers_of(model)[0])[0]
    distance = (vocabulary - keys).abs().amax(-1)
    assert (distance.amin(0) < 1e-5).all()
    assert torch.equal(keys, keys_of(layers_of(again)[0])[0])


def test_longer_prompts_than_the_position_table_are_run_in_pieces(tokenizer):
    model = prompted("bert", num_virtual_tokens=150, **from_text(tokenizer))
    key = keys_of(layers_of(model)[0])[0]
    assert torch.isfinite(key).all()
    first = projected(make_model("bert"), (IDS * 8)[:63], "key", "value")[0][0]
    assert torch.allclose(key[:63], first, atol=1e-6)


def test_saved_adapters_do_not_need_the_tokenizer(tokenizer, tmp_path):
    model = prompted("bert", **from_text(tokenizer))
    model.save_pretrained(tmp_path / "adapter")
    assert PeftConfig.from_pretrained(tmp_path / "adapter").init_weights == "normal"
    # the configuration at hand still says how the prompts were made
    assert model.peft_config["default"].init_text == TEXT
    loaded = PeftModel.from_pretrained(make_model("bert"), tmp_path / "adapter", is_trainable=True).eval()
    assert torch.equal(logits(loaded, "bert"), logits(model, "bert"))


def test_training_mode_is_left_as_it_was(tokenizer):
    base = make_model("bert").train()
    base.bert.embeddings.eval()
    model = get_peft_model(base, prompt_config(**from_text(tokenizer)))
    assert layers_of(model)[0].training
    assert not base.bert.embeddings.training


def test_attention_that_keeps_keys_to_itself_is_refused_by_name(tokenizer):
    config = FunnelConfig(vocab_size=99, d_model=32, n_head=4, d_head=8, d_inner=37, block_sizes=[1])
    with pytest.raises(ValueError, match="init_weights.*FunnelRelMultiheadAttention.*'normal'"):
        get_peft_model(FunnelForSequenceClassification(config), prompt_config(**from_text(tokenizer)))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"init_weights": "random"}, "init_weights.*'normal', 'text', 'sample_vocab'"),
        ({"init_text": "a"}, "init_text.*only then"),
        ({"init_weights": "text", "tokenizer_name_or_path": "x"}, "init_text.*must be given"),
        ({"init_weights": "text", "init_text": "a"}, "tokenizer_name_or_path.*must be given"),
        ({"tokenizer_kwargs": {}}, "tokenizer_kwargs"),
        ({"init_weights": "sample_vocab", "encoder_reparameterization": "mlp"}, "init_weights.*mlp"),
        ({"init_weights": "sample_vocab", "init_from": "x"}, "init_from.*init_weights"),
    ],
)
def test_bad_values_name_the_argument(values, message):
    with pytest.raises(ValueError, match=message):
        prompt_config(**values)


@pytest.mark.parametrize("shift_positions", [False, True])
def test_other_adapters_in_use_do_not_color_the_keys_and_values(shift_positions, tokenizer):
    model = prompted("bert", layers_to_transform=[0], shift_positions=shift_positions)
    model.add_adapter("b", prompt_config(layers_to_transform=[2], **from_text(tokenizer)))
    alone = prompted("bert", layers_to_transform=[2], **from_text(tokenizer))
    ours, expected = keys_of(layers_of(model)[-1], "b"), keys_of(layers_of(alone)[-1])
    assert torch.equal(ours, expected)


@pytest.mark.parametrize("name", ["bert", "llama"])
def test_the_text_stands_before_the_tokens_where_positions_are_shifted(name, tokenizer):
    plain, shifted = (prompted(name, shift_positions=shift, **from_text(tokenizer)) for shift in (False, True))
    if name == "llama":
        # rotary positions count from one another: the tokens see the text as far away as without the shift
        assert torch.allclose(logits(shifted, name), logits(plain, name), atol=1e-5)
    else:
        assert torch.equal(bank_of(shifted).flat("default"), bank_of(plain).flat("default"))


def test_special_tokens_around_the_text_can_be_left_out(tokenizer):
    options = from_text(tokenizer, tokenizer_kwargs={"add_special_tokens": False})
    expected = projected(make_model("bert"), IDS[1:-1], "key", "value")
    model = prompted("bert", num_virtual_tokens=len(IDS) - 2, **options)
    for layer, (keys, _) in zip(layers_of(model), expected, strict=True):
        assert torch.allclose(keys_of(layer)[0], keys, atol=1e-6)
