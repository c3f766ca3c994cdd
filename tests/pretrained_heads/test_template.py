from __future__ import annotations

import pytest
from transformers import PreTrainedTokenizerBase

from dpt_peft.pretrained_heads.template import (
    DEFAULT_TEMPLATE,
    check_label_words,
    parse_template,
    resolve_label_order,
    resolve_template,
)
from dpt_peft.tasks import special_tokens_as_text


def words_at(tokenizer: PreTrainedTokenizerBase, resolved) -> list[str]:
    ids = resolved.prefix_ids + resolved.suffix_ids
    return [" ".join(tokenizer.convert_ids_to_tokens(list(ids[start:end]))) for start, end in resolved.label_spans]


def test_the_default_is_the_papers(tokenizer):
    resolved = resolve_template(DEFAULT_TEMPLATE, ["negative", "positive"], tokenizer)
    assert resolved.prefix_ids == ()
    assert " ".join(tokenizer.convert_ids_to_tokens(list(resolved.suffix_ids))) == "class : negative , positive ."
    assert resolved.label_spans == ((2, 3), (4, 5))


@pytest.mark.parametrize(
    ("template", "prefix", "suffix"),
    [
        ("{text} ( {labels} )", "", "( bad , good )"),
        ("topic: {text} is {labels}!", "topic :", "is bad , good !"),
        ("Class: {labels}. {text}", "class : bad , good .", ""),
        ("{labels}{text}", "bad , good", ""),
        ("{text}[SEP] class {labels}", "", "[SEP] class bad , good"),
    ],
)
def test_templates(tokenizer, template, prefix, suffix):
    resolved = resolve_template(template, ["bad", "good"], tokenizer)
    assert " ".join(tokenizer.convert_ids_to_tokens(list(resolved.prefix_ids))) == prefix
    assert " ".join(tokenizer.convert_ids_to_tokens(list(resolved.suffix_ids))) == suffix
    assert words_at(tokenizer, resolved) == ["bad", "good"]


def test_a_tokenizer_that_reads_special_tokens_in_texts_as_text_still_writes_the_templates(tokenizer):
    """Such are the tokenizers that are saved with a model, and from that folder a model may be made again."""
    template, words = "{text}[SEP] class{sep}{labels}", ["bad", "good"]
    expected = resolve_template(template, words, tokenizer)
    with special_tokens_as_text(tokenizer):
        assert resolve_template(template, words, tokenizer) == expected
    assert expected.suffix_ids.count(tokenizer.sep_token_id) == 2


def test_spans_cover_every_wordpiece_of_a_class(tokenizer):
    resolved = resolve_template(DEFAULT_TEMPLATE, ["badly", "very good news", "technology"], tokenizer)
    assert words_at(tokenizer, resolved) == ["bad ##ly", "very good news", "technology"]


def test_order_moves_words_and_spans_follow_the_label_words(tokenizer):
    words = ["world", "sports", "business"]
    resolved = resolve_template(DEFAULT_TEMPLATE, words, tokenizer, label_order=[2, 0, 1])
    assert tokenizer.decode(list(resolved.suffix_ids)) == "class : business, world, sports."
    assert words_at(tokenizer, resolved) == words


@pytest.mark.parametrize("template", [DEFAULT_TEMPLATE, "Class: {labels}. {text}", "{text} ({labels})"])
def test_byte_level_words_are_tokenized_as_in_running_text(byte_level_tokenizer, template):
    words = ["negative", "positive"]
    resolved = resolve_template(template, words, byte_level_tokenizer)
    before, behind = template.replace("{labels}", "negative, positive").split("{text}")
    for ids, running_text in ((resolved.prefix_ids, before.rstrip()), (resolved.suffix_ids, behind)):
        assert list(ids) == byte_level_tokenizer(running_text, add_special_tokens=False)["input_ids"]
    # "Ġnegative", behind a space, is not the token that stands for "negative" alone.
    assert words_at(byte_level_tokenizer, resolved)[1] == "Ġpositive"
    assert words_at(byte_level_tokenizer, resolved)[0].startswith("Ġnegative") == ("(" not in template)


def test_tokenizers_without_offsets_give_the_same_positions(tokenizer):
    class Slow:
        """A tokenizer in Python: the same tokens, no character offsets."""

        is_fast = False
        unk_token_id = tokenizer.unk_token_id

        def __call__(self, text, **kwargs):
            return {"input_ids": tokenizer(text, **kwargs)["input_ids"]}

    for template in (DEFAULT_TEMPLATE, "topic {labels}: {text}", "{text} ({labels})"):
        words = ["badly", "good news", "technology"]
        assert resolve_template(template, words, Slow()) == resolve_template(template, words, tokenizer)


@pytest.mark.parametrize("words", ["negative", {"negative": 0}, None, [0, 1], ["bad", None]])
def test_label_words_of_the_wrong_type(words):
    with pytest.raises(TypeError, match="label_words"):
        check_label_words(words)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "at least 2"),
        (["bad"], "at least 2"),
        (["bad", "bad"], "'bad' twice"),
        (["bad", " bad "], "'bad' twice"),
        (["bad", "  "], r"label_words\[1\]. is empty"),
    ],
)
def test_label_words_of_the_wrong_value(words, message):
    with pytest.raises(ValueError, match=message):
        check_label_words(words)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["bad", "zebra"], "'zebra' begins with a token unknown"),
        (["bad", "zebra good"], "'zebra good' begins with a token unknown"),
        (["bad", "\u200d"], "nothing"),
        (["bad news", "bad film"], "'bad news' and 'bad film' begin with the same token 'bad'"),
        (["badly", "Bad"], "'badly' and 'Bad' begin with the same token"),
    ],
)
def test_label_words_the_tokenizer_cannot_tell(tokenizer, words, message):
    with pytest.raises(ValueError, match=message):
        resolve_template(DEFAULT_TEMPLATE, words, tokenizer)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("Class: {labels}.", "lacks {text}"),
        ("{text} Class", "lacks {labels}"),
        ("", "lacks {text}"),
        ("{text} {label}: {labels}", "unknown placeholder {label}"),
        ("{text} {} {labels}", "unknown placeholder {}"),
        ("{text} {labels:>9}", "without a format"),
        ("{text!r} {labels}", "without a format"),
        ("{text} {labels} {text}", "{text} twice"),
        ("{text} {labels", "not a valid template"),
    ],
)
def test_bad_templates(template, message):
    with pytest.raises(ValueError, match=message.replace("{}", r"\{\}")):
        parse_template(template)


def test_template_must_be_a_string():
    with pytest.raises(TypeError, match="template"):
        parse_template(["{text}", "{labels}"])


def test_braces_can_be_written(tokenizer):
    assert parse_template("{{ {text} }} {labels}")[0] == ("{", None)


def test_label_order():
    assert resolve_label_order(None, 3) == [0, 1, 2]
    assert resolve_label_order([2, 0, 1], 3) == [2, 0, 1]
    seeded = [resolve_label_order(seed, 6) for seed in range(5)]
    assert all(sorted(order) == list(range(6)) for order in seeded)
    assert len({tuple(order) for order in seeded}) == 5
    assert resolve_label_order(3, 6) == seeded[3]


@pytest.mark.parametrize("order", [[0, 1], [0, 1, 1], [1, 2, 3], [0, 1, "a"], "012", True, 1.5])
def test_bad_label_order(order):
    with pytest.raises(ValueError, match="label_order"):
        resolve_label_order(order, 3)


@pytest.mark.parametrize("word", ["[SEP]", "very[PAD]good", "[MASK]"])
def test_label_words_hold_no_special_tokens(tokenizer, word):
    with pytest.raises(ValueError, match=r"`label_words`: .* holds the tokenizer's special token '\["):
        resolve_template(DEFAULT_TEMPLATE, ["good", word], tokenizer)
