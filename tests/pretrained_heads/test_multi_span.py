"""The reader: equations, loading, PEFT, Trainer."""

from __future__ import annotations

import math

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from transformers import (
    AutoModelForTokenClassification,
    DataCollatorForTokenClassification,
    ElectraForPreTraining,
    ElectraModel,
    Trainer,
    TrainingArguments,
)

from dpt_peft import (
    DeepPromptConfig,
    DPTForMultiSpanQuestionAnswering,
    DPTForMultiSpanQuestionAnsweringConfig,
    DPTForSequenceClassification,
)
from dpt_peft.tasks import multi_span_features
from tests.tasks.question_answering.multi_span import make_tokenizer, question, write_discriminator

TOKENIZER = make_tokenizer()
QUESTIONS = Dataset.from_list([question(number) for number in range(8)])


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return write_discriminator(tmp_path_factory.mktemp("reader"))


@pytest.fixture
def model(path):
    return DPTForMultiSpanQuestionAnswering.from_pretrained(path)


@pytest.fixture(scope="module")
def rows():
    features = multi_span_features(QUESTIONS, TOKENIZER)
    return DataCollatorForTokenClassification(TOKENIZER)([features.dataset[index] for index in (0, 3, 7)])


def same_weights(left, right):
    """The last bit of a product on a CPU depends on where its factors lie in memory; that of weights does not."""
    weights = right.state_dict()
    assert left.state_dict().keys() == weights.keys()
    assert all(torch.equal(value, weights[name]) for name, value in left.state_dict().items())


def test_logits_are_those_of_the_pretrained_head_with_the_papers_sign(path, model, rows):
    plain = ElectraForPreTraining.from_pretrained(path).eval()
    inputs = {name: value for name, value in rows.items() if name != "labels"}
    replaced = plain(**inputs).logits
    torch.testing.assert_close(model(**inputs).logits, -replaced)
    assert sum(p.numel() for p in model.parameters()) == sum(p.numel() for p in plain.parameters())
    other = DPTForMultiSpanQuestionAnswering.from_pretrained(path, score_function="sigmoid")
    torch.testing.assert_close(other(**inputs).logits, replaced)
    torch.testing.assert_close(model(**rows).logits, model(**inputs).logits)  # with labels as without


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_loss_by_hand(path, rows, reduction):
    model = DPTForMultiSpanQuestionAnswering.from_pretrained(path, loss_reduction=reduction, dtype=torch.float64)
    output = model(**rows)
    replaced = -output.logits.detach()
    total, tokens = 0.0, 0
    for z_row, y_row in zip(replaced.tolist(), rows["labels"].tolist(), strict=True):
        for z, y in zip(z_row, y_row, strict=True):
            if y != -100:
                score = 1 - 1 / (1 + math.exp(-z))  # Eq. 2
                total += -y * math.log(score) - (1 - y) * math.log(1 - score)  # Eq. 3
                tokens += 1
    expected = total / tokens if reduction == "mean" else total / len(rows["labels"])
    assert output.loss.dtype == torch.float64
    assert output.loss.item() == pytest.approx(expected, rel=1e-12)
    if reduction == "mean":
        assert model(**rows, num_items_in_batch=10).loss.item() == pytest.approx(total / 10, rel=1e-12)


def test_question_and_padding_bring_no_gradient(model, rows):
    labels = torch.full_like(rows["labels"], -100)
    assert model(**{**rows, "labels": labels}).loss.item() == 0
    logits = model(**rows).logits
    logits.retain_grad()
    loss = torch.nn.functional.binary_cross_entropy_with_logits  # an independent selection
    chosen = rows["labels"] != -100
    expected = loss(logits[chosen], rows["labels"][chosen].float())
    assert model(**rows).loss.item() == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.zeros(3, dtype=torch.long), "one number a token"),
        (torch.full((3, 40), 2), "one number a token"),
    ],
)
def test_labels_of_the_wrong_shape(model, rows, labels, message):
    with pytest.raises(ValueError, match=message):
        model(**{**rows, "labels": labels})


def test_labels_of_other_values(model, rows):
    with pytest.raises(ValueError, match="must be 1"):
        model(**{**rows, "labels": rows["labels"] * 2})


@pytest.mark.parametrize(("score_function", "sign"), [("one_minus_sigmoid", -1), ("sigmoid", 1)])
def test_threshold_is_the_papers_on_the_replaced_score(path, score_function, sign):
    model = DPTForMultiSpanQuestionAnswering.from_pretrained(path, score_function=score_function)
    assert model.config.threshold == 0.6
    for z in (0.40, 0.41):  # sigmoid(0.4055) = 0.6
        replaced = 1 / (1 + math.exp(-z))
        is_answer = replaced < 0.6 if sign < 0 else replaced > 0.6
        assert (sign * z > model.config.logit_threshold) == is_answer
    model.config.logit_threshold = 1.5
    assert model.config.threshold == pytest.approx(1 / (1 + math.exp(-sign * 1.5)))
    assert model.config.logit_threshold == pytest.approx(1.5)
    for value in (30.0, -30.0):
        model.config.logit_threshold = value
        assert model.config.logit_threshold == pytest.approx(value, abs=1e-2)
    for far in (800.0, -800.0):
        with pytest.raises(ValueError, match="too far from 0"):
            model.config.logit_threshold = far


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": 1.0}, "`threshold` must be between 0 and 1"),
        ({"score_function": "tanh"}, "`score_function` must be one of"),
        ({"loss_reduction": "max"}, "`loss_reduction` must be one of"),
    ],
)
def test_bad_options(path, options, message):
    with pytest.raises(ValueError, match=message):
        DPTForMultiSpanQuestionAnswering.from_pretrained(path, **options)


def test_a_checkpoint_without_the_head_is_refused(path, tmp_path):
    ElectraModel.from_pretrained(path).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="no pretrained replaced-token head"):
        DPTForMultiSpanQuestionAnswering.from_pretrained(tmp_path)


def test_saved_and_reloaded(model, rows, tmp_path):
    model.config.logit_threshold = 0.25
    model.save_pretrained(tmp_path)
    for loaded in (
        DPTForMultiSpanQuestionAnswering.from_pretrained(tmp_path),
        AutoModelForTokenClassification.from_pretrained(tmp_path),
    ):
        assert type(loaded) is DPTForMultiSpanQuestionAnswering
        same_weights(loaded, model)
        torch.testing.assert_close(loaded(**rows).logits, model(**rows).logits)
        assert loaded.config.logit_threshold == pytest.approx(0.25)
    changed = DPTForMultiSpanQuestionAnswering.from_pretrained(tmp_path, threshold=0.3, hidden_dropout_prob=0.5)
    assert changed.config.threshold == 0.3
    assert changed.config.language_model_config.hidden_dropout_prob == 0.5


def test_a_classifiers_backbone_can_become_a_reader(path, model, rows, tmp_path):
    classifier = DPTForSequenceClassification.from_pretrained(path, label_words=["bob", "carl"])
    classifier.save_pretrained(tmp_path)
    reader = DPTForMultiSpanQuestionAnswering.from_pretrained(tmp_path)
    same_weights(reader, model)
    torch.testing.assert_close(reader(**rows).logits, model(**rows).logits)


def test_config_of_the_model_class():
    config = DPTForMultiSpanQuestionAnsweringConfig()
    assert config.threshold == 0.6
    assert config.model_type == "dpt_multi_span_question_answering"


def test_rows_do_not_see_padding_or_each_other(path):
    model = DPTForMultiSpanQuestionAnswering.from_pretrained(path, dtype=torch.float64)
    texts = [("Who sings?", "Bob sings a song."), ("Who?", "Ann and Carl and Dora met Eve in the band.")]
    alone = [model(**TOKENIZER(*pair, return_tensors="pt")).logits[0] for pair in texts]
    for side in ("right", "left"):
        batch = TOKENIZER(texts, padding=True, padding_side=side, return_tensors="pt")
        if side == "left":  # ELECTRA counts positions from the left
            batch["position_ids"] = (batch["attention_mask"].cumsum(-1) - 1).clamp(min=0)
        logits = model(**batch).logits
        for row, mask, expected in zip(logits, batch["attention_mask"].bool(), alone, strict=True):
            torch.testing.assert_close(row[mask], expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    "config",
    [
        DeepPromptConfig(task_type=TaskType.TOKEN_CLS, num_virtual_tokens=4),
        LoraConfig(task_type=TaskType.TOKEN_CLS, r=2, init_lora_weights=False),
    ],
    ids=["deep_prompt", "lora"],
)
def test_peft(path, model, rows, tmp_path, config):
    plain = model(**rows).logits.detach()
    adapted = get_peft_model(model, config)
    trained = [name for name, parameter in adapted.named_parameters() if parameter.requires_grad]
    assert trained
    assert all("lora_" in name or "deep_prompt_" in name for name in trained)  # no new head, the old one frozen
    adapted.eval()
    output = adapted(**rows)
    output.loss.backward()
    assert not torch.allclose(output.logits, plain)
    with adapted.disable_adapter():
        torch.testing.assert_close(adapted(**rows).logits, plain)
    adapted.save_pretrained(tmp_path)
    base = DPTForMultiSpanQuestionAnswering.from_pretrained(path)
    loaded = PeftModel.from_pretrained(base, tmp_path).eval()
    same_weights(loaded, adapted)
    torch.testing.assert_close(loaded(**rows).logits, output.logits)


def trainer(model, tmp_path, **options):
    arguments = {
        "output_dir": str(tmp_path / "trainer"),
        "per_device_train_batch_size": 4,
        "learning_rate": 1e-2,
        "report_to": [],
        "use_cpu": True,
        "disable_tqdm": True,
        "save_strategy": "no",
    }
    dataset = multi_span_features(QUESTIONS, TOKENIZER).dataset
    return Trainer(
        model,
        TrainingArguments(**{**arguments, **options}),
        train_dataset=dataset,
        eval_dataset=dataset,
        processing_class=TOKENIZER,
        data_collator=DataCollatorForTokenClassification(TOKENIZER),
    )


@pytest.mark.parametrize("adapter", [None, DeepPromptConfig(task_type=TaskType.TOKEN_CLS, num_virtual_tokens=4)])
def test_trainer(model, tmp_path, adapter):
    run = trainer(model if adapter is None else get_peft_model(model, adapter), tmp_path, max_steps=8)
    before = run.evaluate()["eval_loss"]
    run.train()
    assert run.evaluate()["eval_loss"] < before


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_gradient_accumulation_gives_the_gradient_of_the_whole_batch(path, tmp_path, reduction):
    weights = []
    for batch, steps in ((8, 1), (2, 4)):  # rows of different lengths: a mean of means would differ
        model = DPTForMultiSpanQuestionAnswering.from_pretrained(
            path,
            dtype=torch.float64,
            loss_reduction=reduction,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        )
        trainer(
            model,
            tmp_path,
            max_steps=1,
            per_device_train_batch_size=batch,
            gradient_accumulation_steps=steps,
            optim="sgd",
            max_grad_norm=0.0,
        ).train()
        weights.append(model.get_input_embeddings().weight.detach())
    torch.testing.assert_close(weights[0], weights[1], rtol=0, atol=1e-10)
