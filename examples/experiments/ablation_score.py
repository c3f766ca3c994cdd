"""How the discriminator's head is read: 1 - sigmoid against sigmoid. DPT paper, Table 3.

python examples/experiments/ablation_score.py --output_dir runs/score --datasets sst2 trec ag_news
"""

from __future__ import annotations

from dataclasses import dataclass, field

from transformers import HfArgumentParser

from dpt_peft.training.comparison import comparison, models_of, values_by_data_set
from dpt_peft.training.experiments import ComparisonArguments, Run, learning_rates_of, run_missing, write_results
from dpt_peft.training.plots import plot_boxes

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
    return [
        arguments.run(
            dataset,
            method,
            seed,
            rate,
            train_fraction=arguments.train_fraction,
            options=options,
        )
        for seed in arguments.seeds
        for method in arguments.methods
        for options in READINGS
        for rate in learning_rates_of(arguments, method)
        for dataset in arguments.datasets
    ]


def main(argv: list[str] | None = None) -> None:
    """Runs what is missing, writes tables and picture."""
    (arguments,) = HfArgumentParser(ScoreArguments, description=__doc__).parse_args_into_dataclasses(argv)
    records = run_missing(plan(arguments), arguments)
    write_results(
        arguments,
        records,
        comparison(records, arguments.metric, arguments.best),
        lambda path: plot_boxes(
            values_by_data_set(records, arguments.metric),
            path,
            title=f"{models_of(records)}: how the head is read",
            y_label=f"{arguments.split} {arguments.metric} in %",
        ),
    )


if __name__ == "__main__":
    main()
