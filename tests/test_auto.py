"""One path is enough to load an adapter, over a task wrapper too."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from types import SimpleNamespace

import peft
import pytest
import torch
import transformers
from huggingface_hub import ModelCard
from packaging.version import Version
from peft import IA3Config, LoraConfig, PeftModel, PromptTuningConfig, get_peft_model
from transformers import (
    AutoModel,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    BertConfig,
    BertForMaskedLM,
    BertTokenizer,
    ElectraConfig,
    ElectraForPreTraining,
    Trainer,
    TrainingArguments,
    pipeline,
)

import dpt_peft
from dpt_peft import (
    AutoPeftModel,
    AutoPeftModelForSequenceClassification,
    AutoPeftModelForTokenClassification,
    DeepPromptConfig,
    DPTForHierarchicalClassification,
    DPTForMultiSpanQuestionAnswering,
    DPTForSequenceClassification,
    LabelTree,
    VerbalizerForSequenceClassification,
)
from tests import architectures

VOCABULARY = "[PAD] [UNK] [CLS] [SEP] [MASK] . , : ( ) ! class it was topic a film match bad good very fine sad new"
SIZES = {
    "vocab_size": len(VOCABULARY.split()),
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "max_position_embeddings": 40,
    "initializer_range": 0.5,
}
WORDS = ["bad", "good", "very"]
TREE = LabelTree.from_nested({"bad": ["sad", "very"], "good": ["fine", "new"]})

MAKERS = {
    "lora": lambda task_type: LoraConfig(task_type=task_type, r=2, target_modules=["query", "value"]),
    "deep prompts": lambda task_type: DeepPromptConfig(task_type=task_type, num_virtual_tokens=3),
}
WRAPPERS = {
    "classifier": (
        DPTForSequenceClassification,
        {"label_words": WORDS, "template": "{text} topic: {labels}", "calibration": [0.5, 0.0, 0.25]},
        AutoPeftModelForSequenceClassification,
    ),
    "released": (
        DPTForSequenceClassification,
        {"label_words": WORDS, "untied_labels": True, "label_bias": True},
        AutoPeftModelForSequenceClassification,
    ),
    "hierarchy": (DPTForHierarchicalClassification, {"label_tree": TREE}, AutoPeftModelForSequenceClassification),
    "reader": (DPTForMultiSpanQuestionAnswering, {"threshold": 0.25}, AutoPeftModelForTokenClassification),
    "verbalizer": (
        VerbalizerForSequenceClassification,
        {"label_words": WORDS, "template": "{mask} : {text}"},
        AutoPeftModelForSequenceClassification,
    ),
}


@pytest.fixture(scope="module")
def tokenizer():
    return BertTokenizer(vocab={word: index for index, word in enumerate(VOCABULARY.split())}, model_max_length=40)


@pytest.fixture(scope="module")
def plain(tokenizer, tmp_path_factory):
    """Folders of a discriminator and of a masked language model, as their authors save them."""
    folder = tmp_path_factory.mktemp("plain")
    torch.manual_seed(0)
    ElectraForPreTraining(ElectraConfig(embedding_size=16, **SIZES)).save_pretrained(folder / "discriminator")
    BertForMaskedLM(BertConfig(**SIZES)).save_pretrained(folder / "language_model")
    for name in ("discriminator", "language_model"):
        tokenizer.save_pretrained(folder / name)
    return folder


def tune(plain, wrapper, method, task_type):
    """An adapter over a wrapper of a plain checkpoint, after a step of training."""
    model_class, options, _ = WRAPPERS[wrapper]
    torch.manual_seed(0)
    folder = "language_model" if wrapper == "verbalizer" else "discriminator"
    base = model_class.from_pretrained(plain / folder, **options)
    config = MAKERS[method](task_type)
    if wrapper == "released":
        config.modules_to_save = ["label_tokens", "label_bias"]
    model = get_peft_model(base, config)
    rows = batch_of(wrapper)
    labels = {"labels": torch.ones_like(rows["input_ids"]) if wrapper == "reader" else torch.tensor([0, 2])}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1.0)
    model(**rows, **labels).loss.backward()
    optimizer.step()
    return model.eval()


def batch_of(wrapper):
    ids = torch.tensor([[2, 15, 16, 3], [2, 15, 17, 3]])
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


@pytest.mark.parametrize("method", MAKERS)
@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_an_adapter_over_a_wrapper_comes_back_with_it(plain, tmp_path, wrapper, method):
    model_class, _, auto = WRAPPERS[wrapper]
    rows = batch_of(wrapper)
    model = tune(plain, wrapper, method, auto._task_type)
    with torch.no_grad():
        expected = model(**rows).logits
        with model.disable_adapter():
            assert not torch.equal(model(**rows).logits, expected)
    model.save_pretrained(tmp_path)
    for auto_class in (auto, AutoPeftModel):
        loaded = auto_class.from_pretrained(tmp_path)
        assert isinstance(loaded, auto._target_peft_class)
        assert type(loaded.get_base_model()) is model_class
        assert not any(parameter.requires_grad for parameter in loaded.parameters())
        with torch.no_grad():
            assert torch.equal(loaded(**rows).logits, expected)
    trained = auto.from_pretrained(tmp_path, "mine", is_trainable=True)
    assert list(trained.peft_config) == ["mine"]
    assert {n for n, p in trained.named_parameters() if p.requires_grad} == {
        n.replace(".default", ".mine") for n, p in model.named_parameters() if p.requires_grad
    }


MORE_MAKERS = {
    **MAKERS,
    "ia3": lambda task_type: IA3Config(
        task_type=task_type, target_modules=["query", "value"], feedforward_modules=[], init_ia3_weights=False
    ),
}


@pytest.mark.parametrize("method", MORE_MAKERS)
@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_what_a_trainer_saves_is_loaded_as_what_it_was(plain, tokenizer, tmp_path, wrapper, method):
    """`save_model`, checkpoints, and every loader that takes a folder."""
    model_class, options, auto = WRAPPERS[wrapper]
    folder = "language_model" if wrapper == "verbalizer" else "discriminator"
    config = MORE_MAKERS[method](auto._task_type)
    if wrapper == "released":
        config.modules_to_save = ["label_tokens", "label_bias"]
    model = get_peft_model(model_class.from_pretrained(plain / folder, **options), config)
    rows = batch_of(wrapper)
    label = [-100, 1, 0, -100] if wrapper == "reader" else 1
    data = [{"input_ids": ids.tolist(), "labels": label} for ids in rows["input_ids"]] * 2
    arguments = TrainingArguments(
        str(tmp_path / "run"),
        max_steps=1,
        save_steps=1,
        learning_rate=0.1,
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
    )
    trainer = Trainer(model, arguments, train_dataset=data, processing_class=tokenizer)
    trainer.train()
    trainer.save_model(tmp_path / "saved")
    with torch.no_grad():
        expected = model.eval()(**rows).logits
    auto_model = AutoModelForTokenClassification if wrapper == "reader" else AutoModelForSequenceClassification
    for saved in (tmp_path / "saved", tmp_path / "run" / "checkpoint-1"):
        assert not list(saved.glob("model*.safetensors"))
        for loader in (auto_model, model_class, auto, AutoPeftModel):
            loaded = loader.from_pretrained(saved)
            base = loaded.get_base_model() if isinstance(loaded, PeftModel) else loaded
            assert type(base) is model_class
            with torch.no_grad():
                torch.testing.assert_close(loaded(**rows).logits, expected, rtol=0, atol=1e-6)
    if wrapper != "reader":
        classify = pipeline("text-classification", model=str(tmp_path / "saved"))
        assert type(classify.model) is model_class
        with torch.no_grad():
            scores = model(**tokenizer("a film", return_tensors="pt")).logits[0].softmax(0)
        found = {row["label"]: row["score"] for row in classify("a film", top_k=None)}
        names = [model.config.id2label[index] for index in range(len(scores))]
        assert [found[name] for name in names] == pytest.approx(scores.tolist(), abs=1e-5)


@pytest.mark.parametrize("method", MAKERS)
def test_training_goes_on_from_such_a_checkpoint(plain, tokenizer, tmp_path, method):
    rows = batch_of("hierarchy")
    data = [{"input_ids": ids.tolist(), "labels": label} for ids, label in zip(rows["input_ids"], (0, 3), strict=True)]

    def trainer(steps: int, **options) -> Trainer:
        torch.manual_seed(0)
        dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
        base = DPTForHierarchicalClassification.from_pretrained(plain / "discriminator", label_tree=TREE, **dropout)
        arguments = TrainingArguments(
            str(tmp_path),
            max_steps=steps,
            save_steps=1,
            lr_scheduler_type="constant",
            learning_rate=0.1,
            report_to=[],
            use_cpu=True,
            disable_tqdm=True,
            **options,
        )
        return Trainer(
            get_peft_model(base, MAKERS[method]("SEQ_CLS")),
            arguments,
            train_dataset=data,
            eval_dataset=data,
            processing_class=tokenizer,
        )

    whole = trainer(3, eval_strategy="steps", eval_steps=1, load_best_model_at_end=True, metric_for_best_model="loss")
    whole.train()
    resumed = trainer(3)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-1"))
    best = AutoPeftModel.from_pretrained(whole.state.best_model_checkpoint).eval()
    with torch.no_grad():
        torch.testing.assert_close(whole.model.eval()(**rows).logits, best(**rows).logits)
        last = AutoPeftModel.from_pretrained(tmp_path / "checkpoint-3").eval()
        torch.testing.assert_close(resumed.model.eval()(**rows).logits, last(**rows).logits)


def test_every_adapter_and_every_push_has_the_config(plain, tmp_path, monkeypatch):
    model = tune(plain, "classifier", "lora", "SEQ_CLS")
    model.add_adapter("other", MAKERS["lora"]("SEQ_CLS"))
    model.save_pretrained(tmp_path / "both")
    assert (tmp_path / "both" / "config.json").is_file()
    assert type(AutoPeftModel.from_pretrained(tmp_path / "both" / "other").get_base_model()) is type(
        model.get_base_model()
    )
    model.save_pretrained(str(tmp_path / "one"), selected_adapters=["other"])
    assert not (tmp_path / "one" / "config.json").exists()
    assert (tmp_path / "one" / "other" / "config.json").is_file()
    model.save_pretrained(tmp_path / "second_process", is_main_process=False)
    assert not (tmp_path / "second_process" / "config.json").exists()

    pushed: list[str] = []

    def upload(self, working_dir, *args, **kwargs):
        pushed.extend(sorted(path.name for path in Path(working_dir).iterdir()))

    # The Hub, as far as a push goes without a network.
    monkeypatch.setattr(PeftModel, "_upload_modified_files", upload)
    hub = SimpleNamespace(create_repo=lambda *_, **__: SimpleNamespace(repo_id="me/adapter"))
    monkeypatch.setattr("transformers.utils.hub.hf_api", lambda: hub)
    monkeypatch.setattr("transformers.utils.hub.create_and_tag_model_card", lambda *_, **__: ModelCard("# card"))
    model.push_to_hub("me/adapter")
    assert {"config.json", "adapter_config.json", "adapter_model.safetensors"} <= set(pushed)


@pytest.mark.skipif(
    Version(transformers.__version__) < Version("5.23"),
    reason=f"transformers {transformers.__version__} looks for the weights of such an adapter outside the subfolder",
)
def test_an_adapter_in_a_subfolder_over_a_sharded_model(plain, tmp_path):
    base = DPTForSequenceClassification.from_pretrained(plain / "discriminator", label_words=WORDS)
    base.save_pretrained(tmp_path / "wrapper", max_shard_size="5KB")
    assert (tmp_path / "wrapper" / "model.safetensors.index.json").is_file()
    base = DPTForSequenceClassification.from_pretrained(tmp_path / "wrapper")
    model = get_peft_model(base, MAKERS["deep prompts"]("SEQ_CLS"), adapter_name="mine").eval()
    model.save_pretrained(tmp_path / "adapters")
    rows = batch_of("classifier")
    for loader in (AutoPeftModelForSequenceClassification, DPTForSequenceClassification):
        loaded = loader.from_pretrained(tmp_path / "adapters", subfolder="mine").eval()
        with torch.no_grad():
            assert torch.equal(loaded(**rows).logits, model(**rows).logits)


def test_an_adapter_that_transformers_has_added_is_saved_with_the_config(plain, tmp_path):
    model = DPTForSequenceClassification.from_pretrained(plain / "discriminator", label_words=WORDS)
    model.add_adapter(LoraConfig(r=2, target_modules=["query"], init_lora_weights=False))
    model.save_pretrained(tmp_path)
    rows = batch_of("classifier")
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    with torch.no_grad():
        assert torch.equal(loaded(**rows).logits, model.eval()(**rows).logits)


def test_adapters_over_plain_models_are_written_as_before(plain, tmp_path):
    base = AutoModelForSequenceClassification.from_pretrained(plain / "discriminator", num_labels=3)
    get_peft_model(base, MAKERS["lora"]("SEQ_CLS")).save_pretrained(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
    }


@pytest.mark.parametrize("method", MAKERS)
@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_added_tokens_are_saved_and_loaded(plain, tokenizer, tmp_path, wrapper, method):
    model_class, options, auto = WRAPPERS[wrapper]
    folder = "language_model" if wrapper == "verbalizer" else "discriminator"
    base = model_class.from_pretrained(plain / folder, **options)
    vocabulary = base.config.vocab_size
    base.resize_token_embeddings(vocabulary + 2)
    assert base.config.vocab_size == vocabulary + 2
    with torch.no_grad():
        base.get_input_embeddings().weight[-2:] = base.get_input_embeddings().weight[[15, 16]]
    model = get_peft_model(base, MAKERS[method](auto._task_type)).eval()
    rows = {"input_ids": torch.tensor([[2, vocabulary, vocabulary + 1, 3]])}
    with torch.no_grad():
        expected = model(**rows).logits
    with pytest.warns(UserWarning, match="save_embedding_layers"):
        model.save_pretrained(tmp_path)
    auto_model = AutoModelForTokenClassification if wrapper == "reader" else AutoModelForSequenceClassification
    for loader in (auto, model_class, auto_model):
        loaded = loader.from_pretrained(tmp_path)
        assert loaded.get_input_embeddings().weight.shape[0] == vocabulary + 2
        with torch.no_grad():
            torch.testing.assert_close(loaded(**rows).logits, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("method", MAKERS)
@pytest.mark.parametrize(("task_type", "classes"), [("SEQ_CLS", 3), ("SEQ_CLS", 7), ("TOKEN_CLS", 9)])
@pytest.mark.parametrize("architecture", ["electra", "bert", "roberta", "distilbert"])
def test_the_number_of_classes_is_read_from_the_adapter(tmp_path, architecture, task_type, classes, method):
    makers = {"SEQ_CLS": AutoModelForSequenceClassification, "TOKEN_CLS": AutoModelForTokenClassification}
    loaders = {"SEQ_CLS": AutoPeftModelForSequenceClassification, "TOKEN_CLS": AutoPeftModelForTokenClassification}
    torch.manual_seed(0)
    AutoModel.from_config(architectures.make_config(architecture)).save_pretrained(tmp_path / "base")
    base = makers[task_type].from_pretrained(tmp_path / "base", num_labels=classes)
    config = MAKERS[method](task_type)
    if method == "lora" and architecture == "distilbert":
        config.target_modules = ["q_lin", "v_lin", "out_lin"]
    model = get_peft_model(base, config).eval()
    model.save_pretrained(tmp_path / "adapter")
    loaded = loaders[task_type].from_pretrained(tmp_path / "adapter")
    rows = {"input_ids": torch.tensor([[5, 6, 7]])}
    assert loaded.config.num_labels == classes
    with torch.no_grad():
        torch.testing.assert_close(loaded(**rows).logits, model(**rows).logits, rtol=0, atol=1e-6)
    if method == "deep prompts":
        names = {index: f"name {index}" for index in range(classes)}
        base = makers[task_type].from_pretrained(tmp_path / "base", id2label=names)
        get_peft_model(base, config).save_pretrained(tmp_path / "named")
        assert loaders[task_type].from_pretrained(tmp_path / "named").config.id2label == names
    # What is said counts.
    named = loaders[task_type].from_pretrained(
        tmp_path / "adapter", id2label={index: f"class {index}" for index in range(classes)}
    )
    assert named.config.id2label[1] == "class 1"


def reported(folder, caplog, auto_class=AutoPeftModelForSequenceClassification, **options):
    """What transformers reports of weights while a model is loaded."""
    caplog.clear()
    transformers_logger = logging.getLogger("transformers")
    transformers_logger.addHandler(caplog.handler)
    try:
        auto_class.from_pretrained(folder, **options)
    finally:
        transformers_logger.removeHandler(caplog.handler)
        reports = {record.message for record in caplog.records if "LOAD REPORT" in record.message}
    return " ".join(reports)


@pytest.mark.parametrize("lost", [None, "layer.0.attention.self.query", "attention.self.query"])
@pytest.mark.parametrize(
    "config",
    [
        DeepPromptConfig(task_type="SEQ_CLS"),
        LoraConfig(task_type="SEQ_CLS"),
        PromptTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=2),
    ],
    ids=["deep prompts", "lora", "prompt tuning"],
)
def test_only_weights_that_neither_base_nor_adapter_has_are_reported(tmp_path, caplog, config, lost):
    torch.manual_seed(0)
    backbone = AutoModel.from_config(architectures.make_config("electra"))
    kept = {name: weight for name, weight in backbone.state_dict().items() if lost is None or lost not in name}
    backbone.save_pretrained(tmp_path / "base", state_dict=kept)
    base = AutoModelForSequenceClassification.from_pretrained(tmp_path / "base", num_labels=3)
    get_peft_model(base, config).save_pretrained(tmp_path / "adapter")
    assert ("attention.self.query" in reported(tmp_path / "adapter", caplog)) is (lost is not None)


@pytest.mark.parametrize("layers", [2, 12])
def test_layers_that_an_adapter_brings_whole_are_not_reported(tmp_path, caplog, layers):
    """The report has a line for all layers: `{0, 1}`, or `{0...11}`."""
    torch.manual_seed(0)
    backbone = AutoModel.from_config(architectures.make_config("electra", num_hidden_layers=layers))
    kept = {name: weight for name, weight in backbone.state_dict().items() if "self.query" not in name}
    backbone.save_pretrained(tmp_path / "base", state_dict=kept)
    lines = reported(tmp_path / "base", caplog, AutoModelForSequenceClassification)
    assert ("{0, 1}" if layers == 2 else "{0...11}") in lines
    base = AutoModelForSequenceClassification.from_pretrained(tmp_path / "base", num_labels=3)
    config = LoraConfig(task_type="SEQ_CLS", target_modules=["value"], modules_to_save=["query", "classifier"])
    get_peft_model(base, config).save_pretrained(tmp_path / "adapter")
    assert reported(tmp_path / "adapter", caplog) == ""


def test_a_load_that_fails_is_reported(tmp_path, caplog):
    """The error itself says "look at the above report"."""
    torch.manual_seed(0)
    config = architectures.make_config("electra", num_labels=2)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(tmp_path / "base")
    base = AutoModelForSequenceClassification.from_pretrained(
        tmp_path / "base", num_labels=3, ignore_mismatched_sizes=True
    )
    get_peft_model(base, DeepPromptConfig(task_type="SEQ_CLS")).save_pretrained(tmp_path / "adapter")
    assert reported(tmp_path / "adapter", caplog, ignore_mismatched_sizes=True) == ""
    with pytest.raises(RuntimeError, match="report"):
        reported(tmp_path / "adapter", caplog)
    assert any("MISMATCH" in record.message and "out_proj" in record.message for record in caplog.records)


def test_deep_prompts_keep_the_kind_of_task_that_transformers_read_off_the_labels(tmp_path):
    torch.manual_seed(0)
    AutoModel.from_config(architectures.make_config("electra")).save_pretrained(tmp_path / "base")
    base = AutoModelForSequenceClassification.from_pretrained(tmp_path / "base", num_labels=3)
    model = get_peft_model(base, DeepPromptConfig(task_type="SEQ_CLS"))
    model(input_ids=torch.tensor([[5, 6, 7]]), labels=torch.tensor([[0.0, 1.0, 1.0]]))
    model.save_pretrained(tmp_path / "adapter")
    loaded = AutoPeftModelForSequenceClassification.from_pretrained(tmp_path / "adapter")
    assert loaded.config.problem_type == "multi_label_classification"


@pytest.mark.parametrize("wrapper", ["classifier", "reader", "verbalizer"])
def test_without_its_config_the_error_gives_the_lines(plain, tmp_path, wrapper):
    _, _, auto = WRAPPERS[wrapper]
    rows = batch_of(wrapper)
    model = tune(plain, wrapper, "lora", auto._task_type)
    model.save_pretrained(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(ValueError, match=r"config\.json.* does not lie beside it") as error:
        auto.from_pretrained(tmp_path)
    # They work as they stand there, but for the label words that nobody knows.
    lines = str(error.value).replace("[...]", repr(WORDS)).split("`")[1::2]
    names = {"dpt_peft": dpt_peft, "PeftModel": PeftModel, "model": model}
    exec(lines[0], names)
    with torch.no_grad():
        assert torch.equal(auto.from_pretrained(tmp_path)(**rows).logits, model(**rows).logits)
    exec("\n".join(lines[1:]), names)
    assert type(names["model"].get_base_model()) is type(model.get_base_model())


def test_the_wrong_auto_class_names_the_right_one(plain, tmp_path):
    model = tune(plain, "reader", "lora", "TOKEN_CLS")
    model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="is for adapters with the task type SEQ_CLS, this one has TOKEN_CLS"):
        AutoPeftModelForSequenceClassification.from_pretrained(tmp_path)


def test_everything_else_is_left_to_peft(plain, tmp_path):
    base = AutoModelForSequenceClassification.from_pretrained(plain / "discriminator", num_labels=3)
    rows = batch_of("classifier")
    model = get_peft_model(base, MAKERS["lora"]("SEQ_CLS")).eval()
    model.save_pretrained(tmp_path / "ordinary")
    for package in (peft, dpt_peft):
        auto = package.AutoPeftModelForSequenceClassification
        loaded = auto.from_pretrained(tmp_path / "ordinary", num_labels=3)
        with torch.no_grad():
            assert torch.equal(loaded(**rows).logits, model(**rows).logits)
    with pytest.raises(ValueError, match="Cannot use `AutoPeftModel` with a task type"):
        AutoPeftModel.from_pretrained(tmp_path / "ordinary")

    # a saved wrapper says itself what it is
    wrapper = DPTForSequenceClassification.from_pretrained(plain / "discriminator", label_words=WORDS)
    wrapper.save_pretrained(tmp_path / "wrapper")
    base = DPTForSequenceClassification.from_pretrained(tmp_path / "wrapper")
    model = get_peft_model(base, LoraConfig(task_type="SEQ_CLS", r=2, init_lora_weights=False)).eval()
    model.save_pretrained(tmp_path / "adapter")
    with torch.no_grad():
        loaded = AutoPeftModelForSequenceClassification.from_pretrained(tmp_path / "adapter")
        assert torch.equal(loaded(**rows).logits, model(**rows).logits)


@pytest.mark.parametrize("method", MAKERS)
def test_a_wrapper_with_other_options_is_warned_of(plain, tokenizer, tmp_path, method):
    tune(plain, "classifier", method, "SEQ_CLS").save_pretrained(tmp_path)
    _, options, _ = WRAPPERS["classifier"]
    load = DPTForSequenceClassification.from_pretrained

    def messages(base):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            PeftModel.from_pretrained(base, tmp_path)
        return [str(warning.message) for warning in caught if "trained over a wrapper" in str(warning.message)]

    (message,) = messages(load(plain / "discriminator", **{**options, "template": "{text} class: {labels}"}))
    assert "`template` was '{text} topic: {labels}', is '{text} class: {labels}'. Make" in message
    (message,) = messages(
        load(plain / "discriminator", label_words=["sad", "fine", "new"], template=options["template"])
    )
    assert "options: `label_words` was ['bad', 'good', 'very'], is ['sad', 'fine', 'new']. Make" in message
    (message,) = messages(load(plain / "discriminator", score_function="sigmoid", **options))
    assert "options: `score_function` was 'one_minus_sigmoid', is 'sigmoid'" in message
    (message,) = messages(DPTForHierarchicalClassification.from_pretrained(plain / "discriminator", label_tree=TREE))
    assert "it was a DPTForSequenceClassification" in message

    assert not messages(load(plain / "discriminator", **options, max_length=30))
    several = load(plain / "discriminator", label_words=["sad", "fine"])
    several.add_label_list("trained", WORDS, tokenizer, template=options["template"])
    assert not messages(several)
