"""Adapters saved when every layer kept its own prompts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file

from tests.architectures import make_model
from tests.deep_prompt.test_common import bank_of, logits, prompted

PREFIX = "base_model.model."


def write_layerwise(model: PeftModel, folder: Path) -> None:
    """Save the adapter as it was saved then: `deep_prompt_key` and the like beside each attention module."""
    model.save_pretrained(folder)
    path = folder / "adapter_model.safetensors"
    old = {key.replace(".prompt_bank.", ".shared_prompt_encoder."): part for key, part in load_file(path).items()}
    bank = bank_of(model)
    for kind in ("stored", "gate", "projection.weight", "projection.bias"):
        old.pop(f"{PREFIX}shared_prompt_encoder.deep_prompt_{kind}", None)
    for name, layer in model.get_base_model().named_modules():
        if layer not in bank.layers:
            continue
        rows = list(layer.slots["default"].values())
        if "default" in bank.deep_prompt_stored:
            for kind, part in zip(("key", "value"), layer.keys_and_values("default"), strict=True):
                old[f"{PREFIX}{name}.deep_prompt_{kind}"] = part.contiguous()
        else:
            columns = [bank.layouts["default"].columns(row) for row in rows]
            for kind in ("weight", "bias"):
                whole = getattr(bank.deep_prompt_projection["default"], kind).detach()
                own = torch.cat([whole[part] for part in columns])
                old[f"{PREFIX}{name}.deep_prompt_projection.{kind}"] = own
        if "default" in bank.deep_prompt_gate:
            old[f"{PREFIX}{name}.deep_prompt_gate"] = bank.deep_prompt_gate["default"].detach()[rows]
    save_file(old, path)


@pytest.mark.parametrize("name", ["bert", "albert-groups", "deberta-v2", "llama", "mpnet"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"encoder": "mlp"},
        {"use_gate": True},
        {"encoder": "mlp", "use_gate": True, "layers_to_transform": "last 2"},
    ],
    ids=["plain", "mlp", "gate", "all"],
)
def test_layerwise_adapters_load_and_are_saved_in_the_form_of_today(name, options, tmp_path):
    model = prompted(name, **options)
    with torch.no_grad():
        for gate in bank_of(model).deep_prompt_gate.values():
            gate.copy_(torch.linspace(0.3, 0.9, len(gate)))
    expected = logits(model, name)
    write_layerwise(model, tmp_path / "old")
    assert not any("prompt_bank" in key for key in load_file(tmp_path / "old" / "adapter_model.safetensors"))
    loaded = PeftModel.from_pretrained(make_model(name), tmp_path / "old").eval()
    assert torch.equal(logits(loaded, name), expected)
    loaded.save_pretrained(tmp_path / "new")
    model.save_pretrained(tmp_path / "expected")
    new, today = (load_file(tmp_path / folder / "adapter_model.safetensors") for folder in ("new", "expected"))
    assert new.keys() == today.keys()
    assert all(torch.equal(new[key], tensor) for key, tensor in today.items())


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"hidden_size": 64}, r"another backbone.*another size.*\(5, 192\), expected \(5, 384\)"),
        ({"num_hidden_layers": 2}, r"another backbone.*layer\.2"),
        ({"num_hidden_layers": 4}, r"another backbone.*layer\.3"),
    ],
)
def test_layerwise_adapters_of_another_backbone_are_refused(overrides: dict[str, Any], message: str, tmp_path: Path):
    write_layerwise(prompted("bert"), tmp_path)
    with pytest.raises(ValueError, match=message):
        PeftModel.from_pretrained(make_model("bert", **overrides), tmp_path)


def test_the_saved_bank_is_that_of_prefix_tuning(tmp_path):
    """Key and value of each layer side by side: a table of PEFT's prefix tuning can be put in its place."""
    model = prompted("bert", num_virtual_tokens=4)
    model.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "adapter_config.json").read_text())["num_virtual_tokens"] == 4
    stored = load_file(tmp_path / "adapter_model.safetensors")[f"{PREFIX}prompt_bank.deep_prompt_stored"]
    by_layer = stored.view(4, 3, 2, 32)
    for index, layer in enumerate(bank_of(model).layers):
        key, value = layer.keys_and_values("default")
        assert torch.equal(by_layer[:, index, 0], key[0])
        assert torch.equal(by_layer[:, index, 1], value[0])
