"""Several tasks trained together on shared deep prompts (P-tuning v2's MPT-2; not in its released code)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args, get_origin, get_type_hints

from datasets import Dataset
from transformers import EvalPrediction, set_seed
from transformers.hf_argparser import HfArg

from dpt_peft.auto import check_folder
from dpt_peft.tasks.base import Task, TaskData
from dpt_peft.tasks.data import no_key_twice, refuse_given
from dpt_peft.tasks.data_sets import DATA_SETS, data_arguments
from dpt_peft.tasks.heads import NEW_HEAD, Head
from dpt_peft.tasks.registry import TASKS
from dpt_peft.tasks.sampling import ClassSamplingArguments, SamplingArguments
from dpt_peft.training.methods import build_model, count_parameters
from dpt_peft.training.model_card import write_model_card
from dpt_peft.training.records import data_fingerprint
from dpt_peft.training.run import (
    RunArguments,
    asked_splits,
    card_facts,
    check_can_pad,
    checkpoint_to_resume,
    configure,
    load_model,
    resolve_training,
)
from dpt_peft.training.shared_prompts import SharedPromptModel, SharedPromptTrainer, join_tasks, mean_over_tasks
from dpt_peft.training.trainer import ScriptTrainingArguments


@dataclass
class MultiTaskArguments:
    """Which tasks are trained together."""

    tasks: list[str] = HfArg(
        default_factory=list, help=f"Data sets by name: {', '.join(DATA_SETS)}.", metadata={"choices": list(DATA_SETS)}
    )
    data_dir: str | None = HfArg(default=None, help="Folder with one folder for each of `tasks`. Default: the Hub.")
    tasks_file: str | None = HfArg(
        default=None,
        help="Json file of further tasks: name -> {'family': 'token-classification', 'train_file': ..., and "
        "what else the single-task script takes of data and sampling arguments}.",
    )
    temperature: float = HfArg(
        default=2.0,
        help="A batch's task is drawn with (rows)^(1/temperature): 1 as the data is, larger: small tasks more.",
    )
    max_seq_length: int | None = HfArg(default=None, help="Longest row in tokens. Default: what the model takes.")


class SharedPrompts:
    """What the command line needs to know of tasks that are trained together, in the place of one `Task`."""

    name = "multi-task"
    task_type = None  # each task brings its own
    arguments = MultiTaskArguments
    sampling = ClassSamplingArguments
    heads: ClassVar[Mapping[str, Head]] = {NEW_HEAD: Head(build_model)}
    prompts_as_tokens = can_cache = False


@dataclass(frozen=True)
class JointTask:
    """One of the tasks: its family, its data arguments, how much of the data is used, the data, and its rows."""

    family: Task
    arguments: Any
    sampling: SamplingArguments
    data: TaskData
    rows: dict[str, Dataset]


def read_tasks(args: MultiTaskArguments, sampling: SamplingArguments) -> dict[str, JointTask]:
    """Read which tasks there are, and their data.

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
    described: dict[str, dict[str, Any]] = {}
    if args.tasks_file is not None:
        path = Path(args.tasks_file)
        if not path.is_file():
            raise FileNotFoundError(f"`tasks_file`: there is no file {args.tasks_file!r}.")
        try:
            described = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=no_key_twice)
        except ValueError as error:
            raise ValueError(f"`tasks_file`: {args.tasks_file!r} cannot be read as json: {error}") from error
        if not isinstance(described, dict) or not all(isinstance(entry, dict) for entry in described.values()):
            raise ValueError("`tasks_file` must map names of tasks to their arguments.")
    named = {name: {"family": DATA_SETS[name].family, **data_arguments(name, args.data_dir)} for name in args.tasks}
    both = sorted(named.keys() & described.keys())
    if both or len(args.tasks) != len(named):
        raise ValueError(f"`tasks` and `tasks_file` must name a task once, got {', '.join(both or args.tasks)}.")
    read = {
        name: _read_entry(name, dict(entry), args.max_seq_length, sampling)
        for name, entry in {**named, **described}.items()
    }
    if len(read) < 2:
        raise ValueError(f"There must be at least two tasks in `tasks` and `tasks_file`, got {len(read)}.")
    if len({(family.task_type, family.pipeline_tag) for family, _, _ in read.values()}) > 1:
        different = ", ".join(sorted({family.name for family, _, _ in read.values()}))
        raise ValueError(f"Tasks of different heads cannot share prompts: {different}.")
    found = {}
    for name, (family, arguments, amount) in read.items():
        if family.tunes(arguments):
            raise ValueError(f"`tasks_file`: {name!r} cannot tune a threshold, which is done for one task alone.")
        data = family.load(arguments)
        rows = family.select(data, amount)
        family.check(arguments, rows)
        found[name] = JointTask(family, arguments, amount, data, rows)
    return found


def _fits(value: Any, kind: Any) -> bool:
    """Return whether a value of json is of the type of a dataclass's field."""
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    if get_origin(kind) is list:
        return isinstance(value, list) and all(_fits(part, *get_args(kind)) for part in value)
    if get_args(kind):  # a union
        return any(_fits(value, part) for part in get_args(kind))
    if kind in (int, float):
        return isinstance(value, (int, kind)) and not isinstance(value, bool)
    return isinstance(value, kind)


def _read_entry(
    name: str, entry: dict[str, Any], max_length: int | None, sampling: SamplingArguments
) -> tuple[Task, Any, SamplingArguments]:
    if not name.replace("-", "_").isidentifier():
        raise ValueError(f"`tasks_file`: a task's name must be of letters, digits, _ and -, got {name!r}.")
    if name == "mean":
        raise ValueError("`tasks_file`: no task can be called 'mean', as the mean over the tasks is in the metrics.")
    family = entry.pop("family", None)
    if family not in TASKS:
        raise ValueError(f"`tasks_file`: the `family` of {name!r} must be one of {', '.join(TASKS)}, got {family!r}.")
    task = TASKS[family]
    for of in (task.sampling, task.arguments):
        kinds = get_type_hints(of)
        for key in sorted(entry.keys() & {known.name for known in fields(of)}):
            if not _fits(entry[key], kinds[key]):
                kind = kinds[key].__name__ if kinds[key] in (str, int, bool) else kinds[key]
                raise ValueError(f"`tasks_file`: `{key}` of {name!r} must be {kind}, got {entry[key]!r}.")
    others = [f.name for f in fields(sampling) if f.name not in {own.name for own in fields(task.sampling)}]
    refuse_given(sampling, others, f"is not for {name!r}, a task of {family}; give it in `tasks_file` where it is")
    amount: dict[str, Any] = {f.name: getattr(sampling, f.name) for f in fields(task.sampling)}
    amount |= {key: entry.pop(key) for key in list(entry) if key in amount}
    unknown = sorted(entry.keys() - {f.name for f in fields(task.arguments)})
    if unknown:
        raise ValueError(f"`tasks_file`: {name!r} has arguments that {family} does not have: {', '.join(unknown)}.")
    length = {} if max_length is None else {"max_seq_length": max_length}
    return task, task.arguments(**{**length, **entry}), task.sampling(**amount)


def _refuse_what_is_for_one_task(training: ScriptTrainingArguments) -> None:
    """Raise a `ValueError` for arguments of the Trainer that would act on the tasks as if they were one model."""
    refused = {
        "label_smoothing_factor": training.label_smoothing_factor,
        "neftune_noise_alpha": training.neftune_noise_alpha,
        "gradient_checkpointing": training.gradient_checkpointing,
        "dataloader_drop_last": training.dataloader_drop_last,
    }
    for name, asked in refused.items():
        if asked:
            raise ValueError(f"`{name}` is not supported for several tasks. Leave it out.")
    if training.push_to_hub:
        raise ValueError(
            "`push_to_hub` is not supported for several tasks, whose adapters lie in folders of their own. Leave it "
            "out, and push the ones you want: `hf upload <repository> <output_dir>/<task>`."
        )


def _metric_of_tasks(metric: str | None, tasks: list[str]) -> str | None:
    """Return `metric_for_best_model` with its task: "loss", the Trainer's default, becomes "mean_loss".

    Raises:
        ValueError: If a metric names neither a task nor their mean.
    """
    name = (metric or "").removeprefix("eval_")
    if metric is None or name == "loss":
        return metric and "mean_loss"
    if not name.startswith(tuple(f"{task}_" for task in (*tasks, "mean"))):
        raise ValueError(
            f"`metric_for_best_model` must name a task or their mean, such as 'mean_{name}' or '{tasks[0]}_{name}', "
            f"got {metric!r}."
        )
    return metric


def run_multi_task(arguments: RunArguments) -> dict[str, Any]:
    """Train prompts on several tasks, evaluate and predict task by task, and write one adapter per task.

    `output_dir/<task>` holds the task's adapter (the shared prompts and its head), which `PeftModel.from_pretrained`
    loads and `--init_from` of the single-task scripts starts from, and the answers to its test rows.

    Args:
        arguments: As of `run`; `data` is a `MultiTaskArguments`, the method "deep_prompt".

    Returns:
        The metrics (`eval_<task>_f1`, `eval_mean_f1`, ...), and `trained_parameters`, `all_parameters`, `rows` and
        `data_fingerprint` (by task and split).

    Raises:
        ValueError: If arguments or data do not fit; the message names the argument.
        FileNotFoundError: If a file is missing.
    """
    _refuse_what_is_for_one_task(arguments.training)
    tasks = read_tasks(arguments.data, arguments.sampling)
    used = asked_splits(arguments.training)
    for split in used:
        without = [name for name, task in tasks.items() if split not in task.rows]
        if without:
            raise ValueError(f"There is no {split} data of {', '.join(without)}.")
    family = next(iter(tasks.values())).family
    base = arguments.model.resolve()
    if arguments.model.adapter() is not None:
        raise ValueError(
            f"`model_name_or_path`: {base!r} is an adapter of one task. To use it, take its task's own script; to "
            "train on from its prompts, `init_from`."
        )
    set_seed(arguments.training.seed)
    tokenizer = family.load_tokenizer(base, revision=arguments.model.model_revision)
    check_can_pad(tokenizer)
    model = SharedPromptModel({name: load_model(task.family, arguments, task.data) for name, task in tasks.items()})
    for name, task in tasks.items():
        configure(model.tasks[name], task.family.settings(task.arguments, model.tasks[name].config))
    lengths = {
        name: task.family.longest_row(task.arguments, tokenizer, model.tasks[name]) for name, task in tasks.items()
    }
    features = {
        split: {
            name: task.family.features(task.rows[split], tokenizer, task.data, task.arguments, lengths[name])
            for name, task in tasks.items()
        }
        for split in used
    }
    made_up: set[str] = set()  # losses on labels that rows without labels were given
    measured: dict[str, dict[str, str]] = {name: {} for name in tasks}  # metric of a task -> its name among all

    def measure(split: str, name: str, prediction: EvalPrediction) -> dict[str, float]:
        found = features[split][name].metrics(prediction.predictions, model.tasks[name].config)
        part = "eval" if split == "validation" else split
        measured[name] |= {f"{part}_{metric}": f"{part}_{name}_{metric}" for metric in ("loss", *found)}
        if not found:
            made_up.update((f"{part}_{name}_loss", f"{part}_mean_loss"))
        return found

    metrics = {
        split: {name: partial(measure, split, name) for name in of_tasks} for split, of_tasks in features.items()
    }
    datasets = {split: {name: made.dataset for name, made in of_tasks.items()} for split, of_tasks in features.items()}
    args = resolve_training(arguments, sum(len(task.rows.get("train", ())) for task in tasks.values()))
    args.metric_for_best_model = _metric_of_tasks(args.metric_for_best_model, list(tasks))
    trainer = SharedPromptTrainer(
        model=model,
        args=args,
        train_dataset=datasets.get("train"),
        eval_dataset=datasets.get("validation"),
        processing_class=tokenizer,
        data_collator=family.collator(tokenizer),
        preprocess_logits_for_metrics=family.reduce,
        temperature=arguments.data.temperature,
        task_metrics=metrics.get("validation"),
    )
    results: dict[str, float] = {}

    def record(part: str, values: dict[str, float]) -> None:
        values = {name: value for name, value in values.items() if name not in made_up}
        results.update(values)
        trainer.log_metrics(part, values)
        trainer.save_metrics(part, values)

    if args.do_train:
        record("train", trainer.train(resume_from_checkpoint=checkpoint_to_resume(args)).metrics)
        trainer.save_state()
    if args.do_eval:
        record("eval", trainer.evaluate())
    if args.do_predict:
        values: dict[str, float] = {}
        for name, data in datasets["test"].items():
            trainer.compute_metrics = metrics["test"][name]
            output = trainer.predict(join_tasks({name: data}), metric_key_prefix=f"test_{name}")
            values |= output.metrics or {}
            if args.process_index == 0:
                folder = Path(args.output_dir or ".") / name
                folder.mkdir(parents=True, exist_ok=True)
                features["test"][name].write(output.predictions, model.tasks[name].config, folder)
        record("test", values | mean_over_tasks(values, list(tasks), "test"))
    if args.process_index == 0:
        for name, task in tasks.items():
            folder = Path(args.output_dir or ".") / name
            peft_model: Any = model.tasks[name]
            check_folder(peft_model, folder)
            peft_model.save_pretrained(folder)
            saved = copy(tokenizer)
            if task.family.cuts and task.arguments.max_seq_length is not None:
                saved.model_max_length = lengths[name]
            saved.save_pretrained(folder)
            of_task = copy(args)
            of_task.output_dir = str(folder)
            facts = card_facts(
                task.family,
                replace(arguments, data=task.arguments),
                of_task,
                base,
                peft_model,
                task.data,
                task.rows,
                lengths[name],
            )
            shared = {"Temperature": arguments.data.temperature}
            facts = replace(
                facts,
                method=f"{arguments.method} shared by {', '.join(tasks)}",
                details={**shared, **facts.details},
            )
            own = {key: results[full] for key, full in measured[name].items() if full in results}
            write_model_card(folder, facts, own)
    trained, total = count_parameters(model)
    return {
        **results,
        "trained_parameters": trained,
        "all_parameters": total,
        "rows": {name: {split: len(data) for split, data in task.rows.items()} for name, task in tasks.items()},
        "data_fingerprint": {
            name: {split: data_fingerprint(data) for split, data in task.rows.items()} for name, task in tasks.items()
        },
    }
