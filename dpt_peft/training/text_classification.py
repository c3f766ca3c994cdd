"""One text classification run: what `examples/run_text_classification.py` and the experiments call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from datasets import Dataset
from transformers import (
    DataCollatorWithPadding,
    EvalPrediction,
    PreTrainedTokenizerBase,
    TrainingArguments,
)
from transformers.trainer_utils import PredictionOutput

from dpt_peft.tasks.multiple_choice import MultipleChoiceData
from dpt_peft.tasks.text_classification import (
    TextClassificationArguments,
    TextClassificationData,
    classification_metrics,
    load_text_classification,
    tokenize_texts,
)
from dpt_peft.training.cached_layers import CacheArguments, cached_features
from dpt_peft.training.families import NEW_HEAD, TEXT_CLASSIFICATION, TaskFamily
from dpt_peft.training.low_resource import hold_out, sample_per_class
from dpt_peft.training.methods import METHODS, MethodOptions
from dpt_peft.training.runner import run_training
from dpt_peft.training.tuned_run import (
    ModelArguments,
    card_facts,
    facts_of_run,
    majority_shares,
    prepare_model,
    splits_in_use,
)


@dataclass
class MethodArguments(MethodOptions):
    """Which tuning method, and its options."""

    method: Literal[
        "fine_tuning", "dpt", "deep_prompt", "dpt_deep_prompt", "verbalizer", "lora", "shallow_prompt", "p_tuning"
    ] = field(default="dpt", metadata={"help": "Tuning method."})


@dataclass
class SamplingArguments:
    """How much of the training data is used."""

    train_fraction: float | None = field(
        default=None, metadata={"help": "Share of each class's training examples to use, such as 0.1."}
    )
    examples_per_class: int | None = field(
        default=None, metadata={"help": "Number of training examples of each class to use, such as 16."}
    )
    sample_seed: int = field(
        default=0, metadata={"help": "Seed of the choice of examples, apart from the training seed."}
    )
    validation_size: int | None = field(
        default=None,
        metadata={
            "help": "If there is no validation data: number of training rows to hold out for it; with sampling, of "
            "those that the sample leaves."
        },
    )
    max_eval_samples: int | None = field(default=None, metadata={"help": "Use the first rows of the validation data."})
    max_predict_samples: int | None = field(default=None, metadata={"help": "Use the first rows of the test data."})


def select_rows(data: TextClassificationData | MultipleChoiceData, sampling: SamplingArguments) -> dict[str, Dataset]:
    """Draws the training sample and, where asked, a validation set from the rest.

    Args:
        data: The checked data.
        sampling: How much of it.

    Returns:
        The splits to use.

    Raises:
        ValueError: If the sample cannot be drawn, or `validation_size` is given although there is validation data.
    """
    splits: dict[str, Dataset] = dict(data.splits)
    train = splits["train"]
    chosen = None
    if sampling.train_fraction is not None or sampling.examples_per_class is not None:
        names = [data.label_names[label] for label in train["labels"][:]]
        chosen = sample_per_class(
            names,
            fraction=sampling.train_fraction,
            examples_per_class=sampling.examples_per_class,
            seed=sampling.sample_seed,
        )
    if sampling.validation_size is not None:
        if "validation" in splits:
            raise ValueError("`validation_size` is for data without a validation split, but this data has one.")
        chosen, held_out = hold_out(len(train), chosen, sampling.validation_size, seed=sampling.sample_seed)
        splits["validation"] = train.select(held_out)
    if chosen is not None:
        splits["train"] = train.select(chosen)
    for split, limit in (("validation", sampling.max_eval_samples), ("test", sampling.max_predict_samples)):
        if limit is not None and split in splits:
            splits[split] = splits[split].select(range(min(limit, len(splits[split]))))
    return splits


def longest_row(asked: int | None, tokenizer: PreTrainedTokenizerBase, model: Any) -> int | None:
    """Returns the longest sequence in tokens: what was asked for, cut to what tokenizer and model take."""
    limits = [tokenizer.model_max_length, getattr(model.config.get_text_config(), "max_position_embeddings", None)]
    known = [limit for limit in [asked, *limits] if limit is not None and 0 < limit < 1_000_000]
    return min(known, default=None)


def loading_code(method: str, folder: str, model: Any) -> str:
    """Writes the Python lines that load a saved model again.

    Args:
        method: The tuning method.
        folder: Where model or adapter were saved.
        model: The model itself, for its number of classes.

    Returns:
        Lines to paste.
    """
    if METHODS[method].adapter is not None:
        own_head = METHODS[method].base != NEW_HEAD
        package, head = ("dpt_peft", "") if own_head else ("peft", f", num_labels={model.config.num_labels}")
        return (
            f"import dpt_peft\nfrom {package} import AutoPeftModelForSequenceClassification\n\n"
            f'model = AutoPeftModelForSequenceClassification.from_pretrained("{folder}"{head})'
        )
    return (
        "import dpt_peft\nfrom transformers import pipeline\n\n"
        f'classify = pipeline("text-classification", model="{folder}")\nclassify("...")'
    )


def write_predictions(path: Path, output: PredictionOutput, label_names: list[str]) -> None:
    """Writes the names of the classes with the highest logits, as a table with the columns index and prediction."""
    logits = output.predictions[0] if isinstance(output.predictions, tuple) else output.predictions
    lines = [f"{index}\t{label_names[label]}" for index, label in enumerate(logits.argmax(axis=-1))]
    path.write_text("\n".join(["index\tprediction", *lines, ""]), encoding="utf-8")


def run_text_classification(
    model_args: ModelArguments,
    data_args: TextClassificationArguments,
    method_args: MethodArguments,
    sampling_args: SamplingArguments,
    training_args: TrainingArguments,
    *,
    cache_args: CacheArguments | None = None,
    write_files: bool = True,
    command: str | None = None,
) -> dict[str, Any]:
    """Trains, evaluates and predicts as the arguments ask, and writes model, tokenizer, metrics, predictions and card.

    Args:
        model_args: Pretrained model.
        data_args: Data.
        method_args: Tuning method.
        sampling_args: How much of the training data.
        training_args: The Trainer's arguments; `do_train`, `do_eval`, `do_predict` say what is done.
        cache_args: Whether the frozen lower layers are cached.
        write_files: Whether anything is written to `output_dir` after training.
        command: For the model card; default: this process's command.

    Returns:
        The metrics (`*_majority_share` is the accuracy of always answering the largest class), and what
        `facts_of_run` returns.

    Raises:
        ValueError: If arguments, data or labels do not fit; the message names the argument.
    """
    return tune_text_classifier(
        load_text_classification(data_args),
        TEXT_CLASSIFICATION,
        classification_metrics(),
        model_args,
        data_args,
        method_args,
        sampling_args,
        training_args,
        cache_args=cache_args,
        write_files=write_files,
        command=command,
    ).results


class TunedClassifier(NamedTuple):
    """Outcome of `tune_text_classifier`.

    Attributes:
        results: What `run_text_classification` returns.
        model: The tuned model.
        tokenizer: Its tokenizer.
        features: The splits that were used, tokenized.
    """

    results: dict[str, Any]
    model: torch.nn.Module
    tokenizer: PreTrainedTokenizerBase
    features: dict[str, Dataset]


def tune_text_classifier(
    data: TextClassificationData,
    family: TaskFamily,
    compute_metrics: Callable[[EvalPrediction], dict[str, float]],
    model_args: ModelArguments,
    data_args: TextClassificationArguments,
    method_args: MethodArguments,
    sampling_args: SamplingArguments,
    training_args: TrainingArguments,
    *,
    cache_args: CacheArguments | None = None,
    write_files: bool = True,
    command: str | None = None,
) -> TunedClassifier:
    """Does what `run_text_classification` does, for data that is loaded and a family of models of the caller's choice.

    Args:
        data: The data.
        family: Which models the methods put on top of the backbone.
        compute_metrics: From predictions to metrics.
        model_args: Pretrained model.
        data_args: Where the data comes from, for the card; and `max_seq_length`.
        method_args: Tuning method.
        sampling_args: How much of the training data.
        training_args: The Trainer's arguments.
        cache_args: Whether the frozen lower layers are cached.
        write_files: Whether anything is written to `output_dir` after training.
        command: For the model card; default: this process's command.
    """
    splits = select_rows(data, sampling_args)
    prepared = prepare_model(
        family, model_args, method_args.method, method_args, seed=training_args.seed, label_names=data.label_names
    )
    model, tokenizer = prepared.model, prepared.tokenizer
    max_length = longest_row(data_args.max_seq_length, tokenizer, model)
    used = splits_in_use(training_args)
    features = {split: tokenize_texts(rows, tokenizer, max_length) for split, rows in splits.items() if used[split]}
    details: dict[str, Any] = {"Labels": ", ".join(data.label_names)}
    if METHODS[method_args.method].base != NEW_HEAD:
        config: Any = model.config
        words = getattr(config, "label_words", None) or config.tree.class_words
        details["Label words"] = ", ".join(words)
        details["Template"] = f"`{config.template}`"
    card = card_facts(
        prepared,
        "text-classification",
        data_args,
        splits,
        training_args,
        usage=loading_code(method_args.method, Path(training_args.output_dir or ".").name, model),
        details=details,
    )
    collator = DataCollatorWithPadding(tokenizer)
    with cached_features(model, features, collator, cache_args or CacheArguments(), training_args) as ready:
        result = run_training(
            model,
            training_args,
            tokenizer=tokenizer,
            card=card,
            compute_metrics=compute_metrics,
            train_dataset=ready.get("train"),
            eval_dataset=ready.get("validation"),
            test_dataset=ready.get("test"),
            data_collator=collator,
            write_files=write_files,
            command=command,
        )
    if write_files and result.predictions is not None and training_args.process_index == 0:
        write_predictions(
            Path(training_args.output_dir or ".") / "predictions.tsv", result.predictions, data.label_names
        )
    results = {**result.metrics, **majority_shares(splits, used), **facts_of_run(prepared, splits)}
    return TunedClassifier(results, model, tokenizer, features)
