"""Classifiers of images and audio: the same verbs, with heads named as for LoRA."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peft import PeftModel, get_peft_model
from safetensors.torch import load_file

from tests.architectures import AUDIO, IMAGES, tiny_config
from tests.deep_prompt.test_common import prompt_config

MODELS = dict.fromkeys(("vit", "deit", "beit", "dinov2", "swin", "pvt_v2"), IMAGES)
MODELS |= dict.fromkeys(("wav2vec2", "hubert", "whisper", "audio-spectrogram-transformer"), AUDIO)
every_model = pytest.mark.parametrize("name", MODELS)


def base_of(name: str) -> Any:
    return MODELS[name].make(tiny_config(name))


def batch_of(name: str, num_rows: int = 2) -> dict[str, torch.Tensor]:
    """Rows that differ; the family's own batch has two."""
    two = MODELS[name].make_batch(base_of(name))
    return {key: torch.cat([value, value.flip(1)])[:num_rows] for key, value in two.items()}


def prompted(name: str, base: Any = None) -> PeftModel:
    base = base or base_of(name)
    torch.manual_seed(2)
    return get_peft_model(base, prompt_config(task_type=None, modules_to_save=["classifier"])).eval()


def logits(model: torch.nn.Module, batch: dict[str, torch.Tensor], **kwargs: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(**batch, **kwargs).logits


@every_model
def test_disabling_saving_loading_and_unloading_are_exact(name, tmp_path):
    base, batch = base_of(name), batch_of(name)
    plain, names = logits(base, batch), [key for key, _ in base.named_modules()]
    model = prompted(name, base)
    outputs = logits(model, batch)
    assert not torch.allclose(outputs, plain, rtol=1e-4)
    with model.disable_adapter():
        assert torch.equal(logits(model, batch), plain)
    model.save_pretrained(tmp_path)
    saved = load_file(tmp_path / "adapter_model.safetensors")
    assert {key.split(".")[-1] for key in saved if "classifier" not in key} == {"deep_prompt_stored"}
    assert any("classifier" in key for key in saved)
    loaded = PeftModel.from_pretrained(base_of(name), tmp_path).eval()
    assert torch.equal(logits(loaded, batch), outputs)
    unloaded = model.unload()
    assert torch.equal(logits(unloaded, batch), plain)
    assert [key for key, _ in unloaded.named_modules()] == names


@every_model
def test_gradients_reach_the_prompts_and_the_head_alone(name):
    model = prompted(name).train()
    model(**batch_of(name), labels=torch.tensor([0, 1])).loss.backward()
    for key, parameter in model.named_parameters():
        ours = "deep_prompt_" in key or ".modules_to_save." in key
        assert parameter.requires_grad is ours, key
        assert (parameter.grad is not None) is ours, key
        assert not ours or parameter.grad.abs().sum() > 0, key


@every_model
def test_rows_of_a_mixed_batch_are_each_as_if_alone(name):
    """Also where an image is cut into windows, which become rows of the attention's batch."""
    model = prompted(name)
    model.add_adapter("long", prompt_config(task_type=None, modules_to_save=["classifier"], num_virtual_tokens=8))
    batch = batch_of(name, 4)
    mixed = logits(model, batch, adapter_names=["long", "__base__", "default", "long"])
    with pytest.raises(ValueError, match="has 2 names, but the batch has 4 rows"):
        logits(model, batch, adapter_names=["long", "default"])
    for row, adapter in ((0, "long"), (2, "default"), (3, "long")):
        model.set_adapter(adapter)
        alone = logits(model, {key: value[row : row + 1] for key, value in batch.items()})
        assert torch.allclose(mixed[row : row + 1], alone, atol=1e-5)
    with model.disable_adapter():
        alone = logits(model, {key: value[1:2] for key, value in batch.items()})
        assert torch.allclose(mixed[1:2], alone, atol=1e-5)


@pytest.mark.parametrize(("name", "reason"), [("resnet", "no attention modules"), ("swinv2", "Swinv2SelfAttention")])
def test_images_without_attention_or_with_another_are_refused_by_name(name, reason):
    with pytest.raises(ValueError, match=f"`{name}`.*{reason}"):
        get_peft_model(IMAGES.make(tiny_config(name)), prompt_config(task_type=None))
