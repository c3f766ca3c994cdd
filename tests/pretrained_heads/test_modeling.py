"""The wrapper's equations, against `ElectraForPreTraining` on ids joined by hand, in float64."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings, strategies as st
from transformers import ElectraForPreTraining

from dpt_peft.pretrained_heads import DPTForSequenceClassification, DPTForSequenceClassificationConfig

from .conftest import MAX_LENGTH, WORDS, make_config, split

LABEL_WORDS = ["world", "sports", "business", "badly"]
TEXTS = ["the match ended", "a bank rose and news of technology is very good !", "", "film"]


@pytest.fixture
def load(discriminator_path):
    def load(label_words=LABEL_WORDS, **kwargs) -> DPTForSequenceClassification:
        return DPTForSequenceClassification.from_pretrained(
            discriminator_path, label_words=label_words, dtype=torch.float64, **kwargs
        )

    return load


@pytest.fixture
def replaced_by_hand(discriminator_path, tokenizer):
    """z of every class for one text: ids joined by hand, one row, no padding."""
    discriminator = ElectraForPreTraining.from_pretrained(discriminator_path, dtype=torch.float64)

    def replaced(text: list[str] | str, classes=LABEL_WORDS, types: list[int] | None = None) -> torch.Tensor:
        words = text if isinstance(text, list) else tokenizer.tokenize(text)
        tokens = ["[CLS]", *words, "class", ":"]
        positions = []
        for index, word in enumerate(classes):
            tokens += [","] if index else []
            positions.append(len(tokens))
            tokens += tokenizer.tokenize(word)
        ids = torch.tensor([[WORDS.index(token) for token in [*tokens, ".", "[SEP]"]]])
        token_types = (
            torch.zeros_like(ids) if types is None else torch.tensor([types + [1] * (ids.shape[1] - len(types))])
        )
        with torch.no_grad():
            logits = discriminator(ids, token_type_ids=token_types).logits
        return logits[0, positions]

    return replaced


def test_scores_are_equation_2(load, replaced_by_hand, tokenizer):
    model = load()
    for text in TEXTS:
        logits = model(**tokenizer(text, return_tensors="pt")).logits
        score = 1 - torch.sigmoid(replaced_by_hand(text))
        torch.testing.assert_close(torch.sigmoid(logits[0]), score, rtol=0, atol=1e-12)
        assert logits.argmax() == score.argmax()


def test_loss_is_equation_3(load, replaced_by_hand, tokenizer):
    model = load()
    labels = torch.tensor([1, 3, 0, 2])
    outputs = model(**tokenizer(TEXTS, padding=True, return_tensors="pt"), labels=labels)
    loss = 0.0
    for text, label in zip(TEXTS, labels, strict=True):
        for index, z in enumerate(replaced_by_hand(text)):
            score = 1 - 1 / (1 + torch.exp(-z))
            loss -= torch.log(score) if index == label else torch.log(1 - score)
    torch.testing.assert_close(outputs.loss, loss / len(TEXTS), rtol=1e-12, atol=0)


def test_logits_mean_the_same_with_and_without_labels(load, tokenizer):
    model, rows = load(), tokenizer(TEXTS, padding=True, return_tensors="pt")
    assert torch.equal(model(**rows).logits, model(**rows, labels=torch.tensor([0, 1, 2, 3])).logits)


def test_ablation_scores_with_sigma(load, replaced_by_hand, tokenizer):
    logits = load(score_function="sigmoid")(**tokenizer(TEXTS[0], return_tensors="pt")).logits
    torch.testing.assert_close(logits[0], replaced_by_hand(TEXTS[0]), rtol=0, atol=1e-12)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_padding_and_batch_do_not_matter(load, replaced_by_hand, tokenizer, side, attention):
    model = load(attn_implementation=attention)
    rows = tokenizer(TEXTS, padding="max_length", max_length=30, padding_side=side, return_tensors="pt")
    expected = -torch.stack([replaced_by_hand(text) for text in TEXTS])
    torch.testing.assert_close(model(**rows).logits, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(model(rows["input_ids"]).logits, expected, rtol=0, atol=1e-12)
    for index in range(len(TEXTS)):
        alone = model(**{name: values[index : index + 1] for name, values in rows.items()}).logits
        torch.testing.assert_close(alone[0], expected[index], rtol=0, atol=1e-12)


def test_special_tokens_in_the_input_are_optional(load, replaced_by_hand, tokenizer):
    rows = tokenizer(TEXTS[:2], add_special_tokens=False, padding=True, return_tensors="pt")
    expected = -torch.stack([replaced_by_hand(text) for text in TEXTS[:2]])
    torch.testing.assert_close(load()(**rows).logits, expected, rtol=0, atol=1e-12)


def test_pairs_keep_their_segments(load, replaced_by_hand, tokenizer):
    rows = tokenizer(["the match", "film"], ["a game", "bank and news"], padding=True, return_tensors="pt")
    logits = load()(**rows).logits
    for row, (first, second) in zip(logits, [("the match", "a game"), ("film", "bank and news")], strict=True):
        words = [*first.split(), "[SEP]", *second.split()]
        types = [0] * (len(first.split()) + 2) + [1] * len(second.split())
        torch.testing.assert_close(row, -replaced_by_hand(words, types=types), rtol=0, atol=1e-12)


@pytest.mark.parametrize("length", [40, 10_000])
def test_long_texts_give_the_logits_of_the_text_cut_by_hand(load, replaced_by_hand, tokenizer, length):
    words = [WORDS[5 + i % 30] for i in range(length)]
    ids = torch.tensor([[2, *(WORDS.index(word) for word in words), 3]])
    room = MAX_LENGTH - len(split("[CLS] class : world , sports , business , bad ##ly . [SEP]"))
    torch.testing.assert_close(load()(ids).logits[0], -replaced_by_hand(words[:room]), rtol=0, atol=1e-12)


def test_max_length_shortens_the_text(load, replaced_by_hand, tokenizer):
    model = load(max_length=15)
    rows = tokenizer("the match ended and the bank rose", return_tensors="pt")
    torch.testing.assert_close(model(**rows).logits[0], -replaced_by_hand("the match"), rtol=0, atol=1e-12)
    hidden = model(**rows, output_hidden_states=True).hidden_states
    assert len(hidden) == 3
    assert hidden[0].shape == (1, 15, 24)


@pytest.mark.parametrize("order", [[3, 1, 0, 2], 7])
def test_order_only_moves_the_words_in_the_template(load, replaced_by_hand, tokenizer, order):
    model = load(label_order=order)
    order = model.config.label_order
    in_template_order = -replaced_by_hand(TEXTS[0], classes=[LABEL_WORDS[index] for index in order])
    logits = model(**tokenizer(TEXTS[0], return_tensors="pt")).logits[0]
    torch.testing.assert_close(logits[order], in_template_order, rtol=0, atol=1e-12)
    assert model.config.id2label == dict(enumerate(LABEL_WORDS))


def test_labels_before_the_text(load, tokenizer, discriminator_path):
    model = load(["bad", "good"], template="topic {labels}: {text}")
    ids = [WORDS.index(word) for word in split("[CLS] topic bad , good : the match [SEP]")]
    discriminator = ElectraForPreTraining.from_pretrained(discriminator_path, dtype=torch.float64)
    expected = -discriminator(torch.tensor([ids])).logits[0, [2, 4]]
    logits = model(**tokenizer("the match", return_tensors="pt")).logits[0]
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-12)


def test_byte_level_tokenizer_with_doubled_separators(byte_level_tokenizer):
    tokenizer = byte_level_tokenizer
    config = DPTForSequenceClassificationConfig.from_language_model_config(
        make_config(vocab_size=len(tokenizer), pad_token_id=1), tokenizer, ["negative", "positive"]
    )
    model = DPTForSequenceClassification(config).double().eval()
    rows = tokenizer(["a film", "a good film"], ["a world", "film"], padding=True, return_tensors="pt")
    logits = model(**rows).logits
    template = tokenizer(" Class: negative, positive.", add_special_tokens=False)["input_ids"]
    for row, first, second in zip(logits, ["a film", "a good film"], ["a world", "film"], strict=True):
        ids = tokenizer(first, second)["input_ids"]
        ids = [*ids[:-1], *template, ids[-1]]
        positions = [ids.index(tokenizer.convert_tokens_to_ids(word)) for word in ("Ġnegative", "Ġpositive")]
        expected = -model.language_model(torch.tensor([ids])).logits[0, positions]
        torch.testing.assert_close(row, expected, rtol=0, atol=1e-12)


def test_multi_label_loss(load, replaced_by_hand, tokenizer):
    labels = torch.tensor([[1.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    model = load(problem_type="multi_label_classification")
    outputs = model(**tokenizer(TEXTS[:2], padding=True, return_tensors="pt"), labels=labels)
    score = 1 - torch.sigmoid(torch.stack([replaced_by_hand(text) for text in TEXTS[:2]]))
    expected = -(labels * score.log() + (1 - labels) * (1 - score).log()).sum(1).mean()
    torch.testing.assert_close(outputs.loss, expected, rtol=1e-12, atol=0)


def test_the_first_labels_tell_the_problem_type(load, tokenizer):
    rows = tokenizer(TEXTS[:2], padding=True, return_tensors="pt")
    for labels, kind in (([0, 3], "single_label_classification"), (torch.eye(4)[:2], "multi_label_classification")):
        model = load()
        assert model.config.problem_type is None
        model(**rows, labels=torch.as_tensor(labels))
        assert model.config.problem_type == kind


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 4], "class indices from 0 to 3, got values from 0 to 4"),
        ([-100, 1], "got values from -100 to 1"),
        ([0], "2 class indices"),
        ([[0, 1, 0, 1], [0, 0, 0, 0]], "multi_label_classification"),
        ([0.0, 1.0], r"the shape \(batch, classes\) = \(2, 4\)"),
        ([[0.0, 1.5, 0, 0]] * 2, "numbers from 0 to 1"),
    ],
)
def test_bad_labels(load, tokenizer, labels, message):
    with pytest.raises(ValueError, match=message):
        load()(**tokenizer(TEXTS[:2], padding=True, return_tensors="pt"), labels=torch.tensor(labels))


def test_refused_inputs(load):
    model, ids = load(), torch.tensor([[2, 10, 3]])
    for kwargs in (
        {"inputs_embeds": torch.zeros(1, 3, 16)},
        {"input_ids": ids, "inputs_embeds": torch.zeros(1, 3, 16)},
        {"input_ids": ids, "position_ids": torch.arange(3)},
    ):
        with pytest.raises(ValueError, match="neither `inputs_embeds` nor `position_ids`"):
            model(**kwargs)
    for shape in ((3,), (0, 3), (1, 2, 3)):
        with pytest.raises(ValueError, match=r"`input_ids` must be \(batch, length\)"):
            model(input_ids=torch.zeros(shape, dtype=torch.long))


def test_outputs(load, tokenizer):
    model = load(attn_implementation="eager")
    rows = tokenizer(TEXTS, padding=True, return_tensors="pt")
    outputs = model(**rows, output_attentions=True)
    assert len(outputs.attentions) == 2
    assert outputs.hidden_states is None
    logits, hidden_states = model(**rows, output_hidden_states=True, return_dict=False)
    assert torch.equal(logits, outputs.logits)
    assert len(hidden_states) == 3
    model.config.output_hidden_states = True
    assert len(model(**rows).hidden_states) == 3


def test_half_precision(load, tokenizer):
    model = load().to(torch.bfloat16)
    outputs = model(**tokenizer(TEXTS, padding=True, return_tensors="pt"), labels=torch.tensor([0, 1, 2, 3]))
    assert outputs.logits.dtype == torch.bfloat16
    assert outputs.loss.dtype == torch.float32


def test_gradient_checkpointing_gives_the_same_gradients(load, tokenizer):
    rows = tokenizer(TEXTS, padding=True, return_tensors="pt")
    gradients = []
    for checkpointing in (False, True):
        model = load(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0).train()
        if checkpointing:
            # the name before transformers 5.21
            getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)()
            assert model.language_model.electra.encoder.layer[0].gradient_checkpointing
        model(**rows, labels=torch.tensor([0, 1, 2, 3])).loss.backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    for plain, checkpointed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, checkpointed, rtol=1e-12, atol=1e-12)


def test_every_parameter_is_trained_and_none_is_new(load, tokenizer, discriminator_path):
    model = load()
    plain = ElectraForPreTraining.from_pretrained(discriminator_path)
    assert [name.removeprefix("language_model.") for name in model.state_dict()] == list(plain.state_dict())
    model(**tokenizer(TEXTS, padding=True, return_tensors="pt"), labels=torch.tensor([0, 1, 2, 3])).loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_embeddings_and_attention_implementation(load):
    model = load()
    embeddings = model.get_input_embeddings()
    assert embeddings is model.language_model.electra.embeddings.word_embeddings
    model.set_attn_implementation("eager")
    assert model.language_model.electra.encoder.layer[0].attention.self.config._attn_implementation == "eager"
    model.resize_token_embeddings(len(WORDS) + 3)
    assert model.config.language_model_config.vocab_size == len(WORDS) + 3
    model.set_input_embeddings(embeddings)
    assert model.get_input_embeddings() is embeddings


def test_compiled_model_gives_the_same_logits(load, tokenizer):
    model, rows = load(), tokenizer(TEXTS, padding=True, return_tensors="pt")
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    with torch.no_grad():
        torch.testing.assert_close(compiled(**rows).logits, model(**rows).logits, rtol=0, atol=1e-12)


classes = [word for word in WORDS[11:] if not word.startswith("##")]


@settings(max_examples=60, deadline=None)
@given(
    label_words=st.lists(st.sampled_from(classes), min_size=2, max_size=12, unique=True),
    lengths=st.lists(st.integers(0, 120), min_size=1, max_size=4),
    seed=st.integers(0, 99),
    max_length=st.integers(30, MAX_LENGTH),
)
def test_candidates_are_never_cut(tokenizer, label_words, lengths, seed, max_length):
    config = DPTForSequenceClassificationConfig.from_language_model_config(
        make_config(num_hidden_layers=0), tokenizer, label_words, label_order=seed, max_length=max_length
    )
    model = DPTForSequenceClassification(config).eval()
    texts = [" ".join(["match"] * length) for length in lengths]
    rows = tokenizer(texts, padding=True, return_tensors="pt", verbose=False)
    assert model(**rows).logits.shape == (len(texts), len(label_words))
    spliced = model.splicer(**rows)
    listed = " , ".join(label_words[index] for index in config.label_order)
    for ids, positions, mask in zip(spliced.input_ids, spliced.label_positions, spliced.attention_mask, strict=True):
        assert tokenizer.convert_ids_to_tokens(ids[positions]) == label_words
        assert mask.sum() <= max_length
        assert " ".join(tokenizer.convert_ids_to_tokens(ids[mask.bool()])).endswith(f"class : {listed} . [SEP]")
