"""A classifier in one call: lists, data sets, data frames; one label, several, pairs; saved and loaded again."""

import copy
import importlib
import logging
import pickle
import sys
import warnings

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from datasets import ClassLabel, Dataset, DatasetDict, Features, IterableDatasetDict
from peft import get_peft_model
from transformers import (
    AutoModelForTokenClassification,
    AutoTokenizer,
    BertTokenizer,
    ElectraConfig,
    ElectraForPreTraining,
    TrainingArguments,
)

import dpt_peft

TEXTS = ["the film was good", "the film was bad", "really great", "really poor", "fine", "dull"]
NAMES = ["positive", "negative"] * 3
QUICK = {"progress_bar": False, "training": {"max_steps": 2, "use_cpu": True}}


@pytest.mark.parametrize("method", ["dpt", "fine_tuning", "lora", "deep_prompt"])
def test_what_it_returns_predicts_saves_and_loads(method, discriminator, tmp_path, capfd, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    classify = dpt_peft.fit(TEXTS, NAMES, model=str(discriminator), method=method, **QUICK)
    answers = classify(TEXTS, top_k=None)
    assert {entry["label"] for entry in answers[0]} == {"positive", "negative"}
    classify.save_pretrained(tmp_path)
    assert dpt_peft.load(tmp_path)(TEXTS, top_k=None) == answers
    assert capfd.readouterr().out == ""
    # transformers' pipelines log an error for a PeftModel
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_the_same_seed_gives_the_same_and_labels_by_number(discriminator):
    same = {"model": str(discriminator), "label_words": ["bad", "good"], **QUICK}
    first, second = (dpt_peft.fit(TEXTS, [1, 0] * 3, seed=3, **same)("fine") for _ in range(2))
    assert first == second
    assert dpt_peft.fit(TEXTS, [1, 0] * 3, seed=4, **same)("fine") != first
    assert first[0]["label"] in ("0", "1")


def test_evaluation_texts_are_measured(discriminator):
    classify = dpt_peft.fit(
        TEXTS, NAMES, model=str(discriminator), eval_texts=TEXTS[:2], eval_labels=NAMES[:2], **QUICK
    )
    right = [answer["label"] == name for answer, name in zip(classify(TEXTS[:2]), NAMES, strict=False)]
    assert classify.metrics["eval_accuracy"] == sum(right) / 2


def test_it_learns(discriminator):
    training = {"num_train_epochs": 80, "per_device_train_batch_size": 2, "learning_rate": 3e-3, "use_cpu": True}
    classify = dpt_peft.fit(TEXTS, NAMES, model=str(discriminator), progress_bar=False, training=training)
    assert [answer["label"] for answer in classify(TEXTS)] == NAMES


@pytest.mark.parametrize("method", ["dpt", "fine_tuning"])
def test_several_labels_a_text(method, discriminator):
    labels = [["positive", "film"], ["negative", "film"], ["positive"], ["negative"], ["positive"], []]
    given = {"model": str(discriminator), "method": method, "eval_texts": TEXTS, "eval_labels": labels}
    classify = dpt_peft.fit(TEXTS, labels, **given, **QUICK)
    scores = {entry["label"]: entry["score"] for entry in classify(TEXTS[0], top_k=None)}
    assert scores.keys() == {"film", "negative", "positive"}
    assert sum(scores.values()) != pytest.approx(1)  # a probability each
    assert {"eval_micro_f1", "eval_macro_f1", "eval_accuracy"} <= classify.metrics.keys()


@pytest.mark.parametrize("method", ["dpt", "fine_tuning", "lora", "deep_prompt"])
def test_several_labels_are_several_after_loading(method, discriminator, tmp_path):
    labels = [["positive", "film"], ["negative"], []] * 2
    classify = dpt_peft.fit(TEXTS, labels, model=str(discriminator), method=method, **QUICK)
    classify.save_pretrained(tmp_path)
    answers, again = (each(TEXTS[0], top_k=None) for each in (classify, dpt_peft.load(tmp_path)))
    assert [entry["label"] for entry in again] == [entry["label"] for entry in answers]
    assert [entry["score"] for entry in again] == pytest.approx([entry["score"] for entry in answers], abs=1e-6)
    if method in ("lora", "deep_prompt"):
        assert dpt_peft.load(tmp_path, num_labels=3).model.config.problem_type == "multi_label_classification"


def test_rows_of_zeros_and_ones_are_several_labels(discriminator):
    rows = [[1, 0, 1], [0, 1, 0]] * 3
    given = {"model": str(discriminator), "method": "fine_tuning", "class_names": ["good", "bad", "film"]}
    named = [["good", "film"], ["bad"]] * 3
    answers = [dpt_peft.fit(TEXTS, labels, **given, **QUICK)("fine", top_k=None) for labels in (rows, named)]
    assert answers[0] == answers[1]
    with pytest.raises(ValueError, match="`class_names`.*3 zeros and ones each"):
        dpt_peft.fit(TEXTS, rows, model=str(discriminator), **QUICK)


def test_class_names_name_numbers(discriminator):
    classify = dpt_peft.fit(TEXTS, [1, 0] * 3, model=str(discriminator), class_names=["bad", "good"], **QUICK)
    assert classify.model.config.label_words == ["bad", "good"]
    assert classify("fine")[0]["label"] in ("bad", "good")


@pytest.mark.skipif(not hasattr(datasets.arrow_dataset, "Column"), reason="datasets before 4 gives plain lists")
def test_a_column_of_a_data_set_knows_the_names_of_its_classes(discriminator, capfd):
    kind = ClassLabel(names=["bad", "good"])
    rows = Dataset.from_dict({"text": TEXTS, "label": [1, 0] * 3}).cast_column("label", kind)
    capfd.readouterr()
    given = {"model": str(discriminator), **QUICK}
    classify = dpt_peft.fit(rows["text"], rows["label"], eval_texts=rows["text"], eval_labels=rows["label"], **given)
    assert "examples/s" not in capfd.readouterr().err
    assert classify.model.config.label_words == ["bad", "good"]
    assert classify(TEXTS) == dpt_peft.fit(rows, **given)(TEXTS)
    several = Dataset.from_dict(
        {"text": TEXTS, "label": [[0], [0, 1], [1]] * 2}, Features({**rows.features, "label": [kind]})
    )
    classify = dpt_peft.fit(several["text"], several["label"], **given)
    assert classify.model.config.label_words == ["bad", "good"]


def test_label_words_by_name_go_to_their_classes(discriminator):
    given = {"positive": "great", "negative": "poor"}
    config = dpt_peft.fit(TEXTS, NAMES, model=str(discriminator), label_words=given, **QUICK).model.config
    assert [given[config.id2label[index]] for index in range(2)] == config.label_words
    for wrong, message in (({"positive": "great"}, "names of the classes as keys"), ({"a", "b"}, "must be a list")):
        with pytest.raises(ValueError, match=message):
            dpt_peft.fit(TEXTS, NAMES, model=str(discriminator), label_words=wrong, **QUICK)


@pytest.mark.parametrize("method", ["dpt", "lora"])
def test_what_can_be_asked(method, discriminator, tmp_path):
    fitted = dpt_peft.fit(TEXTS, NAMES, text_pairs=TEXTS[::-1], model=str(discriminator), method=method, **QUICK)
    fitted.save_pretrained(tmp_path)
    for classify in (fitted, dpt_peft.load(tmp_path)):
        pair = classify({"text": TEXTS[0], "text_pair": TEXTS[1]})
        assert classify((TEXTS[0], TEXTS[1])) == pair != classify(TEXTS[0])
        listed = classify([(TEXTS[0], TEXTS[1]), (TEXTS[2], TEXTS[3])], top_k=1)
        assert listed[0] == classify({"text": TEXTS[0], "text_pair": TEXTS[1]}, top_k=1)
        assert listed[1] == classify({"text": TEXTS[2], "text_pair": TEXTS[3]}, top_k=1)
        assert classify(pd.Series(TEXTS)) == classify(TEXTS)
        assert classify([]) == []
    assert dpt_peft.load(tmp_path).metrics is None


def test_metrics_that_cannot_be_computed_are_missed_before_training(discriminator, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.metrics", None)
    monkeypatch.setattr(importlib.import_module("dpt_peft.training.fit"), "run", None)
    with pytest.raises(ImportError, match="scikit-learn"):
        dpt_peft.fit(TEXTS, NAMES, eval_texts=TEXTS, eval_labels=NAMES, model=str(discriminator), **QUICK)


def test_pairs_data_sets_and_data_frames(discriminator):
    rows = {"text": TEXTS, "text_pair": TEXTS[::-1], "label": NAMES}
    answers = []
    for given in (Dataset.from_dict(rows), pd.DataFrame(rows)):
        classify = dpt_peft.fit(given, model=str(discriminator), **QUICK)
        answers.append(classify({"text": TEXTS[0], "text_pair": TEXTS[1]}))
    lists = dpt_peft.fit(TEXTS, NAMES, text_pairs=TEXTS[::-1], model=str(discriminator), **QUICK)
    answers.append(lists({"text": TEXTS[0], "text_pair": TEXTS[1]}))
    assert answers[0] == answers[1] == answers[2]
    frame = pd.DataFrame({**rows, "meta": [1, "a"] * 3})
    assert (
        dpt_peft.fit(frame, model=str(discriminator), **QUICK)({"text": TEXTS[0], "text_pair": TEXTS[1]}) == answers[0]
    )
    columns = dpt_peft.fit(frame["text"], frame["label"], model=str(discriminator), **QUICK)
    assert columns("fine")[0]["label"] in NAMES


def test_pairs_to_classify_in_every_form(discriminator):
    classify = dpt_peft.fit(TEXTS, NAMES, text_pairs=TEXTS[::-1], model=str(discriminator), **QUICK)
    firsts, seconds = ["fine", "dull"], ["really poor", None]
    expected = classify([("fine", "really poor"), ("dull", "")])
    table = {"label": ["x", 1], "text_pair": seconds, "text": firsts}
    frame = pd.DataFrame(table)
    rows = Dataset.from_dict({**table, "label": [0, 1]})
    for given in (
        zip(firsts, seconds, strict=True),
        map(tuple, zip(firsts, seconds, strict=True)),
        frame[["text", "text_pair"]],
        frame,
        rows,
        rows.with_format("numpy"),
    ):
        assert classify(given) == expected
    assert classify(("fine", "really poor")) == expected[0]
    assert classify((2, None)) == classify(("2", ""))
    # transformers answers a generator one by one
    stream = zip(firsts, seconds, strict=True)
    answers = classify(pair for pair in stream)
    assert not isinstance(answers, list)
    assert next(iter(answers)) == expected[0]
    assert [next(stream)[0]] == firsts[1:2]  # nothing more was read
    assert list(classify(pair for pair in zip(firsts, seconds, strict=True))) == expected
    single = classify(firsts)
    assert classify(frame[["text"]]) == classify(rows.remove_columns("text_pair")) == classify(iter(firsts)) == single
    with pytest.raises(ValueError, match="the table has no column 'text'; there are label, text_pair"):
        classify(frame.drop(columns="text"))


@pytest.mark.parametrize("frames", [False, True])
def test_second_texts_to_measure_on_alone_are_refused(frames, discriminator):
    kind = pd.DataFrame if frames else Dataset.from_dict
    train, measured = {"text": TEXTS, "label": NAMES}, {"text": TEXTS, "text_pair": TEXTS, "label": NAMES}
    with pytest.raises(ValueError, match="`eval_texts` has a column 'text_pair', but there are no second texts"):
        dpt_peft.fit(kind(train), eval_texts=kind(measured), model=str(discriminator), **QUICK)


def test_splits_and_streams_are_named(discriminator):
    rows = Dataset.from_dict({"text": TEXTS, "label": NAMES})
    splits, stream = DatasetDict({"train": rows}), rows.to_iterable_dataset()
    one_split = r"must be a Dataset, got DatasetDict: give one split, such as {}texts=splits\['train'\]"
    for given, message in (
        ({"texts": splits}, f"`texts` {one_split.format('')}"),
        ({"texts": splits, "labels": NAMES}, f"`texts` {one_split.format('')}"),
        ({"texts": rows, "eval_texts": splits}, f"`eval_texts` {one_split.format('eval_')}"),
        ({"texts": IterableDatasetDict({"train": stream})}, "got IterableDatasetDict: give one split"),
        ({"texts": stream}, "got IterableDataset: load it without streaming"),
    ):
        with pytest.raises(ValueError, match=message):
            dpt_peft.fit(model=str(discriminator), **given, **QUICK)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"texts": TEXTS}, "`labels` is missing"),
        ({"texts": "one text", "labels": ["a"]}, "`texts` must be a list"),
        ({"texts": TEXTS, "labels": NAMES[:2]}, "6 texts, 2 labels"),
        ({"texts": pd.DataFrame({"body": TEXTS, "label": NAMES})}, "no column 'text'; there are body, label"),
        ({"texts": pd.DataFrame({"text": TEXTS}), "labels": NAMES}, "is a whole table, but `labels` is given"),
        ({"texts": Dataset.from_dict({"text": TEXTS}), "labels": NAMES}, "is a whole table, but `labels` is given"),
        ({"texts": {"text": TEXTS, "label": NAMES}, "labels": ["a", "b"]}, "is a whole table, but `labels` is given"),
        ({"texts": [("a", "b")] * 6, "labels": NAMES}, "row 0 is .* give the second texts of pairs as `text_pairs`"),
        ({"texts": zip(TEXTS, TEXTS, strict=True), "labels": NAMES}, "`texts` must be strings, but row 0 is"),
        ({"texts": TEXTS, "labels": NAMES, "text_pairs": [("a",)] * 6}, "`text_pairs` has, in row 0 counted from 0"),
        ({"texts": pa.table({"text": TEXTS, "label": NAMES})}, r"`texts` is a Table: give its `to_pandas\(\)`"),
        ({"texts": TEXTS, "labels": [["a"], "b"] * 3}, "but row 1 differs from those before"),
        ({"texts": TEXTS, "labels": ["same"] * 6}, "only one label"),
        ({"texts": TEXTS, "labels": NAMES, "r": 4}, "`r` has no use with method 'dpt': it is for lora"),
        ({"texts": TEXTS, "labels": NAMES, "method": "magic"}, "`method` must be one of fine_tuning, dpt"),
        ({"texts": TEXTS, "labels": NAMES, "eval_texts": TEXTS}, "`eval_labels` is missing"),
    ],
)
def test_what_does_not_fit_is_named(given, message, discriminator):
    with pytest.raises(ValueError, match=message):
        dpt_peft.fit(model=str(discriminator), **given, **QUICK)


def test_the_default_method_is_that_of_the_model(discriminator):
    assert dpt_peft.fit(TEXTS, NAMES, **QUICK).model.config.prototypes
    assert not dpt_peft.fit(TEXTS, NAMES, model=str(discriminator), **QUICK).model.config.prototypes
    several = dpt_peft.fit(TEXTS, [[name] for name in NAMES], **QUICK).model.config
    assert several.problem_type == "multi_label_classification"
    assert not several.prototypes


def test_a_classifier_trains_on_as_what_it_is(discriminator, tmp_path):
    first = dpt_peft.fit(TEXTS, NAMES, model=discriminator, method="dpt_prototypes", short_list=2, **QUICK)
    first.save_pretrained(tmp_path / "first")
    still = {**QUICK, "training": {**QUICK["training"], "learning_rate": 0.0}}
    again = dpt_peft.fit(TEXTS, NAMES, model=tmp_path / "first", **still)
    assert again.model.config.prototypes
    assert again.model.config.short_list == 2
    for name, values in first.model.state_dict().items():
        assert torch.allclose(again.model.state_dict()[name], values, atol=1e-6)
    with pytest.raises(ValueError, match="compares texts with prototypes of its classes, which the method leaves out"):
        dpt_peft.fit(TEXTS, NAMES, model=tmp_path / "first", method="dpt", **QUICK)
    for names, order in ((NAMES, ["positive", "negative"]), (["spam", "ham"] * 3, None)):
        with pytest.raises(ValueError, match="for each of its classes, negative, positive, and here they are"):
            dpt_peft.fit(TEXTS, names, class_names=order, model=tmp_path / "first", **QUICK)
    dpt_peft.fit(TEXTS, NAMES, model=discriminator, method="deep_prompt", **QUICK).save_pretrained(tmp_path / "second")
    with pytest.raises(ValueError, match=r"second' has an adapter already\. .*`init_from`"):
        dpt_peft.fit(TEXTS, NAMES, model=tmp_path / "second", **QUICK)


@pytest.mark.parametrize("method", ["fine_tuning", "lora"])
def test_a_trained_head_keeps_the_rows_of_its_classes(method, discriminator, tmp_path):
    first = dpt_peft.fit(TEXTS, NAMES, model=discriminator, method="fine_tuning", **QUICK)
    first.save_pretrained(tmp_path)
    still = {"model": tmp_path, "method": method, "progress_bar": False}
    still["training"] = {"max_steps": 1, "use_cpu": True, "learning_rate": 0.0}
    again = dpt_peft.fit(TEXTS, NAMES, class_names=["positive", "negative"], **still)
    assert list(again.model.config.id2label.values()) == ["positive", "negative"]
    for before, after in zip(first(TEXTS), again(TEXTS), strict=True):
        assert (after["label"], after["score"]) == (before["label"], pytest.approx(before["score"], abs=1e-5))
    # numbers that are names have rows as other names have
    digits = {**still, "method": "fine_tuning"}
    dpt_peft.fit(TEXTS, ["1", "0"] * 3, class_names=["1", "0"], **digits).save_pretrained(tmp_path / "digits")
    ends = [
        dpt_peft.fit(TEXTS, ["1", "0"] * 3, **{**still, **more, "model": tmp_path / "digits"})(TEXTS)
        for more in ({"class_names": ["1", "0"]}, {"class_names": ["0", "1"]})
    ]
    for before, after in zip(*ends, strict=True):
        assert (after["label"], after["score"]) == (before["label"], pytest.approx(before["score"], abs=1e-5))
    for names in ([0, 1] * 3, ["Positive", "NEGATIVE"] * 3):
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message="the head of")
            again = dpt_peft.fit(TEXTS, names, **still)
        for before, after in zip(first(TEXTS), again(TEXTS), strict=True):
            assert after["score"] == pytest.approx(before["score"], abs=1e-5)
    with pytest.warns(UserWarning, match="trained for the classes negative, positive, and here they are ham, spam"):
        other = dpt_peft.fit(TEXTS, ["spam", "ham"] * 3, **still)
    before, after = (found.model.state_dict() for found in (first, other))
    (name,) = [name for name in after if name.endswith(("classifier.out_proj.weight", "default.out_proj.weight"))]
    assert not torch.allclose(after[name], before["classifier.out_proj.weight"], atol=1e-3)


def test_the_default_classifier_can_be_pickled(tmp_path):
    classify = dpt_peft.fit(TEXTS, NAMES, **QUICK)
    again = pickle.loads(pickle.dumps(classify))
    assert again(TEXTS) == classify(TEXTS)
    torch.save(classify.model, tmp_path / "model.pt")
    classify(TEXTS)
    hooks = [len(module._forward_hooks) for module in classify.model.modules()]
    copied = copy.deepcopy(classify.model)
    assert any(hooks)
    assert [len(module._forward_hooks) for module in classify.model.modules()] == hooks  # it may be in use
    rows = classify.tokenizer(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        assert torch.equal(copied(**rows).logits, classify.model(**rows).logits)


@pytest.mark.parametrize("method", ["shallow_prompt", "p_tuning"])
def test_prompts_are_as_wide_as_the_embeddings(method, tmp_path):
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "film", "good", "bad"]
    vocabulary = {word: index for index, word in enumerate(words)}
    BertTokenizer(vocab=vocabulary, model_max_length=40).save_pretrained(tmp_path / "base")
    sizes = {"vocab_size": len(vocabulary), "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = ElectraConfig(hidden_size=16, embedding_size=8, max_position_embeddings=64, **sizes)
    ElectraForPreTraining(config).save_pretrained(tmp_path / "base")
    classify = dpt_peft.fit(TEXTS, NAMES, model=tmp_path / "base", method=method, **QUICK)
    classify.save_pretrained(tmp_path / "tuned")
    assert dpt_peft.load(tmp_path / "tuned")(TEXTS) == classify(TEXTS)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"labels": NAMES, "eval_labels": NAMES}, "are for `eval_texts`, which are missing"),
        ({"labels": NAMES, "method": "dpt_prototypes", "prototypes": False}, "is not method 'dpt_prototypes'"),
        ({"labels": NAMES, "training": {"epochs": 2}}, "`training`: the Trainer has no argument epochs"),
        ({"labels": NAMES, "training": {"do_eval": False}}, "`training`: leave `do_eval` out"),
        ({"labels": NAMES, "training": TrainingArguments("x")}, "`training` must be a dictionary .*, got TrainingArg"),
        ({"labels": NAMES, "training": {"learning_rate": "5e-5"}}, "`learning_rate` must be a number.*string '5e-5'"),
        ({"labels": NAMES, "learning_rate": 1e-3}, "give it as training={'learning_rate': ...}"),
        ({"labels": NAMES, "seed": None}, "`seed` must be a whole number, got None"),
        ({"labels": NAMES, "max_length": "12"}, "`max_length` must be a whole number, got '12'"),
        ({"labels": NAMES, "model": torch.nn.Linear(1, 1)}, "`model` must be a Hub id or a folder, got a Linear"),
    ],
)
def test_what_would_have_no_effect_is_refused(given, message, discriminator):
    with pytest.raises(ValueError, match=message):
        dpt_peft.fit(TEXTS, **{"model": discriminator, **QUICK, **given})


def test_pairs_beside_a_data_set_are_refused(discriminator):
    rows = Dataset.from_dict({"text": TEXTS, "label": NAMES})
    with pytest.raises(ValueError, match="put them into the column 'text_pair'"):
        dpt_peft.fit(rows, text_pairs=TEXTS, model=str(discriminator), **QUICK)


def test_prototypes_are_those_of_the_trained_model(discriminator):
    model = dpt_peft.fit(TEXTS, NAMES, model=str(discriminator), method="dpt_prototypes", **QUICK).model
    names = [model.config.id2label[index] for index in range(2)]
    rows = AutoTokenizer.from_pretrained(discriminator)(TEXTS, padding=True, return_tensors="pt")
    found = model.class_prototypes.weight.clone()
    model.set_prototypes([{**rows, "labels": torch.tensor([names.index(name) for name in NAMES])}])
    torch.testing.assert_close(found, model.class_prototypes.weight)


def test_a_whole_model_that_is_loaded_cuts_long_texts_too(discriminator, tmp_path):
    dpt_peft.fit(TEXTS, NAMES, model=str(discriminator), method="fine_tuning", **QUICK).save_pretrained(tmp_path)
    assert dpt_peft.load(tmp_path)("film " * 500)[0]["label"] in NAMES


def test_a_length_that_was_given_is_saved(discriminator, tmp_path):
    fitted = dpt_peft.fit(TEXTS, NAMES, model=str(discriminator), max_length=12, **QUICK)
    fitted.save_pretrained(tmp_path)
    loaded = dpt_peft.load(tmp_path)
    assert loaded.tokenizer.model_max_length == 12
    long = "the film was " + "really " * 8 + "good."
    assert loaded(long) == fitted(long) != loaded("the film was good.")


def test_what_is_no_classifier_of_texts_is_not_loaded_as_one(discriminator, tmp_path):
    tagger = AutoModelForTokenClassification.from_pretrained(discriminator)
    tagger.save_pretrained(tmp_path / "tagger")
    with pytest.raises(ValueError, match="is for classifiers of texts, and .* holds ElectraForTokenClassification"):
        dpt_peft.load(tmp_path / "tagger")
    get_peft_model(tagger, dpt_peft.DeepPromptConfig(task_type="TOKEN_CLS")).save_pretrained(tmp_path / "adapter")
    with pytest.raises(ValueError, match="holds an adapter of task type TOKEN_CLS"):
        dpt_peft.load(tmp_path / "adapter")
    with pytest.raises(ValueError, match="holds ElectraForPreTraining"):
        dpt_peft.load(discriminator)
    for path in (tmp_path / "typo", "a/b/c", "./mails"):
        with pytest.raises(FileNotFoundError, match="`folder`: there is no folder"):
            dpt_peft.load(path)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"texts": {"a", "b"}, "labels": [0, 1]}, "`texts` must be a list, or one column of a table, got set"),
        (
            {"texts": pd.DataFrame([["a", "b", 0]], columns=["text", "text", "label"])},
            "`texts` has more than one column 'text'",
        ),
        ({"texts": [b"a", b"b"], "labels": [0, 1]}, "`texts` has, in row 0 counted from 0, .*no text"),
        ({"texts": ["a", "b"], "labels": np.array([[0], [1]])}, r"`labels` is an array of shape \(2, 1\)"),
        ({"texts": ["a", "b"], "labels": pd.DataFrame({"x": [0, 1], "y": [1, 0]})}, "column of a table, got Da"),
        ({"texts": ["a", "b"], "labels": ["x", 1]}, "`texts` or `labels` mix values of several types"),
        (
            {"texts": ["a"], "labels": [0], "eval_texts": pd.DataFrame({"text": ["a", 1], "label": [0, 1]})},
            "`eval_texts` or `eval_labels` mix values of several types",
        ),
        ({"texts": ["a", "b"], "labels": [0, 1], "class_names": {"x", "y"}}, "`class_names` must be a list of"),
        ({"texts": ["a", "b"], "labels": [0, 1], "class_names": {0: "x", 1: "y"}}, "`class_names` must be a list of"),
        (
            {"texts": ["a", "b"], "labels": [0, 1], "eval_texts": ["a"], "eval_labels": [0], "eval_text_pairs": ["b"]},
            r"`eval_text_pairs` are given, but there are no second texts to train on \(`text_pairs`\)",
        ),
        ({"texts": ["a", "b"], "labels": ["bad", "good"], "max_length": 2}, "`max_seq_length` must be at least 3"),
    ],
)  # fmt: skip
def test_what_has_no_order_or_no_meaning_is_refused(given, message, discriminator):
    with pytest.raises(ValueError, match=message):
        dpt_peft.fit(**given, model=str(discriminator), **QUICK)


def test_missing_texts_are_empty_in_training_and_in_use(discriminator):
    series = pd.Series([*TEXTS[:-1], float("nan")])
    classify = dpt_peft.fit(series, NAMES, model=str(discriminator), **QUICK)
    expected = classify(["fine", ""])
    for texts in (
        ["fine", None],
        ["fine", float("nan")],
        pd.Series(["fine", pd.NA]),
        {"a": "fine", "b": None}.values(),
    ):
        assert classify(texts) == expected
    assert classify(Dataset.from_dict({"text": ["fine", ""]})["text"]) == expected
    with pytest.raises(ValueError, match="a tuple is a pair of texts, got 3"):
        classify(("a", "b", "c"))


def test_a_formatted_data_set_is_read_as_it_is(discriminator):
    rows = Dataset.from_dict({"text": TEXTS, "label": NAMES})
    answers = [
        dpt_peft.fit(given, model=str(discriminator), **QUICK)(TEXTS) for given in (rows, rows.with_format("numpy"))
    ]
    assert answers[0] == answers[1]


def test_words_by_number_are_words_by_name(discriminator):
    fitted = dpt_peft.fit(TEXTS, [0, 1] * 3, model=str(discriminator), label_words={0: "bad", 1: "good"}, **QUICK)
    assert fitted.model.config.label_words == ["bad", "good"]
