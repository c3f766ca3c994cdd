"""Aligned markdown tables of repeated runs: mean, spread, number of runs, and the mean of the best."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean, stdev


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Make an aligned markdown table.

    Args:
        header: Names of the columns.
        rows: Cells, one row each.
        left: How many of the first columns stand left; the others, numbers, stand right.

    Returns:
        The table, lines of equal length.
    """
    lines = [list(header), *map(list, rows)]
    widths = [max(3, *(len(line[column]) for line in lines)) for column in range(len(header))]

    def row(cells: Sequence[str]) -> str:
        padded = [
            cell.ljust(width) if column < left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return f"| {' | '.join(padded)} |"

    rule = ["-" * width if column < left else "-" * (width - 1) + ":" for column, width in enumerate(widths)]
    return "\n".join([row(lines[0]), row(rule), *(row(line) for line in lines[1:])])


def mean_and_spread(values: Sequence[float]) -> str:
    """Write "80.1 ± 0.2 (3)": mean, sample standard deviation, number of values; "-" for none."""
    if not values:
        return "-"
    spread = f" ± {stdev(values):.1f}" if len(values) > 1 else ""
    return f"{mean(values):.1f}{spread} ({len(values)})"


def mean_of_best(values: Sequence[float], count: int = 3) -> str:
    """Write the mean of the best `count` values, as the DPT paper reports 3 of 10; "-" for fewer values than that."""
    return f"{mean(sorted(values)[-count:]):.1f}" if len(values) >= count else "-"
