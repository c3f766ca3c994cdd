"""From logits to answers and metrics, and the threshold."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import ElectraConfig, ElectraForTokenClassification, EvalPrediction

from dpt_peft import DPTForMultiSpanQuestionAnswering
from dpt_peft.tasks.question_answering.data import predict_logits
from dpt_peft.tasks.question_answering.multi_span import (
    decode_examples,
    evaluate_spans,
    make_features,
    multi_span_metrics,
    score_examples,
    search_threshold,
    tune_threshold,
)
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
    features = make_features(QUESTIONS, TOKENIZER, mentions="given", max_length=max_length, doc_stride=stride)
    assert (len(features.windows) > len(QUESTIONS)) == (max_length < 64)
    spans = decode_examples(features, score_examples(features, perfect_logits(features)))
    assert [[span.text for span in found] for found in spans] == [row["answers"]["text"] for row in QUESTIONS]
    assert [[span.start for span in found] for found in spans] == [row["answers"]["answer_start"] for row in QUESTIONS]
    metrics = evaluate_spans(features, spans)
    assert set(metrics.values()) == {1.0}
    assert {"f1_single_span", "exact_match_multi_span"} <= metrics.keys()


def test_stride_changes_nothing_where_one_window_is_enough():
    rng = np.random.default_rng(0)
    answers = []
    for stride in (0, 5, 40):
        features = make_features(QUESTIONS, TOKENIZER, max_length=64, doc_stride=stride)
        assert len(features.windows) == len(QUESTIONS)
        rng = np.random.default_rng(0)
        logits = [rng.normal(size=len(window.offsets)) for window in features.windows]
        answers.append(decode_examples(features, score_examples(features, logits)))
    assert answers[0] == answers[1] == answers[2]


def test_both_kinds_of_logits_give_the_same():
    features = make_features(QUESTIONS, TOKENIZER)
    logits = perfect_logits(features)
    tags = np.stack([np.zeros_like(logits), logits], axis=-1)
    for one, other in zip(score_examples(features, logits), score_examples(features, tags), strict=True):
        np.testing.assert_array_equal(one, other)


def test_compute_metrics_for_the_trainer():
    features = make_features(QUESTIONS, TOKENIZER)
    threshold = [0.0]
    compute = multi_span_metrics(features, lambda: threshold[0])
    prediction = EvalPrediction(predictions=perfect_logits(features), label_ids=None)
    assert compute(prediction)["f1"] == 1
    assert compute(EvalPrediction(predictions=(perfect_logits(features),), label_ids=None))["f1"] == 1
    threshold[0] = 3.0  # nothing is above: the best word of each paragraph
    assert compute(prediction)["exact_match"] == 0.5
    without = make_features(QUESTIONS.remove_columns("answers"), TOKENIZER)
    assert multi_span_metrics(without, lambda: 0.0)(prediction) == {}
    with pytest.raises(ValueError, match="no answers to compare with"):
        search_threshold(without, score_examples(without, perfect_logits(without)))


def test_search_finds_the_threshold_that_separates():
    features = make_features(QUESTIONS, TOKENIZER)
    scores = score_examples(features, perfect_logits(features, high=-0.9, low=-1.2))
    found = search_threshold(features, scores, before=0.0)
    assert -1.2 <= found.threshold < -0.9
    assert found.metrics["f1"] == 1
    assert found.metrics_before["exact_match"] == 0.5  # the best word only, where the answer has two
    # the one in use stays where it is as good as any
    assert search_threshold(features, scores, before=-1.0).threshold == -1.0
    with pytest.raises(ValueError, match="`metric` must be"):
        search_threshold(features, scores, metric="accuracy")


def test_predict_logits_cuts_padding_and_leaves_the_mode_as_it_was(tmp_path):
    model = DPTForMultiSpanQuestionAnswering.from_pretrained(write_discriminator(tmp_path)).train()
    features = make_features(QUESTIONS, TOKENIZER)
    (logits,) = predict_logits(model, TOKENIZER, features, batch_size=4)
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
    for model in (reader, tagger):
        before = getattr(model.config, "logit_threshold", 0.0)
        found = tune_threshold(model, TOKENIZER, QUESTIONS, max_length=24, doc_stride=4)
        assert model.config.logit_threshold == pytest.approx(found.threshold)
        assert found.metrics["f1"] >= found.metrics_before["f1"]
        model.save_pretrained(tmp_path / "saved")
        config = type(model.config).from_pretrained(tmp_path / "saved")
        assert config.logit_threshold == pytest.approx(found.threshold)
        # tuning again from there finds nothing better
        again = tune_threshold(model, TOKENIZER, QUESTIONS, max_length=24, doc_stride=4)
        assert again.threshold == pytest.approx(found.threshold)
        assert again.metrics_before["f1"] == found.metrics["f1"] >= before - before
