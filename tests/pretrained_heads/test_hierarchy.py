"""The tree classifier's numbers, against single branches read by hand in float64."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import HealthCheck, given, settings, strategies as st

from dpt_peft.pretrained_heads import DPTForHierarchicalClassification, DPTForSequenceClassification, LabelTree
from dpt_peft.pretrained_heads.label_tree import LabelNode
from dpt_peft.pretrained_heads.loss import NO_CLASS

from .conftest import WORDS
from .trees import trees

NESTED = {
    "sports": {"match": ["goal", "game"], "rose": None},
    "business": ["bank", "ended"],
    "world": {"news": {"film": None}},
}
CLASSES = ["goal", "game", "rose", "bank", "ended", "film"]
TEXTS = ["the match ended", "a bank rose and news of technology is very good !", "", "film"]


@pytest.fixture
def load(discriminator_path):
    def load(label_tree=NESTED, **kwargs) -> DPTForHierarchicalClassification:
        return DPTForHierarchicalClassification.from_pretrained(
            discriminator_path,
            label_tree=label_tree,
            **{"dtype": torch.float64, "beam_width": None, "beam_threshold": 0.0, **kwargs},
        )

    return load


@pytest.fixture(scope="module")
def flat_logits(discriminator_path, tokenizer):
    """Logits of a flat DPT model with the given words, for one text; models are kept."""
    models: dict[tuple[str, ...], DPTForSequenceClassification] = {}

    def flat_logits(words: tuple[str, ...], text: str) -> list[float]:
        if words not in models:
            models[words] = DPTForSequenceClassification.from_pretrained(
                discriminator_path, label_words=list(words), dtype=torch.float64
            )
        with torch.no_grad():
            return models[words](**tokenizer(text, return_tensors="pt")).logits[0].tolist()

    return flat_logits


def products_by_hand(tree: LabelTree, text: str, flat_logits, factor: str = "sigmoid") -> dict[str, float]:
    """The score of every class: down every path with single-branch models, one text at a time, plain floats."""
    scores: dict[str, float] = {}

    def descend(node: LabelNode, product: float) -> None:
        if node.is_leaf:
            scores[node.name] = product
            return
        factors = [1.0]
        if len(node.children) > 1:
            logits = flat_logits(tuple(child.word for child in node.children), text)
            if factor == "sigmoid":
                factors = [1 / (1 + math.exp(-logit)) for logit in logits]
            else:
                factors = [math.exp(logit) / sum(map(math.exp, logits)) for logit in logits]
        for child, own in zip(node.children, factors, strict=True):
            descend(child, product * own)

    descend(tree.root, 1.0)
    return scores


@pytest.mark.parametrize("factor", ["sigmoid", "softmax"])
def test_scores_are_products_of_equation_2_along_the_path(load, flat_logits, tokenizer, factor):
    model = load(path_score=factor)
    scores = model(**tokenizer(TEXTS, padding=True, return_tensors="pt")).logits.sigmoid()
    for row, text in zip(scores, TEXTS, strict=True):
        by_hand = products_by_hand(model.config.tree, text, flat_logits, factor)
        expected = torch.tensor([by_hand[name] for name in CLASSES], dtype=torch.float64)
        torch.testing.assert_close(row, expected, rtol=1e-10, atol=0)
    assert model.config.id2label == dict(enumerate(CLASSES))


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tree=trees(most=7), text=st.lists(st.sampled_from(WORDS[5:]), max_size=30).map(" ".join))
def test_random_trees(load, flat_logits, tokenizer, tree, text):
    model = load(tree)
    batch = tokenizer([text, "film"], padding=True, truncation=True, return_tensors="pt")
    by_hand = products_by_hand(tree, text, flat_logits)
    expected = torch.tensor([by_hand[name] for name in tree.classes], dtype=torch.float64)
    exhaustive = model(**batch).logits
    torch.testing.assert_close(exhaustive[0].sigmoid(), expected, rtol=1e-8, atol=0)
    model.config.beam_width = len(tree)
    assert torch.equal(model(**batch).logits, exhaustive), "a beam as wide as the tree is exhaustive search"
    model.config.beam_width = 1
    narrow = model(**batch).logits
    reached = narrow > NO_CLASS
    assert reached.any(1).all()
    torch.testing.assert_close(narrow[reached], exhaustive[reached], rtol=1e-9, atol=1e-9)


def test_one_level_is_flat_dpt(load, discriminator_path, tokenizer):
    words = ["world", "sports", "business", "badly"]
    flat = DPTForSequenceClassification.from_pretrained(discriminator_path, label_words=words, dtype=torch.float64)
    rows = tokenizer(TEXTS, padding=True, return_tensors="pt")
    labels = torch.tensor([0, 1, 2, 3])
    expected, outputs = flat(**rows, labels=labels), load(dict.fromkeys(words))(**rows, labels=labels)
    torch.testing.assert_close(outputs.logits, expected.logits, rtol=1e-9, atol=0)
    torch.testing.assert_close(outputs.loss, expected.loss, rtol=1e-12, atol=0)


@pytest.mark.parametrize("wordpieces", ["mean", "max"])
def test_names_that_begin_alike_are_read_whole(load, discriminator_path, tokenizer, wordpieces):
    nested = {"bad": ["badly", "badness"], "film": None}
    model = load(nested, wordpieces=wordpieces)
    rows = tokenizer(TEXTS, padding=True, return_tensors="pt")
    top, below = (
        DPTForSequenceClassification.from_pretrained(
            discriminator_path, label_words=words, wordpieces=wordpieces, dtype=torch.float64
        )(**rows).logits.sigmoid()
        for words in (["bad", "film"], ["badly", "badness"])
    )
    expected = torch.cat([top[:, :1] * below, top[:, 1:]], dim=1)
    torch.testing.assert_close(model(**rows).logits.sigmoid(), expected, rtol=1e-10, atol=0)
    with pytest.raises(ValueError, match="below bad of the label tree: .*wordpieces='mean' or 'max'"):
        load(nested, wordpieces="first")
    chosen = load(nested)
    assert chosen.config.wordpieces == "mean"
    assert torch.equal(chosen(**rows).logits, load(nested, wordpieces="mean")(**rows).logits)


def test_loss_is_equation_3_of_every_branch_on_the_gold_path(load, flat_logits, tokenizer):
    model = load()
    labels = [0, 4, 5, 2]
    rows = tokenizer(TEXTS, padding=True, return_tensors="pt")
    by_hand = 0.0
    for text, label in zip(TEXTS, labels, strict=True):
        node = model.config.tree.root
        for name in model.config.tree.path(CLASSES[label]):
            words = tuple(child.word for child in node.children)
            if len(words) > 1:
                for word, logit in zip(words, flat_logits(words, text), strict=True):
                    score = 1 / (1 + math.exp(-logit))
                    by_hand -= math.log(score if word == name else 1 - score)
            node = next(child for child in node.children if child.name == name)
    outputs = model(**rows, labels=torch.tensor(labels))
    assert outputs.loss.item() == pytest.approx(by_hand / len(TEXTS), rel=1e-12)
    # The same with and without labels, but for the rounding in batches of another shape.
    torch.testing.assert_close(outputs.logits, model(**rows).logits, rtol=1e-10, atol=0)
    trained = model.train()(**rows, labels=torch.tensor(labels))
    assert trained.logits is None
    assert trained.loss.requires_grad


def test_rows_of_a_loss_are_read_by_length(load, tokenizer, monkeypatch):
    """In batches of like length or all at once, as several processes do: the same loss and gradients."""
    rows, labels = tokenizer(TEXTS, padding=True, return_tensors="pt"), torch.tensor([0, 4, 5, 2])
    found = []
    for several in (False, True):
        module = "dpt_peft.pretrained_heads.dpt_hierarchical"
        monkeypatch.setattr(f"{module}._several_processes", lambda several=several: several)
        monkeypatch.setattr(
            "dpt_peft.pretrained_heads.dpt_hierarchical.groups_of_like_length",
            lambda lengths, *_, **__: [[1, 3, 0], [4, 2], [5, 6, 7]],
        )
        model = load(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0).train()
        loss = model(**rows, labels=labels).loss
        loss.backward()
        found.append((loss, model.get_input_embeddings().weight.grad))
    torch.testing.assert_close(found[0], found[1], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("width", [1, None])
def test_padding_and_batch_do_not_matter(load, tokenizer, side, width):
    model = load(beam_width=width)
    rows = tokenizer(TEXTS, padding="max_length", max_length=30, padding_side=side, return_tensors="pt")
    together = model(**rows).logits
    for index, text in enumerate(TEXTS):
        alone = model(**tokenizer(text, return_tensors="pt")).logits
        torch.testing.assert_close(together[index], alone[0], rtol=1e-9, atol=1e-9)


def test_pairs_and_long_texts(load, flat_logits, tokenizer):
    model = load({"film": ["good", "bad"], "news": ["world", "business"]})
    rows = tokenizer(["the match"], ["a game"], return_tensors="pt")
    flat = DPTForSequenceClassification.from_pretrained(
        model.config.name_or_path, label_words=["film", "news"], dtype=torch.float64
    )
    deep = DPTForSequenceClassification.from_pretrained(
        model.config.name_or_path, label_words=["good", "bad"], dtype=torch.float64
    )
    expected = flat(**rows).logits.sigmoid()[0, 0] * deep(**rows).logits.sigmoid()[0, 1]
    torch.testing.assert_close(model(**rows).logits.sigmoid()[0, 1], expected, rtol=1e-10, atol=0)
    long = torch.tensor([[2, *[WORDS.index("film")] * 500, 3]])
    assert model(long).logits.isfinite().all()


def test_unreached_classes_score_nothing(load, tokenizer):
    logits = load(beam_width=1)(**tokenizer(TEXTS, padding=True, return_tensors="pt")).logits
    lowest = logits == NO_CLASS
    assert lowest.any(1).all()
    assert (logits.sigmoid()[lowest] == 0).all()
    assert logits.softmax(1).isfinite().all()


def test_half_precision_and_no_text(load, tokenizer):
    model = load(dtype=torch.bfloat16)
    outputs = model(**tokenizer(TEXTS, padding=True, return_tensors="pt"), labels=torch.tensor([0, 1, 2, 3]))
    assert outputs.logits.dtype == outputs.loss.dtype == torch.float32
    assert model(torch.zeros(2, 0, dtype=torch.long)).logits.shape == (2, 6)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 6], "class indices from 0 to 5, got values from 0 to 6"),
        ([-100, 0], "got values from -100 to 0"),
        ([0], "2 class indices"),
        ([0.0, 1.0], "2 class indices"),
    ],
)
def test_bad_labels(load, tokenizer, labels, message):
    with pytest.raises(ValueError, match=message):
        load()(**tokenizer(TEXTS[:2], padding=True, return_tensors="pt"), labels=torch.tensor(labels))


def test_refused_inputs(load):
    model, ids = load(), torch.tensor([[2, 10, 3]])
    for kwargs in ({"inputs_embeds": torch.zeros(1, 3, 16)}, {"input_ids": ids, "position_ids": torch.arange(3)}):
        with pytest.raises(ValueError, match="neither `inputs_embeds` nor `position_ids`"):
            model(**kwargs)
    for name in ("output_attentions", "output_hidden_states"):
        with pytest.raises(ValueError, match="reads a text several times"):
            model(ids, **{name: True})
