"""One multi-task run: what `examples/run_multi_task.py` calls (P-tuning v2's MPT-2; not in its released code)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from datasets import Dataset
from transformers import TrainingArguments, set_seed

from dpt_peft.training.families import TaskFamily
from dpt_peft.training.joint_tasks import MultiTaskArguments, PreparedTask, read_tasks
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
from dpt_peft.training.text_classification import SamplingArguments, longest_row
from dpt_peft.training.tuned_run import ModelArguments

_SPLITS = {"train": "train", "eval": "validation", "test": "test"}


@dataclass
class MultiTaskMethodArguments(MethodOptions):
    """The method's options."""

    method: Literal["deep_prompt"] = field(default="deep_prompt", metadata={"help": "Prompts are what is shared."})


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
