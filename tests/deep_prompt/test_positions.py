"""`shift_positions`: token positions as PEFT's prefix tuning counts them."""

from __future__ import annotations

import copy

import pytest
import torch
from peft import PeftModel, PrefixTuningConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

from dpt_peft import DeepPromptConfig
from dpt_peft.deep_prompt.positions import ShiftedPositions
from tests.architectures import TEXT, make_batch, make_config, make_model, tiny_config
from tests.deep_prompt.test_common import logits, prompt_config, prompted
from tests.deep_prompt.test_parity import LENGTH, copy_prefix

SIZES = (
    *("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"),
    *("num_key_value_heads", "max_position_embeddings", "pad_token_id"),
)
CLASSIFIERS = ("bert", "roberta", "xlm-roberta", "electra", "gpt2", "llama")
# where PEFT has nothing to compare with: distilbert's prefix tuning does not run
SHIFTABLE = (*CLASSIFIERS, "distilbert", "albert", "modernbert", "mpnet", "deberta-v2-no-positions")


def positions_of(model: torch.nn.Module) -> list[ShiftedPositions]:
    return [module for module in model.modules() if isinstance(module, ShiftedPositions)]


@pytest.mark.parametrize("padding_side", ["right", "left"])
@pytest.mark.parametrize("attn_implementation", ["sdpa", "eager"])
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_outputs_equal_those_of_peft_prefix_tuning(name, attn_implementation, padding_side):
    prefix = get_peft_model(
        make_model(name, attn_implementation), PrefixTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=LENGTH)
    ).eval()
    deep = prompted(name, base=make_model(name, attn_implementation), num_virtual_tokens=LENGTH, shift_positions=True)
    deep.load_state_dict({k: v for k, v in prefix.state_dict().items() if "modules_to_save" in k}, strict=False)
    prefix.prompt_encoder["default"].embedding.weight.data.normal_()
    copy_prefix(prefix, deep)
    batch = make_batch(name, padding_side).asdict()
    with torch.no_grad():
        expected = prefix(**batch).logits
        assert torch.allclose(deep(**batch).logits, expected, atol=1e-5)
        # the comparison sees positions at all
        for module in positions_of(deep):
            module.lengths["default"] = 0
        assert not torch.allclose(deep(**batch).logits, expected, atol=1e-4)


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_losses_of_causal_language_models_equal_those_of_peft_prefix_tuning(name):
    def causal_lm() -> torch.nn.Module:
        torch.manual_seed(0)
        return AutoModelForCausalLM.from_config(make_config(name)).eval()

    prefix = get_peft_model(causal_lm(), PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=LENGTH)).eval()
    config = DeepPromptConfig(task_type="CAUSAL_LM", num_virtual_tokens=LENGTH, shift_positions=True)
    deep = get_peft_model(causal_lm(), config).eval()
    copy_prefix(prefix, deep)
    batch = make_batch(name).asdict()
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    losses = [model(**batch, labels=labels).loss for model in (prefix, deep)]
    assert torch.allclose(*losses, atol=1e-6)


@pytest.mark.parametrize("name", SHIFTABLE)
def test_position_ids_moved_by_hand_are_the_same(name):
    if name in ("deberta-v2-no-positions", "mpnet"):
        base = make_model(name, **({"position_biased_input": True} if name.startswith("deberta") else {}))
    else:
        base = make_model(name)
    plain = prompted(name, base=copy.deepcopy(base))
    shifted = prompted(name, base=base, shift_positions=True)
    assert len(positions_of(shifted)) == 1
    # the reference moves the rows of the table, or asks for later positions
    batch = make_batch(name).asdict()
    table = positions_of(shifted)[0].base_layer
    if isinstance(table, torch.nn.Embedding):
        twin = next(m for m in plain.modules() if isinstance(m, torch.nn.Embedding) and m.weight.equal(table.weight))
        start = 0 if table.padding_idx is None else table.padding_idx + 1
        with torch.no_grad():
            twin.weight[start:] = torch.roll(table.weight[start:], -LENGTH, 0)
    else:
        batch_positions = torch.arange(LENGTH, LENGTH + 7).expand(2, -1)
        batch |= {"position_ids": batch_positions}
    with torch.no_grad():
        expected = plain(**batch).logits
        assert torch.allclose(logits(shifted, name), expected, atol=1e-6)


@pytest.mark.parametrize("name", ["bert", "roberta", "llama"])
def test_disable_switch_delete_unload_save_and_load(name, tmp_path):
    base = make_model(name)
    expected, names = logits(base, name), [key for key, _ in base.named_modules()]
    model = prompted(name, base=base, shift_positions=True)
    shifted = logits(model, name)
    with model.disable_adapter():
        assert torch.equal(logits(model, name), expected)
    model.add_adapter("still", prompt_config())
    assert torch.equal(logits(model, name), shifted)
    model.set_adapter("still")
    reference = prompted(name)
    reference.load_state_dict(
        {k.replace(".still", ".default"): v for k, v in model.state_dict().items() if ".still" in k}, strict=False
    )
    assert torch.equal(logits(model, name), logits(reference, name))
    model.set_adapter("default")
    assert torch.equal(logits(model, name), shifted)
    model.save_pretrained(tmp_path, selected_adapters=["default"])
    loaded = PeftModel.from_pretrained(make_model(name), tmp_path).eval()
    assert loaded.peft_config["default"].shift_positions is True
    assert torch.equal(logits(loaded, name), shifted)
    plain = make_model(name)
    plain.load_adapter(str(tmp_path))
    assert torch.equal(logits(plain.eval(), name), shifted)
    plain.disable_adapters()
    assert torch.equal(logits(plain, name), expected)
    assert torch.equal(logits(copy.deepcopy(model), name), shifted)
    model.delete_adapter("default")
    assert positions_of(model)[0].lengths == {}
    assert [key for key, _ in model.unload().named_modules()] == names


@pytest.mark.parametrize("name", ["bert", "roberta", "gpt2", "llama"])
def test_rows_of_a_mixed_batch_are_shifted_each_by_its_own_adapter(name):
    model = prompted(name, num_virtual_tokens=2, shift_positions=True)
    model.add_adapter("long", prompt_config(num_virtual_tokens=6, shift_positions=True))
    model.add_adapter("still", prompt_config(num_virtual_tokens=4))
    rows = ["long", "__base__", "still", "default"]
    batch = {key: torch.cat([value] * 2) for key, value in make_batch(name).asdict().items()}
    with torch.no_grad():
        mixed = model(**batch, adapter_names=rows).logits
        for row, adapter in enumerate(rows):
            alone = {key: value[row : row + 1] for key, value in batch.items()}
            if adapter == "__base__":
                with model.disable_adapter():
                    expected = model(**alone).logits
            else:
                model.set_adapter(adapter)
                expected = model(**alone).logits
            assert torch.allclose(mixed[row : row + 1], expected, atol=1e-5), adapter


def test_prompts_of_several_active_adapters_add_up():
    model = get_peft_model(make_model("bert").bert, prompt_config(num_virtual_tokens=3, shift_positions=True))
    model.add_adapter("other", prompt_config(num_virtual_tokens=2, shift_positions=True))
    model.add_adapter("still", prompt_config(num_virtual_tokens=9))
    model.base_model.set_adapter(["default", "other", "still"])
    assert positions_of(model)[0].shift(1, torch.device("cpu")) == 5


def test_text_that_does_not_fit_the_position_table_is_refused():
    model = prompted("bert", num_virtual_tokens=20, shift_positions=True)
    model(input_ids=torch.ones(1, 44, dtype=torch.long))
    with pytest.raises(ValueError, match=r"shift_positions.*position 64.*ends at 63.*Shorten the text by 1 "):
        model(input_ids=torch.ones(1, 45, dtype=torch.long))
    prompted("bert", num_virtual_tokens=20)(input_ids=torch.ones(1, 64, dtype=torch.long))


@pytest.mark.parametrize("model_type", ["t5", "bloom", "deberta-v2", "xlnet", "bart"])
def test_models_that_are_not_asked_with_position_ids_are_refused_by_name_and_left_alone(model_type):
    config = tiny_config(model_type)
    if model_type == "deberta-v2":
        config.position_biased_input = False
    model = TEXT.make(config)
    names = [key for key, _ in model.named_modules()]
    with pytest.raises(ValueError, match=rf"shift_positions.*`{model_type}`"):
        get_peft_model(model, prompt_config(shift_positions=True))
    assert [key for key, _ in model.named_modules()] == names


@pytest.mark.parametrize("name", ["roberta", "llama"])
def test_compiled_gives_the_same_in_one_graph(name):
    model = prompted(name, shift_positions=True)
    expected = logits(model, name)
    torch.compiler.reset()
    compiled = torch.compile(model.base_model.model, backend="eager", fullgraph=True)
    assert torch.allclose(logits(compiled, name), expected, atol=1e-5)


@pytest.mark.parametrize("name", ["llama", "qwen3"])
def test_a_rotary_classifiers_row_is_computed_as_if_alone_in_the_documented_ways(name):
    """Prompts have no position, tokens do: without `position_ids`, those of a row begin behind its padding."""
    if name == "llama":
        base = make_model(name)
    else:
        sizes = make_config("llama").to_dict()
        base = AutoModelForSequenceClassification.from_config(
            AutoConfig.for_model(name, **{key: sizes[key] for key in SIZES}, head_dim=8)
        )
    model = get_peft_model(base.eval(), prompt_config(init_std=1.0)).eval()
    right, left = (make_batch("llama", side).asdict() for side in ("right", "left"))
    with torch.no_grad():
        alone = model(input_ids=right["input_ids"][1:, :5]).logits
        assert torch.allclose(model(**right).logits[1:], alone, atol=1e-5)
        left["input_ids"][1, 2:] = right["input_ids"][1, :5]
        assert not torch.allclose(model(**left).logits[1:], alone, atol=1e-4)
        position_ids = (left["attention_mask"].cumsum(-1) - 1).clamp(min=0)
        assert torch.allclose(model(**left, position_ids=position_ids).logits[1:], alone, atol=1e-5)
