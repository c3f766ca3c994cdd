"""What the runs of all task families do alike: model and tokenizer from the arguments, facts for card and record."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple

from datasets import Dataset
from transformers import AutoTokenizer, PreTrainedTokenizerBase, TrainingArguments, set_seed

from dpt_peft.auto import WRAPPERS
from dpt_peft.tasks.data import DatasetArguments
from dpt_peft.training.families import TaskFamily
from dpt_peft.training.methods import METHODS, MethodOptions, build_model, count_parameters, options_without_use
from dpt_peft.training.model_card import ModelCardFacts
from dpt_peft.training.records import data_fingerprint


@dataclass
class ModelArguments:
    """Which pretrained model to tune."""

    model_name_or_path: str | None = field(
        default=None,
        metadata={"help": "Hub id or folder. Default: the small discriminator that comes with dpt_peft."},
    )
    model_revision: str = field(default="main", metadata={"help": "Branch, tag or commit of the model."})
    attn_implementation: str | None = field(
        default=None, metadata={"help": "Attention kernel, such as sdpa or eager."}
    )

    def resolve(self) -> str:
        """Returns the model's id or folder, building the embedded discriminator when none is named."""
        if self.model_name_or_path is not None:
            return self.model_name_or_path
        from dpt_peft.pretraining.embedded import embedded_discriminator

        return embedded_discriminator()


class PreparedModel(NamedTuple):
    """A model to be tuned.

    Attributes:
        name: Hub id or folder that it came from.
        method: The tuning method.
        tokenizer: Its tokenizer.
        model: The model.
        options: The method's options.
    """

    name: str
    method: str
    tokenizer: PreTrainedTokenizerBase
    model: Any
    options: MethodOptions


def prepare_model(
    family: TaskFamily,
    model_args: ModelArguments,
    method: str,
    options: MethodOptions,
    *,
    seed: int,
    label_names: Sequence[str] = (),
    load_tokenizer: Callable[..., PreTrainedTokenizerBase] = AutoTokenizer.from_pretrained,
    model_kwargs: Mapping[str, Any] | None = None,
) -> PreparedModel:
    """Sets the seed and builds a family's model with its tokenizer.

    Args:
        family: Which models the methods put on top of the backbone.
        model_args: Pretrained model.
        method: The tuning method.
        options: Its options.
        seed: New heads, prompts and low-rank matrices are drawn with it.
        label_names: Names of the classes by id; none for families without classes.
        load_tokenizer: From name and `revision` to the tokenizer.
        model_kwargs: Further arguments for the model's `from_pretrained`.

    Raises:
        ValueError: See `build_model`.
    """
    name = model_args.resolve()
    set_seed(seed)
    tokenizer = load_tokenizer(name, revision=model_args.model_revision)
    kwargs = {"revision": model_args.model_revision, **(model_kwargs or {})}
    if model_args.attn_implementation is not None:
        kwargs["attn_implementation"] = model_args.attn_implementation
    model = build_model(family, method, name, label_names, options=options, model_kwargs=kwargs)
    return PreparedModel(name, method, tokenizer, model, options)


def card_facts(
    prepared: PreparedModel,
    task: str,
    data_args: DatasetArguments,
    splits: Mapping[str, Dataset],
    training_args: TrainingArguments,
    *,
    usage: str,
    details: Mapping[str, Any],
) -> ModelCardFacts:
    """Gathers what a run's model card says.

    Args:
        prepared: The model.
        task: The Hub's pipeline tag.
        data_args: Where the data comes from.
        splits: The examples that are used.
        training_args: The Trainer's arguments.
        usage: Python lines that load the tuned model.
        details: What the family adds.
    """
    trained, total = count_parameters(prepared.model)
    return ModelCardFacts(
        method=prepared.method,
        base_model=prepared.name,
        task=task,
        dataset=data_args.describe(),
        dataset_on_hub=data_args.dataset_name is not None and not Path(data_args.dataset_name).exists(),
        rows={split: len(dataset) for split, dataset in splits.items()},
        adapter=METHODS[prepared.method].adapter is not None,
        details={
            **details,
            "Learning rate": training_args.learning_rate,
            "Epochs": training_args.num_train_epochs,
            "Batch size": training_args.train_batch_size,
            "Seed": training_args.seed,
        },
        usage=usage,
        trained_parameters=trained,
        all_parameters=total,
    )


def facts_of_run(prepared: PreparedModel, splits: Mapping[str, Dataset]) -> dict[str, Any]:
    """Returns what every run's result holds beside its metrics.

    Args:
        prepared: The model.
        splits: The examples that were used.

    Returns:
        `trained_parameters`, `all_parameters`, `rows` (by split), `data_fingerprint` (by split), `options` (those
        that the method reads, defaults included), `wrapper` (the config of a task wrapper, label words and template
        with it, but for that of the model inside; None for models with a new head).
    """
    trained, total = count_parameters(prepared.model)
    without_use = options_without_use(prepared.method, prepared.options)
    return {
        "trained_parameters": trained,
        "all_parameters": total,
        "rows": {split: len(dataset) for split, dataset in splits.items()},
        "data_fingerprint": {split: data_fingerprint(dataset) for split, dataset in splits.items()},
        "options": {
            option.name: getattr(prepared.options, option.name)
            for option in fields(prepared.options)
            if option.name not in {"method", *without_use}
        },
        "wrapper": _wrapper_settings(prepared.model.config),
    }


def _wrapper_settings(config: Any) -> dict[str, Any] | None:
    if type(config) not in WRAPPERS:
        return None
    elsewhere = {*config.sub_configs_defaults, "transformers_version"}
    return {name: value for name, value in config.to_diff_dict().items() if name not in elsewhere}


def splits_in_use(training_args: TrainingArguments) -> dict[str, bool]:
    """Returns for each split whether `do_train`, `do_eval` and `do_predict` ask for it."""
    return {"train": training_args.do_train, "validation": training_args.do_eval, "test": training_args.do_predict}


def majority_shares(splits: Mapping[str, Dataset], used: Mapping[str, bool]) -> dict[str, float]:
    """Returns the accuracy of always answering the largest class, as metrics of the splits that are measured.

    Args:
        splits: The examples, with class ids in the column `labels` where they are known.
        used: From `splits_in_use`.
    """
    return {
        f"{prefix}_majority_share": max(Counter(splits[split]["labels"][:]).values()) / len(splits[split])
        for split, prefix in (("validation", "eval"), ("test", "test"))
        if used[split] and split in splits and "labels" in splits[split].column_names
    }
