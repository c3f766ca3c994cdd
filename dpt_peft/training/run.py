"""One run: any task, with any of its methods, from rows to a saved model with its metrics, answers and card."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from datasets import Dataset
from peft import TaskType
from torch.utils.data import DataLoader
from transformers import (
    EvalPrediction,
    PreTrainedTokenizerBase,
    PrinterCallback,
    TrainerCallback,
    set_seed,
)

from dpt_peft.auto import check_folder
from dpt_peft.pretrained_heads.base import PretrainedHeadConfig
from dpt_peft.tasks.base import Features, Predictions, Task, TaskData, is_adapter
from dpt_peft.tasks.data import refuse_given
from dpt_peft.tasks.heads import NEW_HEAD, has_prototypes
from dpt_peft.tasks.sampling import SamplingArguments
from dpt_peft.training.cached_layers import CacheArguments, cached_features
from dpt_peft.training.given_model import (
    ModelArguments,
    check_classes,
    check_trained,
    load_adapter,
    with_saved_names,
)
from dpt_peft.training.methods import METHODS, build_model, count_parameters, default_epochs, describe_options
from dpt_peft.training.model_card import ModelCardFacts, write_model_card
from dpt_peft.training.records import data_fingerprint
from dpt_peft.training.trainer import RowsByLength, ScriptTrainingArguments, TaskTrainer

logger = logging.getLogger(__name__)

#: The Trainer's argument that says to use a split.
FLAGS = {"train": "do_train", "validation": "do_eval", "test": "do_predict"}


@dataclass
class RunArguments:
    """All that decides a run; what a script's command line gives.

    Attributes:
        data: Where data comes from and how it is read, an instance of `Task.arguments`.
        method: One of `methods_of(task)`.
        training: The Trainer's arguments; `do_train`, `do_eval` and `do_predict` say what is done.
        options: The method's options by name, see `build_model`.
        model: The pretrained model.
        sampling: How much of the data is used.
        cache: Whether frozen lower layers are cached.
    """

    data: Any
    method: str
    training: ScriptTrainingArguments
    options: Mapping[str, Any] = field(default_factory=dict)
    model: ModelArguments = field(default_factory=ModelArguments)
    sampling: SamplingArguments = field(default_factory=SamplingArguments)
    cache: CacheArguments = field(default_factory=CacheArguments)


@dataclass(frozen=True)
class Outcome:
    """What a run gives.

    Attributes:
        results: All metrics as the Trainer names them, and `trained_parameters`, `all_parameters`, `rows` and
            `data_fingerprint` (by split), `options` (those of the method; after training defaults included), `wrapper`
            (the config of a task wrapper, label words and template with it; None for models with a new head).
        model: The tuned model.
        tokenizer: Its tokenizer.
        data: The data.
        features: The splits that were used, tokenized.
    """

    results: dict[str, Any]
    model: Any
    tokenizer: PreTrainedTokenizerBase
    data: TaskData
    features: dict[str, Features]


class RunTrainer(TaskTrainer):
    """A Trainer of a task's features, whose card, wherever it writes one (also when it pushes to the Hub), is ours.

    Args:
        model: The model.
        args: The Trainer's arguments.
        features: The splits that are used.
        datasets: Their rows, if they are not `Features.dataset`.
        write_files: Whether anything is written beside checkpoints.
        show: Whether metrics are printed.
        **kwargs: As for the Trainer.

    Attributes:
        card: Facts for the card.
        all_metrics: The metrics so far.
        measured: For the splits that were evaluated, whether they have labels, and so metrics.
    """

    card: ModelCardFacts

    def __init__(
        self,
        model: Any,
        args: ScriptTrainingArguments,
        features: Mapping[str, Features],
        datasets: Mapping[str, Dataset],
        *,
        write_files: bool = True,
        show: bool = True,
        **kwargs: Any,
    ) -> None:
        self.features, self.write_files, self.show = features, write_files, show
        self.by_length = {split: RowsByLength(rows) for split, rows in datasets.items() if split != "train"}
        self.all_metrics: dict[str, float] = {}
        self.measured: dict[str, bool] = {}
        validation = self.by_length.get("validation")
        super().__init__(
            model,
            args,
            train_dataset=datasets.get("train"),
            eval_dataset=None if validation is None else validation.dataset,
            compute_metrics=partial(self.measure, "validation"),
            **kwargs,
        )
        if not show:
            self.remove_callback(PrinterCallback)

    def measure(self, split: str, prediction: EvalPrediction) -> dict[str, float]:
        """Measure predictions on a split's rows, as they were evaluated."""
        predictions = self.by_length[split].restore(prediction.predictions)
        found = self.features[split].metrics(predictions, self.accelerator.unwrap_model(self.model).config)
        self.measured[split] = bool(found)
        return found

    def predict_split(self, split: str) -> tuple[Predictions, dict[str, float]]:
        """Return predictions in the order of `Features.dataset`, and metrics as `test_...`."""
        self.compute_metrics = partial(self.measure, split)
        output = self.predict(self.by_length[split].dataset)
        self.compute_metrics = partial(self.measure, "validation")
        return self.by_length[split].restore(output.predictions), output.metrics or {}

    def record(self, split: str, values: dict[str, float]) -> None:
        """Keep metrics and, if files are written, log and save them, as "train", "eval" or "test".

        Of a split without labels, whose loss is on labels that were made up, there is none.
        """
        if not self.measured.get("validation" if split == "eval" else split, True):
            values = {name: value for name, value in values.items() if not name.endswith("_loss")}
        self.all_metrics.update(values)
        if self.show:
            self.log_metrics(split, values)
        if self.write_files:
            self.save_metrics(split, values)

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Write the model card."""
        if self.is_world_process_zero():
            write_model_card(self.args.output_dir, self.card, self.all_metrics)


def run(
    task: Task,
    arguments: RunArguments,
    *,
    data: TaskData | None = None,
    callbacks: Sequence[TrainerCallback] = (),
    write_files: bool = True,
    show: bool | None = None,
) -> Outcome:
    """Train, evaluate and predict as the arguments ask, and write what transformers' examples write.

    In `output_dir`: the model or adapter, the tokenizer, `train_results.json`, `eval_results.json`,
    `test_results.json`, `all_results.json`, `trainer_state.json`, the answers to the test rows (`Features.write`) and
    the model card. None of the arguments is changed.

    Args:
        task: The task family.
        arguments: What is asked for.
        data: Data that is loaded already. Default: what `arguments.data` says.
        callbacks: Further callbacks for the Trainer.
        write_files: Whether anything is written to `output_dir` after training.
        show: Whether metrics are printed. Default: if files are written.

    Raises:
        ValueError: If arguments, data or labels do not fit; the message names the argument.
        FileNotFoundError: If a file is missing.
    """
    trains, given = arguments.training.do_train, arguments.model
    if data is None:
        data = task.load(arguments.data if trains else with_saved_names(task, arguments.data, given))
    splits = task.select(data, arguments.sampling)
    _check_splits(task, arguments, splits)
    name = given.resolve()
    set_seed(arguments.training.seed)
    tokenizer = task.load_tokenizer(name, revision=given.model_revision)
    check_can_pad(tokenizer)
    model = load_model(task, arguments, data)
    settings = task.settings(arguments.data, model.config)
    # what was settled in training is not taken back where the rows are only predicted
    configure(model, settings if trains else {name: value for name, value in settings.items() if value is not None})
    if arguments.cache.cache_lower_layers and has_prototypes(model.config):
        raise ValueError("`cache_lower_layers` is not possible with `prototypes`, which read texts in other rows.")
    max_length = task.longest_row(arguments.data, tokenizer, model)
    if (task.cuts and arguments.data.max_seq_length is not None) or METHODS[arguments.method].prompts_as_tokens:
        tokenizer.model_max_length = max_length  # saved with it: pipelines cut by it, and know no other limit
    features = {
        split: task.features(splits[split], tokenizer, data, arguments.data, max_length)
        for split in _splits_in_use(task, arguments)
    }
    args = resolve_training(arguments, len(splits.get("train", ())))
    take_over_label_smoothing(task, model, args)
    folder = Path(args.output_dir or ".")
    if trains and write_files:
        check_folder(model, folder)
    describe = partial(card_facts, task, arguments, args, name, model, data, splits, max_length)
    collator = task.collator(tokenizer)
    rows = {split: part.dataset for split, part in features.items()}
    if arguments.cache.cache_lower_layers:
        model.to(args.device)  # where it fills the cache
    with cached_features(model, rows, collator, arguments.cache, folder) as datasets:
        if arguments.cache.cache_lower_layers:
            args.remove_unused_columns = False  # the rows' numbers are no argument of the model
        trainer = RunTrainer(
            model,
            args,
            features,
            datasets,
            write_files=write_files,
            show=write_files if show is None else show,
            processing_class=tokenizer,
            data_collator=collator,
            preprocess_logits_for_metrics=task.reduce,
            callbacks=list(callbacks),
        )
        trainer.card = describe()
        if args.do_train:
            checkpoint = checkpoint_to_resume(args)
            if checkpoint is None:
                set_prototypes(model, rows["train"], collator)
            output = trainer.train(resume_from_checkpoint=checkpoint)
            if not (args.load_best_model_at_end or trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled):
                # Training has moved the states, and their means fit better than prototypes that moved along. A best
                # checkpoint was chosen with its own; weights in parts cannot be read here.
                set_prototypes(model, rows["train"], collator)
            if task.tunes(arguments.data):
                predictions, _ = trainer.predict_split("validation")
                configure(model, task.tune(features["validation"], predictions, model.config))
                trainer.card = describe()  # its lines that load the model may name what was found
            if write_files:
                trainer.save_model()
                trainer.save_state()
            trainer.record("train", output.metrics)
        if args.do_eval:
            found = trainer.evaluate()
            if not trainer.measured.get("validation", "eval_loss" in found):
                logger.warning("The validation data has no labels: nothing was measured.")
            trainer.record("eval", found)
        if args.do_predict:
            predictions, metrics = trainer.predict_split("test")
            trainer.record("test", metrics)
            if write_files and args.process_index == 0:
                features["test"].write(predictions, model.config, folder)
        if write_files and args.do_train:
            trainer.create_model_card()  # of what was saved; its metrics are all of this run
        if write_files and args.push_to_hub:
            trainer.push_to_hub()
    results = {
        **trainer.all_metrics,
        **task.results(model.config),
        **facts_of_run(task, arguments, model, splits),
    }
    return Outcome(results, model, tokenizer, data, features)


def load_model(task: Task, arguments: RunArguments, data: TaskData) -> Any:
    """Load the model that a run trains, or the trained one that it uses.

    Raises:
        ValueError: If one that is used is not trained, or not for this data; or see `build_model`, `load_adapter`.
    """
    given, method, options = arguments.model, arguments.method, arguments.options
    trains = arguments.training.do_train
    if not trains and arguments.training.resume_from_checkpoint:
        raise ValueError("`resume_from_checkpoint` goes on with training: it needs `do_train`.")
    if not trains and given.adapter() is not None:
        model: Any = load_adapter(task, method, given, data, options)
        check_classes(given, model, data)
        return model
    model = build_model(task, method, given.resolve(), data, model_kwargs=given.for_loading(), **options)
    if not trains:
        check_classes(given, model, data)
        check_trained(method, options, model)
    return model


def check_can_pad(tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse a tokenizer that cannot fill the rows of a batch up to one length (GPT-2's).

    Raises:
        ValueError: If it has no padding token.
    """
    if tokenizer.pad_token_id is None:
        raise ValueError(
            f"`model_name_or_path`: the tokenizer of {tokenizer.name_or_path!r} has no padding token, which batches "
            "need. Save a copy of model and tokenizer that has one, and name that: tokenizer.pad_token = "
            "tokenizer.eos_token, model.config.pad_token_id = tokenizer.eos_token_id, save_pretrained(folder) of both."
        )


def take_over_label_smoothing(task: Task, model: Any, args: ScriptTrainingArguments) -> None:
    """Let a model with a pretrained head smooth its own loss, which Trainer would replace by another.

    Args:
        task: The task family.
        model: Its config gets `args.label_smoothing_factor` where it has a pretrained head.
        args: The Trainer's arguments, changed accordingly.

    Raises:
        ValueError: If the loss of a new head is not the cross entropy that Trainer smooths.
    """
    factor = args.label_smoothing_factor
    if factor and isinstance(model.config, PretrainedHeadConfig):
        model.config.label_smoothing, args.label_smoothing_factor = factor, 0.0
    elif factor and (
        task.task_type == TaskType.QUESTION_ANS
        or model.config.problem_type not in (None, "single_label_classification")
    ):
        raise ValueError(
            f"`label_smoothing_factor` = {factor} is for one class out of several, which {task.name} does not ask for "
            "here. Leave it out."
        )


def set_prototypes(model: Any, rows: Dataset, collator: Any) -> None:
    """Set the prototypes of classes from the training rows, where the model has prototypes."""
    if has_prototypes(model.config):
        wrapper = model.get_base_model() if is_adapter(model) else model
        wrapper.set_prototypes(DataLoader(rows, batch_size=32, collate_fn=collator))


def configure(model: Any, settings: Mapping[str, Any]) -> None:
    """Set attributes of a model's config, such as a task's `settings` or what it `tune`d."""
    for name, value in settings.items():
        setattr(model.config, name, value)


def asked_splits(args: ScriptTrainingArguments) -> list[str]:
    """Return the splits that something is to be done with."""
    return [split for split, flag in FLAGS.items() if getattr(args, flag)]


def _splits_in_use(task: Task, arguments: RunArguments) -> list[str]:
    used = asked_splits(arguments.training)
    return [*used, "validation"] if task.tunes(arguments.data) and "validation" not in used else used


def _check_splits(task: Task, arguments: RunArguments, splits: Mapping[str, Dataset]) -> None:
    """Raise a `ValueError` if a split is missing for what is asked, or something asked for is of no use."""
    for split in asked_splits(arguments.training):
        if split not in splits:
            raise ValueError(f"`{FLAGS[split]}` is set, but there is no {split} data.")
    if task.tunes(arguments.data) and (not arguments.training.do_train or "validation" not in splits):
        raise ValueError("`tune_threshold` needs `do_train` and validation data (or `validation_size`).")
    if not arguments.cache.cache_lower_layers:
        refuse_given(arguments.cache, ["cache_dir", "cache_dtype", "keep_cache"], "is for `cache_lower_layers`")
    if arguments.method in METHODS and METHODS[arguments.method].head == NEW_HEAD:
        refuse_given(arguments.data, task.of_label_words, f"has no use with the method {arguments.method!r}")
    if arguments.cache.cache_lower_layers and not task.can_cache:
        raise ValueError(f"`cache_lower_layers` is not possible for {task.name}.")
    task.check(arguments.data, splits)


def resolve_training(arguments: RunArguments, rows: int) -> ScriptTrainingArguments:
    """Return a copy of the Trainer's arguments with the method's own rates and epochs where none are given.

    Args:
        arguments: The run's arguments.
        rows: Number of training rows.
    """
    args, method = copy(arguments.training), METHODS[arguments.method]
    if args.learning_rate is None:
        args.learning_rate = method.learning_rate
        if args.head_learning_rate is None:
            args.head_learning_rate = method.head_learning_rate
    if args.num_train_epochs is None:
        batch_size = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
        args.num_train_epochs = default_epochs(arguments.method, rows, batch_size)
    return args


def checkpoint_to_resume(args: ScriptTrainingArguments) -> str | bool | None:
    """Return what `Trainer.train` takes for the argument `resume_from_checkpoint`, where "last" is its True."""
    asked = args.resume_from_checkpoint
    return {"last": True, "true": True, "false": None}.get(str(asked).lower(), asked)


def card_facts(
    task: Task,
    arguments: RunArguments,
    args: ScriptTrainingArguments,
    base_model: str,
    model: Any,
    data: TaskData,
    splits: Mapping[str, Dataset],
    max_length: int,
) -> ModelCardFacts:
    """Return what a run's model card says; `args` are the Trainer's arguments with nothing left to defaults."""
    trained, total = count_parameters(model)
    source = arguments.data
    return ModelCardFacts(
        method=arguments.method,
        base_model=base_model,
        task=task.pipeline_tag,
        dataset=source.describe(),
        hub_id=None if Path(source.dataset_name or ".").exists() else source.dataset_name,
        rows={split: len(dataset) for split, dataset in splits.items()},
        adapter=METHODS[arguments.method].adapter is not None,
        details={
            **task.details(data, source, model, max_length),
            "Learning rate": args.learning_rate,
            **({"Updates": args.max_steps} if args.max_steps > 0 else {"Epochs": args.num_train_epochs}),
            "Batch size": args.train_batch_size,
            "Seed": args.seed,
        },
        usage=task.usage((args.push_to_hub and args.hub_model_id) or _as_given(args.output_dir), model, source),
        trained_parameters=trained,
        all_parameters=total,
    )


def _as_given(output_dir: str | None) -> str:
    """Return the folder as the card names it: a relative path as given, of an absolute one the last part.

    So nothing of this machine is published.
    """
    folder = Path(output_dir or ".")
    return folder.name if folder.is_absolute() else folder.as_posix()


def facts_of_run(task: Task, arguments: RunArguments, model: Any, splits: Mapping[str, Dataset]) -> dict[str, Any]:
    """Return what a run's results hold beside its metrics, see `Outcome.results`."""
    trained, total = count_parameters(model)
    options = dict(arguments.options)
    if arguments.training.do_train:  # a trained model has those that it was trained with
        options = describe_options(task, arguments.method, options)
    return {
        "trained_parameters": trained,
        "all_parameters": total,
        "rows": {split: len(dataset) for split, dataset in splits.items()},
        "data_fingerprint": {split: data_fingerprint(dataset) for split, dataset in splits.items()},
        "options": options,
        "wrapper": _wrapper_settings(model.config),
    }


def _wrapper_settings(config: Any) -> dict[str, Any] | None:
    if not isinstance(config, PretrainedHeadConfig):
        return None
    elsewhere = {*config.sub_configs, "transformers_version"}
    return {name: value for name, value in config.to_diff_dict().items() if name not in elsewhere}
