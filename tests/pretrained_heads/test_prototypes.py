"""Class prototypes beside the template: cosines of mean states, by hand in float64; their start, loss and adapters."""

from __future__ import annotations

import warnings

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.nn.functional import cosine_similarity, cross_entropy, normalize
from transformers import ElectraForPreTraining, pipeline

import dpt_peft
from dpt_peft import DeepPromptConfig, DPTForSequenceClassification
from dpt_peft.pretrained_heads.prototypes import pair_loss

from .conftest import WORDS

LABEL_WORDS = ["world", "sports", "business"]
TEXTS = ["the match ended", "a bank rose and news of technology", "film"]
LABELS = torch.tensor([1, 2, 0])


@pytest.fixture
def load(discriminator_path):
    def load(dtype=torch.float64, **kwargs) -> DPTForSequenceClassification:
        kwargs = {"label_words": LABEL_WORDS, "prototypes": True, **kwargs}
        return DPTForSequenceClassification.from_pretrained(discriminator_path, dtype=dtype, **kwargs)

    return load


@pytest.fixture
def rows(tokenizer):
    return dict(tokenizer(TEXTS, padding=True, return_tensors="pt"))


@pytest.fixture
def states_by_hand(discriminator_path, tokenizer):
    """The mean state of each text, read alone in a row joined by hand."""
    encoder = ElectraForPreTraining.from_pretrained(discriminator_path, dtype=torch.float64).electra
    means = []
    for text in TEXTS:
        words = tokenizer.tokenize(text)
        tokens = ["[CLS]", *words, "class", ":", "world", ",", "sports", ",", "business", ".", "[SEP]"]
        with torch.no_grad():
            states = encoder(torch.tensor([[WORDS.index(token) for token in tokens]])).last_hidden_state[0]
        means.append(states[1 : 1 + len(words)].mean(0))
    return torch.stack(means)


def test_logits_are_the_templates_and_the_scaled_cosines(load, rows, states_by_hand):
    model, plain = load(), load(prototypes=False)
    torch.testing.assert_close(model(**rows).logits, 0.1 * plain(**rows).logits)  # prototypes that say nothing yet
    directions = torch.randn(3, 24, dtype=torch.float64)
    model.class_prototypes.weight.data = normalize(directions, dim=1)
    cosines = cosine_similarity(states_by_hand[:, None], directions[None], dim=-1)
    expected = 0.1 * plain(**rows).logits + 10 * cosines
    torch.testing.assert_close(model(**rows).logits, expected)
    model.config.template_weight, model.config.prototype_scale = 0.0, 1.0
    torch.testing.assert_close(model(**rows).logits, cosines)


def test_prototypes_start_from_the_mean_state_of_each_class(load, rows, tokenizer, states_by_hand):
    model = load().train()
    model.set_prototypes([{**rows, "labels": torch.tensor([2, 0, 2])}])
    first = normalize(states_by_hand, dim=1)
    expected = torch.stack([first[1], torch.zeros(24, dtype=torch.float64), normalize(first[0] + first[2], dim=0)])
    torch.testing.assert_close(model.class_prototypes.weight.data, expected, rtol=1e-5, atol=1e-6)  # summed in float32
    assert model.training

    again = load()
    again.set_prototypes(
        {**tokenizer(text, return_tensors="pt"), "labels": torch.tensor([label])}
        for text, label in zip(TEXTS, (2, 0, 2), strict=True)
    )
    torch.testing.assert_close(again.class_prototypes.weight, model.class_prototypes.weight)


def test_the_pairs_of_a_batch():
    # three texts of one class and one of another, at angles of 0, 60, 90 and 180 degrees
    states = torch.tensor([[2.0, 0.0], [0.5, 0.75**0.5], [0.0, 3.0], [-1.0, 0.0]])
    same = [(1 - 0.5) ** 2, (1 - 0.0) ** 2, (1 - 0.75**0.5) ** 2]
    apart = [(-1.0) ** 2, (-0.5) ** 2, 0.0]
    expected = sum(same) / 3 + sum(apart) / 3
    assert pair_loss(states, torch.tensor([7, 7, 7, 0])).item() == pytest.approx(expected, rel=1e-6)
    assert pair_loss(states[:1], torch.tensor([0])) == 0
    assert pair_loss(states[:2], torch.tensor([0, 1])).item() == pytest.approx(0.25)


def test_the_loss_is_equation_3_and_the_cross_entropy_of_the_cosines(load, rows, states_by_hand):
    model, plain = load(class_weights=[1.0, 2.0, 3.0]), load(prototypes=False, class_weights=[1.0, 2.0, 3.0])
    model.set_prototypes([{**rows, "labels": LABELS}])
    cosines = normalize(states_by_hand, dim=1) @ model.class_prototypes.weight.T
    weights = torch.tensor([1.0, 2.0, 3.0])
    expected = plain(**rows, labels=LABELS).loss + cross_entropy(10 * cosines.float(), LABELS, weight=weights)
    expected = expected + 5 * pair_loss(states_by_hand, LABELS)
    torch.testing.assert_close(model(**rows, labels=LABELS).loss.float(), expected.float())


def test_both_parts_are_trained(load, rows):
    model = load(dtype=torch.float32)
    model.set_prototypes([{**rows, "labels": LABELS}])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(5):
        loss = model(**rows, labels=LABELS).loss
        loss.backward()
        assert model.class_prototypes.weight.grad.abs().sum() > 0
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


def test_several_passes_read_the_text_in_the_first(load, rows):
    model = load(classes_per_pass=2)
    model.set_prototypes([{**rows, "labels": LABELS}])
    assert model(**rows).logits.shape == (3, 3)
    torch.testing.assert_close(model.class_prototypes.weight[1], normalize(model.text_states(rows), dim=1)[0])


def test_hidden_states_are_returned_to_those_who_ask(load, rows):
    model = load()
    assert model(**rows).hidden_states is None
    assert len(model(**rows, output_hidden_states=True).hidden_states) == 3


def test_saved_and_loaded(load, rows, tokenizer, tmp_path):
    model = load(dtype=torch.float32)
    model.set_prototypes([{**rows, "labels": LABELS}])
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    again = DPTForSequenceClassification.from_pretrained(tmp_path)
    assert torch.equal(again(**rows).logits, model(**rows).logits)
    assert pipeline("text-classification", model=str(tmp_path))(TEXTS[0])[0]["label"] in LABEL_WORDS


@pytest.mark.parametrize(
    "config",
    [
        lambda modules: DeepPromptConfig(task_type="SEQ_CLS", num_virtual_tokens=2, modules_to_save=modules),
        lambda modules: LoraConfig(task_type="SEQ_CLS", r=2, target_modules=["query"], modules_to_save=modules),
    ],
    ids=["deep prompts", "LoRA"],
)
def test_adapters_keep_prototypes_of_their_own(load, rows, tmp_path, config):
    wrapper = load(dtype=torch.float32)
    assert wrapper.new_modules == ["class_prototypes"]
    model = get_peft_model(wrapper, config(wrapper.new_modules))
    model.get_base_model().set_prototypes([{**rows, "labels": LABELS}])
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert any("class_prototypes.modules_to_save" in name for name in trained)
    model.save_pretrained(tmp_path)
    again = dpt_peft.AutoPeftModelForSequenceClassification.from_pretrained(tmp_path)
    torch.testing.assert_close(again.eval()(**rows).logits, model.eval()(**rows).logits)
    with model.disable_adapter():
        assert not model.get_base_model().class_prototypes.original_module.weight.any()


def test_adapters_in_one_batch(load, rows):
    wrapper = load(dtype=torch.float32)
    prompts = DeepPromptConfig(task_type="SEQ_CLS", num_virtual_tokens=2, modules_to_save=wrapper.new_modules)
    model = get_peft_model(wrapper, prompts)
    model.add_adapter("second", prompts)
    for name, labels in (("default", LABELS), ("second", LABELS.flip(0))):
        model.set_adapter(name)
        model.get_base_model().set_prototypes([{**rows, "labels": labels}])
    model.eval()
    alone = {}
    for name in ("default", "second"):
        model.set_adapter(name)
        alone[name] = model(**rows).logits
    names = ["second", "default", "second"]
    mixed = model(**rows, adapter_names=names).logits
    for index, name in enumerate(names):
        torch.testing.assert_close(mixed[index], alone[name][index])


def test_what_does_not_go_together_is_refused(load, rows):
    with pytest.raises(ValueError, match="`prototypes` are for one class a text"):
        load(problem_type="multi_label_classification")
    with pytest.raises(ValueError, match="class indices"):
        load(dtype=torch.float32)(**rows, labels=torch.ones(3, 3))
    with pytest.raises(ValueError, match="`list_names` are for a model without `prototypes`"):
        load()(**rows, list_names=["default"] * 3)
    with pytest.raises(ValueError, match="load it with `prototypes=True`"):
        load(prototypes=False).set_prototypes([])


def test_what_was_refused_leaves_no_trace(load, rows):
    model = load(dtype=torch.float32)
    with pytest.raises(ValueError, match="class indices"):
        model(**rows, labels=torch.ones(3, 3))
    assert model.config.problem_type is None
    model.train()
    with pytest.raises(ValueError, match="class indices"):
        model.set_prototypes([{**rows, "labels": torch.tensor([0, 1, 3])}])
    assert model.training
    assert not model.class_prototypes.weight.any()


def test_a_class_without_a_text_keeps_its_prototype(load, rows):
    model = load()
    model.set_prototypes([{**rows, "labels": LABELS}])
    before = model.class_prototypes.weight.clone()
    model.set_prototypes([{**rows, "labels": torch.tensor([1, 1, 1])}])
    assert torch.equal(model.class_prototypes.weight[[0, 2]], before[[0, 2]])
    assert not torch.equal(model.class_prototypes.weight[1], before[1])


def test_saved_prototypes_are_for_the_words_they_were_saved_with(load, rows, tokenizer, tmp_path):
    load(dtype=torch.float32).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="`label_words` cannot change in a saved wrapper with `prototypes`"):
        DPTForSequenceClassification.from_pretrained(tmp_path, label_words=["good", "bad", "sad"])


def test_two_classes_may_be_false_and_true(load, rows):
    model = load(label_words=LABEL_WORDS[:2])
    labels = torch.arange(len(rows["input_ids"])) % 2
    assert torch.equal(model(**rows, labels=labels == 1).loss, model(**rows, labels=labels).loss)


def test_a_batch_of_classes_without_weight_has_the_loss_of_its_pairs(load, rows):
    model = load(class_weights=[0.0, 1.0, 1.0], pair_weight=0.0)
    assert model(**rows, labels=torch.tensor([0, 0, 0])).loss == 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_texts_without_words_in_half_precision(load, tokenizer, dtype):
    model = load(dtype=dtype)
    model.class_prototypes.weight.data.normal_()
    logits = model(**tokenizer(["", "film"], padding=True, return_tensors="pt")).logits
    assert logits.isfinite().all()


def test_near_cosines_do_not_tie_under_autocast(load, rows):
    model = load(dtype=torch.float32)
    torch.manual_seed(0)
    state = normalize(torch.randn(1, 24), dim=1)
    near = torch.cat([state, state * (1 - 1e-4), state * (1 - 2e-4)])
    model.class_prototypes.weight.data = near
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model.prototype_logits(state)
        pairs = pair_loss(torch.cat([state, state]), torch.tensor([0, 0]))
    assert logits.dtype == torch.float32
    assert logits[0].unique().numel() == 3
    assert pairs < 1e-6


def test_an_adapter_that_leaves_prototypes_out_says_so(load, rows, tmp_path):
    model = load(dtype=torch.float32)
    with pytest.warns(UserWarning, match=r"neither trains nor saves class_prototypes.*modules_to_save=\['class_prot"):
        model = get_peft_model(model, LoraConfig(task_type="SEQ_CLS", target_modules=["query"]))
    model.set_prototypes([{**rows, "labels": LABELS}])
    model.save_pretrained(tmp_path)
    for load_again in (dpt_peft.AutoPeftModel, DPTForSequenceClassification):
        with pytest.warns(UserWarning, match="saved without the prototypes.*`set_prototypes`"):
            load_again.from_pretrained(tmp_path)


def test_an_adapter_that_keeps_prototypes_warns_of_nothing(load, rows, tmp_path):
    model = load(dtype=torch.float32)
    config = LoraConfig(task_type="SEQ_CLS", target_modules=["query"], modules_to_save=model.new_modules)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*")
        model = get_peft_model(model, config)
        model.set_prototypes([{**rows, "labels": LABELS}])
        model.save_pretrained(tmp_path)
        loaded = dpt_peft.AutoPeftModel.from_pretrained(tmp_path)
    assert torch.equal(loaded(**rows).logits, model.eval()(**rows).logits)
