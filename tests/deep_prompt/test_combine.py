"""Adapters made of adapters."""

from __future__ import annotations

import warnings

import pytest
import torch
from peft import PeftConfig, PeftModel

from tests.architectures import make_model
from tests.deep_prompt.test_common import bank_of, keys_of, layers_of, logits, prompt_config, prompted, values_of


def two_adapters(encoder: str = "none", **second: object) -> PeftModel:
    model = prompted("bert", encoder, num_virtual_tokens=3)
    model.add_adapter("b", prompt_config(**{"num_virtual_tokens": 3} | second))
    return model


def test_linear_combination_is_the_weighted_sum():
    model = two_adapters()
    model.add_weighted_adapter(["default", "b"], [0.25, 0.75], "mean")
    for layer in layers_of(model):
        for part in (keys_of, values_of):
            assert torch.allclose(part(layer, "mean"), 0.25 * part(layer) + 0.75 * part(layer, "b"))
    model.set_adapter("mean")
    logits(model, "bert")


@pytest.mark.parametrize("encoder", ["none", "mlp"])
def test_cat_of_two_is_both_at_once(encoder):
    model = prompted("bert", encoder, base=make_model("bert").base_model, task_type="FEATURE_EXTRACTION")
    model.add_adapter("b", prompt_config(num_virtual_tokens=2, task_type="FEATURE_EXTRACTION"))
    model.add_weighted_adapter(["default", "b"], [1.0, 1.0], "both", combination_type="cat")
    ids = torch.randint(3, 90, (2, 6))
    with torch.no_grad():
        model.base_model.set_adapter(["default", "b"])
        expected = model(ids)[0]
        model.set_adapter("both")
        assert torch.allclose(model(ids)[0], expected, atol=1e-6)


def test_a_combination_saves_and_loads_like_any_other(tmp_path):
    model = two_adapters(num_virtual_tokens=2)
    model.add_weighted_adapter(["default", "b"], [1.0, 0.5], "both", combination_type="cat")
    model.set_adapter("both")
    model.save_pretrained(tmp_path, selected_adapters=["both"])
    loaded = PeftModel.from_pretrained(make_model("bert"), tmp_path / "both").eval()
    assert torch.equal(logits(loaded, "bert"), logits(model, "bert"))
    assert PeftConfig.from_pretrained(tmp_path / "both").num_virtual_tokens == 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((["default", "nobody"], [1, 1], "c"), "adapters.*'nobody'"),
        ((["default", "b"], [1], "c"), "weights.*1 for 2"),
        ((["default", "b"], [1, 1], "b"), "adapter_name.*'b' already"),
        ((["default", "b"], [1, 1], "c", "svd"), "combination_type.*'linear' or 'cat'"),
        ((["default", "b"], [1, 1], "c"), r"different lengths \(3, 2\).*cat"),
    ],
)
def test_what_cannot_be_combined(arguments, message):
    model = two_adapters(num_virtual_tokens=2)
    with pytest.raises(ValueError, match=message):
        model.add_weighted_adapter(*arguments)
    assert set(model.peft_config) == {"default", "b"}


def test_adapters_of_different_depth_cannot_be_combined():
    with pytest.raises(ValueError, match="same `layers_to_transform`"):
        two_adapters(layers_to_transform=[0]).add_weighted_adapter(["default", "b"], [1, 1], "c")


@pytest.mark.parametrize("encoder", ["none", "mlp"])
def test_prompts_are_handed_on_by_name_and_by_folder(encoder, tmp_path):
    model = prompted("bert", encoder)
    model.save_pretrained(tmp_path / "first")
    model.add_adapter("next", prompt_config(encoder, init_from="default"))
    fresh = prompted("bert", encoder, init_from=str(tmp_path / "first"))
    for ours, theirs in zip(layers_of(model), layers_of(fresh), strict=True):
        expected = ours.keys_and_values("default")
        for key, value in (ours.keys_and_values("next"), theirs.keys_and_values("default")):
            assert torch.equal(key, expected[0])
            assert torch.equal(value, expected[1])
    # the saved configuration does not lead back to where the prompts came from
    fresh.save_pretrained(tmp_path / "second")
    assert PeftConfig.from_pretrained(tmp_path / "second").init_from is None


def test_init_from_prompts_that_do_not_fit(tmp_path):
    prompted("bert").save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="another backbone, or with another configuration"):
        prompted("bert", num_virtual_tokens=7, init_from=str(tmp_path))


def test_a_misspelled_adapter_to_start_from_is_named():
    model = prompted("bert")
    with pytest.raises(ValueError, match=r"`init_from` is 'nope'.*neither an adapter of this model \('default'\)"):
        model.add_adapter("b", prompt_config(init_from="nope"))
    with pytest.raises(ValueError, match=r"`init_from` is 'nope'.*\(it has no other\)"):
        prompted("bert", init_from="nope")


def test_excluding_modules_warns_of_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*")
        prompted("bert", exclude_modules=r".*layer\.0\.attention\.self")


def test_one_configuration_hands_prompts_on_to_several_adapters():
    model = prompted("bert")
    config = prompt_config(init_from="default")
    for name in ("b", "c"):
        model.add_adapter(name, config)
        stored = bank_of(model).deep_prompt_stored
        assert torch.equal(stored[name], stored["default"])


@pytest.mark.parametrize(
    "values", [{"init_from": "/no/such/folder"}, {"init_from": "default", "num_virtual_tokens": 9}]
)
def test_nothing_is_left_of_an_adapter_that_could_not_be_made(values):
    model = prompted("bert", shift_positions=True)
    keys, expected = model.state_dict().keys(), logits(model, "bert")
    with pytest.raises(ValueError):  # noqa: PT011 -- the Hub's or ours
        model.add_adapter("b", prompt_config(shift_positions=True, **values))
    assert model.state_dict().keys() == keys
    assert not any("b" in layer.slots for layer in layers_of(model))
    assert list(model.peft_config) == ["default"]
    assert torch.equal(logits(model, "bert"), expected)
