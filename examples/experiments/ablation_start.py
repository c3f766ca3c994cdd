"""What deep prompts start from: random numbers, keys and values of the vocabulary, or a gate that is closed.

    python examples/experiments/ablation_start.py --model_name_or_path FacebookAI/roberta-large --datasets rte \
        --split validation --learning_rates deep_prompt=5e-3 deep_prompt=2e-2 --output_dir runs/start

P-tuning v2 starts from random numbers near zero. Prompts share a softmax with the tokens, so twenty prompts take
attention from a short text before they have learned anything; the other starts take less, or none.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from comparison import draw_boxes, run_comparison
from plan import ComparisonArguments, Record, Run, every_run

#: Start -> options of deep prompts.
STARTS: dict[str, dict[str, Any]] = {
    "near_zero": {"init_std": 0.02},
    "wide": {"init_std": 1.0},
    "vocabulary": {"init_weights": "sample_vocab"},
    "gate": {"use_gate": True},
}


@dataclass
class StartArguments(ComparisonArguments):
    """What this experiment can be told besides."""

    methods: list[str] = field(
        default_factory=lambda: ["deep_prompt"],
        metadata={"help": "Of deep prompts.", "choices": ["deep_prompt", "dpt_deep_prompt"]},
    )
    starts: list[str] = field(
        default_factory=lambda: list(STARTS),
        metadata={
            "help": "near_zero: N(0, 0.02), as P-tuning v2; wide: N(0, 1), as PEFT's prefix tuning; vocabulary; gate.",
            "choices": list(STARTS),
        },
    )
    train_fraction: float = field(default=1.0, metadata={"help": "Share of each class's training examples."})


def plan(arguments: StartArguments) -> list[Run]:
    """The runs, seed by seed."""
    return every_run(
        arguments,
        [{"train_fraction": arguments.train_fraction, "options": STARTS[start]} for start in arguments.starts],
    )


def draw(records: list[Record], arguments: StartArguments, path: Path) -> None:
    """A box for each start."""
    draw_boxes(records, arguments, path, "what prompts start from")


def main(argv: list[str] | None = None) -> None:
    """Run what is missing, writes tables and picture."""
    run_comparison(StartArguments, __doc__, plan, draw, argv)


if __name__ == "__main__":
    main()
