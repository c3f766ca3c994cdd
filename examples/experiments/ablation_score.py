"""How the discriminator's head is read: 1 - sigmoid against sigmoid. DPT paper, Table 3.

python examples/experiments/ablation_score.py --output_dir runs/score --datasets sst2 trec ag_news
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from comparison import draw_boxes, run_comparison
from plan import ComparisonArguments, Record, Run, every_run

#: The paper's own reading is the default: these runs are those of the other experiments.
READINGS: tuple[dict[str, str], ...] = ({}, {"score_function": "sigmoid"})


@dataclass
class ScoreArguments(ComparisonArguments):
    """What this experiment can be told besides."""

    methods: list[str] = field(
        default_factory=lambda: ["dpt"],
        metadata={"help": "dpt, dpt_deep_prompt or both.", "choices": ["dpt", "dpt_deep_prompt"]},
    )
    train_fraction: float = field(default=0.1, metadata={"help": "Share of each class's training examples."})


def plan(arguments: ScoreArguments) -> list[Run]:
    """The runs, seed by seed."""
    settings = ({"train_fraction": arguments.train_fraction, "options": options} for options in READINGS)
    return every_run(arguments, settings)


def draw(records: list[Record], arguments: ScoreArguments, path: Path) -> None:
    """A box for each reading."""
    draw_boxes(records, arguments, path, "how the head is read")


def main(argv: list[str] | None = None) -> None:
    """Run what is missing, writes tables and picture."""
    run_comparison(ScoreArguments, __doc__, plan, draw, argv)


if __name__ == "__main__":
    main()
