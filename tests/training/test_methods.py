import logging

import peft
import pytest
import torch
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    ElectraForMaskedLM,
    ElectraForPreTraining,
    ElectraForSequenceClassification,
)

from dpt_peft import DeepPromptLayer, DeepPromptModel, VerbalizerForSequenceClassification
from dpt_peft.pretrained_heads import DPTForSequenceClassification
from dpt_peft.tasks import DISCRIMINATOR, TASKS
from dpt_peft.training.methods import (
    METHODS,
    build_model,
    count_parameters,
    default_epochs,
    describe_options,
    methods_of,
    option_names,
    split_options,
)

TEXTS = TASKS["text-classification"]

NAMES = ["bad film", "good film"]
WORDS = ["negative", "positive"]


def build(method, discriminator, **options):
    """A method's model with those of the options that the method has."""
    torch.manual_seed(1)
    mine = {name: value for name, value in {"label_words": WORDS, **options}.items() if name in of_method(method)}
    return build_model(TEXTS, method, str(discriminator), NAMES, **mine)


def of_method(method):
    return option_names(TEXTS, method)


#: The methods on a discriminator, or on the encoder in it; a verbalizer needs another model.
ON_DISCRIMINATORS = [name for name in METHODS if name != "verbalizer"]


SMALL = {"p_tuning": {"encoder_hidden_size": 8}}


def base_of(model):
    return model.get_base_model() if isinstance(model, peft.PeftModel) else model


@pytest.mark.parametrize("method", ON_DISCRIMINATORS)
def test_model_trains_what_the_method_says(method, discriminator):
    model = build(method, discriminator, num_virtual_tokens=3, **SMALL.get(method, {}))
    dpt = METHODS[method].head == DISCRIMINATOR
    assert isinstance(base_of(model), DPTForSequenceClassification if dpt else ElectraForSequenceClassification)
    assert base_of(model).config.id2label == dict(enumerate(NAMES))

    trained, total = count_parameters(model)
    backbone = sum(p.numel() for p in ElectraForPreTraining.from_pretrained(discriminator).parameters())
    head = 16 * 16 + 16 + 16 * 2 + 2
    prompts = 2 * 2 * 3 * 16  # keys and values, layers, prompt length, hidden size
    lora = 2 * 2 * (16 * 8 + 8 * 16)  # query and value, layers, both factors of rank 8
    expected = {
        "fine_tuning": total,
        "dpt": backbone,  # no new parameter at all
        "dpt_prototypes": backbone + 2 * 16,  # one vector a class
        "deep_prompt": prompts + head,
        "dpt_deep_prompt": prompts,  # no new head
        "dpt_prototypes_deep_prompt": prompts + 2 * 16,
        "lora": lora + head,
        "shallow_prompt": 3 * 16 + head,
        "prefix_tuning": prompts + head,
        "p_tuning": 3 * 16 + (16 * 8 + 8) + (8 * 8 + 8) + (8 * 16 + 16) + head,
    }
    assert trained == expected[method]


@pytest.mark.parametrize("method", ON_DISCRIMINATORS)
def test_pretrained_weights_are_loaded(method, discriminator):
    pretrained = ElectraForPreTraining.from_pretrained(discriminator).electra.state_dict()
    state = base_of(build(method, discriminator)).state_dict()
    for name in ("embeddings.word_embeddings.weight", "encoder.layer.1.output.dense.weight"):
        (found,) = [value for key, value in state.items() if key.endswith(name) and "lora" not in key]
        assert torch.equal(found, pretrained[name])


@pytest.mark.parametrize("method", ON_DISCRIMINATORS)
def test_a_forward_pass_gives_a_loss_that_reaches_every_trained_parameter(method, discriminator):
    model = build(method, discriminator).train()
    tokenizer = AutoTokenizer.from_pretrained(discriminator)
    batch = tokenizer(["the film was good.", ""], padding=True, return_tensors="pt")
    output = model(**batch, labels=torch.tensor([1, 0]))
    assert output.logits.shape == (2, 2)
    output.loss.backward()
    without = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert without == []


def test_a_verbalizer_trains_prompts_in_a_masked_language_model_alone(language_model, discriminator):
    model = build("verbalizer", language_model, num_virtual_tokens=3, template="class : {mask} . {text}")
    base = base_of(model)
    assert isinstance(base, VerbalizerForSequenceClassification)
    assert (base.config.id2label, base.config.label_words) == (dict(enumerate(NAMES)), WORDS)
    assert base.config.template == "class : {mask} . {text}"
    assert count_parameters(model)[0] == 2 * 2 * 3 * 16  # keys and values, layers, prompt length, hidden size
    pretrained = ElectraForMaskedLM.from_pretrained(language_model).state_dict()
    for name, parameter in base.language_model.named_parameters():
        if "deep_prompt" not in name:
            assert torch.equal(parameter, pretrained[name.replace("base_layer.", "")])
    with pytest.raises(ValueError, match="no pretrained language-model head"):
        build("verbalizer", discriminator)


def prompted_layers(model):
    return {name for name, module in model.named_modules() if isinstance(module, DeepPromptLayer)}


def test_options_reach_the_models(discriminator):
    model = build("dpt", discriminator, score_function="sigmoid", template="{text} class: {labels}.")
    assert model.config.score_function == "sigmoid"
    assert model.config.template == "{text} class: {labels}."

    model = build("deep_prompt", discriminator, layers_to_transform=["last", "1"], num_virtual_tokens=5)
    assert isinstance(model.base_model, DeepPromptModel)
    assert prompted_layers(model)
    assert all("layer.1." in name for name in prompted_layers(model))
    by_number = build("deep_prompt", discriminator, layers_to_transform=["1"], num_virtual_tokens=5)
    assert prompted_layers(by_number) == prompted_layers(model)

    model = build("lora", discriminator, r=2, target_modules=["key"])
    assert model.peft_config["default"].r == 2
    assert {name.split(".")[-4] for name, _ in model.named_parameters() if "lora_A" in name} == {"key"}


def test_presets_and_passes_reach_the_discriminator(discriminator):
    model = build_model(TEXTS, "dpt", str(discriminator), ["good", "bad"], template_preset="released")
    assert model.config.label_words == ["good", "bad"]
    assert model.config.template == "{text}{sep} labels : {labels}"
    assert (model.config.untied_labels, model.config.label_bias) == (True, True)

    # The words of a preset, its template, and what is said besides.
    model = build_model(TEXTS, "dpt", str(discriminator), NAMES, template_preset="sst2")
    assert model.config.label_words == WORDS
    assert model.config.id2label == dict(enumerate(NAMES))
    more = {"wordpieces": "mean", "classes_per_pass": 1, "template": "class: {labels} {text}"}
    model = build("dpt", discriminator, template_preset="sst2-released", **more)
    assert {name: getattr(model.config, name) for name in more} == more
    assert len(model.config.templates) == 2
    assert model.config.label_separator == " , "

    with pytest.raises(ValueError, match="4 label words"):
        build_model(TEXTS, "dpt", str(discriminator), NAMES, template_preset="ag_news")
    with pytest.raises(ValueError, match="`preset` must be one of paper, released"):
        build("dpt", discriminator, template_preset="none")


@pytest.mark.parametrize("method", ["dpt", "dpt_deep_prompt"])
def test_calibrated_before_training(method, discriminator):
    tokenizer = AutoTokenizer.from_pretrained(discriminator)
    plain, calibrated = (base_of(build(method, discriminator, calibrate=choice)) for choice in (False, True))
    measured = DPTForSequenceClassification.from_pretrained(discriminator, label_words=WORDS).calibrate(tokenizer)
    assert plain.config.calibration is None
    torch.testing.assert_close(torch.tensor(calibrated.config.calibration), measured, rtol=0, atol=1e-6)


def test_label_tokens_are_trained_beside_an_adapter(discriminator):
    model = build("dpt_deep_prompt", discriminator, template_preset="released", num_virtual_tokens=3)
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    own = [name for name in trained if "deep_prompt" not in name]
    assert sorted(name.split(".")[-4] for name in own) == ["label_bias", "label_tokens"]


@pytest.mark.parametrize(
    ("task", "method", "options", "message"),
    [
        ("multi-span-question-answering", "dpt", {"template": "{text} {labels}"}, "no method of multi-span-question"),
        ("multi-span-question-answering", "dpt", {"label_words": WORDS}, "no method of multi-span-question"),
        (
            "text-classification",
            "lora",
            {"template": "{text} {labels}"},
            "it is for dpt, dpt_prototypes, dpt_deep_prompt, dpt_prototypes_deep_prompt, verbalizer",
        ),
        ("text-classification", "dpt", {"r": 4}, "it is for lora"),
        ("text-classification", "fine_tuning", {"num_virtual_tokens": 5}, "it is for deep_prompt, dpt_deep_prompt"),
        ("text-classification", "dpt", {"num_virtual_token": 3}, "`num_virtual_token` has no use with method 'dpt'"),
    ],
)
def test_options_that_would_do_nothing_are_refused(task, method, options, message):
    with pytest.raises(ValueError, match=message):
        split_options(TASKS[task], method, options)


@pytest.mark.parametrize("method", METHODS)
def test_every_option_of_a_method_is_a_field_of_what_it_makes(method):
    described = describe_options(TEXTS, method, {})
    assert tuple(described) == option_names(TEXTS, method)
    # Every default, said aloud, is taken as it is.
    head, adapter = split_options(
        TEXTS, method, {name: value for name, value in described.items() if value is not None}
    )
    assert (head, adapter) == split_options(TEXTS, method, {})


def test_fields_of_the_peft_config_beyond_the_command_line_can_be_set(discriminator):
    model = build_model(TEXTS, "lora", str(discriminator), NAMES, bias="all", lora_alpha=4)
    config = model.peft_config["default"]
    assert (config.bias, config.lora_alpha, config.task_type) == ("all", 4, "SEQ_CLS")
    more = {"label_words": WORDS, "modules_to_save": ["discriminator_predictions"]}
    model = build_model(TEXTS, "dpt_prototypes_deep_prompt", str(discriminator), NAMES, **more)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert {"discriminator_predictions", "class_prototypes"} <= set(".".join(trained).split("."))


def test_epochs_make_the_updates_that_a_method_wants():
    assert default_epochs("fine_tuning", 64, 8) == 15
    assert default_epochs("dpt", 64, 8) == 12
    assert default_epochs("dpt", 100_000, 8) == 3
    # One batch is all there is: not 96 times the same.
    assert default_epochs("dpt", 16, 16) == 32
    assert default_epochs("fine_tuning", 16, 16) == 120


def test_label_words_default_to_the_label_names(discriminator):
    model = build_model(TEXTS, "dpt", str(discriminator), ["good", "bad"])
    assert model.config.label_words == ["good", "bad"]


def test_the_expected_new_head_is_not_reported(discriminator, caplog, recwarn):
    transformers_logger = logging.getLogger("transformers")
    transformers_logger.addHandler(caplog.handler)
    try:
        for method in ON_DISCRIMINATORS:
            build(method, discriminator)
        assert [record.message for record in caplog.records if record.levelno >= logging.WARNING] == []
        assert [str(warning.message) for warning in recwarn if warning.category is not DeprecationWarning] == []
    finally:
        transformers_logger.removeHandler(caplog.handler)


def test_a_backbone_that_is_not_in_the_checkpoint_is_reported(tmp_path, caplog):
    sizes = {"vocab_size": 20, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    small = BertForMaskedLM(BertConfig(**sizes, intermediate_size=8))
    state = {key: value for key, value in small.state_dict().items() if "layer.0.attention.self" not in key}
    small.save_pretrained(tmp_path, state_dict=state)
    transformers_logger = logging.getLogger("transformers")
    transformers_logger.addHandler(caplog.handler)
    try:
        build_model(TEXTS, "fine_tuning", str(tmp_path), NAMES)
    finally:
        transformers_logger.removeHandler(caplog.handler)
    assert any("LOAD REPORT" in record.message and "attention.self" in record.message for record in caplog.records)


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        ({"method": "prefix"}, ValueError, "`method` must be one of fine_tuning, dpt"),
        ({"label_names": ["one"]}, ValueError, "at least two classes"),
        ({"label_names": "ab"}, ValueError, "list of class names"),
        ({"label_words": ["good"]}, ValueError, "2 classes .* 1 label words"),
        ({"label_words": "good"}, ValueError, "`label_words` must be a list"),
        ({"num_virtual_token": 3}, ValueError, "num_virtual_token"),
    ],
)
def test_bad_arguments(discriminator, kwargs, error, message):
    arguments = {"method": "dpt", "label_names": NAMES, **kwargs}
    method, names = arguments.pop("method"), arguments.pop("label_names")
    with pytest.raises(error, match=message):
        build_model(TEXTS, method, str(discriminator), names, **arguments)


OTHER_FAMILIES = tuple(TASKS[name] for name in ("token-classification", "question-answering", "multiple-choice"))


@pytest.mark.parametrize(
    ("family", "method"),
    [(family, method) for family in OTHER_FAMILIES for method in methods_of(family)],
    ids=lambda value: getattr(value, "name", value),
)
def test_other_families_give_a_loss_that_reaches_every_trained_parameter(family, method, discriminator):
    torch.manual_seed(1)
    names = ["O", "B-PER", "I-PER"] if family.name == "token-classification" else []
    options = {"num_virtual_tokens": 3} if method == "deep_prompt" else {}
    model = build_model(family, method, str(discriminator), names, **options).train()
    ids = torch.randint(5, 18, (2, 7))
    batch = {
        "token-classification": {"input_ids": ids, "labels": torch.randint(0, 3, (2, 7))},
        "question-answering": {
            "input_ids": ids,
            "start_positions": torch.tensor([1, 2]),
            "end_positions": torch.tensor([3, 4]),
        },
        "multiple-choice": {"input_ids": torch.randint(5, 18, (2, 3, 7)), "labels": torch.tensor([2, 0])},
    }[family.name]
    attention_mask = torch.ones_like(batch["input_ids"])
    model(**batch, attention_mask=attention_mask).loss.backward()
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert [name for name, p in trained.items() if p.grad is None] == []
    if METHODS[method].adapter is not None:  # PEFT's head of the family is trained, beside the adapter
        assert any("classifier" in name or "qa_outputs" in name for name in trained)


def test_families_have_the_methods_that_their_models_allow():
    assert "dpt" in methods_of(TEXTS)
    assert "dpt" not in methods_of(TASKS["token-classification"])
    assert "shallow_prompt" not in methods_of(TASKS["multiple-choice"])
    with pytest.raises(ValueError, match="must be one of fine_tuning, deep_prompt, lora for multiple-choice"):
        build_model(TASKS["multiple-choice"], "p_tuning", "anywhere")


@pytest.mark.parametrize("method", ["prefix_tuning", "shallow_prompt", "p_tuning"])
def test_prompts_that_take_positions_leave_the_rest_to_the_text(method, discriminator):
    model = build(method, discriminator, num_virtual_tokens=3, **SMALL.get(method, {}))
    tokenizer = AutoTokenizer.from_pretrained(discriminator)
    longest = TEXTS.longest_row(TEXTS.arguments(train_file="rows.csv"), tokenizer, model)
    assert longest == 64 - 3  # all positions but those of the prompts
    rows = tokenizer(["film " * 80], truncation=True, max_length=longest, return_tensors="pt")
    assert rows["input_ids"].shape[1] == longest
    assert model(**rows).logits.shape == (1, 2)
