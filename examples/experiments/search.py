"""Learning rate, prompt length, depth and encoder searched together on validation data, with optuna.

    python examples/experiments/search.py --method deep_prompt --dataset_name SetFit/sst2 --examples_per_class 32 \
        --validation_split_name validation --trials 30 --num_train_epochs 20 --output_dir runs/search

Prompt tuning hinges on this: users of the released P-tuning v2 code report 58 % on RTE where its authors have 86.6 %.
The trials stand in search.db: the command can be repeated after an interruption, and run several times at once.
"""

from __future__ import annotations

import sys
from copy import copy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import datasets
import optuna
import transformers
from plots import plot_points
from tables import markdown_table

from dpt_peft import DeepPromptConfig
from dpt_peft.tasks import TextClassification
from dpt_peft.training import METHODS, RunArguments, parse_arguments, run

#: Option of deep prompts -> argument that says what is tried, and what is tried by default.
SPACE: dict[str, tuple[str, list[Any]]] = {
    "num_virtual_tokens": ("prompt_lengths", [4, 8, 16, 32, 64]),
    "layers_to_transform": ("depths", ["all", "last 4", "last 2"]),
    "encoder_reparameterization": ("encoders", ["none", "mlp"]),
}
#: What every run of the search is told; the command line goes before it.
QUIET = ["--logging_strategy", "no", "--save_strategy", "no", "--report_to", "none", "--disable_tqdm", "true"]


@dataclass
class SearchArguments:
    """The space that is searched. A list of one leaves nothing to search."""

    trials: int = field(default=30, metadata={"help": "Trials in all, those of earlier calls counted."})
    lowest_learning_rate: float = field(default=1e-3, metadata={"help": "The rate is drawn on a logarithmic scale."})
    highest_learning_rate: float = field(default=1e-1, metadata={"help": "Upper end of the learning rates."})
    prompt_lengths: list[int] | None = field(
        default=None, metadata={"help": "Deep prompts: prompts in every layer. Default: 4 8 16 32 64."}
    )
    depths: list[str] | None = field(
        default=None, metadata={"help": "Deep prompts: layers with prompts. Default: all 'last 4' 'last 2'."}
    )
    encoders: list[str] | None = field(
        default=None, metadata={"help": "Deep prompts: prompt encoders. Default: none mlp."}
    )
    search_metric: str = field(default="accuracy", metadata={"help": "What is made large: accuracy or macro_f1."})


def space_of(search: SearchArguments, arguments: RunArguments) -> dict[str, list[Any]]:
    """Return the options that trials choose, and from what: none for methods without deep prompts.

    Raises:
        ValueError: If an argument is of no use with the method, or says what the trials choose.
    """
    has_prompts = METHODS[arguments.method].adapter is DeepPromptConfig
    space = {}
    for option, (argument, default) in SPACE.items():
        given = getattr(search, argument)
        if given is not None and not has_prompts:
            raise ValueError(f"`{argument}` has no use with method {arguments.method!r}: it has no deep prompts.")
        if has_prompts:
            if option in arguments.options:
                raise ValueError(f"`{option}` is what the trials choose: give `{argument}`.")
            space[option] = default if given is None else given
    if arguments.training.learning_rate is not None:
        raise ValueError("`learning_rate` is what the trials choose: give the lowest and the highest.")
    return space


def suggest(trial: optuna.Trial, search: SearchArguments, space: dict[str, list[Any]]) -> dict[str, Any]:
    """Let a trial choose the learning rate and one value of each option."""
    bounds = search.lowest_learning_rate, search.highest_learning_rate
    rate = trial.suggest_float("learning_rate", *bounds, log=True)
    return {"learning_rate": rate, **{name: trial.suggest_categorical(name, space[name]) for name in space}}


def options_of(chosen: dict[str, Any]) -> dict[str, Any]:
    """Return a trial's choice as options of the method: all but the learning rate, "all" layers by their absence."""
    return {name: value for name, value in chosen.items() if name != "learning_rate" and value != "all"}


def best_command(arguments: RunArguments, chosen: dict[str, Any]) -> str:
    """Return the arguments of `run_text_classification.py` that the best trial stands for."""
    words = [f"--method {arguments.method}", f"--learning_rate {chosen['learning_rate']:.2g}"]
    if arguments.training.head_learning_rate is not None:
        words.append(f"--head_learning_rate {arguments.training.head_learning_rate:g}")
    return " ".join([*words, *(f"--{name} {value}" for name, value in options_of(chosen).items())])


def report(study: optuna.Study, search: SearchArguments, arguments: RunArguments, folder: Path) -> str:
    """Write table and picture; return the table."""
    finished = [trial for trial in study.trials if trial.value is not None]
    finished.sort(key=lambda trial: -trial.value)
    names = [name for name in ("learning_rate", *SPACE) if name in finished[0].params]
    rows = [
        [
            str(trial.number),
            *(f"{trial.params[name]:.2g}" if name == "learning_rate" else str(trial.params[name]) for name in names),
            f"{100 * trial.value:.1f}",
        ]
        for trial in finished
    ]
    text = markdown_table(["trial", *names, f"{search.search_metric} in %"], rows)
    text += f"\n\nThe best trial, all other arguments as they were:\n{best_command(arguments, study.best_params)}"
    (folder / "table.md").write_text(text + "\n", encoding="utf-8")
    plot_points(
        {name: [(trial.params[name], 100 * trial.value) for trial in finished] for name in names},
        folder / "plot.png",
        title=f"{arguments.method}: what each choice gave",
        y_label=f"validation {search.search_metric} in %",
        log_x=("learning_rate",),
    )
    return text


def main(argv: list[str] | None = None) -> None:
    """Run the trials that are missing and write what they found."""
    task = TextClassification()
    words = [*QUIET, *(sys.argv[1:] if argv is None else argv), "--do_train", "--do_eval"]
    arguments, search = parse_arguments(task, __doc__, words, further=(SearchArguments,))
    space = space_of(search, arguments)
    if arguments.training.world_size > 1:
        raise ValueError("a search has one process; start the command several times to share the trials.")
    if arguments.training.head_learning_rate is None:
        # A new head cannot bear the rates that are searched for prompts.
        arguments.training.head_learning_rate = METHODS[arguments.method].head_learning_rate
    transformers.utils.logging.disable_progress_bar()
    datasets.disable_progress_bars()
    data = task.load(arguments.data)
    if "validation" not in task.select(data, arguments.sampling):
        raise ValueError("there is no validation data to search on: give `validation_size`.")

    def objective(trial: optuna.Trial) -> float:
        chosen = suggest(trial, search, space)
        training = copy(arguments.training)
        training.learning_rate = chosen["learning_rate"]
        options = {**arguments.options, **options_of(chosen)}
        outcome = run(task, replace(arguments, training=training, options=options), data=data, write_files=False)
        return outcome.results[f"eval_{search.search_metric}"]

    folder = Path(arguments.training.output_dir or ".")
    folder.mkdir(parents=True, exist_ok=True)
    study = optuna.create_study(
        study_name=arguments.method,
        storage=f"sqlite:///{folder / 'search.db'}",
        direction="maximize",
        load_if_exists=True,
    )
    # The same seed again would draw the same trials again.
    study.sampler = optuna.samplers.TPESampler(seed=arguments.training.seed + len(study.trials))
    missing = search.trials - sum(trial.value is not None for trial in study.trials)
    if missing > 0:
        study.optimize(objective, n_trials=missing)
    print(report(study, search, arguments, folder))


if __name__ == "__main__":
    main()
