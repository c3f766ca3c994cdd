"""Many classes: a hierarchy of labels against all classes in one template against a new head (DPT paper, section 5).

    python examples/experiments/label_hierarchies.py --data_dir ../shared/data --output_dir runs/hierarchies \
        --model_name_or_path ../shared/models/minilm-rtd
    python examples/experiments/label_hierarchies.py --output_dir runs/hierarchies --scaling 16 64 250 1000 \
        --model_name_or_path ../shared/models/minilm-rtd

The first command trains on TREC (6 > 50) and HWU64 (18 > 64), the second measures the cost of an answer for synthetic
classes, without training. Every run is a process of its own, so that its memory can be told from the others', and a
line of records.jsonl; what is there is not run again. `--only_table` shows what is there.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory
from typing import Any

import datasets
import transformers
from class_scaling import class_scaling_cost
from comparison import amount_of, models_of
from costs import CostArguments, costs_of, in_new_process
from hierarchical_data_sets import HIERARCHIES
from plan import (
    ExperimentArguments,
    Record,
    Run,
    read_numbers,
    run_arguments,
    run_missing,
    values_of,
    write_results,
)
from plots import plot_boxes, plot_curves
from tables import markdown_table, mean_and_spread
from transformers import HfArgumentParser

from dpt_peft.tasks import NEW_HEAD, TASKS
from dpt_peft.training import METHODS, run as run_task

#: Row -> method, and which hierarchy it uses.
ROWS: dict[str, tuple[str, dict[str, Any]]] = {
    "hierarchy": ("dpt", {"label_hierarchy": "given"}),
    "built": ("dpt", {"label_hierarchy": "built"}),
    "flat": ("dpt", {"label_hierarchy": "none"}),
    "fine_tuning": ("fine_tuning", {}),
}
#: Options of a row with a hierarchy: arguments of this script that are also options of methods.
SEARCH = ("max_children", "beam_width", "beam_threshold")
#: What a run measures beside the Trainer's metrics.
COSTS = ("milliseconds_per_text", "cpu_milliseconds_per_text", "tokens_per_text", "padded_tokens_per_text")
#: The data set of the records that `--scaling` makes.
SYNTHETIC = "synthetic"


@dataclass
class HierarchyExperimentArguments(ExperimentArguments):
    """What this experiment can be told. The defaults are what its results were made with."""

    datasets: list[str] = field(
        default_factory=lambda: list(HIERARCHIES),
        metadata={"help": "Names of data sets.", "choices": list(HIERARCHIES)},
    )
    rows: list[str] = field(
        default_factory=lambda: ["hierarchy", "flat", "fine_tuning"],
        metadata={"help": "What is compared.", "choices": list(ROWS)},
    )
    seeds: list[int] = field(default_factory=lambda: [1, 2], metadata={"help": "Training seeds."})
    epochs: float = field(default=3, metadata={"help": "Passes over the training examples."})
    batch_size: int = field(default=8, metadata={"help": "Examples an update."})
    max_seq_length: int = field(default=64, metadata={"help": "Longest text in tokens."})
    learning_rate: float = field(default=2e-4, metadata={"help": "Of every row but those below."})
    learning_rates: list[str] = field(
        default_factory=list,
        metadata={"help": "row=rate, as in fine_tuning=5e-4; several of a row are all run."},
    )
    row_epochs: list[str] = field(
        default_factory=list, metadata={"help": "row=epochs, as in fine_tuning=20; several of a row are all run."}
    )
    template: str | None = field(
        default=None, metadata={"help": "Rows with a hierarchy: the template. Default: that of DPT."}
    )
    max_children: int = field(default=16, metadata={"help": "built: most names below a branch."})
    beam_width: int = field(default=2, metadata={"help": "Branches followed at a level."})
    beam_threshold: float = field(default=0.3, metadata={"help": "Share of the best score that a branch must have."})
    beams: list[str] = field(
        default_factory=list,
        metadata={"help": "Rows with a hierarchy: beams to compare besides, as in 1:0:sigmoid 2:0.3:softmax."},
    )
    max_beam_samples: int = field(default=200, metadata={"help": "Texts that beams are compared on."})
    scaling: list[int] = field(
        default_factory=list, metadata={"help": "Train nothing; measure these numbers of synthetic classes."}
    )

    def is_mine(self, record: Record) -> bool:
        """Return whether a record is of this kind of experiment, see `ExperimentArguments.is_mine`."""
        return record["run"]["dataset"] == SYNTHETIC or "accuracy_level_1" in record["metrics"]


def options_of(row: str, arguments: HierarchyExperimentArguments) -> dict[str, Any]:
    """What sets a row's runs apart; only what has an effect on the row, so that the others' records stay valid."""
    kind = ROWS[row][1]
    if kind.get("label_hierarchy") not in ("given", "built"):
        return kind
    options = kind | {name: getattr(arguments, name) for name in SEARCH if row == "built" or name != "max_children"}
    if arguments.template is not None:
        options["template"] = arguments.template
    if arguments.beams:
        options |= {"beams": arguments.beams, "max_beam_samples": arguments.max_beam_samples}
    return options


def plan(arguments: HierarchyExperimentArguments) -> list[Run]:
    """The runs, seed by seed, so that what is finished early is already a table; or those of `scaling`."""
    if arguments.scaling:
        kinds = [{"label_hierarchy": "given", "beam_width": width} for width in (1, 2)]
        shape: dict[str, Any] = {
            "epochs": 0,
            "learning_rate": 0.0,
            "batch_size": 16,
            "sample_seed": None,
            "split": "test",
        }
        return [
            arguments.run(SYNTHETIC, "dpt", 0, options={"classes": count, **options}, **shape)
            for count in arguments.scaling
            for options in [*kinds, {"label_hierarchy": "none"}, {"label_hierarchy": "none", "short_list": 8}]
        ]
    rates = read_numbers(arguments.learning_rates, list(ROWS), "learning_rates")
    passes = read_numbers(arguments.row_epochs, list(ROWS), "row_epochs")
    return [
        arguments.run(
            name,
            ROWS[row][0],
            seed,
            learning_rate,
            options=options_of(row, arguments),
            epochs=epochs,
            **HIERARCHIES[name].sampling,
        )
        for seed in arguments.seeds
        for name in arguments.datasets
        for row in arguments.rows
        for learning_rate in rates.get(row, [arguments.learning_rate])
        for epochs in passes.get(row, [arguments.epochs])
    ]


def train(run: Run, arguments: HierarchyExperimentArguments, model_path: str) -> dict[str, Any]:
    """Do one run; called in a process of its own."""
    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
    if run["dataset"] == SYNTHETIC:
        options = run["options"]
        kind = "flat" if options["label_hierarchy"] == "none" else "tree"
        if "short_list" in options:
            kind = "short list"
        return class_scaling_cost(
            model_path,
            kind,
            options["classes"],
            batch_size=run["batch_size"],
            beam_width=options.get("beam_width", 1),
            seed=run["seed"],
        )
    data, task = HIERARCHIES[run["dataset"]], TASKS["hierarchical-classification"]
    beams = {name: value for name, value in run["options"].items() if name in ("beams", "max_beam_samples")}
    run = run | {"options": {name: value for name, value in run["options"].items() if name not in beams}}
    with TemporaryDirectory() as folder:
        words = Path(folder) / "words.json"
        words.write_text(json.dumps(data.words))
        where = data.hub_id if arguments.data_dir is None else str(Path(arguments.data_dir) / run["dataset"])
        source = {"dataset_name": where, "level_column_names": list(data.level_columns)}
        if METHODS[run["method"]].head != NEW_HEAD:
            source["tree_words_file"] = str(words)
        told = run_arguments(run, task, source, model_path, folder, data.held_out)
        told.training.per_device_eval_batch_size = 32
        outcome = run_task(task, told, write_files=False)
        return outcome.results | costs_of(outcome, CostArguments(measure_cost=True, **beams), batch_size=32)


def measure(run: Run, arguments: HierarchyExperimentArguments, model_path: str) -> dict[str, Any]:
    """Do one run in a process of its own; its costs become metrics of the split that they were measured on."""
    result = in_new_process(train, run, arguments, model_path)
    prefix = "eval_" if run["split"] == "validation" else "test_"
    measured = (*COSTS, *(f"flat_{name}" for name in COSTS), "peak_memory_mb", "beams", "passes", "levels")
    return result | {f"{prefix}{name}": result[name] for name in measured if name in result}


def title_of(run: Run) -> str:
    """A row's name: what answers, and what sets its runs apart from the defaults."""
    options = run["options"]
    kind = options.get("label_hierarchy")
    names = {"given": "DPT, the data's hierarchy", "built": "DPT, built hierarchy", "none": "DPT, flat"}
    parts = [names[kind] if kind else METHODS[run["method"]].title]
    if kind == "built":
        parts.append(f"at most {options['max_children']} names")
    in_columns = {"label_hierarchy", *SEARCH, "beams", "max_beam_samples"}
    parts += [f"{name} `{value}`" for name, value in options.items() if name not in in_columns]
    return ", ".join(parts)


def accuracy_table(records: Sequence[Record]) -> str:
    """Accuracy at every level and cost of an answer; mean and spread over the seeds."""
    cells: dict[tuple[str, ...], list[Record]] = defaultdict(list)
    for record in records:
        run = record["run"]
        rate, epochs = f"{run['learning_rate']:.0e}", f"{run['epochs']:g}"
        beam = "{beam_width}, {beam_threshold:g}".format(**run["options"]) if "beam_width" in run["options"] else ""
        cells[HIERARCHIES[run["dataset"]].title, title_of(run), rate, epochs, beam].append(record)
    lines = []
    for key, found in sorted(cells.items(), key=lambda item: item[0][0]):
        scores = [mean_and_spread(values_of(found, name)) for name in ("accuracy", "accuracy_level_1")]
        metrics = [record["metrics"] for record in found]
        costs = [f"{mean(values[name] for values in metrics):.1f}" for name in COSTS[1:3]]
        shares = [_share_of_flat(metrics, name) for name in COSTS[1:3]]
        lines.append([*key, *scores, *costs, *shares, f"{max(values['peak_memory_mb'] for values in metrics):.0f}"])
    header = ["data", "method", "learning rate", "epochs", "beam", "accuracy %", "level 1 %", "CPU ms", "tokens"]
    return markdown_table([*header, "of flat's ms %", "of flat's tokens %", "peak MB"], lines, left=2)


def _share_of_flat(metrics: Sequence[dict[str, Any]], name: str) -> str:
    """A cost in percent of that of all classes in one template, measured in the same process."""
    shares = [100 * values[name] / values[f"flat_{name}"] for values in metrics if f"flat_{name}" in values]
    return f"{mean(shares):.0f}" if shares else ""


def beam_table(records: Sequence[Record]) -> str:
    """Accuracy and cost of every beam that was compared."""
    lines = []
    for record in records:
        for beam in record["metrics"].get("beams", []):
            width, threshold, score = beam["beam"].split(":")
            values = [f"{100 * beam[name]:.1f}" for name in ("accuracy", "reached")]
            costs = [f"{beam[name]:.1f}" for name in COSTS[1:3]]
            run, rows = record["run"], record["rows"][record["run"]["split"]]
            texts = min(run["options"]["max_beam_samples"], rows)
            names = [HIERARCHIES[run["dataset"]].title, title_of(run), score]
            lines.append([*names, width, threshold, str(run["seed"]), str(texts), *values, *costs])
    header = ["data", "method", "score", "beam", "threshold", "seed", "texts", "accuracy %", "reached %"]
    return markdown_table([*header, "CPU ms", "tokens"], lines, left=3)


def _synthetic_title(run: Run) -> str:
    width = run["options"].get("beam_width")
    if "short_list" in run["options"]:
        return f"short list of {run['options']['short_list']}"
    return "all in templates" if width is None else f"tree, beam of {width}"


def scaling_table(records: Sequence[Record]) -> str:
    """Cost of an answer over the number of synthetic classes."""
    lines = []
    for record in sorted(records, key=lambda r: (_synthetic_title(r["run"]), r["run"]["options"]["classes"])):
        metrics = record["metrics"]
        passes = metrics.get("passes", metrics.get("levels"))
        numbers = [f"{metrics[name]:.1f}" for name in COSTS[1:3]]
        classes = str(record["run"]["options"]["classes"])
        lines.append(
            [_synthetic_title(record["run"]), classes, str(passes), *numbers, f"{metrics['peak_memory_mb']:.0f}"]
        )
    return markdown_table(["the classes", "number", "passes or levels", "CPU ms", "tokens", "peak MB"], lines)


def draw_scaling(records: Sequence[Record], path: Path) -> None:
    """Cost of an answer over the number of synthetic classes."""
    panels = {"CPU milliseconds a text": COSTS[1], "tokens a text, over all passes": COSTS[2]}
    curves: Any = {panel: defaultdict(lambda: defaultdict(list)) for panel in panels}
    for record in sorted(records, key=lambda r: _synthetic_title(r["run"])):
        for panel, name in panels.items():
            classes = record["run"]["options"]["classes"]
            curves[panel][_synthetic_title(record["run"])][classes].append(record["metrics"][name])
    title = "Cost of an answer over the number of classes"
    plot_curves(curves, path, title=title, x_label="classes", y_label="", log_x=True, columns=2)


def draw_accuracy(records: Sequence[Record], arguments: HierarchyExperimentArguments, path: Path) -> None:
    """A box for each row, one panel a data set."""
    groups: Any = defaultdict(lambda: defaultdict(list))
    for record in records:
        run = record["run"]
        row = f"{title_of(run)}, {run['epochs']:g} epochs"
        groups[HIERARCHIES[run["dataset"]].title][row] += values_of([record], arguments.metric)
    amounts = ", ".join(
        f"{HIERARCHIES[name].title} {amount}"
        for name, amount in dict.fromkeys((record["run"]["dataset"], amount_of(record["run"])) for record in records)
    )
    title = f"{models_of(records)}: {amounts}"
    plot_boxes(groups, path, title=title, y_label=f"{arguments.split} {arguments.metric} in %", columns=2)


def main(argv: list[str] | None = None) -> None:
    """Run what is missing and shows what there is."""
    parser = HfArgumentParser(HierarchyExperimentArguments, description=__doc__)
    (arguments,) = parser.parse_args_into_dataclasses(argv)
    if arguments.data_dir is None and not (arguments.only_table or arguments.scaling):
        not_on_the_hub = [name for name in arguments.datasets if HIERARCHIES[name].hub_id is None]
        if not_on_the_hub:
            parser.error(f"--data_dir is missing, the folder with one folder a data set, for {not_on_the_hub}")
    records = run_missing(plan(arguments), arguments, measure)
    trained = [record for record in records if record["run"]["dataset"] != SYNTHETIC]
    scaled = [record for record in records if record["run"]["dataset"] == SYNTHETIC]
    tables = [accuracy_table(trained)] if trained else []
    if any("beams" in record["metrics"] for record in trained):
        tables.append(beam_table(trained))
    tables += [scaling_table(scaled)] if scaled else []

    def draw(path: Path) -> None:
        if trained:
            draw_accuracy(trained, arguments, path)
        if scaled:
            draw_scaling(scaled, path.with_name("scaling.png"))

    write_results(arguments, records, "\n\n".join(tables), draw)


if __name__ == "__main__":
    main()
