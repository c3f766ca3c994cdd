"""One multi-task run: what `examples/run_multi_task.py` calls (P-tuning v2's MPT-2; not in its released code)."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import torch
from datasets import Dataset
from transformers import (
    AutoTokenizer,
    DataCollatorForTokenClassification,
    DataCollatorWithPadding,
    PreTrainedTokenizerBase,
    TrainingArguments,
    set_seed,
)

from dpt_peft.tasks.data_sets import DATA_SETS, data_arguments
from dpt_peft.tasks.loading import DatasetArguments
from dpt_peft.tasks.semantic_roles import SemanticRoleArguments
from dpt_peft.tasks.text_classification import (
    TextClassificationArguments,
    classification_metrics,
    load_text_classification,
    tokenize_texts,
)
from dpt_peft.tasks.token_classification import TokenClassificationArguments
from dpt_peft.tasks.word_features import load_word_tokenizer
from dpt_peft.tasks.word_tagging import word_tagging_metrics
from dpt_peft.training import text_classification, word_tagging
from dpt_peft.training.families import TEXT_CLASSIFICATION, TOKEN_CLASSIFICATION, TaskFamily
from dpt_peft.training.methods import MethodOptions, build_model, count_parameters
from dpt_peft.training.model_card import ModelCardFacts, write_model_card
from dpt_peft.training.records import data_fingerprint
from dpt_peft.training.runner import checkpoint_to_resume
from dpt_peft.training.shared_prompts import (
    ComputeMetrics,
    SharedPromptModel,
    SharedPromptTrainer,
    join_tasks,
    mean_over_tasks,
)
from dpt_peft.training.text_classification import ModelArguments, SamplingArguments, longest_row, select_rows

_SPLITS = {"train": "train", "eval": "validation", "test": "test"}


@dataclass
class MultiTaskArguments:
    """Which tasks are trained together."""

    tasks: list[str] = field(
        default_factory=list,
        metadata={"help": f"Data sets by name: {', '.join(DATA_SETS)}.", "choices": list(DATA_SETS)},
    )
    data_dir: str | None = field(
        default=None, metadata={"help": "Folder with one folder for each of `tasks`. Default: the Hub."}
    )
    tasks_file: str | None = field(
        default=None,
        metadata={
            "help": "Json file of further tasks: name -> {'family': 'token-classification', 'train_file': ..., and "
            "what else the single-task script takes of data and sampling arguments}."
        },
    )
    temperature: float = field(
        default=2.0,
        metadata={
            "help": "A batch's task is drawn with (rows)^(1/temperature): 1 as the data is, larger: small tasks more."
        },
    )
    max_seq_length: int | None = field(
        default=None, metadata={"help": "Longest row in tokens. Default: what the model takes."}
    )


@dataclass
class MultiTaskMethodArguments(MethodOptions):
    """The method's options."""

    method: Literal["deep_prompt"] = field(default="deep_prompt", metadata={"help": "Prompts are what is shared."})


@dataclass(frozen=True)
class PreparedTask:
    """A task, ready to be trained on.

    Attributes:
        label_names: Classes by id.
        rows: The splits before they were tokenized.
        features: Makes the rows of a split ready for the model: tokens, and the metric of predictions on them.
        details: For the card.
        usage: Makes the lines that load the task's model, from folder and model.
    """

    label_names: list[str]
    rows: dict[str, Dataset]
    features: Callable[[Dataset, PreTrainedTokenizerBase, int | None], tuple[Dataset, ComputeMetrics | None]]
    usage: Callable[[str, Any], str]


def _prepare_texts(data_args: TextClassificationArguments, sampling: SamplingArguments) -> PreparedTask:
    data = load_text_classification(data_args)

    def features(
        rows: Dataset, tokenizer: PreTrainedTokenizerBase, max_length: int | None
    ) -> tuple[Dataset, ComputeMetrics | None]:
        return tokenize_texts(rows, tokenizer, max_length), classification_metrics()

    return PreparedTask(
        data.label_names,
        select_rows(data, sampling),
        features,
        lambda folder, model: text_classification.loading_code("deep_prompt", folder, model),
    )


def _prepare_words(task: word_tagging.WordTask) -> Callable[..., PreparedTask]:
    def prepare(data_args: Any, sampling: SamplingArguments) -> PreparedTask:
        data = task.load(data_args)

        def features(
            rows: Dataset, tokenizer: PreTrainedTokenizerBase, max_length: int | None
        ) -> tuple[Dataset, ComputeMetrics | None]:
            made = word_tagging.tokenize_split(rows, tokenizer, data.label_names, max_length)
            if made.tags is None:
                return made.dataset, None
            return made.dataset, word_tagging_metrics(task.metric(keep_in_memory=True), made, data.label_names)

        return PreparedTask(
            data.label_names,
            word_tagging.select_sentences(data, sampling),
            features,
            lambda folder, model: word_tagging.loading_code("deep_prompt", folder, model, task.example),
        )

    return prepare


@dataclass(frozen=True)
class Kind:
    """Tasks of a family, as they are trained together.

    Attributes:
        arguments: The family's data arguments.
        prepare: From these and the sampling arguments to a task.
        family: Its models. Tasks of one run share it.
        collator: Makes a batch, given the tokenizer.
        tokenizer: Loads the tokenizer of a model.
        reduce: From logits and labels of a batch to what metrics are computed of.
    """

    arguments: type[DatasetArguments]
    prepare: Callable[[Any, SamplingArguments], PreparedTask]
    family: TaskFamily
    collator: Callable[[PreTrainedTokenizerBase], Any]
    tokenizer: Callable[..., PreTrainedTokenizerBase] = load_word_tokenizer
    reduce: Callable[..., torch.Tensor] | None = None


#: Family -> how its tasks are trained together. A new family is one row.
KINDS = {
    "text-classification": Kind(
        TextClassificationArguments,
        _prepare_texts,
        TEXT_CLASSIFICATION,
        DataCollatorWithPadding,
        AutoTokenizer.from_pretrained,
    ),
    "token-classification": Kind(
        TokenClassificationArguments,
        _prepare_words(word_tagging.NAMED_ENTITIES),
        TOKEN_CLASSIFICATION,
        DataCollatorForTokenClassification,
        reduce=word_tagging.likeliest,
    ),
    "semantic-role-labeling": Kind(
        SemanticRoleArguments,
        _prepare_words(word_tagging.SEMANTIC_ROLES),
        TOKEN_CLASSIFICATION,
        DataCollatorForTokenClassification,
        reduce=word_tagging.likeliest,
    ),
}


@dataclass(frozen=True)
class TaskSource:
    """Where a task's data comes from: its kind, data arguments and sampling arguments."""

    kind: Kind
    data: Any
    sampling: SamplingArguments


def read_tasks(args: MultiTaskArguments, sampling: SamplingArguments) -> dict[str, TaskSource]:
    """Reads which tasks there are.

    Args:
        args: Their names, and the file that describes others.
        sampling: How much of the data; what the file says of a task goes before it.

    Returns:
        The tasks by name.

    Raises:
        ValueError: If there are fewer than two, two have one name, the file is not as it should be, or the tasks'
            families have different heads.
        FileNotFoundError: If a file is missing.
    """
    found: dict[str, TaskSource] = {}
    described: dict[str, dict[str, Any]] = {}
    if args.tasks_file is not None:
        path = Path(args.tasks_file)
        if not path.is_file():
            raise FileNotFoundError(f"`tasks_file`: there is no file {args.tasks_file!r}.")
        described = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(described, dict) or not all(isinstance(entry, dict) for entry in described.values()):
            raise ValueError("`tasks_file` must map names of tasks to their arguments.")
    named = {name: {"family": DATA_SETS[name].family, **data_arguments(name, args.data_dir)} for name in args.tasks}
    both = sorted(named.keys() & described.keys())
    if both or len(args.tasks) != len(named):
        raise ValueError(f"`tasks` and `tasks_file` must name a task once, got {', '.join(both or args.tasks)}.")
    for name, entry in {**named, **described}.items():
        found[name] = _source(name, dict(entry), args.max_seq_length, sampling)
    if len(found) < 2:
        raise ValueError(f"There must be at least two tasks in `tasks` and `tasks_file`, got {len(found)}.")
    families = {source.kind.family.name for source in found.values()}
    if len(families) > 1:
        raise ValueError(f"Tasks of different heads cannot share prompts: {', '.join(sorted(families))}.")
    return found


def _source(name: str, entry: dict[str, Any], max_length: int | None, sampling: SamplingArguments) -> TaskSource:
    if not name.replace("-", "_").isidentifier():
        raise ValueError(f"`tasks_file`: a task's name must be of letters, digits, _ and -, got {name!r}.")
    family = entry.pop("family", None)
    if family not in KINDS:
        raise ValueError(f"`tasks_file`: the `family` of {name!r} must be one of {', '.join(KINDS)}, got {family!r}.")
    kind = KINDS[family]
    amount = {f.name: getattr(sampling, f.name) for f in fields(SamplingArguments)}
    amount |= {key: entry.pop(key) for key in list(entry) if key in amount}
    unknown = sorted(entry.keys() - {f.name for f in fields(kind.arguments)})
    if unknown:
        raise ValueError(f"`tasks_file`: {name!r} has arguments that {family} does not have: {', '.join(unknown)}.")
    return TaskSource(kind, kind.arguments(**{"max_seq_length": max_length, **entry}), SamplingArguments(**amount))


def build_shared_model(
    tasks: Mapping[str, PreparedTask], family: TaskFamily, model_name: str, options: MethodOptions, **model_kwargs: Any
) -> SharedPromptModel:
    """Builds the tasks' models on one backbone with one set of prompts.

    Args:
        tasks: The tasks by name.
        family: Their family.
        model_name: Hub id or folder.
        options: Options of the prompts.
        **model_kwargs: For `from_pretrained`.
    """
    return SharedPromptModel(
        {
            name: build_model(
                family, "deep_prompt", model_name, task.label_names, options=options, model_kwargs=model_kwargs
            )
            for name, task in tasks.items()
        }
    )


def run_multi_task(
    model_args: ModelArguments,
    task_args: MultiTaskArguments,
    method_args: MultiTaskMethodArguments,
    sampling_args: SamplingArguments,
    training_args: TrainingArguments,
    *,
    write_files: bool = True,
    command: str | None = None,
) -> dict[str, Any]:
    """Trains prompts on several tasks, evaluates and predicts task by task, and writes one adapter per task.

    `output_dir/<task>` holds the task's adapter (the shared prompts and its head), which `PeftModel.from_pretrained`
    loads and `--init_from` of the single-task scripts starts from.

    Args:
        model_args: Pretrained model.
        task_args: The tasks.
        method_args: Options of the prompts.
        sampling_args: How much of the data of every task.
        training_args: The Trainer's arguments; `do_train`, `do_eval`, `do_predict` say what is done.
        write_files: Whether anything is written to `output_dir` after training.
        command: For the cards; default: this process's command.

    Returns:
        The metrics (`eval_<task>_f1`, `eval_mean_f1`, ...), and `trained_parameters`, `all_parameters`, `rows` and
        `data_fingerprint` (by task and split).

    Raises:
        ValueError: If arguments or data do not fit; the message names the argument.
        FileNotFoundError: If a file is missing.
    """
    sources = read_tasks(task_args, sampling_args)
    tasks = {name: source.kind.prepare(source.data, source.sampling) for name, source in sources.items()}
    kind = next(iter(sources.values())).kind
    used = {"train": training_args.do_train, "eval": training_args.do_eval, "test": training_args.do_predict}
    for part, split in _SPLITS.items():
        without = [name for name, task in tasks.items() if used[part] and split not in task.rows]
        if without:
            raise ValueError(f"There is no {split} data of {', '.join(without)}.")
    model_name = model_args.resolve()
    set_seed(training_args.seed)
    tokenizer = kind.tokenizer(model_name, revision=model_args.model_revision)
    model_kwargs = {"revision": model_args.model_revision}
    if model_args.attn_implementation is not None:
        model_kwargs["attn_implementation"] = model_args.attn_implementation
    model = build_shared_model(tasks, kind.family, model_name, method_args, **model_kwargs)
    max_length = longest_row(task_args.max_seq_length, tokenizer, next(iter(model.tasks.values())))
    features: dict[str, dict[str, Dataset]] = {}
    metrics: dict[str, dict[str, ComputeMetrics]] = {}
    for part, split in _SPLITS.items():
        if used[part]:
            made = {name: task.features(task.rows[split], tokenizer, max_length) for name, task in tasks.items()}
            features[part] = {name: data for name, (data, _) in made.items()}
            metrics[part] = {name: metric for name, (_, metric) in made.items() if metric is not None}

    if training_args.device.type == "cpu":
        training_args.dataloader_pin_memory = False  # torch warns that there is nothing to pin for
    trainer = SharedPromptTrainer(
        model=model,
        args=training_args,
        train_dataset=features.get("train"),
        eval_dataset=features.get("eval"),
        processing_class=tokenizer,
        data_collator=kind.collator(tokenizer),
        preprocess_logits_for_metrics=kind.reduce,
        temperature=task_args.temperature,
        task_metrics=metrics.get("eval"),
    )
    results: dict[str, float] = {}

    def record(split: str, values: dict[str, float]) -> None:
        results.update(values)
        if write_files:
            trainer.log_metrics(split, values)
            trainer.save_metrics(split, values)

    if training_args.do_train:
        record("train", trainer.train(resume_from_checkpoint=checkpoint_to_resume(training_args)).metrics)
        if write_files:
            trainer.save_state()
    if training_args.do_eval:
        record("eval", trainer.evaluate())
    if training_args.do_predict:
        values: dict[str, float] = {}
        for name, data in features["test"].items():
            trainer.compute_metrics = metrics["test"].get(name)
            output = trainer.predict(join_tasks({name: data}), metric_key_prefix=f"test_{name}")
            values |= output.metrics or {}
        record("test", values | mean_over_tasks(values, list(tasks), "test"))
    rows = {name: {split: len(data) for split, data in task.rows.items()} for name, task in tasks.items()}
    trained, total = count_parameters(model)
    if write_files and training_args.process_index == 0:
        for name, task in tasks.items():
            folder = Path(training_args.output_dir or ".") / name
            peft_model: Any = model.tasks[name]
            peft_model.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
            source = sources[name].data
            facts = ModelCardFacts(
                method=f"deep_prompt shared by {', '.join(tasks)}",
                base_model=model_name,
                task=kind.family.name,
                dataset=source.describe(),
                dataset_on_hub=source.dataset_name is not None and not Path(source.dataset_name).exists(),
                rows=rows[name],
                adapter=True,
                details={
                    "Labels": ", ".join(task.label_names),
                    "Temperature": task_args.temperature,
                    "Learning rate": training_args.learning_rate,
                    "Epochs": training_args.num_train_epochs,
                    "Batch size": training_args.train_batch_size,
                    "Seed": training_args.seed,
                },
                usage=task.usage(name, peft_model),
                trained_parameters=count_parameters(peft_model)[0],
                all_parameters=count_parameters(peft_model)[1],
            )
            own = {key.replace(f"_{name}_", "_", 1): value for key, value in results.items() if f"_{name}_" in key}
            write_model_card(folder, facts, own, command)
    return {
        **results,
        "trained_parameters": trained,
        "all_parameters": total,
        "rows": rows,
        "data_fingerprint": {
            name: {split: data_fingerprint(data) for split, data in task.rows.items()} for name, task in tasks.items()
        },
    }
