"""What the quickstart shows at its end: an aligned table and a picture of the seeds' spread."""

from __future__ import annotations

from pathlib import Path
from statistics import mean, stdev
from typing import TYPE_CHECKING

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from dpt_peft.training.methods import METHODS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .records import RunRecord

HEADER = ("method", "accuracy %", "spread", "trained parameters", "saved size", "seconds")


def by_method(records: Sequence[RunRecord]) -> dict[str, list[RunRecord]]:
    """The records of each method, methods and records in the order in which they come."""
    groups: dict[str, list[RunRecord]] = {}
    for record in records:
        groups.setdefault(record.method, []).append(record)
    return groups


def format_size(number_of_bytes: int) -> str:
    """A size in bytes for people: kB below a megabyte, MB above (powers of ten)."""
    if number_of_bytes < 1_000_000:
        return f"{number_of_bytes / 1e3:.0f} kB"
    return f"{number_of_bytes / 1e6:.1f} MB"


def format_table(records: Sequence[RunRecord]) -> str:
    """One aligned line a method.

    `accuracy %` is the mean over the seeds, `spread` their sample standard deviation in points ("-" for one seed),
    `seconds` the mean time of training and testing one run.

    Args:
        records: the finished runs, at least one.

    Returns:
        The table, lines of equal length, without a line break at its end.
    """
    rows: list[tuple[str, ...]] = [HEADER]
    for method, runs in by_method(records).items():
        accuracies = [100 * run.accuracy for run in runs]
        rows.append(
            (
                METHODS[method].title,
                f"{mean(accuracies):.1f}",
                f"{stdev(accuracies):.1f}" if len(accuracies) > 1 else "-",
                f"{runs[0].trained_parameters:,}",
                format_size(runs[0].saved_bytes),
                f"{mean(run.seconds for run in runs):.0f}",
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADER))]
    lines = [
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in rows
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def plot_spread(records: Sequence[RunRecord], path: Path, title: str) -> Path:
    """Draws every seed's test accuracy as a point, one row a method, with the mean as a bar and its value beside it.

    Args:
        records: the finished runs, at least one.
        path: the PNG file to write; its folder must exist.
        title: one line that says what was run (data, examples a class, seeds).

    Returns:
        `path`.
    """
    groups = by_method(records)
    figure = Figure(figsize=(8, 1.5 + 0.8 * len(groups)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for row, runs in enumerate(groups.values()):
        accuracies = [100 * run.accuracy for run in runs]
        # Equal accuracies would hide each other: seeds stand a little below one another in their row.
        offsets = [0.3 * (index / (len(runs) - 1) - 0.5) if len(runs) > 1 else 0.0 for index in range(len(runs))]
        axes.vlines(mean(accuracies), row - 0.3, row + 0.3, color=f"C{row}", linewidth=2.5, alpha=0.5, zorder=2)
        axes.scatter(
            accuracies, [row + offset for offset in offsets], s=55, color=f"C{row}", edgecolor="white", zorder=3
        )
        axes.annotate(
            f"{mean(accuracies):.1f} %",
            xy=(1.0, row),
            xycoords=("axes fraction", "data"),
            xytext=(8, 0),
            textcoords="offset points",
            va="center",
            fontweight="bold",
            color=f"C{row}",
        )
    axes.set_yticks(range(len(groups)), [METHODS[method].title for method in groups])
    axes.set_ylim(len(groups) - 0.5, -0.5)
    low, high = 100 * min(run.accuracy for run in records), 100 * max(run.accuracy for run in records)
    margin = max(2.0, 0.15 * (high - low))
    axes.set_xlim(max(0.0, low - margin), min(100.0 + margin / 2, high + margin))
    axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True, steps=[1, 2, 5, 10]))
    axes.set_xlabel("test accuracy in % (points: seeds; bar and number: their mean)")
    axes.grid(axis="x", color="0.9")
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(axis="y", length=0)
    figure.suptitle(title, fontsize="medium", fontweight="bold")
    figure.savefig(path, dpi=150)
    return path
