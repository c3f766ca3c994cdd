"""What PEFT's common tests (`PeftCommonTester`, tests/testing_common.py of peft) ask of LoRA, asked of deep prompts.

PEFT's test (without `_test_`)              ours (here, if no file is named)
----------------------------------------    ---------------------------------------------------------------------------
model_attr, adapter_name                    test_attributes_and_adapter_name
prepare_for_training                        test_preparation_for_training
load_model_low_cpu_mem_usage                test_loading_through_the_meta_device
save_pretrained                             test_a_saved_adapter_is_complete
save_pretrained_selected_adapters           test_all_and_selected_adapters_are_saved
save_pretrained_adapter_name_substring      test_names_that_contain_each_other
from_pretrained_config_construction         test_the_given_configuration_is_used
load_multiple_adapters                      test_several_adapters_of_one_folder
add_adapter_no_autocast_adapter_dtype       test_adapters_in_the_dtype_of_the_backbone
training                                    test_common.py: test_only_prompts_and_head_have_gradients...
training_layer_indexing                     test_common.py: test_depth_prompts_only_the_chosen_layers...
training_gradient_checkpointing             test_training.py: test_gradient_checkpointing_gives_the_same_gradients
inference_safetensors                       test_common.py: test_saved_adapter_loads_bit_for_bit...
peft_model_device_map                       test_loading_with_a_device_map
delete_adapter, delete_inactive_adapter     test_deleting_active_inactive_and_last
delete_unknown_adapter_raises               test_deleting_active_inactive_and_last
unload_adapter                              test_common.py: test_prompts_change_the_output_and_disabling...
disable_adapter                             the same; generation: test_generation
mixed_adapter_batches                       test_mixed_batch.py: test_each_row_as_if_alone
generate_with_mixed_adapter_batches(...)    test_mixed_batch.py: test_generation_with_one_adapter_per_row (with beams)
generate, generate_pos_args, half_prec      test_generation
weighted_combination_of_adapters            test_combine.py ("linear" and "cat"; the others decompose weight matrices)
passing_input_embeds_works                  test_embeddings_in_the_place_of_ids
get_base_model_state_dict                   test_the_state_of_the_base_model
merge_layers*, safe_merge, lora_conversion  LoRA's alone; test_common.py: test_merging_is_refused_with_the_way_out
adding_multiple_adapters_with_bias_raises   no `bias` here; test_config.py: test_unknown_options_are_not_swallowed
training_prompt_learning_tasks              for PEFT's prompt learning alone
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest
import torch
from peft import (
    PeftModel,
    get_base_model_state_dict,
    get_peft_model,
    get_peft_model_state_dict,
    inject_adapter_in_model,
    prepare_model_for_kbit_training,
    set_base_model_state_dict,
)
from peft.helpers import disable_input_dtype_casting
from peft.utils import ModulesToSaveWrapper
from safetensors.torch import load_file
from torch import nn
from transformers import AutoModelForCausalLM

from tests.architectures import make_batch, make_config, make_model
from tests.deep_prompt.test_common import layers_of, logits, prompt_config, prompted

NAMES = ("bert", "roberta", "electra", "distilbert", "modernbert", "deberta", "deberta-v2", "llama")
every_architecture = pytest.mark.parametrize("name", NAMES)


@every_architecture
def test_attributes_and_adapter_name(name):
    model = get_peft_model(make_model(name), prompt_config(), adapter_name="test-adapter")
    for attribute in ("save_pretrained", "from_pretrained", "push_to_hub"):
        assert hasattr(model, attribute)
    assert model.active_adapter == "test-adapter"
    assert any("test-adapter" in key for key, _ in model.named_parameters())


@every_architecture
def test_preparation_for_training(name):
    ids = make_batch(name).input_ids
    assert not prompted(name).get_input_embeddings()(ids).requires_grad
    base = prepare_model_for_kbit_training(make_model(name), use_gradient_checkpointing=False)
    assert not any(parameter.requires_grad for parameter in base.parameters())
    model = get_peft_model(base, prompt_config())
    model.enable_input_require_grads()
    assert model.get_input_embeddings()(ids).requires_grad


@pytest.mark.parametrize("name", [*NAMES, "albert"])
@pytest.mark.parametrize("options", [{}, {"encoder": "mlp"}, {"use_gate": True}], ids=["plain", "mlp", "gate"])
def test_loading_through_the_meta_device(name, options, tmp_path):
    model = prompted(name, **options)
    model.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(make_model(name), tmp_path, low_cpu_mem_usage=True)
    loaded.load_adapter(tmp_path, adapter_name="other", low_cpu_mem_usage=True)
    loaded.eval()
    assert {parameter.device.type for parameter in loaded.parameters()} == {"cpu"}
    for adapter in ("default", "other"):
        loaded.set_adapter(adapter)
        # the same weights, but mapped from the file at an address of its own: products differ in the last bit at times
        torch.testing.assert_close(logits(loaded, name), logits(model, name), rtol=0, atol=1e-6)
    empty = get_peft_model(make_model(name), prompt_config(**options), low_cpu_mem_usage=True)
    injected = inject_adapter_in_model(prompt_config(**options), make_model(name), low_cpu_mem_usage=True)
    for model_on_meta in (empty, injected):
        prompts = [p for key, p in model_on_meta.named_parameters() if "deep_prompt_" in key]
        assert {parameter.device.type for parameter in prompts} == {"meta"}


@every_architecture
def test_a_saved_adapter_is_complete(name, tmp_path):
    base = make_model(name)
    base.config._name_or_path = base.name_or_path = "some/backbone"
    model = prompted(name, base=base)
    model.save_pretrained(tmp_path)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        loaded = PeftModel.from_pretrained(make_model(name), tmp_path)
    assert not any("missing adapter keys" in str(warning.message) for warning in caught)
    assert loaded.state_dict().keys() == model.state_dict().keys()
    for key, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], tensor), key
    assert {path.name for path in tmp_path.iterdir()} == {
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
    }
    card = (tmp_path / "README.md").read_text()
    assert "library_name: peft" in card
    assert "base_model: some/backbone" in card
    assert json.loads((tmp_path / "adapter_config.json").read_text())["base_model_name_or_path"] == "some/backbone"


@every_architecture
def test_all_and_selected_adapters_are_saved(name, tmp_path):
    model = prompted(name)
    model.add_adapter("new", prompt_config(num_virtual_tokens=2))
    model.save_pretrained(tmp_path / "all")
    loaded = PeftModel.from_pretrained(make_model(name), tmp_path / "all")
    loaded.load_adapter(tmp_path / "all" / "new", "new")
    assert loaded.state_dict().keys() == model.state_dict().keys()
    for key, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], tensor), key
    model.save_pretrained(tmp_path / "one", selected_adapters=["default"])
    assert not (tmp_path / "one" / "new").exists()


@every_architecture
@pytest.mark.parametrize("encoder", ["none", "mlp"])
def test_names_that_contain_each_other(name, encoder, tmp_path):
    model = prompted(name, encoder)
    expected, number = logits(model, name), len(get_peft_model_state_dict(model))
    for other in ("default2", "other_default", "foodefault_bar", "efaul"):
        model.add_adapter(other, prompt_config(encoder))
    model.save_pretrained(tmp_path, selected_adapters=["default"])
    assert len(load_file(tmp_path / "adapter_model.safetensors")) == number
    loaded = PeftModel.from_pretrained(make_model(name), tmp_path, adapter_name="efault").eval()
    assert torch.equal(logits(loaded, name), expected)


@every_architecture
def test_the_given_configuration_is_used(name, tmp_path):
    config = prompt_config()
    get_peft_model(make_model(name), config).save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(make_model(name), tmp_path, is_trainable=False, config=config)
    assert loaded.peft_config["default"] is config
    assert config.inference_mode
    assert not any(parameter.requires_grad for key, parameter in loaded.named_parameters() if "deep_prompt_" in key)


@every_architecture
def test_several_adapters_of_one_folder(name, tmp_path):
    prompted(name).save_pretrained(tmp_path)
    model = PeftModel.from_pretrained(make_model(name), tmp_path)
    for other in ("other", "yet-another"):
        assert model.load_adapter(tmp_path, adapter_name=other).missing_keys == []


@every_architecture
@pytest.mark.parametrize("encoder", ["none", "mlp"])
def test_adapters_in_the_dtype_of_the_backbone(name, encoder, tmp_path):
    config = prompt_config(encoder, use_gate=True)
    model = get_peft_model(make_model(name).to(torch.bfloat16), config, autocast_adapter_dtype=False)
    model.add_adapter("added", config, autocast_adapter_dtype=False)
    model.save_pretrained(tmp_path)
    model.load_adapter(tmp_path, adapter_name="loaded", autocast_adapter_dtype=False)
    prompts = {key: parameter.dtype for key, parameter in model.named_parameters() if "deep_prompt_" in key}
    assert set(prompts.values()) == {torch.bfloat16}, prompts
    assert torch.isfinite(logits(model.eval(), name)).all()


@every_architecture
def test_loading_with_a_device_map(name, tmp_path):
    model = prompted(name)
    model.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(make_model(name), tmp_path, device_map={"": "cpu"}).to("cpu").eval()
    assert torch.equal(logits(loaded, name), logits(model, name))


@every_architecture
@pytest.mark.parametrize("active", [True, False], ids=["active", "inactive"])
def test_deleting_active_inactive_and_last(name, active):
    model = get_peft_model(make_model(name), prompt_config("mlp"))
    model.add_adapter("delete_me", prompt_config("mlp"))
    if active:
        model.set_adapter("delete_me")
    for adapter, left in (("delete_me", ["default"]), ("default", [])):
        model.delete_adapter(adapter)
        assert list(model.peft_config) == model.active_adapters == left
        for layer in layers_of(model):
            for attribute in (*layer.adapter_layer_names, *layer.other_param_names):
                assert adapter not in getattr(layer, attribute)
        for head in (module for module in model.modules() if isinstance(module, ModulesToSaveWrapper)):
            assert adapter not in head.modules_to_save
            assert head.active_adapters == left
    # a PeftModel needs an adapter to be called; its backbone does not
    with torch.no_grad():
        output = model.eval().base_model(**make_batch(name).asdict()).logits
    assert torch.equal(output, logits(make_model(name), name))
    with pytest.raises(ValueError, match="unknown-adapter does not exist"):
        model.delete_adapter("unknown-adapter")


@pytest.mark.parametrize("options", [{}, {"shift_positions": True}])
def test_nothing_is_cast_with_or_without_the_casting_of_inputs(options):
    model = prompted("bert", **options)
    expected = logits(model, "bert")
    with disable_input_dtype_casting(model):
        assert torch.equal(logits(model, "bert"), expected)


@every_architecture
def test_embeddings_in_the_place_of_ids(name):
    model = prompted(name)
    batch = make_batch(name).asdict()
    if name == "llama":
        # the last token is found by the ids, where the second row is padded
        batch = {key: value[:1] for key, value in batch.items()}
    embeds = model.get_input_embeddings()(batch["input_ids"])
    if name == "roberta":
        # positions are counted from ids, where there are any
        batch["position_ids"] = torch.arange(2, 2 + embeds.shape[1]).expand(embeds.shape[:2])
    with torch.no_grad():
        expected = model(**batch).logits
        batch.pop("input_ids")
        assert torch.allclose(model(inputs_embeds=embeds, **batch).logits, expected, atol=1e-5)


@every_architecture
def test_the_state_of_the_base_model(name):
    base = make_model(name)
    original = {key: tensor.clone() for key, tensor in base.state_dict().items()}
    model = get_peft_model(base, prompt_config("mlp", use_gate=True))
    extracted = get_base_model_state_dict(model)
    assert extracted.keys() == original.keys()
    assert all(torch.equal(extracted[key], tensor) for key, tensor in original.items())
    with torch.no_grad():
        for parameter in model.get_base_model().parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    result = set_base_model_state_dict(model, original, strict=False)
    assert not result.missing_keys
    assert not result.unexpected_keys
    restored = get_base_model_state_dict(model)
    assert all(torch.equal(restored[key], tensor) for key, tensor in original.items())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("encoder", ["none", "mlp"])
def test_generation(dtype, encoder, tmp_path: Path):
    def causal_lm() -> nn.Module:
        torch.manual_seed(0)
        return AutoModelForCausalLM.from_config(make_config("llama")).to(dtype).eval()

    model = get_peft_model(causal_lm(), prompt_config(encoder, task_type="CAUSAL_LM")).eval()
    batch = make_batch("llama", "left").asdict()
    scores = {"return_dict_in_generate": True, "output_scores": True, "max_new_tokens": 3}
    base = causal_lm().generate(**batch, **scores).scores[0]
    ours = model.generate(**batch, **scores).scores[0]
    assert not torch.allclose(ours, base)
    with model.disable_adapter():
        # to rounding, as for LoRA: PEFT's generate calls the backbone with other arguments
        assert torch.allclose(model.generate(**batch, **scores).scores[0], base, atol=1e-6)
    assert torch.equal(model.generate(**batch, **scores).scores[0], ours)
    by_name = model.generate(input_ids=batch["input_ids"], max_new_tokens=3)
    assert torch.equal(model.generate(batch["input_ids"], max_new_tokens=3), by_name)
