"""Rows for every wrapper: padded or cut on either side, alone or in a batch, and special tokens that users type."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import AutoModel, BertConfig, BertForMaskedLM, DebertaV2Config, FunnelConfig, RobertaConfig

from dpt_peft import (
    DPTForHierarchicalClassification,
    DPTForMultiSpanQuestionAnswering,
    DPTForSequenceClassification,
    VerbalizerForSequenceClassification,
)
from dpt_peft.pretrained_heads.base import _POSITIONS_BEHIND_PADDING, longest_row, unused_positions
from tests import architectures

from .conftest import MAX_LENGTH, WORDS, make_config

TREE = {"sports": {"match": ["goal", "game"], "rose": None}, "business": ["bank", "ended"]}
WRAPPERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "flat": (DPTForSequenceClassification, {"label_words": ["bad", "good", "badly"]}),
    "mean": (DPTForSequenceClassification, {"label_words": ["bad", "good", "badly"], "wordpieces": "mean"}),
    "passes": (DPTForSequenceClassification, {"label_words": ["bad", "good", "very"], "classes_per_pass": 2}),
    "hierarchy": (DPTForHierarchicalClassification, {"label_tree": TREE, "beam_threshold": 0.0}),
    "verbalizer": (VerbalizerForSequenceClassification, {"label_words": ["bad", "good"], "template": "{text} {mask}"}),
}
TEMPLATED = sorted(WRAPPERS)
TEXTS = ["the match ended", "a bank rose and news of technology is very good !", "", "film"]
LONG = " ".join(WORDS[11:40]) + " news film bank rose " * 30


@pytest.fixture
def language_model_path(tmp_path, tokenizer):
    sizes = {name: value for name, value in make_config().to_dict().items() if name in BertConfig().to_dict()}
    BertForMaskedLM(BertConfig(**{**sizes, "model_type": "bert"})).save_pretrained(tmp_path / "lm")
    tokenizer.save_pretrained(tmp_path / "lm")
    return tmp_path / "lm"


@pytest.fixture
def load(discriminator_path, language_model_path) -> Callable[..., Any]:
    def load(name: str, **kwargs: Any) -> Any:
        wrapper, options = WRAPPERS[name]
        path = language_model_path if name == "verbalizer" else discriminator_path
        return wrapper.from_pretrained(path, dtype=torch.float64, **{**options, **kwargs})

    return load


def logits(model, rows) -> torch.Tensor:
    with torch.no_grad():
        return model(**rows).logits


@pytest.mark.parametrize("name", TEMPLATED)
@pytest.mark.parametrize("cut", ["left", "right"])
def test_alone_and_in_a_batch_padded_and_cut_on_either_side(load, tokenizer, name, cut, monkeypatch):
    monkeypatch.setattr(tokenizer, "truncation_side", cut)
    model = load(name, tokenizer=tokenizer, max_length=24)
    assert model.config.truncation_side == cut
    texts = [*TEXTS, LONG]
    whole = [logits(model, tokenizer(text, return_tensors="pt", verbose=False))[0] for text in texts]
    for side in ("left", "right"):
        # Cut by the tokenizer first, as pipelines and training do, or by the model alone.
        for truncation in (True, False):
            rows = tokenizer(
                texts,
                padding=True,
                padding_side=side,
                truncation=truncation,
                max_length=24 if truncation else None,
                return_tensors="pt",
                verbose=False,
            )
            torch.testing.assert_close(logits(model, rows), torch.stack(whole), rtol=0, atol=1e-9)
    other = logits(load(name, max_length=24), tokenizer(LONG, return_tensors="pt", verbose=False))[0]
    assert torch.allclose(other, whole[-1]) == (cut == "right"), "the default keeps the beginning"


def test_the_kept_end_of_a_text_stands_in_the_row(load, tokenizer, tmp_path):
    model = load("flat", truncation_side="left", max_length=20)
    rows = tokenizer(LONG + " the match", return_tensors="pt", verbose=False)
    assert "rose the match class" in tokenizer.decode(model.splicer(**rows).input_ids[0])
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    saved = DPTForSequenceClassification.from_pretrained(tmp_path, label_words=["bad", "good"])
    assert saved.config.truncation_side == "left"
    right = DPTForSequenceClassification.from_pretrained(tmp_path, truncation_side="right")
    assert right.splicer.layout.truncation_side == "right"
    with pytest.raises(ValueError, match="`truncation_side` must be one of 'left', 'right', got 'both'"):
        load("flat", truncation_side="both")


@pytest.mark.parametrize("side", ["left", "right"])
def test_the_reader_of_spans_does_not_see_padding(discriminator_path, tokenizer, side):
    model = DPTForMultiSpanQuestionAnswering.from_pretrained(discriminator_path, dtype=torch.float64)
    pairs = [("the match", "ended and a bank rose"), ("film", "news of technology is very good !")]
    rows = tokenizer(pairs, padding=True, padding_side=side, return_tensors="pt")
    together = logits(model, rows)
    for index, pair in enumerate(pairs):
        alone = logits(model, tokenizer(*pair, return_tensors="pt"))[0]
        torch.testing.assert_close(together[index][rows["attention_mask"][index].bool()], alone, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", TEMPLATED)
@pytest.mark.parametrize(
    "text", ["a [SEP] film", "[CLS] a film [SEP]", "a [MASK] film [MASK]", "[SEP]", "a [PAD] film"]
)
def test_special_tokens_that_a_user_types_are_text(load, tokenizer, name, text):
    """The row is the text as it stands, then the template: as if the model had been given the row without one."""
    model = load(name)
    rows = tokenizer(text, return_tensors="pt")
    spliced = model.splicer(**rows)
    row = spliced.input_ids[0].tolist()
    ids = rows["input_ids"][0].tolist()
    (template, *_) = model.config.resolved_templates
    assert row == [*ids[:-1], *template.suffix_ids, ids[-1]]
    start = len(ids) - 1
    expected = [start + first for first, _ in template.label_spans]
    assert spliced.label_positions[0][: len(expected)].tolist() == expected
    # Beside others, padded on either side, it is read as alone.
    alone = logits(model, rows)[0]
    for side in ("left", "right"):
        batch = tokenizer([TEXTS[1], text], padding=True, padding_side=side, return_tensors="pt")
        torch.testing.assert_close(logits(model, batch)[1], alone, rtol=0, atol=1e-9)


@pytest.mark.parametrize("template", ["{text_a} and {text_b} ( {labels} )", "{text_b} of {text_a} : {labels}"])
def test_pairs_are_divided_by_their_token_types(load, tokenizer, template):
    model = load("flat", template=template)
    first, second = "is [SEP] it [SEP]", "[SEP] a [CLS] film"
    row = model.splicer(**tokenizer(first, second, return_tensors="pt")).input_ids[0]
    expected = template.replace("{text_a}", first).replace("{text_b}", second).format(labels="bad, good, badly")
    assert row.tolist() == tokenizer(expected)["input_ids"]
    # One text is one text, also with a separator in it.
    row = model.splicer(**tokenizer("is [SEP] it", return_tensors="pt")).input_ids[0]
    expected = template.replace("{text_a}", "is [SEP] it").replace("{text_b}", "").format(labels="bad, good, badly")
    assert row.tolist() == tokenizer(expected)["input_ids"]


class _Tokenizer:
    def __init__(self, limit: int) -> None:
        self.model_max_length = limit


@pytest.mark.parametrize(
    ("config", "limit", "longest"),
    [
        (BertConfig(max_position_embeddings=512), int(1e30), 512),
        (BertConfig(max_position_embeddings=512), 128, 128),
        # Positions begin behind the padding id.
        (RobertaConfig(max_position_embeddings=514, pad_token_id=1), int(1e30), 512),
        (RobertaConfig(max_position_embeddings=514, pad_token_id=1), 514, 512),
        (RobertaConfig(max_position_embeddings=40, pad_token_id=0), int(1e30), 39),
        (DebertaV2Config(max_position_embeddings=512), int(1e30), 512),
        # Relative positions: the tokenizer's limit is the only one.
        (FunnelConfig(), 512, 512),
        (FunnelConfig(), int(1e30), 2**31 - 1),
    ],
    ids=lambda value: getattr(value, "model_type", None),
)
def test_longest_row(config, limit, longest):
    tokenizer: Any = _Tokenizer(limit)
    assert longest_row(None, tokenizer, config) == longest
    assert longest_row(7, tokenizer, config) == 7
    if longest < 2**31 - 1:
        with pytest.raises(
            ValueError, match=f"`max_length` must be between 1 and {longest}, the most that the model and"
        ):
            longest_row(longest + 1, tokenizer, config)
    with pytest.raises(ValueError, match="must be between 1 and"):
        longest_row(0, tokenizer, config)


@pytest.mark.parametrize("model_type", ["bert", "roberta", "xlm-roberta", "mpnet", "deberta-v2", "electra"])
def test_the_longest_row_is_what_the_model_can_read(model_type):
    config = architectures.make_config(model_type)
    model = AutoModel.from_config(config).eval()
    longest = min(longest_row(None, _Tokenizer(64), model), 64)  # type: ignore[arg-type]
    rows = torch.full((1, longest), config.vocab_size - 1)
    assert model(rows).last_hidden_state.shape[1] == longest
    if unused_positions(config):
        with pytest.raises((IndexError, RuntimeError)):
            model(torch.full((1, longest + 1), config.vocab_size - 1))
    assert bool(unused_positions(config)) == (model_type in _POSITIONS_BEHIND_PADDING)


def test_a_wrapper_reads_as_much_as_its_model(load):
    assert load("flat").config.max_length == MAX_LENGTH
    assert longest_row(None, _Tokenizer(10**30), load("flat")) == MAX_LENGTH  # type: ignore[arg-type]
