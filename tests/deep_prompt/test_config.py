"""Settings: what they accept, what they refuse and how they are written."""

from __future__ import annotations

import json

import pytest
from peft import PeftConfig

from dpt_peft import DeepPromptConfig
from dpt_peft.deep_prompt.config import select_layers


def test_round_trip_through_json(tmp_path):
    config = DeepPromptConfig(
        task_type="SEQ_CLS",
        num_virtual_tokens=7,
        layers_to_transform=range(2, 4),
        prompt_dropout=0.1,
        encoder_reparameterization="mlp",
        encoder_hidden_size=64,
        modules_to_save=["classifier"],
    )
    config.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "adapter_config.json").read_text())["peft_type"] == "DEEP_PROMPT"
    loaded = PeftConfig.from_pretrained(tmp_path)
    assert isinstance(loaded, DeepPromptConfig)
    assert loaded.to_dict() == config.to_dict()
    assert loaded.layers_to_transform == [2, 3]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"num_virtual_tokens": 0}, "num_virtual_tokens.*at least 1"),
        ({"num_virtual_tokens": -3}, "num_virtual_tokens.*at least 1"),
        ({"num_virtual_tokens": 2.5}, "num_virtual_tokens.*whole number"),
        ({"num_virtual_tokens": True}, "num_virtual_tokens"),
        ({"encoder_hidden_size": 0}, "encoder_hidden_size"),
        ({"prompt_dropout": 1.0}, "prompt_dropout"),
        ({"prompt_dropout": -0.1}, "prompt_dropout"),
        ({"prompt_dropout": "0.1"}, "prompt_dropout"),
        ({"init_std": -1.0}, "init_std"),
        ({"init_std": float("nan")}, "init_std"),
        ({"use_gate": "no"}, "use_gate.*True or False"),
        ({"shift_positions": 1}, "shift_positions.*True or False"),
        ({"encoder_reparameterization": "lstm"}, "encoder_reparameterization.*'none', 'mlp'"),
        ({"encoder_hidden_size": 64}, "encoder_hidden_size.*needs encoder_reparameterization='mlp'"),
        ({"init_std": 0.5, "init_from": "other"}, "init_std.*for prompts that are drawn"),
        ({"init_std": 0.5, "init_weights": "sample_vocab"}, "init_std.*for prompts that are drawn"),
        ({"layers_to_transform": []}, "layers_to_transform"),
        ({"layers_to_transform": [-1]}, "layers_to_transform"),
        ({"layers_to_transform": ["0"]}, "layers_to_transform"),
        ({"layers_to_transform": "last"}, "layers_to_transform.*'last N'"),
        ({"layers_to_transform": "last 0"}, "layers_to_transform"),
        ({"task_type": "SEQUENCE"}, "SEQUENCE"),
    ],
)
def test_bad_values_name_the_argument(values, message):
    with pytest.raises(ValueError, match=message):
        DeepPromptConfig(**values)


def test_unknown_options_are_not_swallowed():
    with pytest.raises(TypeError, match="num_virtual_token"):
        DeepPromptConfig(num_virtual_token=20)


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (None, [0, 1, 2, 3]),
        (2, [2]),
        ([3, 1, 1], [1, 3]),
        ("last 2", [2, 3]),
        ("first 1", [0]),
        ("last 4", [0, 1, 2, 3]),
    ],
)
def test_select_layers(choice, expected):
    assert select_layers(choice, 4) == expected


@pytest.mark.parametrize("choice", [4, [0, 9], "last 5"])
def test_layers_that_do_not_exist(choice):
    with pytest.raises(ValueError, match="layers_to_transform.*4 layers"):
        select_layers(choice, 4)
