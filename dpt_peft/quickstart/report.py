"""What the quickstart shows at its end: a table, and a picture of the seeds' spread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import TYPE_CHECKING, Any

from dpt_peft.training.methods import METHODS

if TYPE_CHECKING:
    from rich.table import Table

#: Method -> the records of its runs, at least one.
Records = Mapping[str, Sequence[Mapping[str, Any]]]


def make_table(records: Records) -> Table:
    """Return one row a method: mean and spread of the accuracy over the seeds, and what it cost."""
    from rich import box  # an extra, as matplotlib
    from rich.filesize import decimal
    from rich.table import Table

    table = Table("method", box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("accuracy %", "spread", "trained parameters", "saved size", "seconds"):
        table.add_column(heading, justify="right")
    for method, runs in records.items():
        accuracies = [100 * run["accuracy"] for run in runs]
        spread = f"{stdev(accuracies):.1f}" if len(accuracies) > 1 else "-"
        sizes = f"{runs[0]['trained_parameters']:,}", decimal(runs[0]["saved_bytes"])
        seconds = f"{mean(run['seconds'] for run in runs):.0f}"
        table.add_row(METHODS[method].title, f"{mean(accuracies):.1f}", spread, *sizes, seconds)
    return table


def plot_spread(records: Records, path: Path, title: str) -> Path:
    """Draw every seed's test accuracy as a point, one row a method, and their mean as a bar; return `path`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 1.5 + 0.8 * len(records)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    names = []
    for row, (method, runs) in enumerate(records.items()):
        accuracies = [100 * run["accuracy"] for run in runs]
        # Equal accuracies would hide each other: seeds stand a little below one another in their row.
        rows = [row + 0.3 * (index / max(1, len(runs) - 1) - 0.5) for index in range(len(runs))]
        axes.vlines(mean(accuracies), row - 0.3, row + 0.3, color=f"C{row}", linewidth=2.5, alpha=0.5)
        axes.scatter(accuracies, rows, s=55, color=f"C{row}", edgecolor="white", zorder=3)
        names.append(f"{METHODS[method].title}\n{mean(accuracies):.1f} %")
    axes.set_yticks(range(len(records)), names)
    axes.set_ylim(len(records) - 0.5, -0.5)
    axes.margins(x=0.15)
    axes.set_xlabel("test accuracy in % (points: seeds; bar and number: their mean)")
    axes.grid(axis="x", color="0.9")
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    figure.suptitle(title, fontsize="medium", fontweight="bold")
    figure.savefig(path, dpi=150)
    return path
