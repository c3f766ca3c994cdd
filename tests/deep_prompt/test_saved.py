"""What a saved adapter holds."""

from __future__ import annotations

import json

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file

from tests.architectures import make_model
from tests.deep_prompt.test_common import bank_of, prompted

PREFIX = "base_model.model."


def test_prompts_kept_by_layer_are_refused(tmp_path):
    """The layout of P-tuning v2's own code and of our first drafts: they do not fit, and are not dropped."""
    prompted("bert").save_pretrained(tmp_path)
    file = tmp_path / "adapter_model.safetensors"
    state = load_file(file)
    state[f"{PREFIX}bert.encoder.layer.0.attention.self.deep_prompt_key"] = torch.zeros(1, 5, 32)
    save_file(state, file)
    with pytest.raises(ValueError, match=r"Prompts unknown to the backbone: .*layer\.0.*deep_prompt_key"):
        PeftModel.from_pretrained(make_model("bert"), tmp_path)


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
