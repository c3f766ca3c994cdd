"""The wrapper against transformers' masked language models, asked by hand."""

import pytest
import torch
from peft import PeftModel, TaskType, get_peft_model
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import (
    AutoConfig,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    BertTokenizer,
    PreTrainedTokenizerFast,
    pipeline,
)

from dpt_peft import (
    DeepPromptConfig,
    VerbalizerForSequenceClassification,
    VerbalizerForSequenceClassificationConfig,
)
from tests.architectures import make_config

WORDS = (
    "[PAD] [UNK] [CLS] [SEP] [MASK] . , ? the film was it really good great bad poor dull and so true fal ##se no ##t"
)
TEXTS = ["the film was really good", "dull", ""]
TOKENIZER = BertTokenizer(vocab={word: index for index, word in enumerate(WORDS.split())}, model_max_length=32)
ARCHITECTURES = ["bert", "roberta", "electra", "distilbert", "albert", "deberta-v2", "modernbert"]


def write_language_model(folder, architecture="bert"):
    torch.manual_seed(0)
    ids = {"pad_token_id": 0, "cls_token_id": 2, "sep_token_id": 3, "bos_token_id": 2, "eos_token_id": 3}
    config = make_config(architecture, vocab_size=len(WORDS.split()), initializer_range=0.3, **ids)
    AutoModelForMaskedLM.from_config(config).save_pretrained(folder)
    TOKENIZER.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return write_language_model(tmp_path_factory.mktemp("lm"))


def load(path, **kwargs):
    return VerbalizerForSequenceClassification.from_pretrained(path, **{"label_words": ["bad", "good"], **kwargs})


def by_hand(path, texts, words, dtype=None):
    """The head's logits at the mask of texts written out, each alone, for the words' first tokens."""
    model = AutoModelForMaskedLM.from_pretrained(path).eval().to(dtype or torch.float32)
    rows = []
    for text in texts:
        encoded = TOKENIZER(*(text if isinstance(text, tuple) else (text,)), return_tensors="pt")
        (position,) = (encoded["input_ids"][0] == TOKENIZER.mask_token_id).nonzero()[:, 0]
        logits = model(**encoded).logits[0, position]
        rows.append(logits[[TOKENIZER.convert_tokens_to_ids(TOKENIZER.tokenize(word)[0]) for word in words]])
    return torch.stack(rows)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_logits_are_those_of_the_language_model_at_the_mask(tmp_path, architecture):
    folder = write_language_model(tmp_path / "lm", architecture)
    model = load(folder, label_words=["bad", "good", "true"])
    batch = TOKENIZER(TEXTS, padding=True, return_tensors="pt")
    expected = by_hand(folder, [f"{text} it was [MASK] ." for text in TEXTS], ["bad", "good", "true"])
    assert torch.allclose(model(**batch).logits, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("the film and so {mask} , {text}", "the film and so [MASK] , {0} [SEP] {1}"),
        ("{text_a} ? {mask} , {text_b}", "{0} ? [MASK] , {1}"),
        ("{text_b} so {text_a} {mask}", "{1} so {0} [MASK]"),
    ],
)
def test_templates_of_pairs(path, template, text):
    model = load(path, template=template)
    first, second = ["the film was good", "it was dull"], ["bad", "the film"]
    batch = TOKENIZER(first, second, padding=True, return_tensors="pt")
    del batch["token_type_ids"]  # by hand it is one text
    expected = by_hand(path, [text.format(a, b) for a, b in zip(first, second, strict=True)], ["bad", "good"])
    assert torch.allclose(model(**batch).logits, expected, atol=1e-5)


def test_loss_is_the_cross_entropy_over_the_classes_alone(path):
    model = load(path).double()
    batch, labels = TOKENIZER(TEXTS, padding=True, return_tensors="pt"), torch.tensor([1, 0, 1])
    output = model(**batch, labels=labels)
    expected = torch.nn.functional.cross_entropy(output.logits, labels)
    assert output.loss.item() == pytest.approx(expected.item())
    assert model.config.problem_type == "single_label_classification"
    assert len(model(**batch, labels=labels, return_dict=False)) == 2

    several = load(path, problem_type="multi_label_classification")
    targets = torch.tensor([[1.0, 0.0], [0.0, 0.0], [1.0, 1.0]])
    probabilities = several(**batch).logits.sigmoid()
    expected = -(targets * probabilities.log() + (1 - targets) * (1 - probabilities).log()).mean()
    assert several(**batch, labels=targets).loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_a_long_text_is_cut_and_the_template_is_not(path):
    model = load(path, max_length=12)
    text = "the film was really good and so dull and so bad and so great"
    kept = " ".join(text.split()[: 12 - 6])  # [CLS], [SEP], it was [MASK] .
    expected = by_hand(path, [f"{kept} it was [MASK] ."], ["bad", "good"])
    assert torch.allclose(model(**TOKENIZER(text, return_tensors="pt")).logits, expected, atol=1e-5)


def test_a_word_of_several_pieces_is_read_at_its_first(path):
    model = load(path, label_words=["false", "true"])
    assert model.config.label_token_ids == TOKENIZER.convert_tokens_to_ids(["fal", "true"])


def test_byte_level_vocabularies_read_the_word_with_its_space():
    """As RoBERTa has it: words carry the space before them, and the mask token takes it away."""
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    inner = Tokenizer(models.BPE(unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    inner.train_from_iterator(["It was good. It was bad. good bad film"] * 20, trainer)
    inner.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner,
        **{f"{name}_token": token for name, token in zip(("bos", "pad", "eos", "unk"), special, strict=False)},
        cls_token="<s>",
        sep_token="</s>",
        mask_token=AddedToken("<mask>", lstrip=True),
        model_max_length=60,
    )
    config = make_config("roberta", vocab_size=400)
    made = VerbalizerForSequenceClassificationConfig.from_language_model_config(config, tokenizer, ["good", "bad"])
    assert tokenizer.convert_ids_to_tokens(made.label_token_ids) == ["Ġgood", "Ġbad"]
    model = VerbalizerForSequenceClassification(made).eval()
    texts = ["film", "good film good"]
    batch = tokenizer(texts, padding=True, return_tensors="pt")
    spliced = model.splicer(batch["input_ids"], batch["attention_mask"])
    for row, text, position in zip(
        spliced.input_ids, ["film", "good film good"], spliced.label_positions, strict=True
    ):
        written = tokenizer(f"{text} It was <mask>.")["input_ids"]
        assert row[: len(written)].tolist() == written
        assert row[position] == tokenizer.mask_token_id


def test_saving_and_loading(path, tmp_path):
    model = load(path, id2label={0: "thumb down", 1: "thumb up"})
    model.save_pretrained(tmp_path)
    TOKENIZER.save_pretrained(tmp_path)
    batch = TOKENIZER(TEXTS, padding=True, return_tensors="pt")
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert isinstance(again, VerbalizerForSequenceClassification)
    assert torch.equal(again(**batch).logits, model(**batch).logits)
    head, words = again.language_model.get_output_embeddings(), again.get_input_embeddings()
    assert head.weight is words.weight  # as in the language model
    classify = pipeline("text-classification", model=str(tmp_path))
    assert classify(TEXTS[0])[0]["label"] in ("thumb down", "thumb up")
    assert AutoConfig.from_pretrained(tmp_path).label_words == ["bad", "good"]

    renamed = VerbalizerForSequenceClassification.from_pretrained(tmp_path, id2label={0: "-", 1: "+"})
    assert renamed.config.label2id == {"-": 0, "+": 1}
    other = VerbalizerForSequenceClassification.from_pretrained(tmp_path, label_words=["good", "bad"])
    assert torch.allclose(other(**batch).logits, model(**batch).logits.flip(1))
    assert other.config.id2label == {0: "good", 1: "bad"}


def test_loading_options(path, tmp_path):
    model, info = load(path, output_loading_info=True, dtype=torch.bfloat16, attn_implementation="eager")
    assert info["missing_keys"] == set()
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert model.config.dtype == torch.bfloat16
    batch = TOKENIZER(TEXTS, padding=True, return_tensors="pt")
    outputs = model(**batch, output_attentions=True, output_hidden_states=True)
    assert len(outputs.attentions) + 1 == len(outputs.hidden_states)
    exact = load(path)(**batch).logits
    assert torch.allclose(outputs.logits.float(), exact, atol=0.1)
    load(path).save_pretrained(tmp_path)
    again, info = VerbalizerForSequenceClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert info["missing_keys"] == set()
    assert torch.equal(again(**batch).logits, exact)


def test_with_deep_prompts(path, tmp_path):
    batch, labels = TOKENIZER(TEXTS, padding=True, return_tensors="pt"), torch.tensor([1, 0, 1])
    config = DeepPromptConfig(task_type=TaskType.SEQ_CLS, num_virtual_tokens=3, init_std=1.0)
    model = get_peft_model(load(path), config).eval()
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    assert trained
    assert all("deep_prompt" in name for name in trained)  # no new head
    output = model(**batch, labels=labels)
    output.loss.backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    with model.disable_adapter():
        assert torch.equal(model(**batch).logits, load(path)(**batch).logits)
    assert not torch.allclose(output.logits, load(path)(**batch).logits, atol=1e-3)
    # Prompts do the same in the language model itself.
    inner = DeepPromptConfig(num_virtual_tokens=3)
    alone = get_peft_model(AutoModelForMaskedLM.from_pretrained(path), inner).eval()
    prompts = {name.split("encoder")[-1]: p for name, p in model.named_parameters() if p.requires_grad}
    for name, parameter in alone.named_parameters():
        if parameter.requires_grad:
            parameter.data.copy_(prompts[name.split("encoder")[-1]])
    row = TOKENIZER("dull it was [MASK] .", return_tensors="pt")
    at_mask = alone(**row).logits[0, (row["input_ids"][0] == TOKENIZER.mask_token_id).nonzero()[0, 0]]
    assert torch.allclose(at_mask[model.config.label_token_ids], output.logits[1], atol=1e-5)

    model.save_pretrained(tmp_path)
    again = PeftModel.from_pretrained(load(path), tmp_path).eval()
    assert torch.allclose(again(**batch).logits, output.logits, atol=1e-6)


def test_gradient_checkpointing(path):
    model = load(path)
    batch, labels = TOKENIZER(TEXTS, padding=True, return_tensors="pt"), torch.tensor([1, 0, 1])
    model(**batch, labels=labels).loss.backward()
    expected = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    model.gradient_checkpointing_enable()
    model.train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    model(**batch, labels=labels).loss.backward()
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            assert torch.allclose(parameter.grad, expected[name], atol=1e-5)


def test_a_checkpoint_without_the_head_is_refused(path, tmp_path):
    AutoModelForMaskedLM.from_pretrained(path).base_model.save_pretrained(tmp_path)
    TOKENIZER.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="no pretrained language-model head .*cls.predictions.*masked language model"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        ({"label_words": None}, ValueError, "`label_words` is missing"),
        ({"label_words": "good"}, TypeError, "`label_words` must be a list"),
        ({"label_words": ["no", "not"]}, ValueError, "'no' and 'not' begin with the same token 'no'"),
        ({"label_words": ["good", "xyz"]}, ValueError, "'xyz' begins with a token unknown"),
        ({"template": "{text} was"}, ValueError, r"lacks {mask}; the default is '{text} It was {mask}.'"),
        ({"template": "it was {mask}"}, ValueError, r"lacks {text}"),
        ({"template": "{text} {labels} {mask}"}, ValueError, r"unknown placeholder {labels}: only .* {mask}"),
        ({"max_length": 5}, ValueError, "no room for the text"),
        ({"max_length": 99}, ValueError, "`max_length` must be between 1 and 32"),
        ({"id2label": {0: "a"}}, ValueError, "`id2label` says 1 classes, but there are 2 label words"),
        ({"problem_type": "regression"}, ValueError, "`problem_type` 'regression'"),
    ],
)
def test_bad_arguments(path, kwargs, error, message):
    with pytest.raises(error, match=message):
        load(path, **kwargs)


def test_bad_inputs(path):
    with pytest.raises(ValueError, match="splices its template into `input_ids`"):
        load(path)(inputs_embeds=torch.zeros(1, 2, 16))


def test_refused_labels_leave_no_trace(path):
    model = load(path)
    rows = TOKENIZER(TEXTS, padding=True, return_tensors="pt")
    for labels, message in (
        (torch.ones(3), "must have the shape"),
        (torch.full((3, 2), 5.0), "numbers from 0 to 1"),
        (torch.tensor([0, 1, 2]), "class indices from 0 to 1"),
    ):
        with pytest.raises(ValueError, match=message):
            model(**rows, labels=labels)
    assert model(**rows, labels=torch.tensor([0, 1, 1])).loss.isfinite()


def test_label_words_hold_no_special_tokens(path):
    with pytest.raises(ValueError, match=r"`label_words`: '\[SEP\]' holds the tokenizer's special token"):
        load(path, label_words=["[SEP]", "good"])
