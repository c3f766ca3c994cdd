"""The run over a hierarchy, and what it measures."""

from __future__ import annotations

import pytest
import torch
from class_scaling import balanced_tree, class_scaling_cost
from datasets import Dataset
from transformers import AutoTokenizer, TrainingArguments

from dpt_peft.pretrained_heads import DPTForHierarchicalClassification, DPTForSequenceClassification, LabelTree
from dpt_peft.tasks.hierarchical import HierarchicalClassificationArguments
from dpt_peft.training.hierarchical_classification import (
    HierarchyArguments,
    compare_beams,
    hierarchy_of,
    run_hierarchical_classification,
)
from dpt_peft.training.inference_cost import in_new_process, inference_cost, peak_memory_mb
from dpt_peft.training.methods import build_model
from dpt_peft.training.text_classification import MethodArguments, SamplingArguments
from dpt_peft.training.tuned_run import ModelArguments

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
def run(discriminator, files, tmp_path):
    def run(method="dpt", write_files=False, levels=True, **hierarchy):
        labels = {"level_column_names": ["mood", "word"]} if levels else {"label_column_name": "word"}
        return run_hierarchical_classification(
            ModelArguments(model_name_or_path=str(discriminator)),
            HierarchicalClassificationArguments(
                train_file=str(files / "train.csv"), test_file=str(files / "test.csv"), **labels
            ),
            MethodArguments(method=method, num_virtual_tokens=2),
            HierarchyArguments(**{"measure_cost": True, "max_children": 2, **hierarchy}),
            SamplingArguments(),
            TrainingArguments(
                str(tmp_path),
                do_train=True,
                do_predict=True,
                max_steps=1,
                per_device_train_batch_size=4,
                report_to="none",
                disable_tqdm=True,
                use_cpu=True,
                save_strategy="no",
            ),
            write_files=write_files,
            command="test",
        )

    return run


def test_every_way_gives_the_same_figures(run):
    results = {
        "given": run(beams=["1:0:sigmoid", "all:0:softmax"]),
        "built": run(levels=False),
        "none": run(label_hierarchy="none"),
        "fine_tuning": run(method="fine_tuning"),
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


def test_saved_with_an_adapter_and_shown_how_to_load(run, tmp_path):
    run(method="dpt_deep_prompt", write_files=True)
    card = (tmp_path / "README.md").read_text()
    code = card.split("```python\n")[1].split("```")[0]
    namespace: dict = {}
    exec(code.replace(f'"{tmp_path.name}"', repr(str(tmp_path))), namespace)
    base = namespace["model"].get_base_model()
    assert type(base) is DPTForHierarchicalClassification
    assert base.config.tree.classes == ("dull", "fine", "great", "poor")


@pytest.mark.parametrize(
    "option",
    [{"score_function": "sigmoid"}, {"calibrate": True}, {"classes_per_pass": 2}, {"template_preset": "released"}],
    ids=str,
)
def test_options_that_a_hierarchy_has_no_use_for(discriminator, option):
    family = hierarchy_of(LabelTree.from_nested(NESTED), HierarchyArguments())
    classes = ["great", "fine", "poor", "dull"]
    with pytest.raises(ValueError, match=f"`{next(iter(option))}` has no use here.*`label_hierarchy` 'none'"):
        build_model(family, "dpt", str(discriminator), classes, **option)
    model = build_model(family, "dpt", str(discriminator), classes, wordpieces="max", template="{text} : {labels}")
    assert (model.config.wordpieces, model.config.template) == ("max", "{text} : {labels}")


def test_given_needs_levels(run):
    with pytest.raises(ValueError, match="`label_hierarchy` is 'given'"):
        run(levels=False, label_hierarchy="given")


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
def test_beams_are_read_before_training(run, monkeypatch, beam):
    monkeypatch.setattr("dpt_peft.training.hierarchical_classification.tune_text_classifier", pytest.fail)
    with pytest.raises(ValueError, match=f"`beams` must be written as in .*, got '{beam}'"):
        run(beams=[beam])


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


def test_scaling_refuses_what_it_cannot_make(discriminator):
    with pytest.raises(ValueError, match="whole words only"):
        class_scaling_cost(str(discriminator), "tree", 1000)


def test_memory_of_a_process_of_its_own():
    assert in_new_process(peak_memory_mb) > 0
    with pytest.raises(ZeroDivisionError):
        in_new_process(divmod, 1, 0)
