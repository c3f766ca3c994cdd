"""Methods with little data: DPT paper, Table 1 (low-resource half); accuracy over examples and over parameters.

    python examples/experiments/low_resource.py --output_dir runs/low_resource --seeds 1 2 3 4 5 6 7 8 9 10
    python examples/experiments/low_resource.py --data_dir ../shared/data --output_dir runs/few \
        --methods fine_tuning lora deep_prompt dpt dpt_deep_prompt --examples_per_class 8 16 32

Every finished run is a line of records.jsonl; what is there is not run again, so the command can be repeated after an
interruption, with more seeds or methods, or on another machine (`--records a.jsonl b.jsonl --only_table`).
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from comparison import amount_of, draw_boxes, least_data_first, models_of, run_comparison, title_of
from plan import ComparisonArguments, Record, Run, every_run, values_of
from plots import plot_curves

from dpt_peft.tasks import DATA_SETS


@dataclass
class LowResourceArguments(ComparisonArguments):
    """What this experiment can be told besides."""

    train_fractions: list[float] = field(
        default_factory=list,
        metadata={"help": "Shares of each class's training examples. Default: 0.1, if no count is given."},
    )
    examples_per_class: list[int] = field(
        default_factory=list, metadata={"help": "Numbers of training examples of each class."}
    )
    x_axis: str = field(
        default="examples", metadata={"help": "Of the picture.", "choices": ["examples", "parameters"]}
    )


def plan(arguments: LowResourceArguments) -> list[Run]:
    """The runs, seed by seed, so that what is finished early is already a table."""
    fractions = arguments.train_fractions or ([] if arguments.examples_per_class else [0.1])
    amounts: list[dict[str, float | int]] = [{"train_fraction": share} for share in fractions]
    amounts += [{"examples_per_class": count} for count in arguments.examples_per_class]
    return every_run(arguments, amounts)


def draw(records: list[Record], arguments: LowResourceArguments, path: Path) -> None:
    """Accuracy over training examples (one line a method) or over trained parameters (one line an amount of data).

    One amount of data makes no line: a box for each method then.
    """
    if arguments.x_axis == "examples" and len({amount_of(record["run"]) for record in records}) == 1:
        draw_boxes(records, arguments, path, f"{arguments.metric}, {amount_of(records[0]['run'])}")
        return
    curves: Any = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    by_parameters = arguments.x_axis == "parameters"
    for record in sorted(records, key=least_data_first):
        run = record["run"]
        x = record["trained_parameters"] if by_parameters else record["rows"]["train"]
        # A method's parameters do not grow with the data: amounts need panels of their own.
        panel = DATA_SETS[run["dataset"]].title + (f", {amount_of(run)}" if by_parameters else "")
        curves[panel][title_of(run)][x] += values_of([record], arguments.metric)
    plot_curves(
        curves,
        path,
        title=f"{models_of(records)}: {arguments.metric} with little data (bars: standard deviation over seeds)",
        x_label="trained parameters" if by_parameters else "training examples",
        y_label=f"{arguments.split} {arguments.metric} in %",
        log_x=True,
        columns=len({record["run"]["dataset"] for record in records}) if by_parameters else 3,
    )


def main(argv: list[str] | None = None) -> None:
    """Run what is missing, writes tables and picture."""
    run_comparison(LowResourceArguments, __doc__, plan, draw, argv)


if __name__ == "__main__":
    main()
