"""An adapter's weights under another name, and in another's place."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch._dynamo.testing import CompileCounter

from dpt_peft import copy_adapter, hotswap_adapter
from tests.architectures import make_model
from tests.deep_prompt.test_common import bank_of, logits, prompt_config, prompted


def trained(encoder: str = "none", seed: int = 0, **values: object) -> PeftModel:
    """A model whose prompts and head are its own."""
    model = prompted("bert", encoder, **values)
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.5 * torch.randn_like(parameter))
    return model


@pytest.mark.parametrize("encoder", ["none", "mlp"])
def test_rename_by_copy_keeps_prompts_and_head(encoder):
    model = trained(encoder, use_gate=True)
    expected = logits(model, "bert")
    copy_adapter(model, "default", "reviews")
    model.set_adapter("reviews")
    assert torch.equal(logits(model, "bert"), expected)
    model.delete_adapter("default")
    assert list(model.peft_config) == ["reviews"]
    assert torch.equal(logits(model, "bert"), expected)
    assert not any("default" in key for key, _ in model.named_parameters())


def test_a_copy_is_independent():
    model = trained()
    expected = logits(model, "bert")
    copy_adapter(model, "default", "twin")
    with torch.no_grad():
        bank_of(model).deep_prompt_stored["twin"].add_(1.0)
    assert torch.equal(logits(model, "bert"), expected)
    with pytest.raises(ValueError, match="source.*'nobody'.*'default', 'twin'"):
        copy_adapter(model, "nobody", "x")
    with pytest.raises(ValueError, match="adapter_name.*'twin' already"):
        copy_adapter(model, "default", "twin")


@pytest.mark.parametrize("encoder", ["none", "mlp"])
def test_hot_swapping_takes_prompts_and_head_and_compiles_nothing(encoder, tmp_path):
    other = trained(encoder, seed=1)
    other.save_pretrained(tmp_path)
    torch.compiler.reset()
    counter = CompileCounter()
    model = torch.compile(trained(encoder), backend=counter)
    assert not torch.allclose(logits(model, "bert"), logits(other, "bert"), atol=1e-3)
    compiled = counter.frame_count
    hotswap_adapter(model, str(tmp_path), "default")
    assert torch.allclose(logits(model, "bert"), logits(other, "bert"), atol=1e-5)
    assert counter.frame_count == compiled >= 1


def test_only_adapters_of_one_shape_are_swapped(tmp_path):
    trained(num_virtual_tokens=3, layers_to_transform=[0]).save_pretrained(tmp_path / "short")
    get_peft_model(make_model("bert"), LoraConfig(task_type="SEQ_CLS")).save_pretrained(tmp_path / "lora")
    model = trained()
    before = logits(model, "bert")
    with pytest.raises(ValueError, match=r"num_virtual_tokens 5 and 3, layers_to_transform None and \[0\]"):
        hotswap_adapter(model, str(tmp_path / "short"))
    with pytest.raises(ValueError, match="model_name_or_path.*no deep prompts.*LORA"):
        hotswap_adapter(model, str(tmp_path / "lora"))
    with pytest.raises(ValueError, match="adapter_name.*'nobody'"):
        hotswap_adapter(model, str(tmp_path / "short"), "nobody")
    assert torch.equal(logits(model, "bert"), before)


def test_dropout_and_origin_may_differ(tmp_path):
    trained(prompt_dropout=0.3, seed=1).save_pretrained(tmp_path)
    model = trained()
    model.add_adapter("b", prompt_config())
    hotswap_adapter(model, str(tmp_path), "b")
    model.set_adapter("b")
    loaded = PeftModel.from_pretrained(make_model("bert"), tmp_path).eval()
    assert torch.equal(logits(model, "bert"), logits(loaded, "bert"))


def test_a_copy_has_the_precision_of_its_source():
    base = make_model("bert").to(torch.bfloat16)
    model = get_peft_model(base, prompt_config(), autocast_adapter_dtype=False).eval()
    model.add_adapter("in_float32", prompt_config())
    for source, dtype in (("default", torch.bfloat16), ("in_float32", torch.float32)):
        copy_adapter(model, source, f"copy_of_{source}")
        assert bank_of(model).deep_prompt_stored[f"copy_of_{source}"].dtype == dtype


def test_adapters_without_a_task_type_are_swapped(tmp_path):
    """PEFT notes the backbone's class in their saved configuration alone."""
    model = prompted("bert", task_type=None)
    model.save_pretrained(tmp_path)
    expected = logits(model, "bert")
    with torch.no_grad():
        bank_of(model).deep_prompt_stored["default"].zero_()
    hotswap_adapter(model, str(tmp_path))
    assert torch.equal(logits(model, "bert"), expected)
