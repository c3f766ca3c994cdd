"""How much a method's accuracy depends on the seed: DPT paper, Figures 2 and 3 (10 seeds, box plot).

    python examples/experiments/stability.py --output_dir runs/stability --datasets sst2 trec

The table also says how many runs diverged: those that are no better than always answering the largest class.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, stdev

from comparison import by_row, draw_boxes, run_comparison
from plan import ComparisonArguments, Record, Run, every_run, values_of
from tables import markdown_table, mean_of_best

from dpt_peft.tasks import DATA_SETS


@dataclass
class StabilityArguments(ComparisonArguments):
    """What this experiment can be told besides."""

    seeds: list[int] = field(default_factory=lambda: list(range(1, 11)), metadata={"help": "Training seeds."})
    train_fraction: float = field(default=0.1, metadata={"help": "Share of each class's training examples."})
    examples_per_class: int | None = field(
        default=None, metadata={"help": "Number of training examples of each class, in place of a share."}
    )


def plan(arguments: StabilityArguments) -> list[Run]:
    """The runs, seed by seed."""
    count = arguments.examples_per_class
    amount = {"train_fraction": arguments.train_fraction} if count is None else {"examples_per_class": count}
    return every_run(arguments, [amount])


def table(records: list[Record], metric: str, best: int) -> str:
    """One row a data set and method: mean, spread, extremes, best, diverged."""
    lines = []
    for (title, rate), row in by_row(records).items():
        for name, runs in row.items():
            values = values_of(runs, metric)
            # Taggers and readers have no largest class to compare with.
            compared = [run["metrics"] for run in runs if "majority_share" in run["metrics"]]
            diverged = [metrics["accuracy"] <= metrics["majority_share"] for metrics in compared]
            lines.append(
                [
                    DATA_SETS[name].title,
                    title,
                    f"{rate:.0e}",
                    str(len(values)),
                    f"{mean(values):.1f}",
                    f"{stdev(values):.1f}" if len(values) > 1 else "-",
                    f"{min(values):.1f}",
                    f"{max(values):.1f}",
                    mean_of_best(values, best),
                    f"{100 * mean(diverged):.0f} %" if diverged else "-",
                ]
            )
    header = ["data", "method", "learning rate", "seeds", "mean", "spread", "lowest", "highest", f"best {best}"]
    return markdown_table([*header, "diverged"], sorted(lines, key=lambda line: line[0]), left=2)


def draw(records: list[Record], arguments: StabilityArguments, path: Path) -> None:
    """A box for each method."""
    draw_boxes(records, arguments, path, f"{arguments.metric} of each seed")


def main(argv: list[str] | None = None) -> None:
    """Run what is missing, writes table and picture."""
    run_comparison(StabilityArguments, __doc__, plan, draw, argv, table)


if __name__ == "__main__":
    main()
