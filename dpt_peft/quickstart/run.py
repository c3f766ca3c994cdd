"""All runs of one call, with what is already done passed over; and the report at the end: a table and a picture."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean, stdev
from typing import TYPE_CHECKING, Any

from datasets import ClassLabel
from transformers.hf_argparser import HfArg

import dpt_peft
from dpt_peft.tasks.base import TaskData
from dpt_peft.tasks.sampling import ClassSamplingArguments
from dpt_peft.tasks.text_classification import TextClassification, TextClassificationArguments
from dpt_peft.training.fit import load
from dpt_peft.training.methods import METHODS, build_model, describe_options, methods_of, option_names
from dpt_peft.training.records import append_json_line, data_fingerprint, read_json_lines
from dpt_peft.training.run import RunArguments, run
from dpt_peft.training.trainer import ScriptTrainingArguments

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

TASK = TextClassification()
#: Method -> the records of its runs, at least one.
Records = Mapping[str, Sequence[Mapping[str, Any]]]
#: Where `train.csv`, `test.csv` and their data card (README.md) lie: 8 classes, 28 messages a class and split.
FOLDER = Path(__file__).parent / "data"
PACKAGED = TextClassificationArguments(train_file=str(FOLDER / "train.csv"), test_file=str(FOLDER / "test.csv"))
#: Three messages that are in neither split, for the predictions at the end.
NEW_TEXTS = (
    "Nobody has been able to sign in since you changed the servers on Sunday.",
    "Why does my bank statement show your name three times this month?",
    "I've baked for a living, do you take on people over fifty?",
)
#: The seed whose models are kept; the others are only measured.
KEPT_SEED = 0


@dataclass
class QuickstartArguments:
    """What is trained, and how."""

    methods: list[str] = HfArg(
        default_factory=lambda: ["fine_tuning", "dpt", "dpt_prototypes", "dpt_prototypes_deep_prompt"],
        help="Tuning methods to compare.",
        metadata={"choices": list(methods_of(TASK))},
    )
    label_words: list[str] | None = HfArg(
        default=None, help="DPT's words for the classes, in sorted order. Default: the classes' names."
    )
    num_virtual_tokens: int | None = HfArg(default=None, help="Prompts a layer. Default: the method's own.")
    examples_per_class: int = HfArg(default=8, help="Labelled examples of each class.")
    test_fraction: float = HfArg(default=0.3, help="Share to hold out where there is no `test_file`.")
    seeds: int = HfArg(default=3, help="Runs of each method.")
    num_train_epochs: int | None = HfArg(
        default=None, help="Passes over the examples. Default: by method, about 100 updates."
    )
    output_dir: str = HfArg(default="outputs/quickstart", help="For records, picture and models.")
    overwrite: bool = HfArg(default=False, help="Forget the runs in the output folder.")

    def __post_init__(self) -> None:
        """Check what no other part checks."""
        for name in ("seeds", "num_train_epochs"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"`{name}` must be at least 1, got {value}.")


def load_data(source: TextClassificationArguments, test_fraction: float = 0.3) -> TaskData:
    """Load training and test texts; without a test file, hold out a share of every class, always the same rows.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If the data is not what `source` says, a text may have several labels, the test data has no labels,
            or a class is too small to be in both parts.
    """
    data = TASK.load(source)
    if data.several_labels:
        raise ValueError(
            f"`label_column_name`: the quickstart is for texts of one class each, but column "
            f"{source.label_column_name!r} gives them several. Train such data with `dpt_peft.fit`."
        )
    if "test" in data.splits:
        if "labels" not in data.splits["test"].column_names:
            raise ValueError(f"`test_file`: {source.test_file!r} has no labels, so nothing can be measured.")
        return data
    rows = data.splits["train"].cast_column("labels", ClassLabel(names=data.label_names))
    try:
        parts = rows.train_test_split(test_size=test_fraction, stratify_by_column="labels", seed=0)
    except ValueError as error:
        raise ValueError(
            f"`test_fraction` {test_fraction} of {len(rows)} rows in {len(data.label_names)} classes cannot be held "
            f"out, as every class must have rows in both parts ({error}). Give more rows, or `test_file`."
        ) from error
    plain = data.splits["train"].features
    return replace(data, splits={split: part.cast(plain) for split, part in parts.items()})


class Quickstart:
    """The runs that one call asks for, on the package's messages where `source` names no data.

    What cannot work raises a ValueError or OSError here, before any training.
    """

    def __init__(self, arguments: QuickstartArguments, source: Any, model: Any, console: Console) -> None:
        self.arguments, self.console = arguments, console
        own = source.train_file is not None or source.dataset_name is not None
        if not own and replace(source, max_seq_length=None) != type(source)():
            raise ValueError("Columns and `test_file` are for data of your own: give `train_file` too.")
        self.source = replace(source if own else PACKAGED, max_seq_length=source.max_seq_length or 128)
        self.data = load_data(self.source, arguments.test_fraction)
        self.name = self.source.describe() if own else "Customer messages"
        self.texts = list(self.data.splits["test"]["text"][:3]) if own else list(NEW_TEXTS)
        self.folder = Path(arguments.output_dir)
        self.log = self.folder / "runs.jsonl"
        if self.folder.is_file():
            raise ValueError(f"`output_dir` {arguments.output_dir!r} is a file; name a folder.")
        with console.status("Loading the model ..."):
            self.model = replace(model, model_name_or_path=model.resolve())
            for method in arguments.methods:
                asked = self.run_arguments(method, 0, "unused")
                TASK.select(self.data, asked.sampling)
                name, how = self.model.resolve(), self.model.for_loading()
                try:
                    built = build_model(TASK, method, name, self.data, model_kwargs=how, **asked.options)
                    TASK.longest_row(self.source, TASK.load_tokenizer(name), built)
                except OSError as error:
                    raise OSError(f"`model_name_or_path`: there is no model {name!r}: {error}") from error

    def run_arguments(self, method: str, seed: int, folder: str | Path) -> RunArguments:
        """Return a run's arguments."""
        asked = self.arguments
        options = {"label_words": asked.label_words, "num_virtual_tokens": asked.num_virtual_tokens}
        known = option_names(TASK, method)
        return RunArguments(
            data=self.source,
            method=method,
            options={name: value for name, value in options.items() if name in known and value is not None},
            model=self.model,
            sampling=ClassSamplingArguments(examples_per_class=asked.examples_per_class, sample_seed=seed),
            training=ScriptTrainingArguments(
                output_dir=str(folder),
                do_train=True,
                do_predict=True,
                seed=seed,
                num_train_epochs=asked.num_train_epochs,
                per_device_eval_batch_size=32,
                save_strategy="no",
                logging_strategy="no",
                report_to="none",
                disable_tqdm=True,
            ),
        )

    def key(self, method: str, seed: int) -> dict[str, Any]:
        """Return all that a run's result depends on."""
        asked, chosen, name = self.arguments, METHODS[method], self.model.resolve()
        return {
            "version": dpt_peft.__version__,
            # Weights trained further are another model.
            "model": [
                name,
                *([file.name, file.stat().st_mtime_ns] for file in sorted(Path(name).glob("*.safetensors"))),
            ],
            "data": {split: data_fingerprint(rows) for split, rows in self.data.splits.items()},
            "names": self.data.label_names,
            "length": self.source.max_seq_length,
            "examples": asked.examples_per_class,
            "training": [asked.num_train_epochs, chosen.learning_rate, chosen.head_learning_rate],
            "updates": [chosen.updates, chosen.passes],
            "options": describe_options(TASK, method, self.run_arguments(method, seed, "unused").options),
            "method": method,
            "seed": seed,
        }

    def run(self) -> Records:
        """Train what is not yet done with these settings, seed by seed, and return the records of every method."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.arguments.overwrite:
            self.log.unlink(missing_ok=True)
        methods, seeds = self.arguments.methods, range(self.arguments.seeds)
        done = {(method, seed): self._find(self.key(method, seed)) for seed in seeds for method in methods}
        todo = [pair for pair, record in done.items() if record is None]
        if len(todo) < len(done):
            kept = f"{len(done) - len(todo)} of {len(done)} runs are already in {self.log} (--overwrite trains again)."
            self.console.print(kept, soft_wrap=True)
        with self.console.status("") as status:
            for number, (method, seed) in enumerate(todo, start=1):
                title = f"{METHODS[method].title}, seed {seed}"
                status.update(f"{title} (run {number} of {len(todo)}) ...")
                record = done[method, seed] = self.train(method, seed)
                append_json_line(self.log, record)
                self.console.print(f"{title}: {record['accuracy']:.1%} in {record['seconds']:.0f} s")
        return {method: [done[method, seed] for seed in seeds] for method in methods}  # type: ignore[misc]

    def _find(self, key: dict[str, Any]) -> dict[str, Any] | None:
        found = [record for record in read_json_lines(self.log) if record.get("run") == key]
        # A call with other settings may have put its own model there since.
        marker = self.folder / "models" / key["method"] / "run.json"
        if key["seed"] == KEPT_SEED and not (marker.exists() and json.loads(marker.read_text()) == key):
            return None
        return found[-1] if found else None

    def train(self, method: str, seed: int) -> dict[str, Any]:
        """Train and measure once, keep the model if it is the kept seed's, and return the record."""
        start = time.perf_counter()
        with tempfile.TemporaryDirectory() as scratch:
            folder = self.folder / "models" / method if seed == KEPT_SEED else Path(scratch) / "model"
            shutil.rmtree(folder, ignore_errors=True)
            asked = self.run_arguments(method, seed, folder)
            results = run(TASK, asked, data=self.data, show=False).results
            (folder / "run.json").write_text(json.dumps(self.key(method, seed)), encoding="utf-8")
            return {
                "run": self.key(method, seed),
                "accuracy": results["test_accuracy"],
                "trained_parameters": results["trained_parameters"],
                "saved_bytes": sum(file.stat().st_size for file in folder.rglob("*.safetensors")),
                "seconds": time.perf_counter() - start,
            }

    def report(self, records: Records) -> None:
        """Print the table, draw the picture, and load one kept model again to classify three texts.

        It is not the best one: choosing by test accuracy would make that accuracy look better than it is.
        """
        classes, count, seeds = len(self.data.label_names), self.arguments.examples_per_class, self.arguments.seeds
        setting = f"{self.name}: {classes} classes, {count} labelled examples a class, {seeds} seeds"
        kept = next((name for name in ("dpt_prototypes", "dpt") if name in records), next(iter(records)))
        folder, picture = self.folder / "models" / kept, plot_spread(records, self.folder / "spread.png", setting)
        lines = [f"Picture:     {picture}", f"Saved model: {folder} ({METHODS[kept].title}, seed {KEPT_SEED})", ""]
        lines += ["import dpt_peft", f'classify = dpt_peft.load("{folder}")', "", "That model on three texts:"]
        for text, found in zip(self.texts, load(folder)(self.texts, top_k=3), strict=True):
            shown = text if len(text) <= 100 else text[:97] + "..."
            lines += [f"  {shown}", "    " + ", ".join(f"{entry['label']} {entry['score']:.2f}" for entry in found)]
        print(f"\n{setting}, {len(self.data.splits['test'])} test texts\n")
        self.console.print(make_table(records))
        print("accuracy %: mean over the seeds; spread: their standard deviation, in points\n", *lines, sep="\n")


def make_table(records: Records) -> Table:
    """Return one row a method: mean and spread of the accuracy over the seeds, and what it cost."""
    from rich import box  # an extra, as matplotlib
    from rich.filesize import decimal
    from rich.table import Table

    table = Table("method", box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("accuracy %", "spread", "trained parameters", "saved size", "seconds"):
        table.add_column(heading, justify="right")
    for method, runs in records.items():
        accuracies = [100 * run["accuracy"] for run in runs]
        spread = f"{stdev(accuracies):.1f}" if len(accuracies) > 1 else "-"
        sizes = f"{runs[0]['trained_parameters']:,}", decimal(runs[0]["saved_bytes"])
        seconds = f"{mean(run['seconds'] for run in runs):.0f}"
        table.add_row(METHODS[method].title, f"{mean(accuracies):.1f}", spread, *sizes, seconds)
    return table


def plot_spread(records: Records, path: Path, title: str) -> Path:
    """Draw every seed's test accuracy as a point, one row a method, and their mean as a bar; return `path`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 1.5 + 0.8 * len(records)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    names = []
    for row, (method, runs) in enumerate(records.items()):
        accuracies = [100 * run["accuracy"] for run in runs]
        # Equal accuracies would hide each other: seeds stand a little below one another in their row.
        rows = [row + 0.3 * (index / max(1, len(runs) - 1) - 0.5) for index in range(len(runs))]
        axes.vlines(mean(accuracies), row - 0.3, row + 0.3, color=f"C{row}", linewidth=2.5, alpha=0.5)
        axes.scatter(accuracies, rows, s=55, color=f"C{row}", edgecolor="white", zorder=3)
        names.append(f"{METHODS[method].title}\n{mean(accuracies):.1f} %")
    axes.set_yticks(range(len(records)), names)
    axes.set_ylim(len(records) - 0.5, -0.5)
    axes.margins(x=0.15)
    axes.set_xlabel("test accuracy in % (points: seeds; bar and number: their mean)")
    axes.grid(axis="x", color="0.9")
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    figure.suptitle(title, fontsize="medium", fontweight="bold")
    figure.savefig(path, dpi=150)
    return path
