"""Several spans: labels, features, and from logits to answers, metrics and the threshold."""

from __future__ import annotations

import copy
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from datasets import Dataset
from hypothesis import given, settings, strategies as st
from transformers import ElectraConfig, ElectraForTokenClassification

from dpt_peft import DPTForMultiSpanQuestionAnswering
from dpt_peft.tasks import (
    MultiSpanQuestionAnswering,
    MultiSpanQuestionAnsweringArguments,
    multi_span_features,
    tune_threshold,
)
from dpt_peft.tasks.base import predict_rows
from dpt_peft.tasks.question_answering.data import Example
from dpt_peft.tasks.question_answering.multi_span import answer_ranges, label_tokens, search_threshold
from dpt_peft.tasks.question_answering.windows import make_windows
from tests.tasks.question_answering.multi_span import make_tokenizer, question, write_discriminator

TOKENIZER = make_tokenizer()
QUESTIONS = Dataset.from_list([question(number) for number in range(6)])


def perfect_logits(features, high=2.0, low=-2.0):
    """Logits that say exactly what the labels say, padded as the Trainer pads them."""
    length = max(len(window.offsets) for window in features.windows)
    logits = np.full((len(features.windows), length), -100.0)
    for row, labels in zip(logits, features.dataset["labels"], strict=True):
        row[: len(labels)] = [high if label == 1 else low for label in labels]
    return logits


@pytest.mark.parametrize(("max_length", "stride"), [(64, 0), (64, 16), (20, 6), (14, 0)])
def test_labels_as_logits_give_the_gold_answers_in_any_windows(max_length, stride):
    features = multi_span_features(QUESTIONS, TOKENIZER, mentions="given", max_length=max_length, doc_stride=stride)
    assert (len(features.windows) > len(QUESTIONS)) == (max_length < 64)
    spans = features.decode(features.score(perfect_logits(features)))
    assert [[span.text for span in found] for found in spans] == [row["answers"]["text"] for row in QUESTIONS]
    assert [[span.start for span in found] for found in spans] == [row["answers"]["answer_start"] for row in QUESTIONS]
    metrics = features.evaluate(spans)
    assert set(metrics.values()) == {1.0}
    assert {"f1_single_span", "exact_match_multi_span"} <= metrics.keys()


def test_stride_changes_nothing_where_one_window_is_enough():
    rng = np.random.default_rng(0)
    answers = []
    for stride in (0, 5, 40):
        features = multi_span_features(QUESTIONS, TOKENIZER, max_length=64, doc_stride=stride)
        assert len(features.windows) == len(QUESTIONS)
        rng = np.random.default_rng(0)
        logits = [rng.normal(size=len(window.offsets)) for window in features.windows]
        answers.append(features.decode(features.score(logits)))
    assert answers[0] == answers[1] == answers[2]


def test_both_kinds_of_logits_give_the_same():
    features = multi_span_features(QUESTIONS, TOKENIZER)
    logits = perfect_logits(features)
    tags = np.stack([np.zeros_like(logits), logits], axis=-1)
    for one, other in zip(features.score(logits), features.score(tags), strict=True):
        np.testing.assert_array_equal(one, other)


def config(threshold):
    return SimpleNamespace(logit_threshold=threshold)


def test_metrics_and_files(tmp_path):
    features = multi_span_features(QUESTIONS, TOKENIZER)
    logits = perfect_logits(features)
    assert features.metrics(logits, SimpleNamespace())["f1"] == 1  # a plain token classifier: 0
    # nothing is above: the best word of each paragraph
    assert features.metrics(logits, config(3.0))["exact_match"] == 0.5
    features.write(logits, config(0.0), tmp_path)
    assert json.loads((tmp_path / "predictions.json").read_text()) == {
        row["id"]: row["answers"]["text"] for row in QUESTIONS
    }
    lines = [json.loads(line) for line in (tmp_path / "prediction_spans.jsonl").read_text().splitlines()]
    assert [line["row"] for line in lines] == list(range(6))
    assert [[span["start"] for span in line["spans"]] for line in lines] == [
        row["answers"]["answer_start"] for row in QUESTIONS
    ]
    without = multi_span_features(QUESTIONS.remove_columns("answers"), TOKENIZER)
    assert without.metrics(logits, config(0.0)) == {}
    with pytest.raises(ValueError, match="no answers to compare with"):
        search_threshold(without, without.score(perfect_logits(without)))


def test_what_the_trainer_gathers():
    logits = torch.zeros(2, 3)
    assert MultiSpanQuestionAnswering().reduce((logits, "states"), None) is logits
    assert MultiSpanQuestionAnswering().reduce(logits, None) is logits


def test_a_tokenizer_that_pads_on_the_left_is_refused():
    tokenizer = copy.copy(TOKENIZER)
    tokenizer.padding_side = "left"
    with pytest.raises(ValueError, match="`tokenizer` pads on the left"):
        multi_span_features(QUESTIONS, tokenizer)


def test_search_finds_the_threshold_that_separates():
    features = multi_span_features(QUESTIONS, TOKENIZER)
    scores = features.score(perfect_logits(features, high=-0.9, low=-1.2))
    found = search_threshold(features, scores, before=0.0)
    assert -1.2 <= found.threshold < -0.9
    assert found.metrics["f1"] == 1
    assert found.metrics_before["exact_match"] == 0.5  # the best word only, where the answer has two
    # the one in use stays where it is as good as any
    assert search_threshold(features, scores, before=-1.0).threshold == -1.0


def test_predict_rows_cuts_padding_and_leaves_the_mode_as_it_was(tmp_path):
    model = DPTForMultiSpanQuestionAnswering.from_pretrained(write_discriminator(tmp_path)).train()
    features = multi_span_features(QUESTIONS, TOKENIZER)
    logits = predict_rows(model, TOKENIZER, [window.inputs for window in features.windows], batch_size=4)
    assert model.training
    model.eval()
    for row, window in zip(logits, features.windows, strict=True):
        inputs = {name: torch.tensor([ids]) for name, ids in window.inputs.items()}
        with torch.no_grad():
            np.testing.assert_allclose(row, model(**inputs).logits[0].numpy(), rtol=0, atol=1e-5)


def test_tune_threshold_in_one_call(tmp_path):
    reader = DPTForMultiSpanQuestionAnswering.from_pretrained(write_discriminator(tmp_path))
    tagger = ElectraForTokenClassification(
        ElectraConfig.from_pretrained(tmp_path, num_labels=2, initializer_range=0.5)
    ).eval()
    features = multi_span_features(QUESTIONS, TOKENIZER, max_length=24, doc_stride=4)
    for model in (reader, tagger):
        before = getattr(model.config, "logit_threshold", 0.0)
        found = tune_threshold(model, TOKENIZER, features)
        assert model.config.logit_threshold == pytest.approx(found.threshold)
        assert found.metrics["f1"] >= found.metrics_before["f1"]
        model.save_pretrained(tmp_path / "saved")
        config = type(model.config).from_pretrained(tmp_path / "saved")
        assert config.logit_threshold == pytest.approx(found.threshold)
        # tuning again from there finds nothing better
        again = tune_threshold(model, TOKENIZER, features)
        assert again.threshold == pytest.approx(found.threshold)
        assert again.metrics_before["f1"] == found.metrics["f1"] >= before - before


def test_all_mentions_or_the_given_ones():
    context = "Bob met Bobby. Bob sings."
    example = Example("0", "Who?", context, ["Bob"], [15])
    assert answer_ranges(example, "given") == [(15, 18)]
    assert answer_ranges(example, "all") == [(0, 3), (15, 18)]  # whole words: not Bobby
    # what was given stays, even if it is no whole word
    assert answer_ranges(Example("0", "Who?", context, ["Bo"], [0]), "all") == [(0, 2)]
    with pytest.raises(ValueError, match="`mentions` must be"):
        answer_ranges(example, "first")


def test_features_of_hub_rows_and_of_loaded_splits_agree():
    rows = Dataset.from_list([question(number) for number in range(4)])
    task, args = MultiSpanQuestionAnswering(), MultiSpanQuestionAnsweringArguments()
    splits = task.shape({"train": rows, "test": rows.remove_columns("answers")}, args).splits
    from_hub = multi_span_features(rows, TOKENIZER)
    loaded = multi_span_features(splits["train"], TOKENIZER)
    assert from_hub.examples == loaded.examples
    assert from_hub.dataset[:] == loaded.dataset[:]
    assert from_hub.labelled
    assert from_hub.example_index == [0, 1, 2, 3]
    without = multi_span_features(splits["test"], TOKENIZER)
    assert not without.labelled
    assert {label for labels in without.dataset["labels"] for label in labels} == {-100, 0}


WORD = st.sampled_from(["Bob", "Carl", "starr", "1990", ".", "-", "Ünknown", "東京", "ringo,", "\n", "  "])


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
    labels = label_tokens(window, answer_ranges(example, mentions))
    for label, offset in zip(labels, window.offsets, strict=True):
        assert (label == -100) == (offset is None)
        if offset is not None and start <= offset[0] < start + len(text):
            assert label == 1
        if label == 1:
            assert any(a <= offset[0] and offset[1] <= b for a, b in answer_ranges(example, mentions))
