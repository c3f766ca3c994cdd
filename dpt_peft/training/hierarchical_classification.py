"""One run over a hierarchy of labels: what `examples/run_hierarchical_classification.py` and the experiment call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import torch
from datasets import Dataset
from peft import TaskType
from transformers import (
    AutoModelForSequenceClassification,
    DataCollatorWithPadding,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    TrainingArguments,
)

from dpt_peft.pretrained_heads.dpt import DPTForSequenceClassification, DPTForSequenceClassificationConfig
from dpt_peft.pretrained_heads.dpt_hierarchical import (
    DPTForHierarchicalClassification,
    DPTForHierarchicalClassificationConfig,
)
from dpt_peft.pretrained_heads.label_tree import LabelTree
from dpt_peft.tasks.hierarchical import (
    HierarchicalClassificationArguments,
    hierarchical_metrics,
    load_hierarchical_classification,
)
from dpt_peft.training.families import (
    DISCRIMINATOR,
    NEW_HEAD,
    TEXT_CLASSIFICATION,
    TaskFamily,
    new_head,
    refuse_options,
)
from dpt_peft.training.families import words_of_classes as words_of
from dpt_peft.training.inference_cost import inference_cost, peak_memory_mb
from dpt_peft.training.methods import METHODS
from dpt_peft.training.text_classification import MethodArguments, SamplingArguments, tune_text_classifier
from dpt_peft.training.tuned_run import ModelArguments


@dataclass
class HierarchyArguments:
    """How methods with a discriminator's own head use the hierarchy; methods with a new head have no use for it."""

    readers: ClassVar[dict[str, tuple[str, ...]]] = dict.fromkeys(
        ("label_hierarchy", "max_children", "beam_width", "beam_threshold", "beams", "max_beam_samples"),
        (DISCRIMINATOR,),
    )
    label_hierarchy: Literal["auto", "given", "built", "none"] = field(
        default="auto",
        metadata={
            "help": "dpt*: 'given' by the label columns, 'built' of the label words, or 'none': all classes in one "
            "template. Default: given if there are level columns, else built."
        },
    )
    max_children: int = field(default=16, metadata={"help": "Most names below a branch of a built hierarchy."})
    beam_width: int = field(default=2, metadata={"help": "Branches followed at a level."})
    beam_threshold: float = field(
        default=0.3, metadata={"help": "A branch is followed if it has this share of the best one's score (0 to 1)."}
    )
    measure_cost: bool = field(
        default=False, metadata={"help": "Also measure time and tokens a text on the test data (or validation data)."}
    )
    max_cost_samples: int = field(default=300, metadata={"help": "Measure on this many texts of all lengths."})
    beams: list[str] | None = field(
        default=None,
        metadata={
            "help": "dpt* with a hierarchy: also compare these beams on the test data, written width:threshold:score, "
            "such as 2:0.3:sigmoid or all:0:softmax."
        },
    )
    max_beam_samples: int | None = field(default=None, metadata={"help": "Compare beams on this many rows."})


def hierarchy_of(tree: LabelTree, hierarchy_args: HierarchyArguments) -> TaskFamily:
    """Returns the family of text classifiers whose discriminators search a tree.

    Args:
        tree: The tree.
        hierarchy_args: The beam.
    """

    def load(path: str, label_names: Sequence[str], options: Any, **kwargs: Any) -> PreTrainedModel:
        refuse_options(
            options,
            ("score_function", "template_preset", "classes_per_pass", "calibrate"),
            "it is for all classes in one template (`label_hierarchy` 'none')",
        )
        if tuple(label_names) != tree.classes:
            raise ValueError(f"the classes of data and tree differ: {sorted(set(label_names) ^ set(tree.classes))}")
        return DPTForHierarchicalClassification.from_pretrained(
            path,
            label_tree=tree,
            template=options.template,
            wordpieces=options.wordpieces,
            beam_width=hierarchy_args.beam_width,
            beam_threshold=hierarchy_args.beam_threshold,
            **kwargs,
        )

    return TaskFamily(
        "text-classification",
        TaskType.SEQ_CLS,
        {NEW_HEAD: new_head(AutoModelForSequenceClassification), DISCRIMINATOR: load},
        prompts_as_tokens=True,
    )


def run_hierarchical_classification(
    model_args: ModelArguments,
    data_args: HierarchicalClassificationArguments,
    method_args: MethodArguments,
    hierarchy_args: HierarchyArguments,
    sampling_args: SamplingArguments,
    training_args: TrainingArguments,
    *,
    write_files: bool = True,
    command: str | None = None,
) -> dict[str, Any]:
    """Trains, evaluates and predicts as `run_text_classification` does, with an accuracy for every level.

    Args:
        model_args: Pretrained model.
        data_args: Data, and the label columns of the levels.
        method_args: Tuning method. `dpt*` searches the hierarchy unless `label_hierarchy` is "none".
        hierarchy_args: Which hierarchy, and how it is searched.
        sampling_args: How much of the training data.
        training_args: The Trainer's arguments.
        write_files: Whether anything is written to `output_dir` after training.
        command: For the model card; default: this process's command.

    Returns:
        What `run_text_classification` returns, `peak_memory_mb` of the process, and with `measure_cost` what
        `inference_cost` returns; for a hierarchy also that of `all_in_one_template`, beginning with `flat_`, as the
        time of another process at another hour would not compare.

    Raises:
        ValueError: If arguments, data or labels do not fit; the message names the argument.
    """
    for beam in hierarchy_args.beams or []:
        read_beam(beam)
    data = load_hierarchical_classification(data_args)
    given, names = data.tree, data.texts.label_names
    kind = hierarchy_args.label_hierarchy
    if kind == "auto":
        kind = "given" if given is not None else "built"
    if kind == "given" and given is None:
        raise ValueError("`label_hierarchy` is 'given', but there are no `level_column_names` that give one.")
    if method_args.label_words is None and given is not None:
        # All classes in one template, or a hierarchy built of them, take the same words.
        method_args = replace(method_args, label_words=given.class_words)
    family = TEXT_CLASSIFICATION
    if kind == "given":
        assert given is not None
        family = hierarchy_of(given, hierarchy_args)
    elif kind == "built":
        family = hierarchy_of(_built(names, model_args, method_args, hierarchy_args), hierarchy_args)
    tuned = tune_text_classifier(
        data.texts,
        family,
        hierarchical_metrics(given or LabelTree.from_nested(names)),
        model_args,
        data_args,
        method_args,
        sampling_args,
        training_args,
        write_files=write_files,
        command=command,
    )
    results = {**tuned.results, "peak_memory_mb": peak_memory_mb()}
    texts = tuned.features.get("test", tuned.features.get("validation"))
    if hierarchy_args.measure_cost and texts is not None:
        models = {"": tuned.model, "flat_": all_in_one_template(tuned.model, tuned.tokenizer)}
        for prefix, model in models.items():
            if model is not None:
                cost = inference_cost(
                    model,
                    texts,
                    tuned.tokenizer,
                    batch_size=training_args.per_device_eval_batch_size,
                    max_texts=hierarchy_args.max_cost_samples,
                )
                results.update({f"{prefix}{name}": value for name, value in cost.items()})
    if hierarchy_args.beams and kind != "none" and METHODS[method_args.method].base == DISCRIMINATOR:
        if texts is None:
            raise ValueError("`beams` are compared on test or validation data: give --do_predict or --do_eval.")
        # Evenly spaced, as test data may be sorted by class.
        count = min(hierarchy_args.max_beam_samples or len(texts), len(texts))
        rows = texts.select([index * len(texts) // count for index in range(count)])
        results["beams"] = compare_beams(
            tuned.model, rows, tuned.tokenizer, hierarchy_args.beams, max_cost_texts=hierarchy_args.max_cost_samples
        )
    return results


def all_in_one_template(
    model: torch.nn.Module, tokenizer: PreTrainedTokenizerBase
) -> DPTForSequenceClassification | None:
    """Puts flat DPT with the same words around a hierarchical model's own discriminator, to compare their costs.

    Args:
        model: The model.
        tokenizer: Its tokenizer.

    Returns:
        The flat model; None if the model is none of hierarchies (or has an adapter), or its classes do not go into one
        template.
    """
    if not isinstance(model, DPTForHierarchicalClassification):
        return None
    try:
        config = DPTForSequenceClassificationConfig.from_language_model_config(
            model.config.language_model_config,
            tokenizer,
            model.config.tree.class_words,
            template=model.config.template,
            wordpieces=model.config.wordpieces,
            max_length=model.config.max_length,
        )
        flat = DPTForSequenceClassification(config)
    except ValueError:
        return None
    flat.language_model = model.language_model
    return flat.to(model.device)


def read_beam(beam: str) -> dict[str, Any]:
    """Reads a beam written width:threshold:score, such as "2:0.3:sigmoid" or "all:0:softmax".

    Returns:
        The values of `beam_width`, `beam_threshold` and `path_score`.

    Raises:
        ValueError: It is written otherwise.
    """
    width, _, rest = beam.partition(":")
    threshold, _, score = rest.partition(":")
    try:
        values = {"beam_width": None if width == "all" else int(width), "beam_threshold": float(threshold)}
        DPTForHierarchicalClassificationConfig(**values, path_score=score)
    except ValueError as error:
        raise ValueError(
            f"`beams` must be written as in 2:0.3:sigmoid or all:0:softmax, got {beam!r}: {error}"
        ) from None
    return {**values, "path_score": score}


def compare_beams(
    model: Any,
    features: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    beams: Sequence[str],
    *,
    max_cost_texts: int | None = 300,
) -> list[dict[str, Any]]:
    """Searches the same texts with several beams.

    Args:
        model: A `DPTForHierarchicalClassification`, with an adapter or without. Its beam is set back afterwards.
        features: Tokenized texts with labels.
        tokenizer: Pads.
        beams: "width:threshold:score", such as "2:0.3:sigmoid" or "all:0:softmax".
        max_cost_texts: Measure the cost on this many of them.

    Returns:
        For every beam `beam`, `accuracy`, `reached` (how often the right class was among those reached), and what
        `inference_cost` says.
    """
    config, pad = model.config, DataCollatorWithPadding(tokenizer)
    before = (config.beam_width, config.beam_threshold, config.path_score)
    device = next(model.parameters()).device
    order = sorted(range(len(features)), key=lambda row: len(features[row]["input_ids"]))
    compared = []
    model.eval()
    for beam in beams:
        for name, value in read_beam(beam).items():
            setattr(config, name, value)
        right = reached = 0
        for start in range(0, len(order), 32):
            batch = pad([features[row] for row in order[start : start + 32]]).to(device)
            labels = batch.pop("labels")
            with torch.no_grad():
                logits = model(**batch).logits
            right += int(logits.argmax(-1).eq(labels).sum())
            of_gold = logits.gather(1, labels[:, None])
            reached += int(of_gold.gt(torch.finfo(logits.dtype).min).sum())
        accuracy = {"beam": beam, "accuracy": right / len(order), "reached": reached / len(order)}
        compared.append({**accuracy, **inference_cost(model, features, tokenizer, max_texts=max_cost_texts)})
    config.beam_width, config.beam_threshold, config.path_score = before
    return compared


def _built(
    names: Sequence[str], model_args: ModelArguments, method_args: MethodArguments, hierarchy_args: HierarchyArguments
) -> LabelTree:
    """Builds a tree of the label words, under the names that the data has for the classes."""
    words = words_of(names, method_args.label_words)
    path = model_args.resolve()
    tree = LabelTree.from_label_words(
        words, path, max_children=hierarchy_args.max_children, revision=model_args.model_revision
    )
    return tree.rename_classes(dict(zip(words, names, strict=True)))
