"""Prompt length, and prompts as a table or made by an MLP: P-tuning v2 paper, Figure 3.

    python examples/experiments/ablation_length.py --model_name_or_path FacebookAI/roberta-large --datasets rte boolq \
        --split validation --lengths 4 8 16 32 64 100 --output_dir runs/length

The paper's finding: the best length and encoder depend on the task; short prompts do for simple classification.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from comparison import models_of, run_comparison
from plan import ComparisonArguments, Record, Run, every_run, values_of
from plots import plot_curves

from dpt_peft.tasks import DATA_SETS

#: `encoder_reparameterization` -> its name in the paper.
ENCODERS = {"none": "embedding", "mlp": "MLP"}


@dataclass
class LengthArguments(ComparisonArguments):
    """What this experiment can be told besides."""

    methods: list[str] = field(
        default_factory=lambda: ["deep_prompt"],
        metadata={"help": "Of deep prompts.", "choices": ["deep_prompt", "dpt_deep_prompt"]},
    )
    lengths: list[int] = field(
        default_factory=lambda: [4, 16, 64], metadata={"help": "Numbers of prompts in every layer."}
    )
    encoders: list[str] = field(
        default_factory=lambda: list(ENCODERS), metadata={"help": "Prompt encoders.", "choices": list(ENCODERS)}
    )
    mlp_learning_rates: list[float] = field(
        default_factory=list, metadata={"help": "Of the MLP. Default: the same as the table's."}
    )
    train_fraction: float = field(default=1.0, metadata={"help": "Share of each class's training examples."})


def plan(arguments: LengthArguments) -> list[Run]:
    """The runs, seed by seed."""
    settings = []
    for length in arguments.lengths:
        for encoder in arguments.encoders:
            options = {"num_virtual_tokens": length, "encoder_reparameterization": encoder}
            setting = {"train_fraction": arguments.train_fraction, "options": options}
            rates = arguments.mlp_learning_rates if encoder == "mlp" else []
            settings += [{**setting, "learning_rate": rate} for rate in rates] or [setting]
    return every_run(arguments, settings)


def draw(records: list[Record], arguments: LengthArguments, path: Path) -> None:
    """Accuracy over prompt length, one line an encoder."""
    curves: Any = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    for record in records:
        options = record["run"]["options"]
        series = curves[DATA_SETS[record["run"]["dataset"]].title][ENCODERS[options["encoder_reparameterization"]]]
        series[options["num_virtual_tokens"]] += values_of([record], arguments.metric)
    lengths = sorted({record["run"]["options"]["num_virtual_tokens"] for record in records})
    plot_curves(
        curves,
        path,
        title=f"{models_of(records)}: prompt length and encoder (bars: standard deviation over seeds)",
        x_label="prompts in every layer",
        y_label=f"{arguments.split} {arguments.metric} in %",
        log_x=True,
        ticks={length: str(length) for length in lengths},
    )


def main(argv: list[str] | None = None) -> None:
    """Run what is missing, writes tables and picture."""
    run_comparison(LengthArguments, __doc__, plan, draw, argv)


if __name__ == "__main__":
    main()
