"""Compares DPT with IO tagging under a new head on multi-span question answering, over seeds (DPT paper, Table 2).

    python examples/experiments/multi_span.py --train_file ../shared/data/quoref/train_10pct.jsonl \
        --test_file ../shared/data/quoref/validation.jsonl --model ../shared/models/minilm-rtd --output_dir runs/quoref

For each row and seed: train, choose the threshold on held-out training paragraphs, answer the test questions. A record
(a line of JSON) is added to <output_dir>/records.jsonl after every run, and runs that have one are not repeated. The
table is printed at the end; --table prints that of a records file and runs nothing.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments

from dpt_peft.tasks.multi_span_qa import MultiSpanQAArguments
from dpt_peft.training.multi_span_qa import MultiSpanMethodArguments, run_multi_span_qa
from dpt_peft.training.question_sampling import QuestionSamplingArguments
from dpt_peft.training.records import append_json_line, command_line, read_json_lines, software_versions
from dpt_peft.training.tuned_run import ModelArguments

ROWS: dict[str, tuple[str, dict[str, Any]]] = {
    "dpt": ("DPT, answers look original (paper)", {"method": "dpt"}),
    "dpt_sigmoid": (
        "DPT, answers look replaced (released code)",
        {"method": "dpt", "score_function": "sigmoid"},
    ),
    "fine_tuning": ("Fine-tuning, IO tagging with a new head", {"method": "fine_tuning"}),
}
COLUMNS = {
    "EM": "exact_match",
    "F1": "f1",
    "EM, one span": "exact_match_single_span",
    "F1, one span": "f1_single_span",
    "EM, several": "exact_match_multi_span",
    "F1, several": "f1_multi_span",
}


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train_file", help="SQuAD-like rows to train on")
    parser.add_argument("--test_file", help="rows to answer")
    parser.add_argument("--model", help="discriminator; default: the embedded one")
    parser.add_argument("--output_dir", type=Path, default=Path("runs/multi_span"))
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=list(ROWS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--validation_size", type=int, default=200, help="questions held out for the threshold")
    parser.add_argument("--max_predict_samples", type=int, help="answer the first test questions only")
    parser.add_argument("--learning_rate", type=float, default=1e-4)
    parser.add_argument("--epochs", type=float, default=3)
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--max_seq_length", type=int, default=512)
    parser.add_argument("--mentions", choices=["all", "given"], default="all")
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--table", type=Path, help="print the table of this records file and stop")
    return parser.parse_args(argv)


def configuration(arguments: argparse.Namespace, row: str, seed: int) -> dict[str, Any]:
    """Returns what makes a run this run and no other."""
    shared = ("learning_rate", "epochs", "batch_size", "max_seq_length", "mentions", "bf16", "validation_size")
    files = {name: Path(getattr(arguments, name)).name for name in ("train_file", "test_file")}
    return {
        "row": row,
        "seed": seed,
        "model": Path(arguments.model).name if arguments.model else "embedded",
        **files,
        "max_predict_samples": arguments.max_predict_samples,
        **{name: getattr(arguments, name) for name in shared},
    }


def run(arguments: argparse.Namespace, config: dict[str, Any]) -> dict[str, Any]:
    """Runs one row with one seed and returns its record."""
    began = time.perf_counter(), time.process_time()
    metrics = run_multi_span_qa(
        ModelArguments(model_name_or_path=arguments.model),
        MultiSpanQAArguments(
            train_file=arguments.train_file,
            test_file=arguments.test_file,
            max_seq_length=arguments.max_seq_length,
            mentions=arguments.mentions,
        ),
        MultiSpanMethodArguments(tune_threshold=True, **ROWS[config["row"]][1]),
        QuestionSamplingArguments(
            validation_size=arguments.validation_size, max_predict_samples=arguments.max_predict_samples
        ),
        TrainingArguments(
            output_dir=str(arguments.output_dir / f"{config['row']}-{config['seed']}"),
            do_train=True,
            do_eval=True,
            do_predict=True,
            learning_rate=arguments.learning_rate,
            num_train_epochs=arguments.epochs,
            per_device_train_batch_size=arguments.batch_size,
            per_device_eval_batch_size=16,
            warmup_steps=0.1,
            seed=config["seed"],
            bf16=arguments.bf16,
            use_cpu=not torch.cuda.is_available(),
            train_sampling_strategy="group_by_length",
            save_strategy="no",
            logging_steps=25,
            disable_tqdm=True,
            report_to=[],
        ),
        write_files=False,
    )
    return {
        "config": config,
        "metrics": metrics,
        "command": command_line(),
        "versions": software_versions(),
        "threads": torch.get_num_threads(),
        "seconds": round(time.perf_counter() - began[0]),
        "cpu_seconds": round(time.process_time() - began[1]),
    }


def table(records: list[dict[str, Any]]) -> str:
    """Writes mean and spread (standard deviation over seeds) of each row, in percent."""
    lines = ["| | seeds | " + " | ".join(COLUMNS) + " |", "|--|--|" + "--|" * len(COLUMNS)]
    for row, (title, _) in ROWS.items():
        found = [record["metrics"] for record in records if record["config"]["row"] == row]
        if not found:
            continue
        cells = []
        for name in COLUMNS.values():
            values = [100 * metrics[f"test_{name}"] for metrics in found if f"test_{name}" in metrics]
            spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
            cells.append(f"{statistics.mean(values):.1f}{spread}" if values else "")
        lines.append(f"| {title} | {len(found)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> None:
    """Runs what is missing and prints the table."""
    arguments = parse_arguments(argv)
    if arguments.table is not None:
        print(table(read_json_lines(arguments.table)))
        return
    if arguments.train_file is None or arguments.test_file is None:
        raise SystemExit("give --train_file and --test_file, or --table")
    path = arguments.output_dir / "records.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    wanted = [configuration(arguments, row, seed) for seed in arguments.seeds for row in arguments.rows]
    for config in wanted:
        if any(record["config"] == config for record in read_json_lines(path)):
            continue
        append_json_line(path, run(arguments, config))
    print(table([record for record in read_json_lines(path) if record["config"] in wanted]))


if __name__ == "__main__":
    main()
