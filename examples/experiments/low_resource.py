"""Fine-tuning against DPT with 10 % of the training data: DPT paper, Table 1 (low-resource) and Table 3.

    python examples/experiments/low_resource.py --data_dir ../shared/data --output_dir runs/low_resource

Every finished run is a line of `records.jsonl`; runs that are there already are skipped, so the command can be
repeated after an interruption. `--only-table` rebuilds the table, also from several machines' records
(`--records a.jsonl b.jsonl`). `--split validation --learning_rates 5e-5 1e-4 2e-4` searches on validation data.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import datasets
import transformers
from tqdm.auto import tqdm
from transformers import TrainingArguments

from dpt_peft.tasks.text_classification import TextClassificationArguments
from dpt_peft.training.methods import METHODS
from dpt_peft.training.records import command_line, software_versions
from dpt_peft.training.text_classification import (
    MethodArguments,
    ModelArguments,
    SamplingArguments,
    run_text_classification,
)


@dataclass(frozen=True)
class DataSet:
    """A data set of the table: label words of the DPT paper and its released code; cuts that a CPU asks for."""

    title: str
    label_words: tuple[str, ...]
    label_column: str = "label"
    max_seq_length: int = 64
    epochs: int = 3
    validation_size: int | None = None  # rows of the unused training data, where there is no validation split
    max_predict_samples: int | None = None


DATA_SETS = {
    "sst2": DataSet("SST-2", ("negative", "positive")),
    "sst5": DataSet("SST-5", ("disgusted", "dissatisfied", "indifferent", "acceptable", "satisfied")),
    # labels in alphabetical order: ABBR DESC ENTY HUM LOC NUM
    "trec": DataSet(
        "TREC",
        ("abbreviation", "description", "entity", "human", "location", "number"),
        label_column="coarse_label",
        validation_size=500,
    ),
    "ag_news": DataSet(
        "AG News",
        ("world", "sports", "business", "science and technology"),
        max_seq_length=48,
        epochs=2,
        validation_size=500,
        max_predict_samples=2000,
    ),
}
ROWS: dict[str, tuple[str, dict[str, Any]]] = {
    "fine_tuning": ("fine-tuning, new head", {"method": "fine_tuning"}),
    "dpt": ("DPT, 1 - sigmoid", {"method": "dpt"}),
    "dpt_sigmoid": ("DPT, sigmoid", {"method": "dpt", "score_function": "sigmoid"}),
}


def parse_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", type=Path, help="Folder with one folder a data set (train, validation, test).")
    parser.add_argument("--output_dir", type=Path, required=True, help="For records.jsonl and table.md.")
    parser.add_argument("--model_name_or_path", help="Discriminator. Default: the one that comes with dpt_peft.")
    parser.add_argument("--datasets", nargs="+", default=list(DATA_SETS), choices=DATA_SETS)
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=ROWS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3], help="Training seeds.")
    parser.add_argument("--sample_seed", type=int, default=0, help="Seed of the 10 %%, the same for all runs.")
    parser.add_argument("--train_fraction", type=float, default=0.1)
    parser.add_argument("--learning_rates", nargs="+", type=float, help="Default: each method's own.")
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--split", choices=("test", "validation"), default="test", help="What is measured on.")
    parser.add_argument("--metric", choices=("accuracy", "macro_f1"), default="accuracy", help="For the table.")
    parser.add_argument("--only-table", action="store_true", help="Run nothing.")
    parser.add_argument("--records", nargs="+", type=Path, help="Records to tabulate. Default: those in output_dir.")
    arguments = parser.parse_args()
    if not arguments.only_table and arguments.data_dir is None:
        parser.error("--data_dir is needed to run anything")
    return arguments


def plan(arguments: argparse.Namespace, model: str) -> list[dict[str, Any]]:
    """Lists the runs, seed by seed, so that what is finished early is already a table."""
    runs = []
    for seed in arguments.seeds:
        for row in arguments.rows:
            method = ROWS[row][1]["method"]
            for learning_rate in arguments.learning_rates or [METHODS[method].learning_rate]:
                for name in arguments.datasets:
                    data = DATA_SETS[name]
                    runs.append(
                        {
                            "model": model,
                            "dataset": name,
                            "row": row,
                            "seed": seed,
                            "sample_seed": arguments.sample_seed,
                            "train_fraction": arguments.train_fraction,
                            "learning_rate": learning_rate,
                            "batch_size": arguments.batch_size,
                            "epochs": data.epochs,
                            "max_seq_length": data.max_seq_length,
                            "split": arguments.split,
                        }
                    )
    return runs


def train(run: dict[str, Any], data_dir: Path, model_path: str, output_dir: Path) -> dict[str, Any]:
    """Does one run through the same function as `run_text_classification.py`."""
    data = DATA_SETS[run["dataset"]]
    return run_text_classification(
        ModelArguments(model_name_or_path=model_path),
        TextClassificationArguments(
            dataset_name=str(data_dir / run["dataset"]),
            label_column_name=data.label_column,
            max_seq_length=run["max_seq_length"],
        ),
        MethodArguments(label_words=list(data.label_words), **ROWS[run["row"]][1]),
        SamplingArguments(
            train_fraction=run["train_fraction"],
            sample_seed=run["sample_seed"],
            validation_size=data.validation_size,
            max_predict_samples=data.max_predict_samples,
        ),
        TrainingArguments(
            output_dir=str(output_dir / "trainer"),
            do_train=True,
            do_eval=run["split"] == "validation",
            do_predict=run["split"] == "test",
            seed=run["seed"],
            learning_rate=run["learning_rate"],
            num_train_epochs=run["epochs"],
            per_device_train_batch_size=run["batch_size"],
            per_device_eval_batch_size=64,
            warmup_steps=0.1,
            train_sampling_strategy="group_by_length",
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
        ),
        write_files=False,
    )


def parse_record(line: str) -> dict[str, Any] | None:
    """Reads one line; None for the line that an interruption cut off."""
    try:
        return json.loads(line)
    except json.JSONDecodeError:
        return None


def read_records(paths: list[Path]) -> list[dict[str, Any]]:
    """Reads the finished runs of one or several machines."""
    lines = [line for path in paths if path.exists() for line in path.read_text(encoding="utf-8").splitlines()]
    return [record for record in map(parse_record, lines) if record is not None]


def append_record(path: Path, record: dict[str, Any]) -> None:
    """Adds a finished run, on a line of its own even behind a cut-off one."""
    cut_off = path.exists() and not path.read_bytes().endswith(b"\n")
    with path.open("a", encoding="utf-8") as file:
        file.write(("\n" if cut_off else "") + json.dumps(record) + "\n")


def table(records: list[dict[str, Any]], split: str, metric: str = "accuracy") -> str:
    """Makes an aligned markdown table of a metric in %: mean ± sample standard deviation (number of seeds)."""
    cells: dict[tuple[str, str, float], dict[str, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
    for record in records:
        run = record["run"]
        if run["split"] == split:
            key = (run["model"], run["row"], run["learning_rate"])
            value = record["metrics"][f"{'eval' if split == 'validation' else 'test'}_{metric}"]
            cells[key][run["dataset"]][run["seed"]] = 100 * value
    names = [name for name in DATA_SETS if any(name in by_data for by_data in cells.values())]
    lines = [["model", "row", "learning rate", *(DATA_SETS[name].title for name in names)]]
    for (model, row, learning_rate), by_data in sorted(
        cells.items(), key=lambda item: (item[0][0], list(ROWS).index(item[0][1]), item[0][2])
    ):
        line = [model, ROWS[row][0], f"{learning_rate:.0e}"]
        for name in names:
            values = list(by_data[name].values())
            spread = f" ± {stdev(values):.1f}" if len(values) > 1 else ""
            line.append(f"{mean(values):.1f}{spread} ({len(values)})" if values else "-")
        lines.append(line)
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    lines.insert(1, ["-" * width for width in widths])
    padded = ([cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in padded)


def main() -> None:
    """Runs what is missing and writes the table."""
    arguments = parse_arguments()
    records_file = arguments.output_dir / "records.jsonl"
    if not arguments.only_table:
        datasets.disable_progress_bars()
        transformers.utils.logging.disable_progress_bar()
        arguments.output_dir.mkdir(parents=True, exist_ok=True)
        model_path = ModelArguments(arguments.model_name_or_path).resolve()
        model = Path(model_path).name if arguments.model_name_or_path else "embedded"
        finished = [record["run"] for record in read_records([records_file])]
        runs = [run for run in plan(arguments, model) if run not in finished]
        with tqdm(runs, unit="run", desc="low-resource") as progress:
            for run in progress:
                progress.set_postfix_str(f"{run['dataset']} {run['row']} seed {run['seed']}")
                start = time.time()
                result = train(run, arguments.data_dir, model_path, arguments.output_dir)
                record = {
                    "run": run,
                    "metrics": {key: value for key, value in result.items() if key.endswith(("accuracy", "macro_f1"))},
                    "rows": result["rows"],
                    "data_fingerprint": result["data_fingerprint"],
                    "seconds": round(time.time() - start, 1),
                    "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
                    "command": command_line(),
                    "versions": software_versions(),
                }
                append_record(records_file, record)
    text = table(read_records(arguments.records or [records_file]), arguments.split, arguments.metric)
    print(text)
    if not arguments.only_table:
        (arguments.output_dir / "table.md").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
