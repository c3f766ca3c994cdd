"""[CLS] with a linear head against a verbalizer with the LM head, both with deep prompts. P-tuning v2, Table 5.

python examples/experiments/ablation_head.py --output_dir runs/head --model_name_or_path FacebookAI/roberta-large

The label words are the paper's: "true" and "false", for CB "neutral" besides. The model must be a masked language
model (a checkpoint with its head). GLUE and SuperGLUE keep their test labels, so the validation split is measured.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from comparison import draw_boxes, run_comparison
from plan import ComparisonArguments, Record, Run, every_run


@dataclass
class HeadArguments(ComparisonArguments):
    """What this experiment can be told besides."""

    methods: list[str] = field(
        default_factory=lambda: ["deep_prompt", "verbalizer"],
        metadata={"help": "deep_prompt, verbalizer or both.", "choices": ["deep_prompt", "verbalizer"]},
    )
    datasets: list[str] = field(
        default_factory=lambda: ["sst2", "rte", "boolq", "cb"],
        metadata={"help": "Names of data sets.", "choices": ["sst2", "rte", "boolq", "cb"]},
    )
    split: str = field(
        default="validation", metadata={"help": "What is measured on.", "choices": ["test", "validation"]}
    )
    train_fraction: float | None = field(
        default=None, metadata={"help": "Share of each class's training examples. Default: all, as in the paper."}
    )
    num_virtual_tokens: int = field(default=20, metadata={"help": "Prompt length."})


def plan(arguments: HeadArguments) -> list[Run]:
    """The runs, seed by seed."""
    options = {"num_virtual_tokens": arguments.num_virtual_tokens}
    return every_run(arguments, [{"train_fraction": arguments.train_fraction, "options": options}])


def draw(records: list[Record], arguments: HeadArguments, path: Path) -> None:
    """A box for each head."""
    draw_boxes(records, arguments, path, "linear head and verbalizer")


def main(argv: list[str] | None = None) -> None:
    """Run what is missing, writes tables and picture."""
    run_comparison(HeadArguments, __doc__, plan, draw, argv)


if __name__ == "__main__":
    main()
