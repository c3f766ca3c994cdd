"""Prompts in the first or in the last k layers: P-tuning v2 paper, Figure 4.

    python examples/experiments/ablation_depth.py --model_name_or_path google-bert/bert-large-cased --datasets rte \
        --split validation --train_fraction 1 --depths 4 8 12 16 20 24 --output_dir runs/depth

The paper's finding: with the same number of prompts, deeper layers are always better, and on RTE the last third of the
layers comes close to all of them.
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

#: Order of the paper's figure -> word of `layers_to_transform`.
ORDERS = {"first": "ascending: the first k layers", "last": "descending: the last k layers"}


@dataclass
class DepthArguments(ComparisonArguments):
    """What this experiment can be told besides."""

    methods: list[str] = field(
        default_factory=lambda: ["deep_prompt"],
        metadata={"help": "Of deep prompts.", "choices": ["deep_prompt", "dpt_deep_prompt"]},
    )
    depths: list[int] = field(
        default_factory=lambda: [2, 4, 6], metadata={"help": "Numbers k of layers with prompts; the largest: all."}
    )
    num_virtual_tokens: int = field(default=20, metadata={"help": "Prompts in every layer that has any."})
    train_fraction: float = field(default=1.0, metadata={"help": "Share of each class's training examples."})


def plan(arguments: DepthArguments) -> list[Run]:
    """The runs, seed by seed. Prompts in all layers are one run, and not one for each order."""
    largest = max(arguments.depths)
    choices = [(order, depth) for depth in sorted(arguments.depths) for order in ORDERS if depth < largest]
    return every_run(
        arguments,
        (
            {
                "train_fraction": arguments.train_fraction,
                "options": {
                    "num_virtual_tokens": arguments.num_virtual_tokens,
                    "layers_to_transform": [order, str(depth)],
                },
            }
            for order, depth in [*choices, ("last", largest)]
        ),
    )


def draw(records: list[Record], arguments: DepthArguments, path: Path) -> None:
    """Accuracy over the number of layers with prompts, one line an order; both end in all layers."""
    curves: Any = defaultdict(lambda: {title: defaultdict(list) for title in ORDERS.values()})
    deepest = max(int(record["run"]["options"]["layers_to_transform"][1]) for record in records)
    for record in records:
        order, depth = record["run"]["options"]["layers_to_transform"]
        for name, title in ORDERS.items():
            if name == order or int(depth) == deepest:
                panel = DATA_SETS[record["run"]["dataset"]].title
                curves[panel][title][int(depth)] += values_of([record], arguments.metric)
    plot_curves(
        curves,
        path,
        title=f"{models_of(records)}: prompt depth (bars: standard deviation over seeds)",
        x_label="layers with prompts (k)",
        y_label=f"{arguments.split} {arguments.metric} in %",
    )


def main(argv: list[str] | None = None) -> None:
    """Run what is missing, writes tables and picture."""
    run_comparison(DepthArguments, __doc__, plan, draw, argv)


if __name__ == "__main__":
    main()
