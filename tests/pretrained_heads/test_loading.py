"""`from_pretrained` of plain discriminators and saved wrappers, and what it refuses."""

from __future__ import annotations

import copy
import json
import shutil
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    BertModel,
    BertPreTrainedModel,
    ElectraForMaskedLM,
    ElectraForPreTraining,
    ElectraForSequenceClassification,
    ElectraModel,
)
from transformers.models.electra.modeling_electra import ElectraForPreTrainingOutput

from dpt_peft.pretrained_heads import (
    DPTForSequenceClassification,
    DPTForSequenceClassificationConfig,
    discriminators,
    register_discriminator,
)
from dpt_peft.pretrained_heads.base import evaluating
from dpt_peft.pretrained_heads.discriminators import supported_model_types

from .conftest import MAX_LENGTH, make_config

LABEL_WORDS = ["bad", "good", "very"]


@pytest.fixture
def model(discriminator_path) -> DPTForSequenceClassification:
    return DPTForSequenceClassification.from_pretrained(discriminator_path, label_words=LABEL_WORDS)


@pytest.fixture
def rows(tokenizer):
    return tokenizer(["the match ended", "a film"], padding=True, return_tensors="pt")


def test_plain_discriminator(model, discriminator_path):
    plain = ElectraForPreTraining.from_pretrained(discriminator_path)
    assert type(model.language_model) is ElectraForPreTraining
    for name, values in plain.state_dict().items():
        assert torch.equal(model.language_model.state_dict()[name], values)
    assert not model.training
    config = model.config
    assert config.num_labels == 3
    assert config.id2label == {0: "bad", 1: "good", 2: "very"}
    assert config.label2id == {"bad": 0, "good": 1, "very": 2}
    assert config.max_length == MAX_LENGTH
    assert (config.cls_token_id, config.sep_token_id, config.pad_token_id) == (2, 3, 0)
    assert config.get_text_config() is model.language_model.config


def test_usual_arguments_pass_through(discriminator_path, tokenizer, tmp_path):
    shutil.copytree(discriminator_path, tmp_path / "inner")
    model, info = DPTForSequenceClassification.from_pretrained(
        tmp_path,
        subfolder="inner",
        label_words=LABEL_WORDS,
        dtype=torch.bfloat16,
        attn_implementation="eager",
        local_files_only=True,
        hidden_dropout_prob=0.25,
        output_loading_info=True,
        id2label={0: "Bad", 1: "Good", 2: "Very"},
    )
    assert model.dtype == torch.bfloat16
    assert model.language_model.electra.config._attn_implementation == "eager"
    assert model.language_model.electra.embeddings.dropout.p == 0.25
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert model.config.id2label == {0: "Bad", 1: "Good", 2: "Very"}
    assert model.config.label2id == {"Bad": 0, "Good": 1, "Very": 2}
    with pytest.raises(TypeError, match="colour"):
        DPTForSequenceClassification.from_pretrained(discriminator_path, label_words=LABEL_WORDS, colour="red")


def test_a_config_that_is_passed_stays_as_it_was(discriminator_path):
    config = AutoConfig.from_pretrained(discriminator_path)
    before = config.to_dict()
    model = DPTForSequenceClassification.from_pretrained(
        discriminator_path, label_words=LABEL_WORDS, config=config, hidden_dropout_prob=0.25
    )
    assert model.language_model.config.hidden_dropout_prob == 0.25
    assert config.to_dict() == before


def test_the_stored_precision_is_kept_where_it_is_fast(discriminator_path, tokenizer, tmp_path, monkeypatch):
    ElectraForPreTraining.from_pretrained(discriminator_path).half().save_pretrained(tmp_path)

    def load(**kwargs) -> DPTForSequenceClassification:
        options = {"label_words": LABEL_WORDS, "tokenizer": tokenizer, **kwargs}
        return DPTForSequenceClassification.from_pretrained(tmp_path, **options)

    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    assert load().dtype == torch.float16
    assert load(device_map="cpu").dtype == torch.float32
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    model = load()
    assert {values.dtype for values in model.parameters()} == {torch.float32}
    assert model.config.dtype == model.language_model.config.dtype == torch.float32
    assert load(dtype=torch.float16).dtype == load(dtype="auto").dtype == torch.float16
    ElectraForPreTraining.from_pretrained(discriminator_path).bfloat16().save_pretrained(tmp_path)
    assert load().dtype == torch.bfloat16


def test_tokenizer_can_be_given(discriminator_path, model, tokenizer, tmp_path):
    ElectraForPreTraining.from_pretrained(discriminator_path).save_pretrained(tmp_path)
    for given in (tokenizer, discriminator_path, str(discriminator_path)):
        other = DPTForSequenceClassification.from_pretrained(tmp_path, label_words=LABEL_WORDS, tokenizer=given)
        assert other.config.templates == model.config.templates
    with pytest.raises(ValueError, match="no tokenizer in .*: pass `tokenizer`"):
        DPTForSequenceClassification.from_pretrained(tmp_path, label_words=LABEL_WORDS)


@pytest.mark.parametrize("auto", [DPTForSequenceClassification, AutoModelForSequenceClassification])
def test_saved_wrapper_is_the_same_bit_for_bit(discriminator_path, tokenizer, rows, tmp_path, auto):
    model = DPTForSequenceClassification.from_pretrained(
        discriminator_path,
        label_words=LABEL_WORDS,
        template="topic {labels}: {text}!",
        label_order=5,
        max_length=20,
        score_function="sigmoid",
        problem_type="multi_label_classification",
    )
    model.save_pretrained(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "model.safetensors"}
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["model_type"] == "dpt_sequence_classification"
    assert config["architectures"] == ["DPTForSequenceClassification"]
    assert set(load_file(tmp_path / "model.safetensors")) == set(model.state_dict())

    # Neither a tokenizer nor the discriminator's folder is needed.
    loaded = auto.from_pretrained(tmp_path)
    assert type(loaded) is DPTForSequenceClassification
    where_from = {"_name_or_path": None, "architectures": None}
    assert loaded.config.to_dict() | where_from == model.config.to_dict() | where_from
    assert torch.equal(loaded(**rows).logits, model(**rows).logits)
    for name, values in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], values)
    assert type(AutoConfig.from_pretrained(tmp_path)) is DPTForSequenceClassificationConfig

    tokenizer.save_pretrained(tmp_path)
    assert AutoTokenizer.from_pretrained(tmp_path).get_vocab() == tokenizer.get_vocab()


@pytest.mark.parametrize(
    "said",
    [
        {"id2label": {0: "x", 1: "y", 2: "z"}, "label2id": {"x": 0, "y": 1, "z": 2}},
        {"num_labels": 3, "problem_type": "multi_label_classification"},
        {"output_attentions": True},
    ],
)
def test_what_a_plain_config_says_of_the_task_counts(discriminator_path, said):
    config = AutoConfig.from_pretrained(discriminator_path, **said)
    load = partial(DPTForSequenceClassification.from_pretrained, discriminator_path, label_words=LABEL_WORDS)
    ours, alone = load(config=config).config, load(**said).config
    for name in ("id2label", "label2id", "num_labels", "problem_type", "output_attentions"):
        assert getattr(ours, name) == getattr(alone, name)
    assert said.items() <= {name: getattr(ours, name) for name in said}.items()


@pytest.mark.parametrize(
    ("said", "message"),
    [({"num_labels": 7}, "says 7 classes, but there are 3"), ({"problem_type": "regression"}, "problem_type")],
)
def test_what_a_plain_config_cannot_say(discriminator_path, said, message):
    config = AutoConfig.from_pretrained(discriminator_path, **said)
    with pytest.raises(ValueError, match=message):
        DPTForSequenceClassification.from_pretrained(discriminator_path, label_words=LABEL_WORDS, config=config)


def test_model_from_config_alone(model, rows):
    other = AutoModelForSequenceClassification.from_config(model.config)
    assert other(**rows).logits.shape == (2, 3)
    with pytest.raises(ValueError, match="no label words"):
        DPTForSequenceClassification(DPTForSequenceClassificationConfig())


def test_the_discriminator_can_be_taken_out_again(model, rows, tmp_path):
    model.language_model.save_pretrained(tmp_path)
    assert torch.equal(
        ElectraForPreTraining.from_pretrained(tmp_path)(**rows).logits, model.language_model(**rows).logits
    )


def test_saved_wrapper_with_other_choices(model, tokenizer, rows, tmp_path):
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    load = DPTForSequenceClassification.from_pretrained

    renamed = load(tmp_path, id2label={0: "x", 1: "y", 2: "z"}, problem_type="multi_label_classification")
    assert renamed.config.label2id == {"x": 0, "y": 1, "z": 2}
    assert renamed.config.problem_type == "multi_label_classification"
    assert torch.equal(renamed(**rows).logits, model(**rows).logits)

    other_words = load(tmp_path, label_words=["world", "sports"])
    assert other_words.config.id2label == {0: "world", 1: "sports"}
    assert other_words(**rows).logits.shape == (2, 2)

    shorter = load(tmp_path, max_length=20, score_function="sigmoid")
    assert (shorter.config.max_length, shorter.config.label_words) == (20, LABEL_WORDS)
    torch.testing.assert_close(shorter(**rows).logits, -model(**rows).logits)


def test_auto_classes_pass_other_choices_on(model, tokenizer, rows, tmp_path):
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    words = ["world", "sports"]
    other = AutoModelForSequenceClassification.from_pretrained(tmp_path, label_words=words, max_length=20)
    assert other.config.max_length == 20
    assert other.config.id2label == dict(enumerate(words))
    assert torch.equal(
        other(**rows).logits,
        DPTForSequenceClassification.from_pretrained(tmp_path, label_words=words, max_length=20)(**rows).logits,
    )
    for options in (
        {"hidden_dropout_prob": 0.5},
        {"score_function": "sigmoid"},
        {"id2label": {0: "a", 1: "b", 2: "c"}},
    ):
        auto, own = (
            kind.from_pretrained(tmp_path, **options)
            for kind in (AutoModelForSequenceClassification, DPTForSequenceClassification)
        )
        assert auto.config.to_dict() == own.config.to_dict()
        assert all(getattr(auto.config, name) == value for name, value in options.items())
    assert auto.config.label2id == {"a": 0, "b": 1, "c": 2}
    with pytest.raises(ValueError, match="`label_smoothing` must be at least 0"):
        AutoModelForSequenceClassification.from_pretrained(tmp_path, label_smoothing=1.5)
    # A config alone cannot follow, as it has no tokenizer.
    with pytest.raises(ValueError, match="`template` cannot change"):
        AutoConfig.from_pretrained(tmp_path, template="{text} {labels}")
    with pytest.raises(ValueError, match="`preset` stands for arguments that need the tokenizer"):
        AutoConfig.from_pretrained(tmp_path, preset="paper")


def test_what_the_model_gives_back_stays_when_it_is_read_again(model, tokenizer, tmp_path):
    model.config.output_hidden_states = True
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    for options in ({}, {"label_smoothing": 0.1}, {"max_length": 20}):
        assert DPTForSequenceClassification.from_pretrained(tmp_path, **options).config.output_hidden_states


def test_a_longer_row_than_the_tokenizer_says_is_refused_of_a_saved_wrapper_too(model, tokenizer, tmp_path):
    model.save_pretrained(tmp_path)
    short = copy.deepcopy(tokenizer)
    short.model_max_length = MAX_LENGTH // 2
    saved = DPTForSequenceClassification.from_pretrained(tmp_path, tokenizer=tokenizer, max_length=20)
    saved.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=f"between 1 and {MAX_LENGTH // 2}"):
        DPTForSequenceClassification.from_pretrained(tmp_path, tokenizer=short, max_length=MAX_LENGTH)


def test_every_module_gets_its_mode_back(model):
    model.train()
    model.language_model.eval()
    with evaluating(model):
        assert not any(module.training for module in model.modules())
    assert model.training
    assert not any(module.training for module in model.language_model.modules())


@pytest.mark.parametrize("words", ["bad", None])
def test_label_words_must_be_a_list(discriminator_path, words):
    with pytest.raises((TypeError, ValueError), match="label_words"):
        DPTForSequenceClassification.from_pretrained(discriminator_path, label_words=words)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label_words": []}, "at least 2"),
        ({"label_words": ["bad"]}, "at least 2"),
        ({"label_words": ["bad", "bad"]}, "twice"),
        ({"label_words": ["bad", "zebra"]}, "unknown"),
        ({"template": "{text}"}, "lacks {labels}"),
        ({"template": "{text} {text_a} {labels}"}, "has {text} and {text_a}"),
        ({"template": "{text} {label}: {labels}"}, "unknown placeholder"),
        ({"label_order": [0, 1]}, "permutation"),
        ({"max_length": MAX_LENGTH + 1}, f"between 1 and {MAX_LENGTH}"),
        ({"max_length": 0}, "between 1 and"),
        ({"max_length": 10}, "no room for the text: .* takes 10 of `max_length` = 10"),
        ({"template": "very " * MAX_LENGTH + "{text} {labels}"}, "no room for the text"),
        ({"score_function": "softmax"}, "one_minus_sigmoid"),
        ({"problem_type": "regression"}, "regression"),
        ({"id2label": {0: "a"}}, "`id2label` says 1 classes, but there are 3"),
        (
            {"id2label": {0: "a", 1: "b", 2: "c"}, "label2id": {"a": 1, "b": 0, "c": 2}},
            "`label2id` .* is not the reverse of `id2label`",
        ),
        ({"num_labels": 2}, "`num_labels` says 2 classes, but there are 3"),
    ],
)
def test_choices_that_cannot_work(discriminator_path, changes, message):
    with pytest.raises(ValueError, match=message):
        DPTForSequenceClassification.from_pretrained(discriminator_path, **{"label_words": LABEL_WORDS, **changes})


def test_names_of_classes_may_be_given_the_other_way_round(discriminator_path):
    numbers = {"c": 2, "a": 0, "b": 1}
    load = DPTForSequenceClassification.from_pretrained
    config = load(discriminator_path, label_words=LABEL_WORDS, label2id=numbers).config
    assert config.id2label == {0: "a", 1: "b", 2: "c"}
    assert config.label2id == numbers


def test_of_a_config_the_names_by_number_count(discriminator_path):
    config = AutoConfig.from_pretrained(
        discriminator_path, id2label={0: "x", 1: "y", 2: "z"}, label2id={"x": 0, "y": 1, "z": 2}
    )
    config.id2label = {0: "a", 1: "b", 2: "c"}  # `label2id` stays behind
    ours = DPTForSequenceClassification.from_pretrained(discriminator_path, label_words=LABEL_WORDS, config=config)
    assert ours.config.id2label == {0: "a", 1: "b", 2: "c"}
    assert ours.config.label2id == {"a": 0, "b": 1, "c": 2}


def test_a_plain_config_makes_no_wrapper(discriminator_path):
    with pytest.raises(ValueError, match=r"`config` must be a DPTForSeq.*Config, got ElectraConfig: .*from_pretrain"):
        DPTForSequenceClassification(AutoConfig.from_pretrained(discriminator_path))


def test_one_class_makes_sense_with_multiple_labels(discriminator_path, rows):
    model = DPTForSequenceClassification.from_pretrained(
        discriminator_path, label_words=["bad"], problem_type="multi_label_classification"
    )
    assert model(**rows, labels=torch.tensor([[1.0], [0.0]])).logits.shape == (2, 1)


def test_a_foreign_tokenizer_is_refused(discriminator_path, byte_level_tokenizer):
    with pytest.raises(ValueError, match="not the tokenizer of this discriminator"):
        DPTForSequenceClassification.from_pretrained(
            discriminator_path, label_words=["negative", "positive"], tokenizer=byte_level_tokenizer
        )


class BertTokenClassifier(BertPreTrainedModel):
    """A discriminator that nobody knows yet."""

    def __init__(self, config):
        super().__init__(config)
        self.bert = BertModel(config, add_pooling_layer=False)
        self.head = torch.nn.Linear(config.hidden_size, 1)
        self.post_init()

    def forward(self, input_ids, attention_mask=None, token_type_ids=None, **kwargs):
        kwargs["return_dict"] = True
        outputs = self.bert(input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids, **kwargs)
        return ElectraForPreTrainingOutput(logits=self.head(outputs.last_hidden_state).squeeze(-1))


def without_head(path: Path, tokenizer, model_class) -> Path:
    config = BertConfig(**make_config().to_dict()) if model_class is BertForMaskedLM else make_config()
    model_class(config).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


@pytest.mark.parametrize("model_class", [ElectraModel, ElectraForMaskedLM, ElectraForSequenceClassification])
def test_electra_without_its_pretrained_head(tokenizer, tmp_path, model_class):
    path = without_head(tmp_path, tokenizer, model_class)
    with pytest.raises(ValueError, match=r"no pretrained replaced-token head .*examples/pretrain_discriminator\.py"):
        DPTForSequenceClassification.from_pretrained(path, label_words=LABEL_WORDS)


def test_an_encoder_that_is_no_discriminator(tokenizer, tmp_path):
    path = without_head(tmp_path, tokenizer, BertForMaskedLM)
    for kwargs in ({"label_words": LABEL_WORDS}, {}):
        with pytest.raises(ValueError, match=r"'bert' models have none .*examples/pretrain_discriminator\.py"):
            DPTForSequenceClassification.from_pretrained(path, **kwargs)


def test_a_new_discriminator_is_one_registration(tokenizer, rows, tmp_path, monkeypatch):
    monkeypatch.setattr(discriminators, "_CLASSES", {})
    BertTokenClassifier(BertConfig(**make_config().to_dict(), num_labels=1)).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="'bert' models have none"):
        DPTForSequenceClassification.from_pretrained(tmp_path, label_words=LABEL_WORDS, tokenizer=tokenizer)
    register_discriminator(BertTokenClassifier)
    assert supported_model_types() == ("bert",)
    model = DPTForSequenceClassification.from_pretrained(tmp_path, label_words=LABEL_WORDS, tokenizer=tokenizer)
    spliced = model.splicer(**rows)
    plain = BertTokenClassifier.from_pretrained(tmp_path)
    expected = plain(spliced.input_ids, spliced.attention_mask, spliced.token_type_ids).logits
    assert torch.equal(model(**rows).logits, -expected.gather(1, spliced.label_positions))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("label_words", ["bad", "good", "sad"]),
        ("template", "{text} topic: {labels}"),
        ("label_order", [2, 1, 0]),
        ("wordpieces", "mean"),
        ("classes_per_pass", 1),
        ("max_length", 20),
    ],
)
def test_what_went_through_the_tokenizer_cannot_be_set_in_a_finished_config(discriminator_path, name, value):
    model = DPTForSequenceClassification.from_pretrained(discriminator_path, label_words=["world", "sports", "film"])
    with pytest.raises(ValueError, match=rf"`{name}` cannot change.*DPTForSequenceClassification\.from_pretrained\("):
        setattr(model.config, name, value)
    setattr(model.config, name, getattr(model.config, name))
    model.config.label_smoothing, model.config.class_weights = 0.1, [1.0, 2.0, 3.0]
