"""A discriminator that starts from the weighted mean of models that were made from one encoder."""

import importlib

import pytest
import torch
from transformers import (
    AutoModelForPreTraining,
    BertConfig,
    BertModel,
    ElectraConfig,
    ElectraForPreTraining,
    ElectraModel,
)

from tests.training.tiny import write_discriminator

script = importlib.import_module("pretrain_discriminator")


def test_weights_are_the_weighted_mean(tmp_path):
    folder = write_discriminator(tmp_path / "other")
    torch.manual_seed(1)
    config = ElectraConfig.from_pretrained(folder)
    model = ElectraForPreTraining(config)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    other = AutoModelForPreTraining.from_pretrained(folder, dtype=torch.float32).state_dict()
    script.mix_weights(model, str(folder), [str(folder)], [0.3])
    for name, weight in model.state_dict().items():
        expected = 0.7 * before[name] + 0.3 * other[name] if weight.is_floating_point() else before[name]
        torch.testing.assert_close(weight, expected)


@pytest.mark.parametrize("start", ["encoder", "discriminator"])
@pytest.mark.parametrize("kind", ["bert", "electra"])
def test_an_encoder_has_no_share_of_the_head(tmp_path, start, kind):
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    if kind == "bert":
        BertModel(BertConfig(vocab_size=30, **sizes)).save_pretrained(tmp_path / "encoder")
    else:
        config = ElectraConfig(vocab_size=30, embedding_size=16, **sizes)
        ElectraModel(config).save_pretrained(tmp_path / "encoder")
    discriminator = script.discriminator_from_encoder(tmp_path / "encoder", seed=7)
    with torch.no_grad():
        discriminator.electra.embeddings.word_embeddings.weight.add_(1)
    discriminator.save_pretrained(tmp_path / "discriminator")
    (other,) = {"encoder", "discriminator"} - {start}
    model = script.discriminator_from_encoder(tmp_path / start)
    script.mix_weights(model, str(tmp_path / start), [str(tmp_path / other)], [0.25])
    of_encoder = script.discriminator_from_encoder(tmp_path / "encoder").state_dict()
    words = "electra.embeddings.word_embeddings.weight"
    share = 0.25 if other == "discriminator" else 0.75
    torch.testing.assert_close(model.state_dict()[words], of_encoder[words] + share)
    for name, weight in discriminator.state_dict().items():
        if name.startswith("discriminator_predictions"):
            torch.testing.assert_close(model.state_dict()[name], weight)


def test_another_size_is_refused(tmp_path):
    folder = write_discriminator(tmp_path / "other")
    config = ElectraConfig.from_pretrained(folder)
    config.num_hidden_layers = 1
    with pytest.raises(ValueError, match="layers and sizes"):
        script.mix_weights(ElectraForPreTraining(config), str(folder), [str(folder)], [0.3])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mix_with": ["a"]}, "one share for each"),
        ({"mix_with": ["a"], "mix_shares": [1.0]}, "sum below 1"),
        ({"mix_with": ["a", "b"], "mix_shares": [0.5, -0.1]}, "above 0"),
        ({"save_dtype": "int8", "lora_rank": 4}, "`int8` is for whole models"),
        ({"mix_with": ["a"], "mix_shares": [0.5], "lora_rank": 4}, "`mix_with` is for whole models"),
    ],
)
def test_what_cannot_be_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        script.ModelArguments("model", **arguments)
