"""The released code's variant: label tokens with embeddings of their own, a bias per class; and the presets."""

from __future__ import annotations

import logging

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import BertTokenizer, ElectraForPreTraining

from dpt_peft.pretrained_heads import DPTForSequenceClassification
from dpt_peft.pretrained_heads.template import LABEL_WORDS as PRESET_WORDS, PRESETS, preset_options, resolve_template

from .conftest import WORDS, make_config, split

LABEL_WORDS = ["bad", "good", "news"]
TEXTS = ["the match ended", "a good film", "", "news of technology and business"]
NEW = {"label_tokens.weight", "label_bias.weight"}


@pytest.fixture
def vocabulary(tmp_path) -> list[str]:
    return [*WORDS, "labels"]


@pytest.fixture
def released_path(tmp_path, vocabulary):
    torch.manual_seed(0)
    path = tmp_path / "discriminator"
    ElectraForPreTraining(make_config(vocab_size=len(vocabulary))).save_pretrained(path)
    BertTokenizer(vocab={word: index for index, word in enumerate(vocabulary)}, model_max_length=48).save_pretrained(
        path
    )
    return path


@pytest.fixture
def load(released_path):
    def load(path=released_path, **kwargs) -> DPTForSequenceClassification:
        return DPTForSequenceClassification.from_pretrained(path, **kwargs)

    return load


@pytest.fixture
def model(load) -> DPTForSequenceClassification:
    return load(label_words=LABEL_WORDS, preset="released", dtype=torch.float64)


@pytest.fixture
def rows(released_path):
    return BertTokenizer.from_pretrained(released_path)(TEXTS, padding=True, return_tensors="pt")


def logits(model, rows) -> torch.Tensor:
    with torch.no_grad():
        return model(**rows).logits


def test_rows_read_as_in_the_released_code(model, rows, vocabulary):
    spliced = model.splicer(**rows)
    ids = spliced.input_ids[0][spliced.attention_mask[0].bool()]
    expected = "[CLS] the match ended [SEP] labels : bad , good , news [SEP]"
    assert " ".join(vocabulary[index] for index in ids) == expected


def test_it_starts_as_copies_and_zeros(model, load, rows):
    """Untrained, it is the same template with ordinary tokens."""
    plain = load(
        label_words=LABEL_WORDS, template="{text}{sep} labels : {labels}", label_separator=" , ", dtype=torch.float64
    )
    assert {name for name, _ in model.named_parameters()} - {name for name, _ in plain.named_parameters()} == NEW
    words = model.get_input_embeddings().weight
    labels = [WORDS.index(token) for token in split("bad , good , news")]
    assert torch.equal(model.label_tokens.weight, words[labels])
    assert not model.label_bias.weight.any()
    torch.testing.assert_close(logits(model, rows), logits(plain, rows), rtol=0, atol=1e-12)


def test_label_tokens_are_untied_from_the_text(model, rows, released_path):
    """s(c) = 1 - sigmoid(z + b), with the label list's own embeddings; the same words in the text keep theirs."""
    with torch.no_grad():
        model.label_tokens.weight.normal_()
        model.label_bias.weight.normal_()
    discriminator = ElectraForPreTraining.from_pretrained(released_path, dtype=torch.float64)
    table = discriminator.get_input_embeddings().weight
    for index, text in enumerate(TEXTS):
        before = [*split(f"[CLS] {text} [SEP] labels :")]
        label_list, bias = model.label_tokens.weight, model.label_bias.weight[:, 0]
        embeddings = torch.cat(
            [table[[([*WORDS, "labels"]).index(word) for word in before]], label_list, table[[WORDS.index("[SEP]")]]]
        )
        z = discriminator(inputs_embeds=embeddings[None]).logits[0, [len(before), len(before) + 2, len(before) + 4]]
        torch.testing.assert_close(logits(model, rows)[index], -(z + bias), rtol=0, atol=1e-12)


def test_everything_new_is_trained_saved_and_loaded(model, rows, load, tmp_path):
    model(**rows, labels=torch.tensor([0, 1, 2, 0])).loss.backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in (model.label_tokens.weight,))
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    assert model.label_bias.weight.any()
    expected = logits(model, rows)
    model.save_pretrained(tmp_path / "saved")
    assert load_file(tmp_path / "saved" / "model.safetensors").keys() >= NEW
    loaded = load(tmp_path / "saved")
    assert torch.equal(logits(loaded, rows), expected)
    with pytest.raises(ValueError, match=r"`label_words` cannot change in a saved wrapper with `untied_labels`"):
        load(tmp_path / "saved", label_words=["bad", "film"], tokenizer=tmp_path / "discriminator")
    shorter = load(tmp_path / "saved", max_length=40, tokenizer=tmp_path / "discriminator")
    assert torch.equal(logits(shorter, rows), expected)


def test_they_exist_with_that_preset_only(load):
    for kwargs in ({}, {"preset": "paper"}, {"preset": "released", "untied_labels": False, "label_bias": False}):
        names = set(load(label_words=LABEL_WORDS, **kwargs).state_dict())
        assert not names & NEW
    only_bias = load(label_words=LABEL_WORDS, label_bias=True)
    assert set(only_bias.state_dict()) & NEW == {"label_bias.weight"}


def test_what_is_new_is_not_reported_as_missing(load, rows, tmp_path, caplog):
    transformers_logger = logging.getLogger("transformers")
    transformers_logger.addHandler(caplog.handler)
    try:
        model = load(label_words=LABEL_WORDS, preset="released")
        words = model.get_input_embeddings().weight
        assert torch.equal(model.label_tokens.weight, words[torch.tensor(model.label_bank.label_token_ids)])
        assert not model.label_bias.weight.any()
        unloaded = DPTForSequenceClassification(model.config)
        ids = torch.tensor(unloaded.label_bank.label_token_ids)
        assert torch.equal(unloaded.label_tokens.weight, unloaded.get_input_embeddings().weight[ids])
        with torch.no_grad():
            model.label_tokens.weight.add_(1)
            model.label_bias.weight.add_(1)
        model.save_pretrained(tmp_path / "trained")
        again = load(tmp_path / "trained")
        assert torch.equal(again.label_tokens.weight, model.label_tokens.weight)
        assert torch.equal(logits(again, rows), logits(model, rows))
        assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []
    finally:
        transformers_logger.removeHandler(caplog.handler)


def test_peft_keeps_them_per_adapter(model, rows, load, tmp_path):
    config = LoraConfig(task_type="SEQ_CLS", r=2, modules_to_save=["label_tokens", "label_bias"])
    untouched = logits(model, rows)
    peft_model = get_peft_model(model, config)
    trained = {name for name, parameter in peft_model.named_parameters() if parameter.requires_grad}
    assert {name.rsplit(".", 4)[1] for name in trained if "lora_" not in name} == {"label_tokens", "label_bias"}
    peft_model.add_adapter("other", config)
    with torch.no_grad():
        for name, parameter in peft_model.named_parameters():
            if "lora_B" in name or "modules_to_save" in name:
                parameter.add_(torch.randn_like(parameter) * 0.3)
    peft_model.eval()
    default = logits(peft_model, rows)
    assert not torch.allclose(default, untouched)
    with peft_model.disable_adapter():
        assert torch.equal(logits(peft_model, rows), untouched)
    peft_model.set_adapter("other")
    other = logits(peft_model, rows)
    with torch.no_grad():
        mixed = peft_model(**rows, adapter_names=["default", "other", "__base__", "default"]).logits
    expected = torch.stack([default[0], other[1], untouched[2], default[3]])
    torch.testing.assert_close(mixed, expected, rtol=0, atol=1e-9)

    peft_model.set_adapter("default")
    peft_model.save_pretrained(tmp_path / "adapter", selected_adapters=["default"])
    keys = load_file(tmp_path / "adapter" / "adapter_model.safetensors").keys()
    assert {name.removeprefix("base_model.model.") for name in keys if "lora" not in name} == NEW
    fresh = load(label_words=LABEL_WORDS, preset="released", dtype=torch.float64)
    loaded = PeftModel.from_pretrained(fresh, tmp_path / "adapter").eval()
    torch.testing.assert_close(logits(loaded, rows), default, rtol=0, atol=1e-6)


def test_another_task_brings_its_own_label_tokens(model, rows, load, tmp_path, released_path):
    tokenizer = BertTokenizer.from_pretrained(released_path)
    expected = logits(model, rows)
    model.add_label_list("topics", ["game", "film"], tokenizer)
    assert torch.equal(logits(model, rows), expected)
    alone = load(label_words=["game", "film"], preset="released", dtype=torch.float64)
    with torch.no_grad():
        topics = model(**rows, list_names=["topics"] * 4).logits
        torch.testing.assert_close(topics, logits(alone, rows), rtol=0, atol=1e-12)
        model.label_bias.weight.copy_(torch.arange(5.0)[:, None])
        biased = model(**rows, list_names=["topics"] * 4).logits
        torch.testing.assert_close(biased, topics - torch.tensor([3.0, 4.0]), rtol=0, atol=1e-12)
        model.save_pretrained(tmp_path / "saved")
        again = load(tmp_path / "saved")(**rows, list_names=["topics"] * 4).logits
    assert torch.equal(again, biased)
    wrapped = get_peft_model(
        model, LoraConfig(task_type="SEQ_CLS", target_modules=["query"], modules_to_save=["label_tokens"])
    )
    with pytest.raises(ValueError, match="before get_peft_model"):
        wrapped.add_label_list("mood", ["bad", "good"], tokenizer)


@pytest.mark.parametrize("name", PRESETS)
def test_presets(name, tmp_path):
    words = [word for phrase in PRESET_WORDS.values() for word in " ".join(phrase).split()]
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *".,:_", *split("class label labels sentiment category")]
    tokens = list(dict.fromkeys([*tokens, *words]))
    tokenizer = BertTokenizer(vocab={word: index for index, word in enumerate(tokens)})
    options = preset_options(name)
    options.setdefault("label_words", ["negative", "positive"])
    resolved = resolve_template(
        options["template"], options["label_words"], tokenizer, label_separator=options["label_separator"]
    )
    prompts = {
        "released": "labels :",
        "sst2-released": "sentiment : _",
        "sst5-released": "label : _",
        "trec-released": "category : _",
        "ag_news-released": "labels :",
    }
    listed = " , ".join(options["label_words"])
    expected = f"[SEP] {prompts[name]} {listed}" if name in prompts else f"class : {listed} ."
    assert " ".join(tokenizer.convert_ids_to_tokens(list(resolved.ids))) == expected


def test_a_preset_brings_its_label_words(load, monkeypatch):
    monkeypatch.setattr(
        "dpt_peft.pretrained_heads.template.PRESETS", {**PRESETS, "mood": {"label_words": ["bad", "good"]}}
    )
    model = load(preset="mood")
    assert model.config.label_words == ["bad", "good"]
    assert load(preset="mood", label_words=["good", "film"]).config.label_words == ["good", "film"]
    with pytest.raises(ValueError, match="`preset` must be one of paper, released, sst2"):
        load(preset="sst3", label_words=LABEL_WORDS)
    with pytest.raises(ValueError, match="`label_words` is missing"):
        load(preset="released")
