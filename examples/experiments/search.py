"""Learning rate, prompt length, depth and encoder searched together on validation data: optuna through the Trainer.

    python examples/experiments/search.py --method deep_prompt --dataset_name SetFit/sst2 --examples_per_class 32 \
        --validation_split_name validation --trials 30 --num_train_epochs 20 --output_dir runs/search

Prompt tuning hinges on this: users of the released P-tuning v2 code report 58 % on RTE where its authors have 86.6 %.
The trials stand in search.db: the command can be repeated after an interruption, and run several times at once.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
import torch
import transformers
from plots import plot_points
from tables import markdown_table
from transformers import (
    AutoTokenizer,
    DataCollatorWithPadding,
    HfArgumentParser,
    PrinterCallback,
    Trainer,
    TrainingArguments,
)

from dpt_peft.tasks.text_classification import (
    TextClassificationArguments,
    classification_metrics,
    load_text_classification,
    tokenize_texts,
)
from dpt_peft.training.families import TEXT_CLASSIFICATION
from dpt_peft.training.methods import build_model
from dpt_peft.training.text_classification import MethodArguments, SamplingArguments, select_rows
from dpt_peft.training.tuned_run import ModelArguments

#: What a trial chooses, as optuna names it.
PARAMETERS = ("learning_rate", "num_virtual_tokens", "layers_to_transform", "encoder_reparameterization")


@dataclass
class SearchArguments:
    """The space that is searched. A list of one leaves nothing to search."""

    trials: int = field(default=30, metadata={"help": "Trials in all, those of earlier calls counted."})
    lowest_learning_rate: float = field(default=1e-3, metadata={"help": "The rate is drawn on a logarithmic scale."})
    highest_learning_rate: float = field(default=1e-1, metadata={"help": "Upper end of the learning rates."})
    prompt_lengths: list[int] = field(
        default_factory=lambda: [4, 8, 16, 32, 64], metadata={"help": "deep_prompt: prompts in every layer."}
    )
    depths: list[str] = field(
        default_factory=lambda: ["all", "last 4", "last 2"], metadata={"help": "deep_prompt: layers with prompts."}
    )
    encoders: list[str] = field(
        default_factory=lambda: ["none", "mlp"], metadata={"help": "deep_prompt: prompt encoders."}
    )
    search_metric: str = field(default="accuracy", metadata={"help": "What is made large: accuracy or macro_f1."})


@dataclass
class ScriptTrainingArguments(TrainingArguments):
    """The Trainer's arguments, quiet: what a person looks at is the list of trials."""

    logging_strategy: str = field(default="no")
    save_strategy: str = field(default="no")
    report_to: str = field(default="none")
    disable_tqdm: bool | None = field(default=True)


def suggest(trial: Any, search: SearchArguments, method: str) -> dict[str, Any]:
    """Lets a trial choose; methods without deep prompts choose the learning rate only."""
    chosen: dict[str, Any] = {
        "learning_rate": trial.suggest_float(
            "learning_rate", search.lowest_learning_rate, search.highest_learning_rate, log=True
        )
    }
    if method.endswith("deep_prompt"):
        chosen["num_virtual_tokens"] = trial.suggest_categorical("num_virtual_tokens", search.prompt_lengths)
        chosen["layers_to_transform"] = trial.suggest_categorical("layers_to_transform", search.depths)
        chosen["encoder_reparameterization"] = trial.suggest_categorical("encoder_reparameterization", search.encoders)
    return chosen


def options_of(chosen: dict[str, Any]) -> dict[str, Any]:
    """What a trial's choice means for the model: all but the learning rate, "all" layers by their absence."""
    options = {name: value for name, value in chosen.items() if name != "learning_rate"}
    if options.get("layers_to_transform") == "all":
        options["layers_to_transform"] = None
    return options


def best_command(arguments: MethodArguments, chosen: dict[str, Any]) -> str:
    """The arguments of `run_text_classification.py` that the best trial stands for."""
    options = {name: value for name, value in options_of(chosen).items() if value is not None}
    words = [f"--method {arguments.method}", f"--learning_rate {chosen['learning_rate']:.2g}"]
    return " ".join([*words, *(f"--{name} {value}" for name, value in options.items())])


def report(study: optuna.Study, search: SearchArguments, method: MethodArguments, folder: Path) -> str:
    """Writes table and picture; returns the table."""
    finished = [trial for trial in study.trials if trial.value is not None]
    finished.sort(key=lambda trial: -trial.value)
    names = [name for name in PARAMETERS if name in finished[0].params]
    rows = [
        [
            str(trial.number),
            *(f"{trial.params[name]:.2g}" if name == "learning_rate" else str(trial.params[name]) for name in names),
            f"{100 * trial.value:.1f}",
        ]
        for trial in finished
    ]
    text = markdown_table(["trial", *names, f"{search.search_metric} in %"], rows)
    text += f"\n\nThe best trial, all other arguments as they were:\n{best_command(method, study.best_params)}"
    (folder / "table.md").write_text(text + "\n", encoding="utf-8")
    plot_points(
        {name: [(trial.params[name], 100 * trial.value) for trial in finished] for name in names},
        folder / "plot.png",
        title=f"{method.method}: what each choice gave",
        y_label=f"validation {search.search_metric} in %",
        log_x=("learning_rate",),
    )
    return text


def main(argv: list[str] | None = None) -> None:
    """Runs the trials that are missing and writes what they found."""
    parser = HfArgumentParser(
        (
            SearchArguments,
            ModelArguments,
            TextClassificationArguments,
            MethodArguments,
            SamplingArguments,
            ScriptTrainingArguments,
        ),
        description=__doc__,
    )
    search, model_args, data_args, method_args, sampling, training_args = parser.parse_args_into_dataclasses(argv)
    transformers.utils.logging.disable_progress_bar()
    logging.getLogger("transformers.trainer").setLevel(logging.WARNING)
    data = load_text_classification(data_args)
    splits = select_rows(data, sampling)
    if "validation" not in splits:
        parser.error("there is no validation data to search on: give --validation_size")
    model_name = model_args.resolve()
    tokenizer = AutoTokenizer.from_pretrained(model_name, revision=model_args.model_revision)
    chosen_length = data_args.max_seq_length or 128
    features = {split: tokenize_texts(splits[split], tokenizer, chosen_length) for split in ("train", "validation")}

    def make_model(trial: Any) -> torch.nn.Module:
        options = options_of(suggest(trial, search, method_args.method)) if trial is not None else {}
        return build_model(
            TEXT_CLASSIFICATION, method_args.method, model_name, data.label_names, options=method_args, **options
        )

    def hyperparameters(trial: Any) -> dict[str, float]:
        return {"learning_rate": suggest(trial, search, method_args.method)["learning_rate"]}

    if training_args.device.type == "cpu":
        training_args.dataloader_pin_memory = False
    trainer = Trainer(
        model_init=make_model,
        args=training_args,
        train_dataset=features["train"],
        eval_dataset=features["validation"],
        data_collator=DataCollatorWithPadding(tokenizer),
        compute_metrics=classification_metrics(),
    )
    trainer.remove_callback(PrinterCallback)
    folder = Path(training_args.output_dir or ".")
    folder.mkdir(parents=True, exist_ok=True)
    optuna.logging.set_verbosity(optuna.logging.INFO if training_args.should_log else optuna.logging.WARNING)
    where = {"study_name": method_args.method, "storage": f"sqlite:///{folder / 'search.db'}"}
    study = optuna.create_study(direction="maximize", load_if_exists=True, **where)
    # The same seed again would draw the same trials again.
    sampler = optuna.samplers.TPESampler(seed=training_args.seed + len(study.trials))
    missing = search.trials - sum(trial.value is not None for trial in study.trials)
    if missing > 0:
        trainer.hyperparameter_search(
            hp_space=hyperparameters,
            compute_objective=lambda metrics: metrics[f"eval_{search.search_metric}"],
            n_trials=missing,
            direction="maximize",
            backend="optuna",
            sampler=sampler,
            load_if_exists=True,
            **where,
        )
    if training_args.process_index == 0:
        study = optuna.load_study(**where)
        print(report(study, search, method_args, folder))


if __name__ == "__main__":
    main()
