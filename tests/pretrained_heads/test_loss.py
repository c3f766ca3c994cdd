"""The loss's options against sums written out by hand, in float64."""

from __future__ import annotations

import math

import pytest
import torch

from dpt_peft.pretrained_heads import DPTForSequenceClassification
from dpt_peft.pretrained_heads.loss import dpt_loss

LOGITS = torch.tensor([[0.3, -1.2, 2.0], [1.1, 0.4, -0.7]], dtype=torch.float64)


def entropy(logit: float, target: float) -> float:
    score = 1 / (1 + math.exp(-logit))
    return -target * math.log(score) - (1 - target) * math.log(1 - score)


def test_label_smoothing():
    labels, smoothing = torch.tensor([2, 0]), 0.2
    expected = 0.0
    for row, label in zip(LOGITS.tolist(), labels.tolist(), strict=True):
        expected += sum(entropy(logit, 0.9 if column == label else 0.1) for column, logit in enumerate(row)) / 2
    loss = dpt_loss(LOGITS, labels, multi_label=False, label_smoothing=smoothing)
    assert loss.item() == pytest.approx(expected, rel=1e-12)


def test_class_weights_weigh_rows_of_single_labels():
    labels, weights = torch.tensor([2, 0]), [0.5, 1.0, 3.0]
    rows = [
        sum(entropy(logit, float(column == label)) for column, logit in enumerate(row))
        for row, label in zip(LOGITS.tolist(), labels.tolist(), strict=True)
    ]
    loss = dpt_loss(LOGITS, labels, multi_label=False, class_weights=torch.tensor(weights))
    assert loss.item() == pytest.approx((3.0 * rows[0] + 0.5 * rows[1]) / 3.5, rel=1e-12)


def test_class_weights_weigh_the_positives_of_multiple_labels():
    labels, weights = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]]), [0.5, 1.0, 3.0]
    expected = 0.0
    for row, targets in zip(LOGITS.tolist(), labels.tolist(), strict=True):
        for logit, target, weight in zip(row, targets, weights, strict=True):
            expected += entropy(logit, target) * (weight if target else 1.0) / 2
    loss = dpt_loss(LOGITS, labels, multi_label=True, class_weights=torch.tensor(weights))
    assert loss.item() == pytest.approx(expected, rel=1e-12)


def test_a_batch_of_weight_zero_has_the_loss_zero():
    logits = LOGITS.clone().requires_grad_()
    loss = dpt_loss(logits, torch.tensor([1, 1]), multi_label=False, class_weights=torch.tensor([1.0, 0.0, 1.0]))
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_a_class_that_a_row_lacks_adds_nothing():
    logits = LOGITS.clone()
    logits[0, 2] = -torch.inf
    logits.requires_grad_()
    loss = dpt_loss(logits, torch.tensor([1, 2]), multi_label=False, label_smoothing=0.1)
    first = dpt_loss(LOGITS[:1, :2], torch.tensor([1]), multi_label=False, label_smoothing=0.1)
    second = dpt_loss(LOGITS[1:], torch.tensor([2]), multi_label=False, label_smoothing=0.1)
    torch.testing.assert_close(loss, (first + second) / 2)
    loss.backward()
    assert logits.grad.isfinite().all()
    assert logits.grad[0, 2] == 0


def test_the_wrapper_hands_them_on(discriminator_path, tokenizer, tmp_path):
    rows, labels = tokenizer(["a film", "the game"], return_tensors="pt"), torch.tensor([0, 2])
    options = {"class_weights": [0.5, 1, 3], "label_smoothing": 0.1}
    model = DPTForSequenceClassification.from_pretrained(
        discriminator_path, label_words=["bad", "good", "very"], **options
    )
    outputs = model(**rows, labels=labels)
    expected = dpt_loss(
        outputs.logits, labels, multi_label=False, class_weights=torch.tensor([0.5, 1, 3]), label_smoothing=0.1
    )
    torch.testing.assert_close(outputs.loss, expected)
    model.save_pretrained(tmp_path)
    loaded = DPTForSequenceClassification.from_pretrained(tmp_path)
    assert torch.equal(loaded(**rows, labels=labels).loss, outputs.loss)
    model.add_label_list("mood", ["bad", "good"], tokenizer)
    with pytest.raises(ValueError, match="`class_weights` are those of the wrapper's own label list"):
        model(**rows, labels=torch.tensor([0, 1]), list_names=["mood", "default"])


def test_refused_labels_do_not_tell_the_problem_type(discriminator_path, tokenizer):
    model = DPTForSequenceClassification.from_pretrained(discriminator_path, label_words=["bad", "good", "very"])
    rows = tokenizer(["a film", "the game"], return_tensors="pt")
    with pytest.raises(ValueError, match="`labels` for multi-label classification"):
        model(**rows, labels=torch.tensor([1.0, 0.0]))
    assert model.config.problem_type is None
    model(**rows, labels=torch.tensor([1, 0]))
    assert model.config.problem_type == "single_label_classification"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"class_weights": [1, 2]}, "`class_weights` says 2 classes, but there are 3"),
        ({"class_weights": [1, 2, -1]}, "numbers that are not negative"),
        ({"class_weights": [1, 2, float("nan")]}, "numbers that are not negative"),
        ({"problem_type": "multilabel"}, "`problem_type` must be None or one of .*, got 'multilabel'"),
        ({"label_smoothing": 1.0}, "at least 0 and less than 1"),
        ({"calibration": [0.0]}, "`calibration` says 1 classes"),
    ],
)
def test_options_are_checked(discriminator_path, options, message):
    with pytest.raises(ValueError, match=message):
        DPTForSequenceClassification.from_pretrained(
            discriminator_path, label_words=["bad", "good", "very"], **options
        )
