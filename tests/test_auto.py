"""One path is enough to load an adapter, over a task wrapper too."""

from __future__ import annotations

import peft
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    BertForMaskedLM,
    BertTokenizer,
    ElectraConfig,
    ElectraForPreTraining,
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
    model.config.save_pretrained(tmp_path)
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
    model.config.save_pretrained(tmp_path)
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
