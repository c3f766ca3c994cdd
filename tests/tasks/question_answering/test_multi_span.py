"""Columns, windows, labels."""

import json
from itertools import pairwise

import numpy as np
import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from dpt_peft.tasks.question_answering.data import Example, load_questions
from dpt_peft.tasks.question_answering.decoding import decode_spans, score_words, split_words
from dpt_peft.tasks.question_answering.multi_span import (
    MultiSpanQAArguments,
    answer_ranges,
    label_window,
    make_features,
)
from dpt_peft.tasks.question_answering.windows import make_windows
from tests.tasks.question_answering.multi_span import make_tokenizer, question

TOKENIZER = make_tokenizer()


def write(path, rows):
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return str(path)


@pytest.fixture
def files(tmp_path):
    rows = [question(number) for number in range(4)]
    test = [{"question": row["question"], "context": row["context"]} for row in rows]
    return {"train_file": write(tmp_path / "train.jsonl", rows), "test_file": write(tmp_path / "test.jsonl", test)}


def test_loading(files):
    splits = load_questions(MultiSpanQAArguments(**files))
    row = splits["train"][1]
    assert (row["id"], row["answers"]["text"]) == ("q1", ["Bob", "Carl"])
    assert [row["context"][start:][:3] for start in row["answers"]["answer_start"]] == ["Bob", "Car"]
    assert splits["test"].column_names == ["id", "question", "context"]
    assert splits["test"]["id"][:] == ["0", "1", "2", "3"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"answers": {"text": ["Bob"], "answer_start": [3]}}, "'Bob' does not stand at `answer_start` 3"),
        ({"answers": {"text": ["Bob"], "answer_start": []}}, "1 answer texts, but 0 values of `answer_start`"),
        ({"answers": {"text": [""], "answer_start": [0]}}, "does not stand at"),
        ({"answers": "Bob"}, "must hold {'text'"),
    ],
)
def test_bad_answers_name_the_row(tmp_path, change, message):
    path = write(tmp_path / "train.jsonl", [{**question(0), **change}])
    with pytest.raises(ValueError, match="row 0 of the train data") as caught:
        load_questions(MultiSpanQAArguments(train_file=path))
    assert message in str(caught.value)


def test_missing_columns_and_rows(tmp_path):
    path = write(tmp_path / "train.jsonl", [{"question": "Who?", "context": "Bob."}])
    with pytest.raises(ValueError, match="no column 'answers'"):
        load_questions(MultiSpanQAArguments(train_file=path))
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(ValueError, match="no rows"):
        load_questions(MultiSpanQAArguments(train_file=str(tmp_path / "empty.jsonl")))


def test_all_mentions_or_the_given_ones():
    context = "Bob met Bobby. Bob sings."
    example = Example("0", "Who?", context, ["Bob"], [15])
    assert answer_ranges(example, "given") == [(15, 18)]
    assert answer_ranges(example, "all") == [(0, 3), (15, 18)]  # whole words: not Bobby
    # what was given stays, even if it is no whole word
    assert answer_ranges(Example("0", "Who?", context, ["Bo"], [0]), "all") == [(0, 2)]
    with pytest.raises(ValueError, match="`mentions` must be"):
        answer_ranges(example, "first")


def test_a_window_is_the_tokenizers_pair_and_its_labels_are_those_of_paragraph_tokens():
    (window,) = make_windows(TOKENIZER, "Who sings?", "Ringo Starr sings.", max_length=64)
    assert window.inputs == {name: list(ids) for name, ids in TOKENIZER("Who sings?", "Ringo Starr sings.").items()}
    tokens = TOKENIZER.convert_ids_to_tokens(window.inputs["input_ids"])
    labels = label_window(window, [(0, 11)])
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


def test_features_of_hub_rows_and_of_loaded_splits_agree(files):
    rows = Dataset.from_list([question(number) for number in range(4)])
    from_hub = make_features(rows, TOKENIZER)
    loaded = make_features(load_questions(MultiSpanQAArguments(**files))["train"], TOKENIZER)
    assert from_hub.examples == loaded.examples
    assert from_hub.dataset[:] == loaded.dataset[:]
    assert from_hub.labelled
    lengths = [len(ids) for ids in from_hub.dataset["input_ids"]]
    assert lengths == sorted(lengths)
    assert sorted(from_hub.example_index) == [0, 1, 2, 3]
    without = make_features(load_questions(MultiSpanQAArguments(**files))["test"], TOKENIZER)
    assert not without.labelled
    assert {label for labels in without.dataset["labels"] for label in labels} == {-100, 0}


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


@settings(deadline=None, max_examples=60)
@given(words=st.lists(WORD, min_size=1, max_size=20), data=st.data(), mentions=st.sampled_from(["all", "given"]))
def test_labels_are_the_tokens_of_the_answers(words, data, mentions):
    context = " ".join(words)
    at = data.draw(st.integers(0, len(words) - 1))
    start = len(" ".join(words[:at])) + (at > 0)
    text = words[at]
    example = Example("0", "who", context, [text], [start])
    assert all(context[a:b] == text for a, b in answer_ranges(example, mentions))
    (window,) = make_windows(TOKENIZER, "who", context)
    labels = label_window(window, answer_ranges(example, mentions))
    for label, offset in zip(labels, window.offsets, strict=True):
        assert (label == -100) == (offset is None)
        if offset is not None and start <= offset[0] < start + len(text):
            assert label == 1
        if label == 1:
            assert any(a <= offset[0] and offset[1] <= b for a, b in answer_ranges(example, mentions))


def byte_level(trim_offsets: bool) -> PreTrainedTokenizerFast:
    """As RoBERTa's and GPT-2's: the space before a word is part of its token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel()
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 1), ("<s>", 0), trim_offsets=trim_offsets)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<s>", "</s>", "<pad>"]
    trainer = trainers.BpeTrainer(vocab_size=330, special_tokens=special, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(["Bob met Carl, and Ringo Starr sings with Ann."] * 9, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>")


def sentence_pieces() -> PreTrainedTokenizerFast:
    """As DeBERTa-v3's: words end at spaces only, so punctuation sticks to them."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    special = ["[CLS]", "[SEP]", "[PAD]", "[UNK]"]
    trainer = trainers.UnigramTrainer(vocab_size=60, special_tokens=special, unk_token="[UNK]")
    tokenizer.train_from_iterator(["Bob met Carl, and Ringo Starr sings with Ann."] * 9, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 0), ("[SEP]", 1)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]")


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
        labels = label_window(window, ranges)
        windows.append((window.offsets, np.array([1.0 if label == 1 else -1.0 for label in labels])))
    assert (len(windows) > 1) == (max_length == 24)
    found = decode_spans(context, words, score_words(words, windows))
    if tokenizer.pad_token == "[PAD]":
        # a piece with a comma in it tags the comma too
        assert [span.text.strip(",.”“") for span in found] == texts
    else:
        assert [span.text for span in found] == texts
