"""Deep prompts beside LoRA, and on quantised linear layers."""

from __future__ import annotations

import warnings
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn

from dpt_peft import prompts_set_aside
from tests.architectures import make_batch, make_model
from tests.deep_prompt.test_common import logits, prompt_config, prompted


def lora_config() -> LoraConfig:
    return LoraConfig(target_modules=["query", "value"], r=4, lora_dropout=0.0, init_lora_weights=False)


def with_both(first: str = "lora") -> nn.Module:
    """A plain transformers model with a LoRA and prompts, both active."""
    model = make_model("bert")
    if first == "lora":
        model.add_adapter(lora_config(), adapter_name="lora")
    model.add_adapter(prompt_config(task_type=None), adapter_name="prompts")
    if first == "prompts":
        with prompts_set_aside(model):
            model.add_adapter(lora_config(), adapter_name="lora")
    model.set_adapter(["prompts", "lora"])
    return model


def two_steps(model: nn.Module) -> None:
    torch.manual_seed(0)
    optimizer = torch.optim.SGD([parameter for parameter in model.parameters() if parameter.requires_grad], lr=10.0)
    for _ in range(2):
        model(**make_batch("bert").asdict(), labels=torch.tensor([0, 1])).loss.backward()
        optimizer.step()


@pytest.mark.parametrize("first", ["lora", "prompts"])
def test_lora_and_prompts_train_together_and_switch(first):
    model = with_both(first)
    base = logits(make_model("bert"), "bert")
    before = {key: parameter.clone() for key, parameter in model.named_parameters()}
    two_steps(model)
    moved = {key for key, parameter in model.named_parameters() if not torch.equal(parameter, before[key])}
    assert moved == {key for key in before if "deep_prompt_" in key or "lora_" in key}
    both = logits(model, "bert")
    alone = []
    for name in ("prompts", "lora"):
        model.set_adapter(name)
        alone.append(logits(model, "bert"))
    for output in (*alone, base):
        assert not torch.allclose(output, both, atol=1e-5)
    model.disable_adapters()
    assert torch.equal(logits(model, "bert"), base)
    model.enable_adapters()
    model.set_adapter(["prompts", "lora"])
    assert torch.equal(logits(model, "bert"), both)
    model.delete_adapter("lora")
    model.set_adapter("prompts")
    assert torch.allclose(logits(model, "bert"), alone[0], atol=1e-6)


def test_lora_and_prompts_are_saved_and_loaded_each_on_its_own(tmp_path: Path):
    model = with_both()
    two_steps(model)
    expected = logits(model, "bert")
    model.set_adapter("prompts")
    model.save_pretrained(tmp_path / "prompts")
    model.set_adapter("lora")
    lora_only = logits(model, "bert")
    with prompts_set_aside(model):
        model.save_pretrained(tmp_path / "lora")
        assert torch.equal(logits(model, "bert"), lora_only)
    # the LoRA is like any other
    alone = PeftModel.from_pretrained(make_model("bert"), tmp_path / "lora").eval()
    assert torch.equal(logits(alone, "bert"), lora_only)
    fresh = make_model("bert")
    fresh.load_adapter(str(tmp_path / "lora"), adapter_name="lora")
    fresh.load_adapter(str(tmp_path / "prompts"), adapter_name="prompts")
    fresh.set_adapter(["prompts", "lora"])
    assert torch.equal(logits(fresh.eval(), "bert"), expected)
    other_way_round = make_model("bert")
    other_way_round.load_adapter(str(tmp_path / "prompts"), adapter_name="prompts")
    with prompts_set_aside(other_way_round):
        other_way_round.load_adapter(str(tmp_path / "lora"), adapter_name="lora")
    other_way_round.set_adapter(["prompts", "lora"])
    assert torch.equal(logits(other_way_round.eval(), "bert"), expected)


@pytest.mark.parametrize("first", ["low_rank", "prompts"])
@pytest.mark.parametrize("task_type", [None, "SEQ_CLS"])
@pytest.mark.filterwarnings("ignore:(You are trying to modify|Already found a `peft_config`)")
def test_two_peft_models_over_one_base(tmp_path: Path, first: str, task_type: str | None):
    base = make_model("bert")
    bare = logits(base, "bert")
    configs = {"low_rank": lora_config(), "prompts": prompt_config(task_type=task_type)}
    configs["low_rank"].task_type = task_type
    models = {}
    for name in (first, *(configs.keys() - {first})):
        # LoRA in attention that has no prompts yet needs nothing set aside
        with prompts_set_aside(base) if name == "low_rank" else nullcontext():
            models[name] = get_peft_model(base, configs[name], adapter_name=name)
    for model in models.values():
        two_steps(model.eval())
    expected = logits(models["prompts"], "bert")
    assert torch.equal(logits(models["low_rank"], "bert"), expected)
    for model in models.values():
        with model.disable_adapter():  # PEFT's word for everything that is on the base
            assert torch.equal(logits(model, "bert"), bare)
    assert torch.equal(logits(models["prompts"], "bert"), expected)

    models["prompts"].save_pretrained(tmp_path, selected_adapters=["prompts"])
    with prompts_set_aside(base):
        lora_only = logits(models["low_rank"], "bert")
        models["low_rank"].save_pretrained(tmp_path, selected_adapters=["low_rank"])
    if task_type is None:
        alone = PeftModel.from_pretrained(make_model("bert"), tmp_path / "low_rank").eval()
        assert torch.equal(logits(alone, "bert"), lora_only)
    fresh = make_model("bert")
    PeftModel.from_pretrained(fresh, tmp_path / "low_rank", adapter_name="low_rank")
    both = PeftModel.from_pretrained(fresh, tmp_path / "prompts", adapter_name="prompts").eval()
    assert torch.equal(logits(both, "bert"), expected)


@pytest.mark.filterwarnings("ignore:You are trying to modify")
def test_prompts_do_not_take_the_name_of_a_lora_on_the_same_base():
    base = make_model("bert")
    lora = get_peft_model(base, lora_config()).eval()
    expected = logits(lora, "bert")
    with pytest.raises(ValueError, match="`adapter_name`.*'default' already, of type .*LORA"):
        get_peft_model(base, prompt_config())
    assert lora.peft_config["default"].peft_type == "LORA"
    assert torch.equal(logits(lora, "bert"), expected)


def test_a_merged_lora_carries_prompts_on_top():
    lora = get_peft_model(make_model("bert"), LoraConfig(target_modules=["query"], init_lora_weights=False)).eval()
    with_lora = logits(lora, "bert")
    model = get_peft_model(lora.merge_and_unload(), prompt_config(use_gate=True)).eval()
    assert torch.allclose(logits(model, "bert"), with_lora, atol=1e-5)


@pytest.mark.parametrize("shift", [False, True])
@pytest.mark.filterwarnings("ignore:(You are trying to modify|Already found a `peft_config`)")
def test_a_lora_beside_prompts_is_merged_while_they_are_set_aside(shift):
    base = make_model("bert")
    lora = get_peft_model(base, lora_config(), adapter_name="lora")
    with_lora = logits(lora.eval(), "bert")
    prompts = get_peft_model(base, prompt_config(shift_positions=shift, task_type=None), adapter_name="prompts").eval()
    both = logits(prompts, "bert")
    with pytest.raises(ValueError, match="cannot be merged"):
        lora.merge_adapter()
    lora.unmerge_adapter()
    with prompts_set_aside(base):
        lora.merge_adapter()
        assert torch.allclose(logits(lora, "bert"), with_lora, atol=1e-5)
        lora.unmerge_adapter()
    assert torch.allclose(logits(prompts, "bert"), both, atol=1e-5)


def test_pefts_mixed_model_has_a_closed_list_of_types():
    # if this no longer raises, the how-to has a shorter way
    with pytest.raises(ValueError, match="DEEP_PROMPT.*not compatible with the `PeftMixedModel`"):
        get_peft_model(make_model("bert"), prompt_config(), mixed=True)


def test_prompts_train_and_save_on_int8_linear_layers(tmp_path: Path):
    quantization = pytest.importorskip("torchao.quantization", reason="torchao, an optional extra, is not installed")

    def quantised() -> nn.Module:
        model = make_model("bert")
        quantization.quantize_(model.bert.encoder, quantization.Int8WeightOnlyConfig())
        return model

    base = quantised()
    assert type(base.bert.encoder.layer[0].attention.self.query.weight) is not nn.Parameter
    before = logits(base, "bert")
    model = prompted("bert", base=base)
    two_steps(model.eval())
    expected = logits(model, "bert")
    assert not torch.allclose(expected, before, atol=1e-4)
    model.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(quantised(), tmp_path).eval()
    assert torch.equal(logits(loaded, "bert"), expected)
    with model.disable_adapter():
        assert torch.equal(logits(model, "bert"), before)


def test_names_of_a_lora_within_prompts_are_warned_of_when_it_is_saved(tmp_path: Path):
    model = with_both()
    model.set_adapter("lora")
    with pytest.warns(UserWarning, match=r"self\.base_layer\.query\.lora_A.*fit no other model.*prompts_set_aside"):
        model.save_pretrained(tmp_path / "lora")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with prompts_set_aside(model):
            model.save_pretrained(tmp_path / "lora")
        model.set_adapter("prompts")
        model.save_pretrained(tmp_path / "prompts")
