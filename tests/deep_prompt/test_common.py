"""What holds on every architecture, with either encoder."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from peft import AutoPeftModelForSequenceClassification, PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import PreTrainedModel

from dpt_peft import DeepPromptConfig, DeepPromptLayer
from dpt_peft.deep_prompt.bank import PromptBank
from tests.architectures import CONFIGS, make_batch, make_config, make_model

ENCODERS = ("none", "mlp")
LENGTH = 5

every_architecture = pytest.mark.parametrize("name", CONFIGS)
# for what does not depend on how prompts are brought into attention: through the interface, run by run, followed
some_architectures = pytest.mark.parametrize("name", ["bert", "albert", "mpnet"])
every_encoder = pytest.mark.parametrize("encoder", ENCODERS)

# the encoder makes the same keys and values for every kind of attention
every_encoder_once = pytest.mark.parametrize(
    ("name", "encoder"), [*((name, "none") for name in CONFIGS), ("bert", "mlp"), ("albert", "mlp"), ("mpnet", "mlp")]
)


def prompt_config(encoder: str = "none", **values: object) -> DeepPromptConfig:
    defaults = {"task_type": "SEQ_CLS", "num_virtual_tokens": LENGTH, "encoder_reparameterization": encoder}
    if encoder == "mlp":
        defaults["encoder_hidden_size"] = 16
    if not values.keys() & {"init_weights", "init_from"}:
        defaults["init_std"] = 0.5  # wide, so that what prompts change is far above rounding
    return DeepPromptConfig(**defaults | values)


def prompted(name: str, encoder: str = "none", base: PreTrainedModel | None = None, **values: object) -> PeftModel:
    base = base or make_model(name)
    torch.manual_seed(2)
    return get_peft_model(base, prompt_config(encoder, **values)).eval()


def logits(model: torch.nn.Module, name: str, padding_side: str = "right", **kwargs: object) -> torch.Tensor:
    with torch.no_grad():
        return model(**make_batch(name, padding_side).asdict(), **kwargs).logits


def layers_of(model: torch.nn.Module) -> list[DeepPromptLayer]:
    return [module for module in model.modules() if isinstance(module, DeepPromptLayer)]


def bank_of(model: torch.nn.Module) -> PromptBank:
    bank = PromptBank.of(model)
    assert bank is not None
    return bank


def keys_of(layer: DeepPromptLayer, adapter: str = "default") -> torch.Tensor:
    """Keys of each run, (runs, tokens, key size); what is written into them changes the prompts."""
    return layer.keys_and_values(adapter)[0]


def values_of(layer: DeepPromptLayer, adapter: str = "default") -> torch.Tensor:
    """The same for values."""
    return layer.keys_and_values(adapter)[1]


@every_architecture
@every_encoder
def test_prompts_change_the_output_and_disabling_or_unloading_gives_the_base_model_bit_for_bit(name, encoder):
    base = make_model(name)
    modules_before = [(key, type(module)) for key, module in base.named_modules()]
    config_before = base.config.to_dict()
    expected = logits(base, name)
    model = prompted(name, encoder, base)
    changed = logits(model, name)
    assert (changed - expected).abs().max() > 1e-5
    with model.disable_adapter():
        assert torch.equal(logits(model, name), expected)
    assert torch.equal(logits(model, name), changed)
    unloaded = model.unload()
    # the task head is wrapped and unwrapped by PEFT, which hands back the trained copy: the same numbers here
    assert torch.equal(logits(unloaded, name), expected)
    assert [(key, type(module)) for key, module in unloaded.named_modules()] == modules_before
    assert unloaded.config.to_dict() == config_before
    assert not unloaded._forward_pre_hooks
    assert not unloaded._forward_hooks


@every_architecture
@every_encoder
def test_saved_adapter_loads_bit_for_bit_into_peft_and_plain_models(name, encoder, tmp_path):
    model = prompted(name, encoder)
    expected = logits(model, name)
    model.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(make_model(name), tmp_path).eval()
    assert torch.equal(logits(loaded, name), expected)
    plain = make_model(name)
    plain.load_adapter(str(tmp_path))
    assert torch.equal(logits(plain.eval(), name), expected)
    plain.disable_adapters()
    assert torch.equal(logits(plain, name), logits(make_model(name), name))


@some_architectures
def test_auto_class_finds_the_backbone(name, tmp_path):
    base_path, adapter_path = tmp_path / "base", tmp_path / "adapter"
    make_model(name).save_pretrained(base_path)
    base = make_model(name)
    base.config._name_or_path = base.name_or_path = str(base_path)
    model = prompted(name, base=base)
    model.save_pretrained(adapter_path)
    loaded = AutoPeftModelForSequenceClassification.from_pretrained(adapter_path, num_labels=3).eval()
    assert torch.equal(logits(loaded, name), logits(model, name))


@every_architecture
@every_encoder
def test_saved_file_holds_exactly_the_prompts_and_the_head(name, encoder, tmp_path):
    model = prompted(name, encoder)
    model.save_pretrained(tmp_path)
    saved = load_file(tmp_path / "adapter_model.safetensors")
    head = {key for key in saved if "classifier." in key or "score." in key}
    assert head
    rest = saved.keys() - head
    assert all("deep_prompt_" in key for key in rest)
    config = make_config(name)
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = heads * (config.hidden_size // config.num_attention_heads) // getattr(config, "head_ratio", 1)
    layers = config.num_hidden_layers
    if encoder == "none":
        numbers = layers * 2 * LENGTH * width
    else:
        shared = LENGTH * config.hidden_size + (config.hidden_size + 1) * 16
        numbers = shared + layers * 2 * width * (16 + 1)
    assert sum(saved[key].numel() for key in rest) == numbers
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert trainable == sum(tensor.numel() for tensor in saved.values())
    assert not list(Path(tmp_path).glob("*.bin"))


@every_architecture
@every_encoder
def test_only_prompts_and_head_have_gradients_and_every_prompted_layer_has_one(name, encoder):
    model = prompted(name, encoder).train()
    batch = make_batch(name)
    model(**batch.asdict(), labels=torch.tensor([0, 1])).loss.backward()
    for key, parameter in model.named_parameters():
        is_ours = "deep_prompt_" in key or ".modules_to_save." in key
        assert parameter.requires_grad is is_ours, key
        assert (parameter.grad is not None) is is_ours, key
        if "deep_prompt_" in key:
            assert parameter.grad.abs().sum() > 0, key
    if encoder == "none":
        # every run of every layer has to be reached
        gradient = bank_of(model).deep_prompt_stored["default"].grad
        prompts = gradient.unflatten(1, (make_config(name).num_hidden_layers, -1))
        assert (prompts.abs().amax(dim=(0, 2)) > 0).all()


@every_architecture
def test_depth_prompts_only_the_chosen_layers_and_builds_no_graph_below(name):
    num_layers = make_config(name).num_hidden_layers
    model = prompted(name, layers_to_transform=[num_layers - 1]).train()
    runs = [layer.layer_indices[run] for layer in layers_of(model) for run in layer.slots["default"]]
    assert runs == [num_layers - 1]
    wrapped = layers_of(model)
    attention = type(wrapped[0].base_layer)
    unprompted = [m for m in model.modules() if type(m) is attention and m not in [w.base_layer for w in wrapped]]
    needs_graph = []
    # the output of attention is the first thing in a layer that could need a graph
    for module in [*unprompted, *wrapped]:
        module.register_forward_hook(lambda _module, _args, output: needs_graph.append(output[0].requires_grad))
    model(**make_batch(name).asdict())
    assert needs_graph == [False] * (num_layers - 1) + [True]


@some_architectures
def test_last_n_is_the_same_as_the_indices(name):
    num_layers = make_config(name).num_hidden_layers
    by_name = prompted(name, layers_to_transform="last 2")
    by_index = prompted(name, layers_to_transform=[num_layers - 2, num_layers - 1])
    assert torch.equal(logits(by_name, name), logits(by_index, name))


@every_architecture
@pytest.mark.parametrize("padding_side", ["right", "left"])
def test_sdpa_and_eager_agree(name, padding_side):
    if not make_model(name)._supports_sdpa:
        pytest.skip("the architecture has one attention implementation")
    sdpa = prompted(name, base=make_model(name, "sdpa"))
    eager = prompted(name, base=make_model(name, "eager"))
    assert torch.allclose(
        logits(sdpa, name, padding_side=padding_side), logits(eager, name, padding_side=padding_side), atol=1e-5
    )


@every_architecture
def test_padding_stays_masked(name):
    batch = make_batch(name)
    alone = {"input_ids": batch.input_ids[1:, :5], "attention_mask": batch.attention_mask[1:, :5]}

    def padding_shows(model: torch.nn.Module) -> bool:
        with torch.no_grad():
            return not torch.allclose(model(**batch.asdict()).logits[1:], model(**alone).logits, atol=1e-5)

    if padding_shows(make_model(name)):
        pytest.skip("the backbone itself mixes padding in")
    assert not padding_shows(prompted(name))


@every_architecture
def test_several_adapters_switch_and_delete(name):
    model = prompted(name)
    first = logits(model, name)
    model.add_adapter("other", prompt_config(num_virtual_tokens=2, layers_to_transform=[0]))
    assert torch.equal(logits(model, name), first)
    model.set_adapter("other")
    other = logits(model, name)
    assert not torch.equal(other, first)
    # nothing of the inactive adapter is trained
    assert all("default" not in key for key, p in model.named_parameters() if p.requires_grad)
    model.set_adapter("default")
    assert torch.equal(logits(model, name), first)
    model.delete_adapter("other")
    assert torch.equal(logits(model, name), first)
    assert not any("other" in key for key, _ in model.named_parameters())


@every_architecture
def test_two_active_adapters_join_their_prompts(name):
    # of the backbone alone: PEFT lets one task head be active at a time
    model = prompted(name, base=make_model(name).base_model, num_virtual_tokens=3, task_type="FEATURE_EXTRACTION")
    model.add_adapter("other", prompt_config(num_virtual_tokens=2, task_type="FEATURE_EXTRACTION"))
    both = prompted(name, base=make_model(name).base_model, num_virtual_tokens=5, task_type="FEATURE_EXTRACTION")
    for ours, theirs in zip(layers_of(both), layers_of(model), strict=True):
        for part in (keys_of, values_of):
            part(ours).copy_(torch.cat([part(theirs), part(theirs, "other")], dim=1))
    model.base_model.set_adapter(["default", "other"])
    batch = make_batch(name).asdict()
    with torch.no_grad():
        assert torch.allclose(model(**batch)[0], both(**batch)[0], atol=1e-6)


@every_architecture
@every_encoder
def test_deep_copy_is_independent(name, encoder):
    model = prompted(name, encoder)
    expected = logits(model, name)
    twin = copy.deepcopy(model)
    assert torch.equal(logits(twin, name), expected)
    with torch.no_grad():
        for key, parameter in twin.named_parameters():
            if "deep_prompt_" in key:
                parameter.add_(1.0)
    assert torch.equal(logits(model, name), expected)
    assert (logits(twin, name) - expected).abs().max() > 1e-4


@every_architecture
def test_folding_the_mlp_keeps_the_output_to_the_last_bit_and_saves_without_it(name, tmp_path):
    model = prompted(name, "mlp")
    expected = logits(model, name)
    model.fold_encoder()
    assert torch.equal(logits(model, name), expected)
    model.save_pretrained(tmp_path)
    saved = load_file(tmp_path / "adapter_model.safetensors")
    assert [key for key in saved if "deep_prompt_" in key] == ["base_model.model.prompt_bank.deep_prompt_stored"]
    loaded = PeftModel.from_pretrained(make_model(name), tmp_path).eval()
    assert torch.equal(logits(loaded, name), expected)


@some_architectures
def test_prompt_dropout_acts_in_training_only(name):
    model = prompted(name, prompt_dropout=0.5)
    assert torch.equal(logits(model, name), logits(prompted(name), name))
    # a new adapter is in the mode of its model
    plain = make_model(name)
    plain.add_adapter(prompt_config(prompt_dropout=0.5), adapter_name="mine")
    assert torch.equal(logits(plain, name), logits(plain, name))
    for module in model.modules():
        # the backbone's own dropout off, the prompts' on
        module.training = isinstance(module, torch.nn.Dropout) and module.p == 0.5
    assert (logits(model, name) - logits(model, name)).abs().max() > 1e-4


@every_architecture
def test_plain_transformers_model_takes_an_adapter_by_config(name):
    model = make_model(name)
    before = logits(model, name)
    torch.manual_seed(2)
    model.add_adapter(prompt_config(), adapter_name="mine")
    assert (logits(model, name) - before).abs().max() > 1e-5
    model.disable_adapters()
    assert torch.equal(logits(model, name), before)


@some_architectures
def test_merging_is_refused_with_the_way_out(name):
    model = prompted(name)
    with pytest.raises(ValueError, match="unload"):
        model.merge_and_unload()
