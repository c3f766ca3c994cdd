"""Where weights stand: `device_map`, offloading, and backbones on the meta device."""

from __future__ import annotations

import pytest
import torch
from accelerate import init_empty_weights
from accelerate.hooks import AlignDevicesHook
from peft import PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from transformers import AutoModelForSequenceClassification

from tests.architectures import make_batch, make_config, make_model
from tests.deep_prompt.test_common import every_encoder, layers_of, logits, prompt_config, prompted

LABELS = torch.tensor([0, 1])
ARCHITECTURES = ["bert", "albert", "deberta-v2", "deberta", "llama"]
SPLIT = {"bert.embeddings": "cpu", "bert.encoder.layer.0": "cpu", "bert.pooler": "cpu", "classifier": "cpu"}
OFFLOADED = SPLIT | {"bert.encoder.layer.1": "disk", "bert.encoder.layer.2": "disk"}


def gradients(model: torch.nn.Module, name: str) -> dict[str, torch.Tensor]:
    # evaluation mode: no dropout
    model(**make_batch(name).asdict(), labels=LABELS).loss.backward()
    return {key: p.grad for key, p in model.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("device_map", ["cpu", {"": "cpu"}, "auto"], ids=["cpu", "root", "auto"])
@every_encoder
def test_device_map(name, encoder, device_map, tmp_path):
    reference = prompted(name, encoder)
    make_model(name).save_pretrained(tmp_path / "base")
    reference.save_pretrained(tmp_path / "adapter")
    base = AutoModelForSequenceClassification.from_pretrained(tmp_path / "base", device_map=device_map)
    loaded = PeftModel.from_pretrained(base, tmp_path / "adapter", is_trainable=True, device_map=device_map).eval()
    assert torch.equal(logits(loaded, name), logits(reference, name))
    expected = gradients(reference, name)
    assert all(torch.equal(gradient, expected[key]) for key, gradient in gradients(loaded, name).items())


@every_encoder
def test_layers_offloaded_to_disk(encoder, tmp_path):
    """Prompts stand where the layer is computed, not on the meta device where its weights wait."""
    reference = prompted("bert", encoder)
    make_model("bert").save_pretrained(tmp_path / "base")
    base = AutoModelForSequenceClassification.from_pretrained(
        tmp_path / "base", device_map=OFFLOADED, offload_folder=tmp_path / "offload"
    )
    # other prompts first, to see that loading replaces them
    model = get_peft_model(base, prompt_config(encoder)).eval()
    offloaded = layers_of(model)[1].base_layer.query
    assert isinstance(offloaded._hf_hook, AlignDevicesHook)
    assert offloaded.weight.is_meta
    assert not any(p.is_meta for key, p in model.named_parameters() if ".deep_prompt_" in key)
    set_peft_model_state_dict(model, get_peft_model_state_dict(reference))
    assert torch.equal(logits(model, "bert"), logits(reference, "bert"))
    expected = gradients(reference, "bert")
    for key, gradient in gradients(model, "bert").items():
        assert torch.allclose(gradient, expected[key], atol=1e-6), key


@pytest.mark.parametrize("name", ARCHITECTURES)
@every_encoder
def test_a_backbone_on_the_meta_device_takes_prompts_and_then_its_weights(name, encoder):
    reference = prompted(name, encoder)
    with init_empty_weights():
        base = AutoModelForSequenceClassification.from_config(make_config(name))
    model = get_peft_model(base, prompt_config(encoder)).eval()
    assert all(p.is_meta for p in model.parameters())
    model.load_state_dict(reference.state_dict(), assign=True)
    assert torch.equal(logits(model, name), logits(reference, name))
