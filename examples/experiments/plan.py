"""Many runs as one command: planned, shared among processes, resumed run by run, recorded so that others can go on.

An experiment script (`examples/experiments/`) says which runs there are and what to make of their records; the rest is
here. A run is a plain dictionary that decides its result; a record is the run with what it gave.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import datasets
import torch
import transformers
from accelerate import PartialState
from tqdm.auto import tqdm  # type: ignore[import-untyped]
from transformers.utils import is_torch_bf16_gpu_available

from dpt_peft.tasks import DATA_SETS, LANGUAGE_MODEL, NEW_HEAD, TASKS, Task, data_arguments
from dpt_peft.training import (
    METHODS,
    ModelArguments,
    RunArguments,
    ScriptTrainingArguments,
    append_json_line,
    command_line,
    read_json_lines,
    run as run_task,
    software_versions,
)

Run = dict[str, Any]
Record = dict[str, Any]


@dataclass
class ExperimentArguments:
    """What every experiment can be told. The defaults are the DPT paper's: 10 epochs, batches of 32."""

    output_dir: str = field(metadata={"help": "Folder for records, table and picture."})
    data_dir: str | None = field(
        default=None, metadata={"help": "Folder with one folder a data set. Default: the Hub."}
    )
    model_name_or_path: str | None = field(
        default=None, metadata={"help": "Hub id or folder. Default: the discriminator that comes with dpt_peft."}
    )
    datasets: list[str] = field(
        default_factory=lambda: ["sst2", "sst5", "trec", "ag_news"],
        metadata={"help": f"Names of data sets: {', '.join(DATA_SETS)}.", "choices": list(DATA_SETS)},
    )
    seeds: list[int] = field(default_factory=lambda: [1, 2, 3], metadata={"help": "Training seeds."})
    sample_seed: int | None = field(
        default=0,
        metadata={"help": "Seed of the choice of examples; -1: each run's training seed, so a new choice every time."},
    )
    epochs: float = field(default=10, metadata={"help": "Passes over the training examples."})
    batch_size: int = field(default=32, metadata={"help": "Examples an update."})
    max_seq_length: int = field(default=128, metadata={"help": "Longest text in tokens."})
    split: str = field(default="test", metadata={"help": "What is measured on.", "choices": ["test", "validation"]})
    max_test_examples: int | None = field(default=None, metadata={"help": "Measure on the first rows only."})
    bf16: bool = field(default=False, metadata={"help": "Train and measure in bfloat16 mixed precision."})
    metric: str = field(default="accuracy", metadata={"help": "For table and picture: accuracy or macro_f1, ..."})
    records: list[str] | None = field(
        default=None, metadata={"help": "Records to show, of any machines. Default: records*.jsonl in output_dir."}
    )
    only_table: bool = field(default=False, metadata={"help": "Run nothing; make table and picture of the records."})
    share: str = field(
        default="1/1", metadata={"help": "'2/3': do the second third of the runs. Start the others beside it."}
    )

    def __post_init__(self) -> None:
        """Check what can be checked before anything is loaded.

        Raises:
            ValueError: If `share` is not of the form "2/3".
        """
        part, _, parts = self.share.partition("/")
        if not (part.isdigit() and parts.isdigit() and 1 <= int(part) <= int(parts)):
            raise ValueError(f"`share` must be like '1/2' or '2/2', got {self.share!r}.")

    @property
    def model(self) -> str:
        """The model's name in records: folders go by their last part, so that machines agree."""
        path = self.model_name_or_path
        if path is None:
            return "embedded"
        return Path(path).resolve().name if Path(path).is_dir() else path

    def run(self, dataset: str, method: str, seed: int, learning_rate: float, **rest: Any) -> Run:
        """Return one run with this experiment's common settings.

        Args:
            dataset: A key of `DATA_SETS`.
            method: A key of `METHODS`.
            seed: Training seed.
            learning_rate: Of all that is trained, or of all but the head.
            **rest: `head_learning_rate`, `train_fraction`, `examples_per_class`, `options` (of the method, or of how
                the task is read), or what replaces a common setting.
        """
        return {
            "model": self.model,
            "dataset": dataset,
            "method": method,
            "options": {},
            "seed": seed,
            "sample_seed": seed if self.sample_seed == -1 else self.sample_seed,
            "train_fraction": None,
            "examples_per_class": None,
            "learning_rate": learning_rate,
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "max_seq_length": self.max_seq_length,
            "split": self.split,
            "max_test_examples": self.max_test_examples,
            # Written only when set, so that older records still match their runs.
            **({"bf16": True} if self.bf16 else {}),
        } | rest

    def is_mine(self, record: Record) -> bool:
        """Return whether a record is of this kind of experiment.

        Experiments may share a folder, and one over a hierarchy has the same run for other labels of the same data.
        """
        return record["run"]["dataset"] in DATA_SETS and "accuracy_level_1" not in record["metrics"]


@dataclass
class ComparisonArguments(ExperimentArguments):
    """What every experiment that compares methods can be told besides."""

    methods: list[str] = field(
        default_factory=lambda: ["fine_tuning", "dpt"],
        metadata={"help": "Tuning methods.", "choices": list(METHODS)},
    )
    learning_rates: list[str] = field(
        default_factory=list,
        metadata={"help": "method=rate, as in dpt=2e-4; several of a method are all run. Default: each method's own."},
    )
    head_learning_rate: float | None = field(
        default=None,
        metadata={"help": "Of the new head over a frozen backbone. Default: the method's learning rate for it too."},
    )
    options: list[str] = field(
        default_factory=list, metadata={"help": "method.option=value, as in deep_prompt.use_gate=true."}
    )
    best: int = field(default=3, metadata={"help": "The second table: mean of this many best seeds."})


def read_options(entries: list[str], methods: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Read entries such as "dpt.wordpieces=mean"; what is JSON (numbers, true, lists) is read as such.

    Args:
        entries: What the command line gave.
        methods: The methods that are run.

    Returns:
        The options of each method.

    Raises:
        ValueError: If an entry is not of that form, or names a method that is not run.
    """
    found: dict[str, dict[str, Any]] = {method: {} for method in methods}
    for entry in entries:
        name, _, value = entry.partition("=")
        owner, _, option = name.partition(".")
        if owner not in found or not option or not value:
            raise ValueError(
                f"`options` must be like dpt.wordpieces=mean, of the methods {', '.join(methods)}; got {entry!r}."
            )
        found[owner][option] = _read(value)
    return found


def read_numbers(entries: Sequence[str], names: Sequence[str], argument: str) -> dict[str, list[float]]:
    """Read entries such as "dpt=2e-4", of which one name may have several.

    Args:
        entries: What the command line gave.
        names: What may stand before the "=".
        argument: Name of the argument, for messages.

    Raises:
        ValueError: If an entry is not of that form, or has another name.
    """
    found: dict[str, list[float]] = {}
    for entry in entries:
        name, _, value = entry.partition("=")
        if name not in names or not value:
            raise ValueError(f"`{argument}` must be like {names[0]}=2e-4, of {', '.join(names)}; got {entry!r}.")
        found.setdefault(name, []).append(float(value))
    return found


def _read(value: str) -> Any:
    try:
        return json.loads(value)
    except json.JSONDecodeError:
        return value


def rates_of(arguments: ComparisonArguments, method: str, only: float | None = None) -> list[dict[str, float]]:
    """Return the learning rates that a method is run with: those given for it, or its own.

    Args:
        arguments: The experiment's arguments.
        method: One of its methods.
        only: Learning rate that the experiment sets in place of these.

    Returns:
        `learning_rate` of each, and `head_learning_rate` where a new head over a frozen backbone has one of its own.

    Raises:
        ValueError: If an entry is not of the form method=rate, or names a method that is not run.
    """
    rates = read_numbers(arguments.learning_rates, arguments.methods, "learning_rates").get(method, [])
    chosen, of_head = METHODS[method], arguments.head_learning_rate
    if only is not None:
        rates = [only]
    elif not rates:
        rates = [chosen.learning_rate]
        of_head = chosen.head_learning_rate if of_head is None else of_head
    new_head = chosen.adapter is not None and chosen.head == NEW_HEAD
    # Written only when set, so that older records still match their runs.
    own = {"head_learning_rate": of_head} if new_head and of_head is not None else {}
    return [{"learning_rate": rate, **own} for rate in rates]


def every_run(arguments: ComparisonArguments, settings: Iterable[dict[str, Any]] = ({},)) -> list[Run]:
    """Return the runs of a comparison, seed by seed, so that what is finished early is already a table.

    Args:
        arguments: Seeds, methods with their learning rates, and data sets; all of them are crossed.
        settings: What else differs between runs, as for `ExperimentArguments.run`. A `learning_rate` among it takes
            the place of the methods' own.

    Raises:
        ValueError: See `rates_of` and `read_options`; or if an option is given that the settings choose.
    """
    settings = list(settings)
    given = read_options(arguments.options, arguments.methods)
    for name in {name for setting in settings for name in setting.get("options", {})}:
        if any(name in options for options in given.values()):
            raise ValueError(f"`options`: {name!r} is what this experiment compares.")
    return [
        arguments.run(
            dataset, method, seed, **{**setting, **rates, "options": given[method] | setting.get("options", {})}
        )
        for seed in arguments.seeds
        for setting in settings
        for method in arguments.methods
        for rates in rates_of(arguments, method, setting.get("learning_rate"))
        for dataset in arguments.datasets
    ]


def run_arguments(
    run: Run, task: Task, data: Mapping[str, Any], model_path: str, output_dir: str | Path, held_out: int | None
) -> RunArguments:
    """Return what `dpt_peft.training.run` is told for a run.

    Args:
        run: As `ExperimentArguments.run` makes it. Those of its options that are fields of the task's data arguments
            go there, the others are the method's.
        task: The run's task family.
        data: Data arguments by name.
        model_path: The pretrained model.
        output_dir: For what the Trainer writes beside the results; nothing, as it is told here.
        held_out: Training rows to hold out where the run is measured or tuned on validation data.

    Raises:
        ValueError: If the run takes examples of each class and the task has no classes.
    """
    of_data = {each.name for each in fields(task.arguments)}
    read = {name: value for name, value in run["options"].items() if name in of_data}
    data_args = task.arguments(**data, **read, max_seq_length=run["max_seq_length"])
    by_class = {} if run["examples_per_class"] is None else {"examples_per_class": run["examples_per_class"]}
    if by_class and "examples_per_class" not in {each.name for each in fields(task.sampling)}:
        raise ValueError(f"`examples_per_class`: {task.name} has no classes; give a share of the examples.")
    sampling = task.sampling(
        train_fraction=run["train_fraction"],
        sample_seed=run["sample_seed"],
        validation_size=held_out if run["split"] == "validation" or task.tunes(data_args) else None,
        max_eval_samples=run["max_test_examples"],
        max_predict_samples=run["max_test_examples"],
        **by_class,
    )
    bf16 = run.get("bf16", False)
    training = ScriptTrainingArguments(
        output_dir=str(output_dir),
        do_train=True,
        do_eval=run["split"] == "validation",
        do_predict=run["split"] == "test",
        seed=run["seed"],
        learning_rate=run["learning_rate"],
        head_learning_rate=run.get("head_learning_rate"),
        num_train_epochs=run["epochs"],
        per_device_train_batch_size=run["batch_size"],
        per_device_eval_batch_size=64,
        bf16=bf16,
        use_cpu=bf16 and not is_torch_bf16_gpu_available(),
        warmup_steps=0.1,
        train_sampling_strategy="group_by_length",
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    return RunArguments(
        data_args,
        run["method"],
        training,
        {name: value for name, value in run["options"].items() if name not in of_data},
        ModelArguments(model_path),
        sampling,
    )


def train(run: Run, arguments: ExperimentArguments, model_path: str) -> dict[str, Any]:
    """Do one run, as its family's script does it."""
    data = DATA_SETS[run["dataset"]]
    head = METHODS[run["method"]].head
    words = (head == LANGUAGE_MODEL and data.mask_words) or data.label_words
    if words and head != NEW_HEAD:
        run = run | {"options": {"label_words": list(words), **run["options"]}}
    task = TASKS[data.family]
    source = data_arguments(run["dataset"], arguments.data_dir)
    folder = Path(arguments.output_dir) / "trainer"
    return run_task(
        task, run_arguments(run, task, source, model_path, folder, data.held_out), write_files=False
    ).results


def _device() -> str:
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads"


def make_record(run: Run, result: dict[str, Any], seconds: float) -> Record:
    """Return a run with what it gave and what is needed to repeat it."""
    prefix = "eval_" if run["split"] == "validation" else "test_"
    technical = ("runtime", "per_second", "model_preparation_time")
    return {
        "run": run,
        "metrics": {
            key.removeprefix(prefix): value
            for key, value in result.items()
            if key.startswith(prefix) and not key.endswith(technical)
        },
        "trained_parameters": result["trained_parameters"],
        "rows": result["rows"],
        "data_fingerprint": result["data_fingerprint"],
        # What the run's own options leave to defaults and data; beside the run, which has to stay equal to itself.
        **{name: result[name] for name in ("options", "wrapper") if result.get(name) is not None},
        "seconds": round(seconds, 1),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "device": _device(),
        "command": command_line(),
        "versions": software_versions(*result.get("packages", ())),
    }


def read_records(arguments: ExperimentArguments) -> list[Record]:
    """Read the finished runs of an experiment: those in `output_dir`, or those that `records` names.

    A run counts once, the first.
    """
    paths = [Path(path) for path in arguments.records or []] or sorted(
        Path(arguments.output_dir).glob("records*.jsonl")
    )
    found: list[Record] = []
    for record in (value for path in paths for value in read_json_lines(path)):
        if arguments.is_mine(record) and all(record["run"] != other["run"] for other in found):
            found.append(record)
    return found


def run_missing(
    runs: Sequence[Run],
    arguments: ExperimentArguments,
    train: Callable[[Run, ExperimentArguments, str], dict[str, Any]] = train,
) -> list[Record]:
    """Do this process's share of the runs that have no record yet, and records each as it is finished.

    Under `accelerate launch` all processes work together on every run (the Trainer splits its batches); `share` lets
    independent processes take runs from each other instead, each with a file of its own.

    Args:
        runs: All runs, those to be finished first at the front.
        arguments: The experiment's arguments.
        train: From a run to metrics, `trained_parameters`, `rows` and `data_fingerprint`; `packages`, where others
            than our own decide the result.

    Returns:
        The records of all of `runs` that are finished now; with `only_table` those of all finished runs on the split.
    """
    part, _, parts = arguments.share.partition("/")
    output_dir = Path(arguments.output_dir)
    if not arguments.only_table:
        datasets.disable_progress_bars()
        transformers.utils.logging.disable_progress_bar()
        output_dir.mkdir(parents=True, exist_ok=True)
        state = PartialState()
        file = output_dir / ("records.jsonl" if parts == "1" else f"records-{part}-of-{parts}.jsonl")
        done = [record["run"] for record in read_records(arguments)]
        mine = [run for run in list(runs)[int(part) - 1 :: int(parts)] if run not in done]
        model_path = ModelArguments(arguments.model_name_or_path).resolve()
        with tqdm(mine, unit="run", disable=not state.is_main_process) as progress:
            for run in progress:
                progress.set_postfix_str(describe(run))
                start = time.perf_counter()
                result = train(run, arguments, model_path)
                if state.is_main_process:
                    append_json_line(file, make_record(run, result, time.perf_counter() - start))
    records = read_records(arguments)
    if arguments.only_table:
        return [record for record in records if record["run"]["split"] == arguments.split]
    return [record for record in records if record["run"] in list(runs)]


def describe(run: Run) -> str:
    """A run in a few words, for progress bars."""
    options = "".join(f" {value}" for value in run["options"].values())
    rate = "" if run["learning_rate"] is None else f" lr {run['learning_rate']:g}"
    return f"{run['dataset']} {run['method']}{options}{rate} seed {run['seed']}"


def write_results(
    arguments: ExperimentArguments,
    records: Sequence[Record],
    text: str,
    draw: Callable[[Path], Any],
) -> None:
    """Print the table or tables, and writes `table.md` and `plot.png` into `output_dir`.

    Args:
        arguments: The experiment's arguments.
        records: What they show; nothing is written if there is none.
        text: The tables.
        draw: Draws the picture into a file.
    """
    if int(os.environ.get("RANK", "0")) != 0:
        return
    if not records:
        sys.stdout.write("None of these runs is finished yet.\n")
        return
    sys.stdout.write(f"{text}\n")
    output_dir = Path(arguments.output_dir)
    output_dir.mkdir(parents=True, exist_ok=True)
    (output_dir / "table.md").write_text(text + "\n", encoding="utf-8")
    draw(output_dir / "plot.png")


def values_of(records: Iterable[Record], metric: str) -> list[float]:
    """Return a metric of each record in %, in the order of the seeds."""
    ordered = sorted(records, key=lambda record: record["run"]["seed"])
    return [100 * record["metrics"][metric] for record in ordered]
