"""Records of repeated runs side by side: one table an amount of data, one row a method, one column a data set."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from plan import (
    ComparisonArguments,
    ExperimentArguments,
    Record,
    Run,
    run_missing,
    values_of,
    write_results,
)
from plots import plot_boxes
from tables import markdown_table, mean_and_spread, mean_of_best
from transformers import HfArgumentParser

from dpt_peft.tasks import DATA_SETS
from dpt_peft.training import METHODS

#: Option -> how its value is written in a row's title.
_OPTION_TITLES: dict[str, Callable[[Any], str]] = {
    "encoder_reparameterization": lambda value: "MLP" if value == "mlp" else "embedding",
    "init_std": lambda value: f"start N(0, {value:g})",
    "init_weights": lambda value: "start vocabulary" if value == "sample_vocab" else f"start {value}",
    "layers_to_transform": lambda value: f"{' '.join(value)} layers",
    "num_virtual_tokens": lambda value: f"{value} prompts",
    "score_function": lambda value: "sigmoid" if value == "sigmoid" else "1 - sigmoid",
    "use_gate": lambda value: "gate" if value else "no gate",
    "tune_threshold": lambda value: "tuned threshold" if value else "fixed threshold",
}


def amount_of(run: Run) -> str:
    """How much data a run had, for headings."""
    if run["examples_per_class"] is not None:
        return f"{run['examples_per_class']} examples a class"
    return "all data" if run["train_fraction"] in (None, 1.0) else f"{100 * run['train_fraction']:g} % of the data"


def least_data_first(record: Record) -> tuple[float, float, int]:
    """Sorting key: examples a class, then shares of the data, then the order of `DATA_SETS`."""
    run = record["run"]
    share = 1.0 if run["train_fraction"] is None else run["train_fraction"]
    return run["examples_per_class"] or float("inf"), share, list(DATA_SETS).index(run["dataset"])


def title_of(run: Run) -> str:
    """A row's name: the method, and the options that were set."""
    options = [_OPTION_TITLES.get(name, lambda value: str(value))(value) for name, value in run["options"].items()]
    head = [f"its rate {run['head_learning_rate']:g}"] if "head_learning_rate" in run else []
    return ", ".join([METHODS[run["method"]].title, *head, *options])


def models_of(records: Sequence[Record]) -> str:
    """Name the models of the records, for titles: the records may be another machine's."""
    return ", ".join(dict.fromkeys(record["run"]["model"] for record in records))


def by_row(records: Sequence[Record]) -> dict[tuple[str, float], dict[str, list[Record]]]:
    """Group records by (title, learning rate), and below that by data set; all in the order in which they come."""
    rows: dict[tuple[str, float], dict[str, list[Record]]] = defaultdict(lambda: defaultdict(list))
    for record in records:
        run = record["run"]
        rows[title_of(run), run["learning_rate"]][run["dataset"]].append(record)
    return {key: dict(row) for key, row in rows.items()}


def comparison_table(
    records: Sequence[Record], metric: str, write: Callable[[Sequence[float]], str] = mean_and_spread
) -> str:
    """Make the table of runs with one amount of data.

    Args:
        records: The runs.
        metric: What the cells show, in %.
        write: From the values of a cell's runs to its text.
    """
    rows = by_row(records)
    names = [name for name in DATA_SETS if any(name in row for row in rows.values())]
    lines = []
    for (title, rate), row in rows.items():
        trained = mean(record["trained_parameters"] for runs in row.values() for record in runs)
        cells = [write(values_of(row.get(name, []), metric)) for name in names]
        lines.append([title, f"{rate:.0e}", f"{round(trained):,}", *cells])
    header = ["method", "learning rate", "trained", *(DATA_SETS[name].title for name in names)]
    return markdown_table(header, lines)


def comparison(records: Sequence[Record], metric: str, best: int = 3) -> str:
    """Make all tables: mean and spread for each amount of data, and the mean of the best seeds where there are more.

    Args:
        records: The runs of one model on one split.
        metric: What the cells show, in %.
        best: How many seeds the paper-like table keeps.
    """
    parts = []
    for amount in dict.fromkeys(amount_of(record["run"]) for record in sorted(records, key=least_data_first)):
        mine = [record for record in records if amount_of(record["run"]) == amount]
        heading = f"{amount}, {metric} in %: "
        parts.append(f"{heading}mean ± sample standard deviation (seeds)\n\n{comparison_table(mine, metric)}")
        if any(len(runs) > best for row in by_row(mine).values() for runs in row.values()):
            table = comparison_table(mine, metric, lambda values: mean_of_best(values, best))
            parts.append(f"{heading}mean of the {best} best seeds, as the DPT paper reports\n\n{table}")
    return "\n\n".join(parts)


def values_by_data_set(records: Sequence[Record], metric: str) -> Mapping[str, Mapping[str, list[float]]]:
    """Group a metric in % by data set's title and row's title, for box plots."""
    groups: dict[str, dict[str, list[float]]] = defaultdict(dict)
    for (title, _), row in by_row(records).items():
        for name, runs in row.items():
            groups[DATA_SETS[name].title].setdefault(title, []).extend(values_of(runs, metric))
    return groups


def draw_boxes(records: Sequence[Record], arguments: ExperimentArguments, path: Path, what: str) -> Path:
    """Draw a box for each row of the table, one panel a data set.

    Args:
        records: The runs.
        arguments: The experiment's arguments.
        path: PNG to write.
        what: What the picture shows, for its title.
    """
    return plot_boxes(
        values_by_data_set(records, arguments.metric),
        path,
        title=f"{models_of(records)}: {what}",
        y_label=f"{arguments.split} {arguments.metric} in %",
    )


def run_comparison(
    arguments_class: type[ComparisonArguments],
    description: str | None,
    plan: Callable[[Any], list[Run]],
    draw: Callable[[list[Record], Any, Path], Any],
    argv: list[str] | None = None,
    table: Callable[[list[Record], str, int], str] = comparison,
) -> None:
    """Is the main function of an experiment: reads the command line, runs what is missing, writes tables and picture.

    Args:
        arguments_class: The experiment's arguments.
        description: For `--help`.
        plan: From the arguments to the runs.
        draw: From records and arguments to the picture, in the file it is given.
        argv: The command line. Default: this process's.
        table: From records, metric and number of best seeds to the tables.
    """
    parser = HfArgumentParser(arguments_class, description=description)
    (arguments,) = parser.parse_args_into_dataclasses(argv)
    records = run_missing(plan(arguments), arguments)
    write_results(
        arguments,
        records,
        table(records, arguments.metric, arguments.best),
        lambda path: draw(records, arguments, path),
    )
