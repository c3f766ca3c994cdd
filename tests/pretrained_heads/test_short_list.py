"""Short lists: every row's own classes in its template, against a wrapper that was made for just those classes."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, normalize
from transformers import ElectraForPreTraining

from dpt_peft import DPTForSequenceClassification, DPTForSequenceClassificationConfig
from dpt_peft.pretrained_heads.prototypes import pair_loss

from .conftest import WORDS

CLASSES = ["world", "sports", "business", "badly", "sadness", "film and news"]
TEXTS = ["the match ended", "a bank rose and news of technology", "film", ""]
TEMPLATES = ["{text} class: {labels}.", "{labels}: {text}", "({labels}) the class of {text} is good!"]


@pytest.fixture
def load(discriminator_path):
    def load(label_words=CLASSES, **kwargs) -> DPTForSequenceClassification:
        kwargs = {"wordpieces": "mean", "dtype": torch.float64, **kwargs}
        return DPTForSequenceClassification.from_pretrained(discriminator_path, label_words=label_words, **kwargs)

    return load


@pytest.fixture
def with_prototypes(load):
    def with_prototypes(**kwargs) -> DPTForSequenceClassification:
        model = load(prototypes=True, short_list=3, **kwargs)
        torch.manual_seed(3)
        model.class_prototypes.weight.data = normalize(torch.randn(6, 24).to(model.dtype), dim=1)
        return model

    return with_prototypes


def similarities(model, discriminator_path, tokenizer):
    """What the prototypes say of each text, read alone and without a template."""
    encoder = ElectraForPreTraining.from_pretrained(discriminator_path, dtype=torch.float64).electra
    found = []
    for text in TEXTS:
        tokens = tokenizer.tokenize(text)
        ids = torch.tensor([[WORDS.index(token) for token in ["[CLS]", *tokens, "[SEP]"]]])
        states = encoder(ids).last_hidden_state[0, 1:-1]
        mean = states.mean(0) if tokens else torch.zeros(24, dtype=torch.float64)
        found.append(10 * normalize(mean, dim=0) @ model.class_prototypes.weight.T)
    return torch.stack(found).detach()


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("template", TEMPLATES)
def test_the_nearest_classes_are_judged_in_a_template_of_their_own(
    template, side, load, with_prototypes, discriminator_path, tokenizer
):
    model = with_prototypes(template=template)
    similar = similarities(model, discriminator_path, tokenizer)
    rows = tokenizer(TEXTS, padding=True, padding_side=side, return_tensors="pt")
    logits = model(**rows).logits
    for row, text in enumerate(TEXTS):
        nearest = sorted(similar[row].topk(3).indices.tolist())
        alone = load([CLASSES[index] for index in nearest], template=template)
        own = alone(**tokenizer(text, return_tensors="pt")).logits[0]
        torch.testing.assert_close(logits[row, nearest], 0.1 * own + similar[row, nearest])
        others = sorted({*range(6)} - {*nearest})
        assert (logits[row, others] == -16384).all()


def test_the_true_class_is_in_the_list_in_training_alone(load, with_prototypes, discriminator_path, tokenizer):
    model = with_prototypes(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    similar = similarities(model, discriminator_path, tokenizer)
    rows = tokenizer(TEXTS, padding=True, return_tensors="pt")
    farthest = similar.argmin(1)
    for training in (True, False):
        model.train(training)
        losses = []
        for row, text in enumerate(TEXTS):
            nearest = similar[row].topk(3).indices.tolist()
            if training:
                nearest[-1] = int(farthest[row])
            alone = load([CLASSES[index] for index in sorted(nearest)])
            own = alone(**tokenizer(text, return_tensors="pt")).logits[0]
            targets = torch.tensor(sorted(nearest)).eq(farthest[row]).double()
            losses.append(binary_cross_entropy_with_logits(own, targets, reduction="sum"))
        expected = torch.stack(losses).mean() + cross_entropy(similar, farthest)
        expected = expected + 5 * pair_loss(model.text_states(rows), farthest)
        outputs = model(**rows, labels=farthest)
        torch.testing.assert_close(outputs.loss.float(), expected.float())
        if not training:
            assert torch.equal(outputs.logits, model(**rows).logits)


def test_pairs_keep_their_separator_where_there_is_no_list(with_prototypes, tokenizer):
    model = with_prototypes(template="{text_b} class: {labels} {text_a}")
    rows = tokenizer(["the match ended"], ["film"], return_tensors="pt")
    assert torch.equal(model.splicer(**rows).input_ids, rows["input_ids"])
    listed = model.splicer(**rows, template_index=torch.tensor([[0, 2, 4]]))
    text = tokenizer.decode(listed.input_ids[0])
    assert text == "[CLS] film class : world, business, sadness the match ended [SEP]"


def test_as_many_classes_as_there_are_is_the_whole_list(load, tokenizer):
    rows = tokenizer(TEXTS, padding=True, return_tensors="pt")
    torch.manual_seed(0)
    whole, listed = load(prototypes=True), load(prototypes=True, short_list=6)
    assert torch.equal(whole(**rows).logits, listed(**rows).logits)


def test_saved_and_loaded(with_prototypes, tokenizer, tmp_path):
    model, rows = with_prototypes(), tokenizer(TEXTS, padding=True, return_tensors="pt")
    model.save_pretrained(tmp_path)
    again = DPTForSequenceClassification.from_pretrained(tmp_path)
    assert torch.equal(again(**rows).logits, model(**rows).logits)


def test_the_cost_does_not_grow_with_the_classes(load, tokenizer):
    rows = tokenizer(TEXTS[:2], padding=True, return_tensors="pt")
    lengths, words = [], ["world", "sports", "business", "film", "news", "goal"]
    for classes in (3, 6):
        model = load(words[:classes], prototypes=True, short_list=2)
        model.class_prototypes.weight.data.normal_()
        read = []
        model.language_model.electra.register_forward_pre_hook(
            lambda module, args, read=read: read.append(args[0].shape)
        )
        model(**rows)
        # first the texts without a template: 3 and 7 words and two special tokens
        assert read[0] == (2, 9)
        lengths.append(read)
    assert lengths[0] == lengths[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"short_list": 1, "prototypes": True}, "`short_list` must be a number of classes from 2"),
        ({"short_list": 3}, "`short_list` needs `prototypes=True`"),
        ({"short_list": 3, "prototypes": True, "classes_per_pass": 2}, "`classes_per_pass` has no use with"),
        ({"short_list": 3, "prototypes": True, "class_weights": [1.0] * 6}, "`class_weights` has no use with"),
        ({"short_list": 3, "prototypes": True, "label_order": 1}, "`label_order` has no use with"),
        ({"short_list": 5, "prototypes": True, "max_length": 16}, "no room for the text: .* smaller `short_list`"),
    ],
)
def test_what_does_not_go_together_is_refused(options, message, load):
    with pytest.raises(ValueError, match=message):
        load(**options)


def test_what_a_text_read_twice_does_not_have(with_prototypes, tokenizer):
    rows = tokenizer(TEXTS, padding=True, return_tensors="pt")
    with pytest.raises(ValueError, match="with `short_list` a text is read twice"):
        with_prototypes()(**rows, output_hidden_states=True)
    with pytest.raises(ValueError, match="`calibrate` is for a model without `prototypes`"):
        with_prototypes().calibrate(tokenizer)
    with pytest.raises(ValueError, match="`add_label_list` is for a model without `prototypes`"):
        with_prototypes().add_label_list("other", ["good", "bad"], tokenizer)


@pytest.mark.parametrize("training", [False, True])
def test_prototypes_that_nobody_has_set_choose_no_classes(load, tokenizer, training):
    model = load(prototypes=True, short_list=3).train(training)
    rows = {**tokenizer(TEXTS, padding=True, return_tensors="pt"), "labels": torch.zeros(len(TEXTS), dtype=torch.long)}
    with pytest.raises(ValueError, match=r"all prototypes are still zero: call `model\.set_prototypes"):
        model(**rows)
    model.set_prototypes([rows])
    model(**rows)


def test_a_list_that_any_class_can_begin(discriminator_path, byte_level_tokenizer):
    model = ElectraForPreTraining.from_pretrained(discriminator_path)
    model.resize_token_embeddings(len(byte_level_tokenizer))
    words, options = ["negative", "positive", "world"], {"prototypes": True, "short_list": 2}
    for template, works in (("{text} ({labels})", False), ("{text} : {labels}.", True)):
        make = partial(
            DPTForSequenceClassificationConfig.from_language_model_config,
            model.config,
            byte_level_tokenizer,
            words,
            template=template,
            wordpieces="mean",
        )
        assert make().label_words == words
        if works:
            assert make(**options).short_list == 2
        else:
            with pytest.raises(ValueError, match="put a blank before {labels}"):
                make(**options)
            assert make(**{**options, "short_list": 3}).short_list == 3  # the whole list, in its own order
