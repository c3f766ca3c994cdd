"""Label lists in several passes, several tasks on one backbone, calibration, and classes of several wordpieces."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings, strategies as st
from peft import LoraConfig, PeftModel, get_peft_model

from dpt_peft import DeepPromptConfig
from dpt_peft.pretrained_heads import DPTForSequenceClassification, DPTForSequenceClassificationConfig
from dpt_peft.pretrained_heads.loss import NO_CLASS

from .conftest import MAX_LENGTH, WORDS, make_config

LABEL_WORDS = ["world", "sports", "business", "technology", "news"]
TOPICS = ["bank", "game", "film"]
TEXTS = ["the match ended", "a bank rose and news of technology is very good !", "", "film"]


@pytest.fixture
def load(discriminator_path):
    def load(label_words=LABEL_WORDS, **kwargs) -> DPTForSequenceClassification:
        kwargs = {"dtype": torch.float64, **kwargs}
        return DPTForSequenceClassification.from_pretrained(discriminator_path, label_words=label_words, **kwargs)

    return load


@pytest.fixture
def rows(tokenizer):
    return tokenizer(TEXTS, padding=True, return_tensors="pt")


def from_saved(path, **kwargs) -> DPTForSequenceClassification:
    return DPTForSequenceClassification.from_pretrained(path, dtype=torch.float64, **kwargs)


def logits(model, rows, **kwargs) -> torch.Tensor:
    with torch.no_grad():
        return model(**rows, **kwargs).logits


@pytest.mark.parametrize("order", [None, 3])
@pytest.mark.parametrize("size", [1, 2, 4, 5, 9])
def test_every_pass_is_a_model_of_its_classes(load, rows, size, order):
    model = load(classes_per_pass=size, label_order=order)
    together = logits(model, rows)
    in_template = model.config.label_order
    for start in range(0, len(LABEL_WORDS), size):
        part = in_template[start : start + size]
        words = [LABEL_WORDS[index] for index in part]
        alone = load(words, problem_type="multi_label_classification")
        torch.testing.assert_close(together[:, part], logits(alone, rows), rtol=0, atol=1e-12)


def test_passes_take_a_list_that_would_not_fit(load, rows, tmp_path, tokenizer):
    words = [word for word in WORDS[8:] if not word.startswith("##")]
    with pytest.raises(ValueError, match=r"no room for the text.*`classes_per_pass`.*dpt_peft\.LabelTree"):
        load(words)
    model = load(words, classes_per_pass=10)
    outputs = model(**rows, labels=torch.tensor([0, 1, 2, len(words) - 1]), output_hidden_states=True)
    assert outputs.logits.shape == (4, len(words))
    assert outputs.logits.isfinite().all()
    outputs.loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert outputs.hidden_states[0].shape[0] == 4
    model.save_pretrained(tmp_path)
    assert torch.equal(logits(DPTForSequenceClassification.from_pretrained(tmp_path), rows), outputs.logits)
    tokenizer.save_pretrained(tmp_path)
    other = DPTForSequenceClassification.from_pretrained(tmp_path, label_words=words[:9])
    assert len(other.config.templates) == 1


@pytest.mark.parametrize("size", [0, -1, 2.5])
def test_bad_sizes_of_a_pass(load, size):
    with pytest.raises(ValueError, match="classes_per_pass"):
        load(classes_per_pass=size)


@pytest.mark.parametrize("passes", [None, 2])
def test_rows_of_several_tasks_are_as_if_alone(load, rows, tokenizer, tmp_path, passes):
    model = load(classes_per_pass=passes)
    model.add_label_list("topics", TOPICS, tokenizer, template="topic {labels}: {text}", label_order=[2, 0, 1])
    model.add_label_list("mood", ["bad", "good"], tokenizer, template="{text} is {labels}!", label_separator=" or ")
    assert model.list_names == ["default", "topics", "mood"]
    own = logits(load(classes_per_pass=passes), rows)
    topics = logits(load(TOPICS, template="topic {labels}: {text}", label_order=[2, 0, 1]), rows)
    mood = logits(load(["bad", "good"], template="{text} is {labels}!", label_separator=" or "), rows)
    torch.testing.assert_close(logits(model, rows), own, rtol=0, atol=1e-12)

    names = ["topics", "default", "mood", "topics"]
    for given_names in (names, torch.tensor([1, 0, 2, 1])):
        mixed = logits(model, rows, list_names=given_names)
        assert mixed.shape == (4, 5)
        for index, (name, alone) in enumerate(zip(names, (topics, own, mood, topics), strict=True)):
            torch.testing.assert_close(mixed[index, : alone.shape[1]], alone[index], rtol=0, atol=1e-12)
            assert (mixed[index, alone.shape[1] :] == NO_CLASS).all(), name
    assert logits(model, rows, list_names=["mood"] * 4).shape == (4, 2)

    model.save_pretrained(tmp_path)
    loaded = DPTForSequenceClassification.from_pretrained(tmp_path)
    assert loaded.list_names == model.list_names
    assert torch.equal(logits(loaded, rows, list_names=names), logits(model, rows, list_names=names))


def test_the_loss_of_several_tasks_is_the_mean_over_rows(load, rows, tokenizer):
    model = load()
    model.add_label_list("mood", ["bad", "good"], tokenizer)
    labels = torch.tensor([1, 4, 0, 2])
    mixed = model(**rows, list_names=["mood", "default", "mood", "default"], labels=labels).loss
    mixed.backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())
    losses = []
    for index, words in enumerate([["bad", "good"], LABEL_WORDS, ["bad", "good"], LABEL_WORDS]):
        row = {name: values[index : index + 1] for name, values in rows.items()}
        losses.append(load(words)(**row, labels=labels[index : index + 1]).loss)
    torch.testing.assert_close(mixed, sum(losses) / 4)
    with pytest.raises(ValueError, match="a class that its row's label list does not have"):
        model(**rows, list_names=["mood", "default", "mood", "default"], labels=torch.tensor([2, 0, 0, 0]))


def test_tasks_are_checked(load, rows, tokenizer):
    model = load()
    model.add_label_list("mood", ["bad", "good"], tokenizer)
    for names, error, message in (
        (["mood"] * 3, ValueError, "has 3 names, but the batch has 4 rows"),
        (["mood", "x", "mood", "mood"], ValueError, "do not exist: 'x'; there are 'default', 'mood'"),
        ("mood", TypeError, "one name per row"),
        ([0, 1, 0, 1], TypeError, "one name per row"),
        (torch.zeros(4), TypeError, "indices of label lists"),
    ):
        with pytest.raises(error, match=message):
            model(**rows, list_names=names)
    with pytest.raises(ValueError, match="wrapper's own list"):
        model.add_label_list("default", ["bad", "good"], tokenizer)
    with pytest.raises(ValueError, match="no room"):
        model.add_label_list("long", ["bad", "good"], tokenizer, template="{text}" + "very " * MAX_LENGTH + "{labels}")
    assert model.list_names == ["default", "mood"]
    assert logits(model, rows, list_names=["mood"] * 4).shape == (4, 2)


@pytest.mark.parametrize("passes", [None, 2])
@pytest.mark.parametrize(
    "config",
    [
        LoraConfig(task_type="SEQ_CLS", r=2, init_lora_weights=False),
        DeepPromptConfig(task_type="SEQ_CLS", num_virtual_tokens=3, init_std=0.5),
    ],
    ids=["lora", "deep_prompt"],
)
def test_one_adapter_and_one_task_per_row(load, rows, tokenizer, tmp_path, config, passes):
    """One backbone, several DPT tasks in one batch: every row as if its adapter and its label words were alone."""
    wrapper = load(classes_per_pass=passes)
    wrapper.add_label_list("mood", ["bad", "good"], tokenizer)
    model = get_peft_model(wrapper, config, adapter_name="news")
    model.add_adapter("mood", config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".mood" in name:
                parameter.mul_(-2)
    adapters, tasks = ["news", "mood", "__base__", "mood"], ["default", "mood", "mood", "default"]
    mixed = logits(model.eval(), rows, adapter_names=adapters, list_names=tasks)
    for index, (adapter, task) in enumerate(zip(adapters, tasks, strict=True)):
        if adapter == "__base__":
            with model.disable_adapter():
                alone = logits(model, rows, list_names=[task] * 4)[index]
        else:
            model.set_adapter(adapter)
            alone = logits(model, rows, list_names=[task] * 4)[index]
        torch.testing.assert_close(mixed[index, : len(alone)], alone, rtol=0, atol=1e-9)

    # Adapters only, put back around the wrapper.
    model.save_pretrained(tmp_path / "adapters")
    wrapper = load(classes_per_pass=passes)
    wrapper.add_label_list("mood", ["bad", "good"], tokenizer)
    loaded = PeftModel.from_pretrained(wrapper, tmp_path / "adapters" / "news", adapter_name="news")
    loaded.load_adapter(tmp_path / "adapters" / "mood", "mood")
    again = logits(loaded.eval(), rows, adapter_names=adapters, list_names=tasks)
    torch.testing.assert_close(again, mixed, rtol=0, atol=1e-6)


def test_calibration_takes_the_content_free_logits_away(load, rows, tokenizer, tmp_path):
    model = load()
    plain = logits(model, rows)
    content_free = logits(model, tokenizer(["", "[UNK]"], padding=True, return_tensors="pt")).mean(0)
    taken = model.calibrate(tokenizer, ["", "[UNK]"])
    torch.testing.assert_close(taken, content_free.float())
    torch.testing.assert_close(logits(model, rows), plain - content_free, rtol=0, atol=1e-5)
    model.calibrate(tokenizer, ["", "[UNK]"])
    torch.testing.assert_close(logits(model, rows), plain - content_free, rtol=0, atol=1e-5)

    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    loaded = DPTForSequenceClassification.from_pretrained(tmp_path)
    assert torch.equal(logits(loaded, rows), logits(model, rows))
    shorter = DPTForSequenceClassification.from_pretrained(tmp_path, max_length=40)
    assert torch.equal(logits(shorter, rows), logits(model, rows))
    other = DPTForSequenceClassification.from_pretrained(tmp_path, label_words=TOPICS)
    assert other.config.calibration is None
    model.calibrate(tokenizer, ())
    assert torch.equal(logits(model, rows), plain)


@pytest.mark.parametrize("change", [{"score_function": "sigmoid"}, {"wordpieces": "mean"}], ids=str)
def test_a_calibration_does_not_outlive_the_way_it_was_measured(load, rows, tokenizer, tmp_path, change):
    model = load()
    model.add_label_list("mood", ["bad", "good"], tokenizer)
    for task in model.list_names:
        model.calibrate(tokenizer, label_list=task)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    changed = from_saved(tmp_path, **change)
    assert changed.config.calibration is None
    assert changed.config.label_lists[0]["calibration"] is None
    fresh = load(**change)
    torch.testing.assert_close(logits(changed, rows), logits(fresh, rows), rtol=0, atol=1e-12)
    # What does not concern it leaves it.
    kept = from_saved(tmp_path, label_smoothing=0.1)
    assert kept.config.calibration == model.config.calibration
    assert kept.config.label_lists == model.config.label_lists


def test_calibration_of_another_task(load, rows, tokenizer):
    model = load()
    model.add_label_list("mood", ["bad", "good"], tokenizer)
    before, own = logits(model, rows, list_names=["mood"] * 4), logits(model, rows)
    taken = model.train().calibrate(tokenizer, label_list="mood")
    assert model.training
    model.eval()
    torch.testing.assert_close(logits(model, rows, list_names=["mood"] * 4), before - taken, rtol=0, atol=1e-5)
    assert torch.equal(logits(model, rows), own)
    with pytest.raises(ValueError, match="`label_list` 'x' does not exist"):
        model.calibrate(tokenizer, label_list="x")
    with pytest.raises(TypeError, match="list of texts"):
        model.calibrate(tokenizer, "N/A")


@pytest.mark.parametrize("wordpieces", ["first", "mean", "max"])
def test_classes_of_several_wordpieces(load, rows, wordpieces):
    words = ["badly", "good", "very sadness film"]
    pieces = [["bad", "##ly"], ["good"], ["very", "sad", "##ness", "film"]]
    model = load(words, wordpieces=wordpieces)
    spliced = model.splicer(**rows)
    z = model.language_model(spliced.input_ids, spliced.attention_mask, spliced.token_type_ids).logits
    for row, found in enumerate(logits(model, rows)):
        ids = spliced.input_ids[row].tolist()
        begin = len(ids) - ids[::-1].index(WORDS.index("class"))
        for column, tokens in enumerate(pieces):
            start = ids.index(WORDS.index(tokens[0]), begin)
            assert ids[start : start + len(tokens)] == [WORDS.index(token) for token in tokens]
            scores = -z[row, start : start + len(tokens)]
            expected = {"first": scores[0], "mean": scores.mean(), "max": scores.max()}[wordpieces]
            torch.testing.assert_close(found[column], expected, rtol=0, atol=1e-12)


def test_classes_with_the_same_first_wordpiece(load, rows, tokenizer, tmp_path, caplog):
    words = ["bad news", "bad film"]
    with pytest.raises(ValueError, match=r"begin with the same token 'bad'.*wordpieces='mean' or 'max'"):
        load(words, wordpieces="first")
    # Without a choice they are told apart by all their wordpieces; it is said once, and stands in the config.
    with caplog.at_level("INFO", logger="dpt_peft"):
        model = load(words)
    (record,) = caplog.records
    assert "wordpieces='mean'" in record.getMessage()
    assert model.config.wordpieces == "mean"
    assert torch.equal(logits(model, rows), logits(load(words, wordpieces="mean"), rows))
    assert load().config.wordpieces == "first"
    # A saved wrapper chooses anew for other words.
    load().save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    assert from_saved(tmp_path, label_words=words).config.wordpieces == "mean"
    with pytest.raises(ValueError, match="begin with the same token"):
        from_saved(tmp_path, label_words=words, wordpieces="first")
    assert logits(load(words, wordpieces="mean"), rows).shape == (4, 2)
    with pytest.raises(ValueError, match="the same to the tokenizer"):
        load(["bad news", "Bad News"], wordpieces="max")
    with pytest.raises(ValueError, match="`wordpieces` must be one of"):
        load(words, wordpieces="last")


classes = [word for word in WORDS[11:] if not word.startswith("##")]
phrases = st.lists(st.sampled_from([*classes, "badly", "sadness"]), min_size=1, max_size=3).map(" ".join)
templates = st.sampled_from(
    [
        "{text} Class: {labels}.",
        "{labels}{text}",
        "topic {labels}: {text}!",
        "{text_a} and {text_b} ( {labels} )",
        "{text_b}{sep}{labels}{sep}{text_a}",
        "{labels} {text_b} of {text_a}",
    ]
)
texts = st.lists(st.sampled_from([*WORDS[5:], "zebra", "[SEP]", "\u200d"]), max_size=60).map(" ".join)


@settings(max_examples=50, deadline=None)
@given(
    label_words=st.lists(phrases, min_size=2, max_size=7, unique=True),
    pairs=st.lists(st.tuples(texts, texts), min_size=1, max_size=4),
    single=st.booleans(),
    template=templates,
    separator=st.sampled_from([", ", " , ", " and ", " "]),
    order=st.none() | st.integers(0, 99),
    size=st.none() | st.integers(1, 7),
    max_length=st.integers(34, MAX_LENGTH),
    side=st.sampled_from(["left", "right"]),
)
def test_no_input_crashes_and_no_candidate_is_cut(
    tokenizer, label_words, pairs, single, template, separator, order, size, max_length, side
):
    config = DPTForSequenceClassificationConfig.from_language_model_config(
        make_config(num_hidden_layers=1, max_position_embeddings=64),
        tokenizer,
        label_words,
        template=template,
        label_separator=separator,
        label_order=order,
        classes_per_pass=size,
        wordpieces="mean",
        max_length=max_length,
    )
    model = DPTForSequenceClassification(config).eval()
    columns = list(zip(*pairs, strict=True))[: 1 if single else 2]
    rows = tokenizer(*map(list, columns), padding=True, padding_side=side, return_tensors="pt", verbose=False)
    rows = rows if rows["input_ids"].numel() else tokenizer([""] * len(pairs), return_tensors="pt")
    found = logits(model, rows)
    assert found.shape == (len(pairs), len(label_words))
    assert found.isfinite().all()
    wordpieces = [tokenizer.tokenize(word) for word in label_words]
    seen = []
    for number, part in enumerate(config.all_label_lists["default"].classes):
        spliced = model.splicer(**rows, template_index=torch.full((len(pairs),), number))
        assert spliced.input_ids.shape[1] <= max_length
        for ids, mask, starts, lengths in zip(
            spliced.input_ids, spliced.attention_mask, spliced.label_positions, spliced.label_lengths, strict=True
        ):
            for index, start, length in zip(part, starts, lengths, strict=False):
                assert tokenizer.convert_ids_to_tokens(ids[start : start + length]) == wordpieces[index]
                assert mask[start : start + length].all()
        seen += part
    assert sorted(seen) == list(range(len(label_words)))
