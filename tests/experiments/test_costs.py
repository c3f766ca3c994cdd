"""What a run over a hierarchy costs, and what its beams do."""

from __future__ import annotations

import pytest
import torch
from class_scaling import balanced_tree, class_scaling_cost
from costs import (
    CostArguments,
    check_costs,
    compare_beams,
    costs_of,
    in_new_process,
    inference_cost,
    peak_memory_mb,
    read_beam,
)
from datasets import Dataset
from transformers import AutoTokenizer

from dpt_peft import DPTForHierarchicalClassification, DPTForSequenceClassification
from dpt_peft.tasks import HierarchicalClassification
from dpt_peft.training import ModelArguments, RunArguments, ScriptTrainingArguments, run as run_task

NESTED = {"good": ["great", "fine"], "bad": ["poor", "dull"]}
TEXTS = ["the film was great", "fine film", "the poor film was really really poor", "dull"]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("levels")
    rows = [
        f"{text},{mood},{word}" for mood, words in NESTED.items() for word in words for text in TEXTS if word in text
    ]
    for split in ("train", "test"):
        (folder / f"{split}.csv").write_text("\n".join(["text,mood,word", *rows * 2, ""]))
    return folder


@pytest.fixture
def asked(discriminator, files, tmp_path):
    def asked(method="dpt", levels=True, do_predict=True, **options):
        labels = {"level_column_names": ["mood", "word"]} if levels else {"label_column_name": "word"}
        return RunArguments(
            HierarchicalClassification.arguments(
                train_file=str(files / "train.csv"), test_file=str(files / "test.csv"), **labels
            ),
            method,
            ScriptTrainingArguments(
                str(tmp_path),
                do_train=True,
                do_predict=do_predict,
                max_steps=1,
                per_device_train_batch_size=4,
                report_to="none",
                disable_tqdm=True,
                use_cpu=True,
                save_strategy="no",
            ),
            options,
            ModelArguments(str(discriminator)),
        )

    return asked


def measured(arguments, **costs):
    outcome = run_task(HierarchicalClassification(), arguments, write_files=False)
    return outcome.results | costs_of(outcome, CostArguments(measure_cost=True, **costs), batch_size=8)


def test_every_way_gives_the_same_figures(asked):
    results = {
        "given": measured(asked(), beams=["1:0:sigmoid", "all:0:softmax"]),
        "built": measured(asked(levels=False, max_children=2)),
        "none": measured(asked(label_hierarchy="none")),
        "fine_tuning": measured(asked(method="fine_tuning")),
    }
    for name, result in results.items():
        assert 0 <= result["test_accuracy"] <= 1
        assert result["milliseconds_per_text"] > 0
        assert result["peak_memory_mb"] > 50
        assert ("test_accuracy_level_1" in result) == (name != "built")
    # Spliced templates are tokens too; the hierarchy reads every text twice at least.
    lengths = {name: result["tokens_per_text"] for name, result in results.items()}
    assert lengths["fine_tuning"] < lengths["none"] < lengths["given"]
    # What all classes in one template would have cost is measured beside the hierarchy.
    assert results["given"]["flat_tokens_per_text"] == lengths["none"]
    assert {name for name, result in results.items() if "flat_tokens_per_text" in result} == {"given", "built"}
    narrow, wide = results["given"]["beams"]
    assert narrow["reached"] <= wide["reached"] == 1
    assert narrow["tokens_per_text"] < wide["tokens_per_text"]


@pytest.fixture
def features(discriminator):
    tokenizer = AutoTokenizer.from_pretrained(discriminator)
    return tokenizer, Dataset.from_dict({**dict(tokenizer(TEXTS)), "labels": [0, 1, 2, 3]})


def test_tokens_are_counted_over_all_passes(discriminator, features):
    tokenizer, rows = features
    text = sum(len(ids) for ids in rows["input_ids"]) / len(TEXTS)
    flat = DPTForSequenceClassification.from_pretrained(discriminator, label_words=["good", "bad"])
    template = len(tokenizer("class : good, bad.", add_special_tokens=False)["input_ids"])
    assert inference_cost(flat, rows, tokenizer)["tokens_per_text"] == text + template
    tree = DPTForHierarchicalClassification.from_pretrained(discriminator, label_tree=NESTED, beam_width=1)
    cost = inference_cost(tree.train(), rows, tokenizer, batch_size=2)
    assert cost["tokens_per_text"] == 2 * (text + template)
    assert cost["padded_tokens_per_text"] >= cost["tokens_per_text"]
    assert tree.training
    assert inference_cost(flat, rows, tokenizer, max_texts=1)["tokens_per_text"] == template + min(
        len(ids) for ids in rows["input_ids"]
    )


@pytest.mark.parametrize("beam", ["2:0.3:product", "2:0.3", "two:0:sigmoid", "0:0:sigmoid", "2:1.5:softmax"])
def test_beams_are_read_before_training(asked, beam):
    with pytest.raises(ValueError, match=f"`beams` must be written as in .*, got '{beam}'"):
        check_costs(CostArguments(beams=[beam]), asked())
    assert read_beam("all:0:softmax") == {"beam_width": None, "beam_threshold": 0.0, "path_score": "softmax"}


@pytest.mark.parametrize(
    ("costs", "run", "message"),
    [
        ({"beams": ["1:0:sigmoid"]}, {"method": "fine_tuning"}, "`beams` are for a discriminator's own head"),
        ({"beams": ["1:0:sigmoid"]}, {"label_hierarchy": "none"}, "`label_hierarchy` is 'none'"),
        ({"beams": ["1:0:sigmoid"]}, {"do_predict": False}, "`beams` needs test or validation data"),
        ({"measure_cost": True}, {"do_predict": False}, "`measure_cost` needs test or validation data"),
        ({"max_beam_samples": 3}, {}, "`max_beam_samples` is for `beams`"),
        ({"max_cost_samples": 3}, {}, "`max_cost_samples` is for `measure_cost` and `beams`"),
    ],
    ids=lambda value: None if isinstance(value, str) else "-".join(map(str, value)),
)
def test_what_cannot_be_measured_is_refused_before_training(asked, costs, run, message):
    with pytest.raises(ValueError, match=message):
        check_costs(CostArguments(**costs), asked(**run))
    check_costs(CostArguments(measure_cost=True, max_cost_samples=3, beams=["1:0:sigmoid"]), asked())


def test_costs_are_of_as_many_texts_as_asked(asked):
    everything, few = (measured(asked(), max_cost_samples=count)["tokens_per_text"] for count in (None, 1))
    assert few < everything


def test_beams_are_set_back(discriminator, features):
    tokenizer, rows = features
    model = DPTForHierarchicalClassification.from_pretrained(discriminator, label_tree=NESTED)
    before = (model.config.beam_width, model.config.beam_threshold, model.config.path_score)
    (exhaustive,) = compare_beams(model, rows, tokenizer, ["all:0:sigmoid"])
    assert (model.config.beam_width, model.config.beam_threshold, model.config.path_score) == before
    model.config.beam_width, model.config.beam_threshold = None, 0.0
    with torch.no_grad():
        logits = model(**tokenizer(TEXTS, padding=True, return_tensors="pt")).logits
    assert exhaustive["accuracy"] == logits.argmax(-1).eq(torch.arange(4)).float().mean()


@pytest.mark.parametrize(("count", "levels"), [(2, 1), (16, 1), (17, 2), (256, 2), (257, 3), (1000, 3)])
def test_balanced_trees(count, levels):
    names = [f"c{index}" for index in range(count)]
    tree = balanced_tree(names, [f"b{index}" for index in range(count)], 16)
    assert tree.classes == tuple(names)
    assert tree.depth == levels
    stack = [tree.root]
    while stack:
        node = stack.pop()
        assert len(node.children) <= 16
        stack += [child for child in node.children if not child.is_leaf]


def test_a_short_list_costs_the_same_whatever_the_number_of_classes(discriminator):
    costs = [
        class_scaling_cost(str(discriminator), "short list", count, text_length=4, short_list=2) for count in (3, 5)
    ]
    assert costs[0]["tokens_per_text"] == costs[1]["tokens_per_text"]
    assert costs[0]["passes"] == 2


def test_scaling_refuses_what_it_cannot_make(discriminator):
    with pytest.raises(ValueError, match="`kind` must be"):
        class_scaling_cost(str(discriminator), "ring", 2)
    with pytest.raises(ValueError, match="whole words only"):
        class_scaling_cost(str(discriminator), "tree", 1000)


def test_memory_of_a_process_of_its_own():
    assert in_new_process(peak_memory_mb) > 0
    with pytest.raises(ZeroDivisionError):
        in_new_process(divmod, 1, 0)
