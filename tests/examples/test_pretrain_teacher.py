"""A discriminator that is moved back towards the encoder that it was made from."""

import importlib

import pytest
import torch
from transformers import AutoModel, ElectraConfig, ElectraForPreTraining

from tests.training.tiny import write_discriminator

script = importlib.import_module("pretrain_discriminator")


def test_the_encoder_moves_by_the_share_and_the_head_stays(tmp_path):
    folder = write_discriminator(tmp_path / "teacher")
    torch.manual_seed(1)
    model = ElectraForPreTraining(ElectraConfig.from_pretrained(folder))
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    teacher = AutoModel.from_pretrained(folder, dtype=torch.float32)
    script.mix_with_teacher(model, teacher, 0.3)
    for name, weight in model.state_dict().items():
        expected = before[name]
        if name.startswith("electra.") and weight.is_floating_point():
            expected = 0.7 * expected + 0.3 * teacher.state_dict()[name.removeprefix("electra.")]
        torch.testing.assert_close(weight, expected)


def test_another_size_is_refused(tmp_path):
    folder = write_discriminator(tmp_path / "teacher")
    config = ElectraConfig.from_pretrained(folder)
    config.num_hidden_layers = 1
    with pytest.raises(ValueError, match="the same layers and sizes"):
        script.mix_with_teacher(ElectraForPreTraining(config), AutoModel.from_pretrained(folder), 0.3)


def test_a_share_without_a_teacher_is_refused():
    with pytest.raises(ValueError, match="name the `teacher`"):
        script.ModelArguments("model", teacher_share=0.3)
