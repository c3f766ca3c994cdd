"""Pictures of repeated runs: curves with their spread, and boxes. matplotlib without a window."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

#: Panel -> series -> x -> the values of its runs.
Curves = Mapping[str, Mapping[str, Mapping[float, Sequence[float]]]]
_MARKERS = "osD^vP*X"


def _panels(count: int, columns: int, height: float) -> tuple[Figure, list[Any]]:
    columns = min(columns, count)
    rows = -(-count // columns)
    figure = Figure(figsize=(4.2 * columns, height * rows + 0.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False).flatten().tolist()
    for unused in axes[count:]:
        unused.set_visible(False)
    return figure, axes[:count]


def _style(axes: Any) -> None:
    axes.grid(color="0.9")
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _save(figure: Figure, title: str, path: Path) -> Path:
    lines = textwrap.wrap(title, int(12 * figure.get_figwidth()))  # bold letters are as wide as that
    figure.suptitle("\n".join(lines), fontsize="medium", fontweight="bold")
    figure.savefig(path, dpi=150)
    return path


def plot_curves(
    curves: Curves,
    path: Path,
    *,
    title: str,
    x_label: str,
    y_label: str,
    log_x: bool = False,
    ticks: Mapping[float, str] | None = None,
    columns: int = 3,
) -> Path:
    """Draw one panel a data set: means over the runs, joined by lines, with their sample standard deviation as bars.

    Args:
        curves: Panel -> series -> x -> values.
        path: PNG to write.
        title: One line above all.
        x_label: Name and unit of x.
        y_label: Name and unit of y.
        log_x: Whether x is logarithmic.
        ticks: Names of x where they are no plain numbers.
        columns: Panels beside one another.

    Returns:
        `path`.
    """
    figure, panels = _panels(len(curves), columns, 3.2)
    names = list(dict.fromkeys(name for series in curves.values() for name in series))
    for axes, (panel, series) in zip(panels, curves.items(), strict=True):
        for name, points in series.items():
            xs = sorted(x for x, values in points.items() if values)
            index = names.index(name)
            axes.errorbar(
                xs,
                [mean(points[x]) for x in xs],
                yerr=[stdev(points[x]) if len(points[x]) > 1 else 0.0 for x in xs],
                label=name,
                color=f"C{index}",
                marker=_MARKERS[index % len(_MARKERS)],
                markersize=5,
                capsize=2.5,
                linewidth=1.4,
                elinewidth=0.9,
            )
        axes.set_title(panel, fontsize="medium")
        if log_x:
            axes.set_xscale("log")
        if ticks:
            axes.set_xticks(list(ticks), list(ticks.values()))
            axes.minorticks_off()
        axes.set_xlabel(x_label)
        _style(axes)
    # One range for all panels, so that they can be compared.
    low, high = zip(*(axes.get_xlim() for axes in panels), strict=True)
    for axes in panels:
        axes.set_xlim(min(low), max(high))
    panels[0].set_ylabel(y_label)
    handles: dict[str, Any] = {}
    for axes in panels:
        handles |= dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    ordered = [name for name in names if name in handles]
    figure.legend(
        [handles[name] for name in ordered],
        ordered,
        loc="outside lower center",
        # About 12 letters an inch, and as much as 6 letters for the line before a name.
        ncols=max(1, min(len(ordered), 4, int(12 * figure.get_figwidth()) // (6 + max(map(len, ordered))))),
        frameon=False,
    )
    return _save(figure, title, path)


def plot_boxes(
    groups: Mapping[str, Mapping[str, Sequence[float]]],
    path: Path,
    *,
    title: str,
    y_label: str,
    columns: int = 4,
) -> Path:
    """Draw one panel a data set: a box over the runs of each method, and every run as a point (DPT, Figures 2 and 3).

    Args:
        groups: Panel -> series -> values.
        path: PNG to write.
        title: One line above all.
        y_label: Name and unit of the values.
        columns: Panels beside one another.

    Returns:
        `path`.
    """
    figure, panels = _panels(len(groups), columns, 3.4)
    for axes, (panel, series) in zip(panels, groups.items(), strict=True):
        filled = {name: list(values) for name, values in series.items() if values}
        boxes = axes.boxplot(
            list(filled.values()), widths=0.55, patch_artist=True, showfliers=False, medianprops={"color": "0.2"}
        )
        for index, (box, values) in enumerate(zip(boxes["boxes"], filled.values(), strict=True)):
            box.set(facecolor=f"C{index}", alpha=0.35)
            # Equal values would hide each other: runs stand a little beside one another.
            offsets = [0.2 * (i / max(1, len(values) - 1) - 0.5) for i in range(len(values))]
            axes.scatter([index + 1 + offset for offset in offsets], values, s=16, color=f"C{index}", zorder=3)
        # Names beside one another have room for a few; many stand on end.
        upright = {"rotation": 90} if len(filled) > 5 else {}
        names = ["\n".join(textwrap.wrap(name, 24 if upright else 16)) for name in filled]
        axes.set_xticks(range(1, len(filled) + 1), names, fontsize="small", **upright)
        axes.set_title(panel, fontsize="medium")
        _style(axes)
    panels[0].set_ylabel(y_label)
    return _save(figure, title, path)


def plot_points(
    points: Mapping[str, Sequence[tuple[Any, float]]],
    path: Path,
    *,
    title: str,
    y_label: str,
    log_x: Sequence[str] = (),
    columns: int = 4,
) -> Path:
    """Draw one panel a quantity: what every trial of a search gave over the value that it chose.

    Args:
        points: Panel -> (value, result) of every trial; values are numbers or names.
        path: PNG to write.
        title: One line above all.
        y_label: Name and unit of the results.
        log_x: Panels whose values stand on a logarithmic scale.
        columns: Panels beside one another.

    Returns:
        `path`.
    """
    figure, panels = _panels(len(points), columns, 3.0)
    for axes, (panel, pairs) in zip(panels, points.items(), strict=True):
        values, results = zip(*pairs, strict=True)
        if panel in log_x:
            axes.set_xscale("log")
        else:
            # Choices, numbers too, stand beside one another in their order.
            names = sorted(set(values), key=lambda value: (isinstance(value, str), value))
            axes.set_xticks(range(len(names)), [str(name) for name in names])
            axes.set_xlim(-0.5, len(names) - 0.5)
            values = tuple(names.index(value) for value in values)
        axes.scatter(values, results, s=30, alpha=0.7)
        axes.set_xlabel(panel)
        _style(axes)
    panels[0].set_ylabel(y_label)
    return _save(figure, title, path)
