"""Windows: every token of the paragraph, whatever the tokenizer, its sides and what users type."""

import copy
from itertools import pairwise

import numpy as np
import pytest
from datasets import Dataset
from hypothesis import given, settings, strategies as st
from transformers import ElectraConfig, FunnelConfig, RobertaConfig, RobertaForQuestionAnswering, pipeline

from dpt_peft.pretrained_heads.base import longest_row
from dpt_peft.tasks import multi_span_features, special_tokens_as_text
from dpt_peft.tasks.question_answering.data import Example
from dpt_peft.tasks.question_answering.multi_span import answer_ranges, label_tokens
from dpt_peft.tasks.question_answering.windows import (
    DEFAULT_MAX_LENGTH,
    decode_spans,
    make_windows,
    score_words,
    split_words,
)
from tests.tasks.question_answering.multi_span import make_tokenizer
from tests.tasks.question_answering.other_tokenizers import byte_level, sentence_pieces

TOKENIZER = make_tokenizer()


def test_a_window_is_the_tokenizers_pair_and_its_labels_are_those_of_paragraph_tokens():
    (window,) = make_windows(TOKENIZER, "Who sings?", "Ringo Starr sings.", max_length=64)
    assert window.inputs == {name: list(ids) for name, ids in TOKENIZER("Who sings?", "Ringo Starr sings.").items()}
    tokens = TOKENIZER.convert_ids_to_tokens(window.inputs["input_ids"])
    labels = label_tokens(window, [(0, 11)])
    paragraph = ["ring", "##o", "star", "##r", "sings", "."]
    assert tokens == ["[CLS]", "who", "sings", "?", "[SEP]", *paragraph, "[SEP]"]
    assert labels == [-100] * 5 + [1, 1, 1, 1, 0, 0] + [-100]
    assert window.offsets[5:9] == [(0, 4), (4, 5), (6, 10), (10, 11)]


def test_nothing_of_a_long_paragraph_is_lost_and_windows_share_the_stride():
    context = " ".join(["Bob met Carl ."] * 20)
    windows = make_windows(TOKENIZER, "Who sings?", context, max_length=32, doc_stride=8)
    assert all(len(window.offsets) <= 32 for window in windows)
    spans = [[offset for offset in window.offsets if offset is not None] for window in windows]
    assert sorted({offset for span in spans for offset in span}) == [
        (start, end) for start, end in TOKENIZER(context, return_offsets_mapping=True)["offset_mapping"] if end
    ]
    assert all(len(set(a) & set(b)) >= 8 for a, b in pairwise(spans))


def test_a_long_question_leaves_half_of_the_room():
    (*_, last) = windows = make_windows(TOKENIZER, "who sings " * 40, "Bob " * 30, max_length=23, doc_stride=100)
    assert len(windows) > 1
    assert TOKENIZER.convert_ids_to_tokens(last.inputs["input_ids"])[1:11] == ["who", "sings"] * 5
    assert sum(offset is not None for window in windows for offset in window.offsets) >= 30


def test_bad_window_arguments():
    with pytest.raises(ValueError, match="`max_length` 4 leaves no room"):
        make_windows(TOKENIZER, "Who?", "Bob", max_length=4)
    with pytest.raises(ValueError, match="`doc_stride` must not be negative"):
        make_windows(TOKENIZER, "Who?", "Bob", doc_stride=-1)


def test_empty_paragraphs_and_questions():
    for asked, context in (("", "Bob"), ("Who?", ""), ("", "")):
        (window,) = make_windows(TOKENIZER, asked, context)
        assert sum(offset is not None for offset in window.offsets) == len(context.split())


WORD = st.sampled_from(["Bob", "Carl", "starr", "1990", ".", "-", "Ünknown", "東京", "ringo,", "\n", "  "])


@settings(deadline=None, max_examples=60)
@given(
    context=st.lists(WORD, min_size=1, max_size=60).map(" ".join),
    asked=st.lists(WORD, max_size=30).map(" ".join),
    max_length=st.integers(8, 40),
    stride=st.integers(0, 50),
)
def test_every_token_of_the_paragraph_is_in_a_window_and_slices_right(context, asked, max_length, stride):
    windows = make_windows(TOKENIZER, asked, context, max_length=max_length, doc_stride=stride)
    whole = TOKENIZER(context, add_special_tokens=False, return_offsets_mapping=True)
    ids = {tuple(offset): token for offset, token in zip(whole["offset_mapping"], whole["input_ids"], strict=True)}
    seen = set()
    for window in windows:
        assert len(window.inputs["input_ids"]) <= max_length
        for token, offset in zip(window.inputs["input_ids"], window.offsets, strict=True):
            if offset is not None:
                assert ids[offset] == token
                seen.add(offset)
    assert seen == set(ids)
    # a paragraph that fits into one window is the same window, whatever the stride
    if len(windows) == 1:
        assert make_windows(TOKENIZER, asked, context, max_length=max_length, doc_stride=0) == windows


@pytest.mark.parametrize(
    "tokenizer", [byte_level(True), byte_level(False), sentence_pieces()], ids=["trimmed", "untrimmed", "pieces"]
)
@pytest.mark.parametrize(("max_length", "stride"), [(200, 0), (24, 5)])
def test_other_kinds_of_tokenizers(tokenizer, max_length, stride):
    context = "Bob met Carl, and Ringo Starr sings “Déjà 東京” with\n Ann. " * 2
    texts = ["Carl", "Ringo Starr", "Déjà 東京", "Ann"]
    example = Example("0", "Bob?", context, texts, [context.index(text) for text in texts])
    ranges = answer_ranges(example, "all")
    assert len(ranges) == 8
    words, windows = split_words(context), []
    for window in make_windows(tokenizer, "Bob?", context, max_length=max_length, doc_stride=stride):
        labels = label_tokens(window, ranges)
        windows.append((window.offsets, np.array([1.0 if label == 1 else -1.0 for label in labels])))
    assert (len(windows) > 1) == (max_length == 24)
    found = decode_spans(context, words, score_words(words, windows))
    if tokenizer.pad_token == "[PAD]":
        # a piece with a comma in it tags the comma too
        assert [span.text.strip(",.”“") for span in found] == texts
    else:
        assert [span.text for span in found] == texts


KINDS = {
    "wordpiece": make_tokenizer(),
    "trimmed": byte_level(True),
    "untrimmed": byte_level(False),
    "pieces": sentence_pieces(),
}
TEXT = "Bob met Carl, and Ringo Starr sings with Ann. " * 3


def sides(kind, **changes):
    tokenizer = copy.copy(KINDS[kind])
    for name, value in changes.items():
        setattr(tokenizer, name, value)
    return tokenizer


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("change", [{"padding_side": "left"}, {"truncation_side": "left"}])
def test_a_tokenizers_sides_change_nothing(kind, change):
    for max_length in (24, 400):
        windows = make_windows(KINDS[kind], "Bob?", TEXT, max_length=max_length, doc_stride=5)
        assert make_windows(sides(kind, **change), "Bob?", TEXT, max_length=max_length, doc_stride=5) == windows


def test_a_long_question_is_cut_where_the_tokenizer_cuts():
    asked = "who plays " + "the song " * 20 + "in 1990"
    for side, tokens in (("right", ["who", "plays", "the", "song"]), ("left", ["the", "song", "in", "1990"])):
        (window,) = make_windows(sides("wordpiece", truncation_side=side), asked, "Bob", max_length=11)
        assert TOKENIZER.convert_ids_to_tokens(window.inputs["input_ids"])[1:5] == tokens


@pytest.mark.parametrize("kind", KINDS)
def test_special_tokens_that_users_type_are_text(kind):
    tokenizer = KINDS[kind]
    for special in tokenizer.all_special_tokens:
        context = f"Bob {special} met{special} Ann."
        (window,) = make_windows(tokenizer, f"{special} Bob {special}?", context)
        covered = {position for offset in window.offsets if offset for position in range(*offset)}
        assert covered >= {position for position, character in enumerate(context) if character != " "}
        # The tokenizer's own: one at the start, the others around question and paragraph.
        assert window.null_position == 0
        with special_tokens_as_text(tokenizer):
            ids = tokenizer(context, add_special_tokens=False)["input_ids"]
        assert window.inputs["input_ids"][-1 - len(ids) : -1] == ids


@pytest.mark.parametrize("kind", KINDS)
def test_special_tokens_in_texts_have_other_ids_than_the_tokenizers_own(kind):
    tokenizer = KINDS[kind]
    row = {"question": "Who?", "context": f"Bob {' '.join(tokenizer.all_special_tokens)} met Ann."}
    features = multi_span_features(Dataset.from_list([row]), tokenizer, max_length=200)
    (window,) = features.windows
    pairs = zip(window.inputs["input_ids"], window.offsets, strict=True)
    ids = [token for token, offset in pairs if offset]
    assert not set(ids) & (set(tokenizer.all_special_ids) - {tokenizer.unk_token_id})


def tokenizer_of(limit):
    tokenizer = copy.copy(TOKENIZER)
    tokenizer.model_max_length = limit
    return tokenizer


def window_length(asked, tokenizer, config):
    return longest_row(asked, tokenizer, config, default=DEFAULT_MAX_LENGTH)


def test_the_length_of_windows_is_what_tokenizer_and_model_take():
    unlimited = tokenizer_of(int(1e30))
    electra = ElectraConfig(max_position_embeddings=512)
    assert window_length(None, unlimited, electra) == 384
    assert window_length(512, unlimited, electra) == 512
    assert window_length(None, tokenizer_of(64), electra) == 64
    # The first positions of RoBERTa and its kin are never used.
    roberta = RobertaConfig(max_position_embeddings=130, pad_token_id=1)
    assert window_length(None, unlimited, roberta) == 128
    assert window_length(128, unlimited, roberta) == 128
    for config in (roberta, ElectraConfig(max_position_embeddings=128)):
        with pytest.raises(ValueError, match=r"must be .*128"):
            window_length(129, unlimited, config)
    # Funnel has relative positions.
    assert window_length(5000, unlimited, FunnelConfig()) == 5000


def test_a_roberta_reads_the_longest_window(tmp_path):
    config = RobertaConfig(
        vocab_size=400, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8,
        max_position_embeddings=34, pad_token_id=1,
    )  # fmt: skip
    tokenizer = byte_level(True)
    tokenizer.model_max_length = int(1e30)
    read = pipeline("extractive-question-answering", model=RobertaForQuestionAnswering(config), tokenizer=tokenizer)
    assert read(question="Bob?", context=TEXT, doc_stride=4)["answer"] in TEXT
