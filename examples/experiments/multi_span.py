"""Answers of several spans: DPT against IO tagging with a new head. DPT paper, Table 2 (QUOREF).

    python examples/experiments/multi_span.py --model_name_or_path google/electra-large-discriminator \
        --max_seq_length 512 --output_dir runs/quoref
    python examples/experiments/multi_span.py --data_dir ../shared/data --epochs 1 --max_test_examples 400 --bf16 \
        --output_dir runs/quoref

QUOREF keeps its test answers, so the validation split is measured, and the threshold is tuned on questions held out of
the training data.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from comparison import by_row, draw_boxes, run_comparison
from plan import ComparisonArguments, Record, Run, every_run, values_of
from tables import markdown_table, mean_and_spread

from dpt_peft.tasks import DATA_SETS, DISCRIMINATOR
from dpt_peft.training import METHODS

COLUMNS = {
    "EM": "exact_match",
    "F1": "f1",
    "EM, one span": "exact_match_single_span",
    "F1, one span": "f1_single_span",
    "EM, several": "exact_match_multi_span",
    "F1, several": "f1_multi_span",
}


@dataclass
class MultiSpanArguments(ComparisonArguments):
    """What this experiment can be told besides."""

    datasets: list[str] = field(
        default_factory=lambda: ["quoref"], metadata={"help": "Names of data sets.", "choices": ["quoref"]}
    )
    methods: list[str] = field(
        default_factory=lambda: ["dpt", "fine_tuning"],
        metadata={
            "help": "Those without dpt are IO tagging with a new head.",
            "choices": ["fine_tuning", "dpt", "deep_prompt", "dpt_deep_prompt", "lora"],
        },
    )
    readings: list[str] = field(
        default_factory=lambda: ["one_minus_sigmoid"],
        metadata={
            "help": "dpt*: answers look original (paper), or replaced (sigmoid, released code).",
            "choices": ["one_minus_sigmoid", "sigmoid"],
        },
    )
    metric: str = field(default="f1", metadata={"help": "Of the picture.", "choices": list(COLUMNS.values())})
    train_fraction: float | None = field(default=None, metadata={"help": "Share of the training questions."})


def plan(arguments: MultiSpanArguments) -> list[Run]:
    """The runs, seed by seed. How the head is read is a matter of discriminators alone."""
    settings = []
    for reading in arguments.readings:
        options = {} if reading == "one_minus_sigmoid" else {"score_function": reading}
        settings.append({"train_fraction": arguments.train_fraction, "options": {"tune_threshold": True, **options}})
    runs = every_run(arguments, settings)
    return [
        run for run in runs if "score_function" not in run["options"] or METHODS[run["method"]].head == DISCRIMINATOR
    ]


def table(records: list[Record], metric: str, best: int) -> str:
    """A row for each method, a column for each metric; the picture shows `metric` alone, and all seeds count."""
    del metric, best
    lines = [
        [DATA_SETS[name].title, title, f"{rate:.0e}", *(mean_and_spread(values_of(runs, m)) for m in COLUMNS.values())]
        for (title, rate), row in by_row(records).items()
        for name, runs in row.items()
    ]
    return "In %: mean ± sample standard deviation (seeds)\n\n" + markdown_table(
        ["data", "method", "learning rate", *COLUMNS], lines, left=2
    )


def draw(records: list[Record], arguments: MultiSpanArguments, path: Path) -> None:
    """A box for each method."""
    draw_boxes(records, arguments, path, "answers of several spans")


def main(argv: list[str] | None = None) -> None:
    """Run what is missing, writes table and picture."""
    run_comparison(MultiSpanArguments, __doc__, plan, draw, argv, table)


if __name__ == "__main__":
    main()
