"""Many runs as one command: planned, shared among processes, resumed run by run, recorded so that others can go on.

An experiment script (`examples/experiments/`) says which runs there are and what to make of their records; the rest is
here. A run is a plain dictionary that decides its result; a record is the run with what it gave.
"""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import datasets
import torch
import transformers
from accelerate import PartialState
from tqdm.auto import tqdm  # type: ignore[import-untyped]
from transformers.utils import is_torch_bf16_gpu_available

from dpt_peft.tasks.data_sets import DATA_SETS, data_arguments
from dpt_peft.tasks.multiple_choice import MultipleChoiceArguments
from dpt_peft.tasks.question_answering.extractive import QuestionAnsweringArguments
from dpt_peft.tasks.question_answering.multi_span import MultiSpanQAArguments
from dpt_peft.tasks.tagging.names import TokenClassificationArguments
from dpt_peft.tasks.tagging.roles import SemanticRoleArguments
from dpt_peft.tasks.text_classification import TextClassificationArguments
from dpt_peft.training.families import LANGUAGE_MODEL, NEW_HEAD
from dpt_peft.training.methods import METHODS
from dpt_peft.training.multi_span_qa import MultiSpanMethodArguments, run_multi_span_qa
from dpt_peft.training.multiple_choice import MultipleChoiceMethodArguments, run_multiple_choice
from dpt_peft.training.question_answering import QuestionAnsweringMethodArguments, run_question_answering
from dpt_peft.training.question_sampling import QuestionSamplingArguments
from dpt_peft.training.records import append_json_line, command_line, read_json_lines, software_versions
from dpt_peft.training.schedules import ScriptTrainingArguments
from dpt_peft.training.text_classification import MethodArguments, SamplingArguments, run_text_classification
from dpt_peft.training.tuned_run import ModelArguments
from dpt_peft.training.word_tagging import run_semantic_roles, run_token_classification

Run = dict[str, Any]
Record = dict[str, Any]


class FamilyRuns(NamedTuple):
    """How an experiment does a run of a task family: its arguments' dataclasses and the function that does it."""

    data_arguments: Any
    run: Callable[..., dict[str, Any]]
    method_arguments: Any = MethodArguments
    sampling_arguments: Any = SamplingArguments


#: Family -> how its runs are done. A new family is one row.
FAMILIES = {
    "text-classification": FamilyRuns(TextClassificationArguments, run_text_classification),
    "token-classification": FamilyRuns(TokenClassificationArguments, run_token_classification),
    "semantic-role-labeling": FamilyRuns(SemanticRoleArguments, run_semantic_roles),
    "multiple-choice": FamilyRuns(MultipleChoiceArguments, run_multiple_choice, MultipleChoiceMethodArguments),
    "question-answering": FamilyRuns(
        QuestionAnsweringArguments,
        run_question_answering,
        QuestionAnsweringMethodArguments,
        QuestionSamplingArguments,
    ),
    "multi-span-question-answering": FamilyRuns(
        MultiSpanQAArguments, run_multi_span_qa, MultiSpanMethodArguments, QuestionSamplingArguments
    ),
}


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
        """Checks what can be checked before anything is loaded.

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

    def run(self, dataset: str, method: str, seed: int, learning_rate: float | None = None, **rest: Any) -> Run:
        """Returns one run with this experiment's common settings.

        Args:
            dataset: A key of `DATA_SETS`.
            method: A key of `METHODS`.
            seed: Training seed.
            learning_rate: Default: the method's own.
            **rest: `train_fraction`, `examples_per_class`, `options` (fields of `MethodOptions`), or what replaces a
                common setting.
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
            "learning_rate": METHODS[method].learning_rate if learning_rate is None else learning_rate,
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "max_seq_length": self.max_seq_length,
            "split": self.split,
            "max_test_examples": self.max_test_examples,
            # Only where it is set: records of runs without it stay theirs.
            **({"bf16": True} if self.bf16 else {}),
        } | rest


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
    best: int = field(default=3, metadata={"help": "The second table: mean of this many best seeds."})


def learning_rates_of(arguments: ComparisonArguments, method: str) -> list[float]:
    """Returns the learning rates that a method is run with: those given for it, or its own.

    Raises:
        ValueError: If an entry is not of the form method=rate, or names a method that is not run.
    """
    rates = []
    for entry in arguments.learning_rates:
        name, _, rate = entry.partition("=")
        if name not in arguments.methods or not rate:
            raise ValueError(f"`learning_rates` must be like {arguments.methods[0]}=2e-4, got {entry!r}.")
        if name == method:
            rates.append(float(rate))
    return rates or [METHODS[method].learning_rate]


def every_run(arguments: ComparisonArguments, settings: Iterable[dict[str, Any]] = ({},)) -> list[Run]:
    """Returns the runs of a comparison, seed by seed, so that what is finished early is already a table.

    Args:
        arguments: Seeds, methods with their learning rates, and data sets; all of them are crossed.
        settings: What else differs between runs, as for `ExperimentArguments.run`. A `learning_rate` among it takes
            the place of the methods' own.

    Raises:
        ValueError: See `learning_rates_of`.
    """
    settings = list(settings)

    def of_head(method: str) -> dict[str, float]:
        # Only where there is one: records of runs without it stay theirs.
        chosen = METHODS[method]
        rate = arguments.head_learning_rate
        return (
            {} if rate is None or chosen.adapter is None or chosen.base != NEW_HEAD else {"head_learning_rate": rate}
        )

    return [
        arguments.run(dataset, method, seed, **{"learning_rate": rate, **of_head(method), **setting})
        for seed in arguments.seeds
        for setting in settings
        for method in arguments.methods
        for rate in (
            [setting["learning_rate"]] if "learning_rate" in setting else learning_rates_of(arguments, method)
        )
        for dataset in arguments.datasets
    ]


def training_arguments(run: Run, output_dir: str | Path) -> ScriptTrainingArguments:
    """Returns the Trainer's arguments of a run.

    Args:
        run: As `ExperimentArguments.run` makes it.
        output_dir: For what the Trainer writes beside the results; nothing, as it is told here.
    """
    bf16 = run.get("bf16", False)
    return ScriptTrainingArguments(
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


def _train(run: Run, arguments: ExperimentArguments, model_path: str) -> dict[str, Any]:
    """Does one run through the same function as its family's script."""
    data = DATA_SETS[run["dataset"]]
    family = FAMILIES[data.family]
    data_args = family.data_arguments(
        **data_arguments(run["dataset"], arguments.data_dir), max_seq_length=run["max_seq_length"]
    )
    at_mask = METHODS[run["method"]].base == LANGUAGE_MODEL
    words = data.mask_words or data.label_words if at_mask else data.label_words
    prefers_own_words = {"label_words": list(words)} if words else {}
    by_class = {} if run["examples_per_class"] is None else {"examples_per_class": run["examples_per_class"]}
    if by_class and family.sampling_arguments is QuestionSamplingArguments:
        raise ValueError(f"`examples_per_class`: {data.title} has no classes; give a share of its questions.")
    needs_validation = run["split"] == "validation" or run["options"].get("tune_threshold", False)
    return family.run(
        ModelArguments(model_name_or_path=model_path),
        data_args,
        family.method_arguments(method=run["method"], **{**prefers_own_words, **run["options"]}),
        family.sampling_arguments(
            train_fraction=run["train_fraction"],
            sample_seed=run["sample_seed"],
            validation_size=data.held_out if needs_validation else None,
            max_eval_samples=run["max_test_examples"],
            max_predict_samples=run["max_test_examples"],
            **by_class,
        ),
        training_arguments(run, Path(arguments.output_dir) / "trainer"),
        write_files=False,
    )


def _device() -> str:
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads"


def make_record(run: Run, result: dict[str, Any], seconds: float) -> Record:
    """Returns a run with what it gave and what is needed to repeat it."""
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
        "versions": software_versions(),
    }


def read_records(arguments: ExperimentArguments) -> list[Record]:
    """Reads the finished runs: those in `output_dir`, or those that `records` names. A run counts once, the first."""
    paths = [Path(path) for path in arguments.records or []] or sorted(
        Path(arguments.output_dir).glob("records*.jsonl")
    )
    found: list[Record] = []
    for record in (value for path in paths for value in read_json_lines(path)):
        if all(record["run"] != other["run"] for other in found):
            found.append(record)
    return found


def run_missing(
    runs: Sequence[Run],
    arguments: ExperimentArguments,
    train: Callable[[Run, ExperimentArguments, str], dict[str, Any]] = _train,
) -> list[Record]:
    """Does this process's share of the runs that have no record yet, and records each as it is finished.

    Under `accelerate launch` all processes work together on every run (the Trainer splits its batches); `share` lets
    independent processes take runs from each other instead, each with a file of its own.

    Args:
        runs: All runs, those to be finished first at the front.
        arguments: The experiment's arguments.
        train: From a run to metrics, `trained_parameters`, `rows` and `data_fingerprint`.

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
    return f"{run['dataset']} {run['method']}{options} lr {run['learning_rate']:g} seed {run['seed']}"


def write_results(
    arguments: ExperimentArguments,
    records: Sequence[Record],
    text: str,
    draw: Callable[[Path], Any],
) -> None:
    """Prints the table or tables, and writes `table.md` and `plot.png` into `output_dir`.

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
    """Returns a metric of each record in %, in the order of the seeds."""
    ordered = sorted(records, key=lambda record: record["run"]["seed"])
    return [100 * record["metrics"][metric] for record in ordered]
