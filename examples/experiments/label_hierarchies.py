"""Many classes: a hierarchy of labels against all classes in one template against a new head (DPT paper, section 5).

    python examples/experiments/label_hierarchies.py --data_dir ../shared/data --output_dir runs/hierarchies \
        --model_name_or_path ../shared/models/minilm-rtd
    python examples/experiments/label_hierarchies.py --output_dir runs/hierarchies --scaling 16 64 250 1000 \
        --model_name_or_path ../shared/models/minilm-rtd

The first command trains on TREC (6 > 50) and HWU64 (18 > 64), the second measures the cost of an answer for synthetic
classes, without training. Every run is a process of its own and a line of records.jsonl (scaling.jsonl); what is there
is not run again. `--only_table` shows what is there.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import datasets
import transformers
from transformers import HfArgumentParser, TrainingArguments

from dpt_peft.tasks.hierarchical_classification import HierarchicalClassificationArguments
from dpt_peft.tasks.label_hierarchies import HIERARCHIES
from dpt_peft.training.class_scaling import class_scaling_cost
from dpt_peft.training.hierarchical_classification import HierarchyArguments, run_hierarchical_classification
from dpt_peft.training.inference_cost import in_new_process
from dpt_peft.training.plots import plot_curves
from dpt_peft.training.records import append_json_line, command_line, read_json_lines, software_versions
from dpt_peft.training.tables import markdown_table, mean_and_spread
from dpt_peft.training.text_classification import MethodArguments, SamplingArguments
from dpt_peft.training.tuned_run import ModelArguments

ROWS = {
    "hierarchy": ("DPT, the data's hierarchy", {"method": "dpt"}, {"label_hierarchy": "given"}),
    "built": ("DPT, built hierarchy", {"method": "dpt"}, {"label_hierarchy": "built"}),
    "flat": ("DPT, flat", {"method": "dpt"}, {"label_hierarchy": "none"}),
    "fine_tuning": ("Fine-tuning, new head", {"method": "fine_tuning"}, {}),
}
COSTS = ("milliseconds_per_text", "cpu_milliseconds_per_text", "tokens_per_text", "padded_tokens_per_text")


@dataclass
class ExperimentArguments:
    """What the experiment can be told."""

    output_dir: str = field(metadata={"help": "Folder for records, tables and pictures."})
    data_dir: str | None = field(default=None, metadata={"help": "Folder with one folder a data set."})
    model_name_or_path: str | None = field(default=None, metadata={"help": "Default: the one of dpt_peft."})
    datasets: list[str] = field(default_factory=lambda: list(HIERARCHIES))
    rows: list[str] = field(default_factory=lambda: list(ROWS))
    seeds: list[int] = field(default_factory=lambda: [1])
    epochs: float = 3
    batch_size: int = 8
    learning_rate: float = 2e-4
    max_seq_length: int = 64
    beam_width: int = 2
    beam_threshold: float = 0.3
    beams: list[str] = field(
        default_factory=lambda: ["1:0:sigmoid", "2:0:sigmoid", "2:0.3:sigmoid", "1:0:softmax", "2:0:softmax"],
        metadata={"help": "Beams to compare, width:threshold:score."},
    )
    max_beam_samples: int = field(default=200, metadata={"help": "Test texts that beams are compared on."})
    scaling: list[int] = field(default_factory=list, metadata={"help": "Numbers of synthetic classes."})
    only_table: bool = False
    records: list[str] | None = field(default=None, metadata={"help": "Records to show. Default: in output_dir."})


def train(run: dict[str, Any], data_dir: str, model_path: str) -> dict[str, Any]:
    """Does one run; called in a process of its own."""
    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
    data, (_, method, hierarchy) = HIERARCHIES[run["dataset"]], ROWS[run["row"]]
    with TemporaryDirectory() as folder:
        words = Path(folder) / "words.json"
        words.write_text(json.dumps(data.words))
        data_args = HierarchicalClassificationArguments(
            dataset_name=str(Path(data_dir) / run["dataset"]),
            level_column_names=list(data.level_columns),
            tree_words_file=str(words),
            max_seq_length=run["max_seq_length"],
        )
        return run_hierarchical_classification(
            ModelArguments(model_name_or_path=model_path),
            data_args,
            MethodArguments(**method),
            HierarchyArguments(
                **hierarchy,
                beam_width=run["beam_width"],
                beam_threshold=run["beam_threshold"],
                measure_cost=True,
                beams=run["beams"],
                max_beam_samples=run["max_beam_samples"],
            ),
            SamplingArguments(**data.sampling),
            TrainingArguments(
                output_dir=folder,
                do_train=True,
                do_predict=True,
                seed=run["seed"],
                learning_rate=run["learning_rate"],
                num_train_epochs=run["epochs"],
                per_device_train_batch_size=run["batch_size"],
                per_device_eval_batch_size=32,
                warmup_steps=0.1,
                train_sampling_strategy="group_by_length",
                save_strategy="no",
                logging_strategy="no",
                report_to="none",
                disable_tqdm=True,
            ),
            write_files=False,
        )


def plan(arguments: ExperimentArguments, model: str) -> list[dict[str, Any]]:
    """Lists the runs, data set by data set."""
    common = {name: getattr(arguments, name) for name in ("epochs", "batch_size", "learning_rate", "max_seq_length")}
    beams = {name: getattr(arguments, name) for name in ("beam_width", "beam_threshold", "beams", "max_beam_samples")}
    return [
        {"model": model, "dataset": name, "row": row, "seed": seed, **HIERARCHIES[name].sampling, **common, **beams}
        for seed in arguments.seeds
        for name in arguments.datasets
        for row in arguments.rows
    ]


def run_missing(path: Path, runs: list[dict[str, Any]], function: Any, *rest: Any) -> None:
    """Does the runs that have no record yet, each in a process of its own."""
    finished = [record["run"] for record in read_json_lines(path)]
    for run in runs:
        if run not in finished:
            start = time.time()
            result = in_new_process(function, run, *rest)
            record = {"run": run, "result": result, "seconds": round(time.time() - start, 1)}
            append_json_line(path, {**record, "command": command_line(), "versions": software_versions()})
            print(run.get("dataset", "scaling"), run, flush=True)


def accuracy_table(records: list[dict[str, Any]]) -> str:
    """Accuracy at every level and cost of an answer; mean and spread over the seeds."""
    cells: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for record in records:
        cells[record["run"]["dataset"], record["run"]["row"]].append(record["result"])
    header = ["data", "method", "accuracy %", "level 1 %", "ms a text", "CPU ms", "tokens", "peak MB"]
    lines = []
    for (name, row), results in sorted(cells.items(), key=lambda item: (item[0][0], list(ROWS).index(item[0][1]))):
        scores = [mean_and_spread([100 * r[f"test_{m}"] for r in results]) for m in ("accuracy", "accuracy_level_1")]
        costs = [f"{sum(r[m] for r in results) / len(results):.1f}" for m in COSTS[:3]]
        peak = f"{max(r['peak_memory_mb'] for r in results):.0f}"
        lines.append([HIERARCHIES[name].title, ROWS[row][0], *scores, *costs, peak])
    return markdown_table(header, lines, left=2)


def beam_table(records: list[dict[str, Any]]) -> str:
    """Accuracy and cost of every beam, on test texts."""
    lines = []
    for record in records:
        for beam in record["result"].get("beams", []):
            width, threshold, score = beam["beam"].split(":")
            values = [f"{100 * beam[name]:.1f}" for name in ("accuracy", "reached")]
            title = HIERARCHIES[record["run"]["dataset"]].title
            row = ROWS[record["run"]["row"]][0]
            costs = [f"{beam[name]:.1f}" for name in ("cpu_milliseconds_per_text", "tokens_per_text")]
            lines.append([title, row, score, width, threshold, *values, *costs])
    header = ["data", "method", "score", "beam", "threshold", "accuracy %", "reached %", "CPU ms", "tokens"]
    return markdown_table(header, lines, left=3)


def scaling_table(records: list[dict[str, Any]], picture: Path) -> str:
    """Cost of an answer over the number of classes, as a table and a picture."""
    curves: Any = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    lines = []
    names = {None: "all in templates", 1: "tree, beam of 1", 2: "tree, beam of 2"}
    for record in sorted(records, key=lambda r: (-r["run"].get("beam_width", 9), r["run"]["num_classes"])):
        run, result = record["run"], record["result"]
        name = names[run.get("beam_width")]
        passes = result.get("passes", result.get("levels"))
        numbers = [f"{result[name]:.1f}" for name in ("cpu_milliseconds_per_text", "tokens_per_text")]
        lines.append([name, str(run["num_classes"]), str(passes), *numbers, f"{result['peak_memory_mb']:.0f}"])
        for panel, figure in (("time", "cpu_milliseconds_per_text"), ("tokens", "tokens_per_text")):
            curves[panel][name][run["num_classes"]].append(result[figure])
    titles = {"time": "CPU milliseconds a text", "tokens": "tokens a text, over all passes"}
    plot_curves(
        {titles[panel]: series for panel, series in curves.items()},
        picture,
        title="Cost of an answer over the number of classes",
        x_label="classes",
        y_label="",
        log_x=True,
        columns=2,
    )
    return markdown_table(["the classes", "number", "passes or levels", "CPU ms", "tokens", "peak MB"], lines)


def scale(run: dict[str, Any], model_path: str) -> dict[str, Any]:
    """Measures one number of classes; called in a process of its own."""
    transformers.utils.logging.disable_progress_bar()
    return class_scaling_cost(model_path, run["kind"], run["num_classes"], beam_width=run.get("beam_width", 1))


def main() -> None:
    """Runs what is missing and shows what there is."""
    (arguments,) = HfArgumentParser(ExperimentArguments, description=__doc__).parse_args_into_dataclasses()
    output = Path(arguments.output_dir)
    output.mkdir(parents=True, exist_ok=True)
    if not arguments.only_table:
        model_path = ModelArguments(arguments.model_name_or_path).resolve()
        model = Path(model_path).name if arguments.model_name_or_path else "embedded"
        if arguments.scaling:
            shapes: list[dict[str, Any]] = [{"kind": "tree", "beam_width": width} for width in (1, 2)]
            runs = [
                {"model": model, "num_classes": count, **shape}
                for count in arguments.scaling
                for shape in [*shapes, {"kind": "flat"}]
            ]
            run_missing(output / "scaling.jsonl", runs, scale, model_path)
        else:
            if arguments.data_dir is None:
                raise ValueError("`data_dir` is missing: the folder with one folder a data set")
            run_missing(output / "records.jsonl", plan(arguments, model), train, arguments.data_dir, model_path)
    paths = [Path(path) for path in arguments.records or sorted(map(str, output.glob("*.jsonl")))]
    records = [record for path in paths for record in read_json_lines(path)]
    trained = [record for record in records if "row" in record["run"]]
    scaled = [record for record in records if "kind" in record["run"]]
    tables = [accuracy_table(trained), beam_table(trained)] if trained else []
    tables += [scaling_table(scaled, output / "scaling.png")] if scaled else []
    text = "\n\n".join(tables)
    print(text)
    (output / "table.md").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
