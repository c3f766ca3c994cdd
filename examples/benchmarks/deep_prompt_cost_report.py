"""Tables and plot of `deep_prompt_cost.py`."""

from __future__ import annotations

import re
from pathlib import Path
from statistics import median
from typing import Any

NAMES = {
    "fine_tuning": "fine-tuning",
    "lora": "LoRA, r=8",
    "prefix_tuning": "PEFT prefix tuning",
    "deep_prompt": "deep prompts, all layers",
    "deep_prompt_last_third": "deep prompts, last third",
}
_COLORS = {
    "fine_tuning": "#555555",
    "lora": "#9467bd",
    "prefix_tuning": "#d62728",
    "deep_prompt": "#1f77b4",
    "deep_prompt_last_third": "#2ca02c",
}
_BLOCK = re.compile(r"(<!-- begin: ([a-z]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def write_report(found: dict[str, Any], plot: Path, page: Path | None) -> str:
    """Draws the plot, puts the tables into the page between their markers, and returns them.

    Args:
        found: what `deep_prompt_cost.py` writes as JSON.
        plot: PNG file.
        page: markdown with `<!-- begin: NAME -->` ... `<!-- end -->` around each table, NAME one of `time`, `memory`,
            `size`, `mixed` and `generation`.
    """
    tables = {"time": time_table(found), "memory": memory_table(found), "size": size_table(found)}
    tables |= {"mixed": mixed_table(found), "generation": generation_table(found)}
    draw(found, plot)
    if page is not None:
        text = _BLOCK.sub(lambda match: f"{match[1]}{tables[match[2]]}\n{match[3]}", page.read_text())
        page.write_text(text)
    return "\n\n".join(tables.values())


def time_table(found: dict[str, Any]) -> str:
    """Seconds of a step and ratios of medians; `count` is the ratio of the counted operations."""
    rows = [["setting", "method", "train s", "/ prefix", "count", "/ fine-t.", "count", "infer s", "/ bare"]]
    for name, record in found["settings"].items():
        methods = record["methods"]
        prefix, full = methods["prefix_tuning"], methods["fine_tuning"]
        for method, figures in methods.items():
            train, infer = median(figures["training_seconds"]), median(figures["inference_seconds"])
            count = figures["operations"]
            rows.append(
                [
                    name if method == "fine_tuning" else "",
                    NAMES[method],
                    f"{train:.3f}",
                    f"{train / median(prefix['training_seconds']):.2f}",
                    f"{count / prefix['operations']:.2f}",
                    f"{train / median(full['training_seconds']):.2f}",
                    f"{count / full['operations']:.2f}",
                    f"{infer:.3f}",
                    f"{infer / median(full['inference_seconds']):.2f}",
                ]
            )
    return _markdown(rows)


def memory_table(found: dict[str, Any]) -> str:
    """Memory of a training step in MB, and ratios to PEFT prefix tuning."""
    rows = [["setting", "method", "kept for backward", "/ prefix", "step", "/ prefix", "peak of the process"]]
    for name, record in found["settings"].items():
        prefix = record["methods"]["prefix_tuning"]
        for method, figures in record["methods"].items():
            row = [name if method == "fine_tuning" else "", NAMES[method]]
            for key in ("kept_bytes", "step_bytes"):
                row += [f"{figures[key] / 1e6:.0f}", f"{figures[key] / prefix[key]:.2f}"]
            rows.append([*row, f"{figures['peak_bytes'] / 1e6:.0f}"])
    return _markdown(rows)


def size_table(found: dict[str, Any]) -> str:
    """Trained parameters and bytes of the saved weights, once per backbone and prompt length."""
    rows, seen = [["backbone, prompts", "method", "trained parameters", "saved bytes"]], set()
    for record in found["settings"].values():
        shape = f"{record['setting']['size']}, {record['setting']['prompt_length']}"
        if shape in seen:
            continue
        seen.add(shape)
        for method, figures in record["methods"].items():
            label = shape if method == "fine_tuning" else ""
            rows.append([label, NAMES[method], f"{figures['trained_parameters']:,}", f"{figures['saved_bytes']:,}"])
    return _markdown(rows)


def mixed_table(found: dict[str, Any]) -> str:
    """Throughput of many adapters in a batch against one."""
    rows = [["setting", "one adapter, rows/s", "16 adapters, rows/s", "ratio"]]
    for name, record in found["mixed"].items():
        one, many = (median(record["seconds"][key]) for key in ("one adapter", "16 adapters"))
        rows.append([name, f"{64 / one:.2f}", f"{64 / many:.2f}", f"{one / many:.2f}"])
    return _markdown(rows)


def generation_table(found: dict[str, Any]) -> str:
    """Seconds of generation with and without prompts."""
    rows = [["setting", "bare backbone, s", "deep prompts, s", "ratio"]]
    for name, record in found["generation"].items():
        bare, ours = (median(record["seconds"][key]) for key in ("bare backbone", "deep prompts"))
        rows.append([name, f"{bare:.2f}", f"{ours:.2f}", f"{ours / bare:.2f}"])
    return _markdown(rows)


def draw(found: dict[str, Any], path: Path) -> None:
    """Three panels: training step and inference over their reference, and memory kept for the backward pass."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    records = found["settings"]
    panels = (
        ("training step / PEFT prefix tuning", "training_seconds", "prefix_tuning"),
        ("inference / bare backbone", "inference_seconds", "fine_tuning"),
        ("kept for the backward pass / PEFT prefix tuning", "kept_bytes", "prefix_tuning"),
    )
    height = 1.2 + 0.55 * len(records)
    figure, axes = plt.subplots(1, 3, figsize=(14, height), sharey=True, layout="constrained")
    for axis, (title, key, reference) in zip(axes, panels, strict=True):
        for row, record in enumerate(records.values()):
            base = _middle(record["methods"][reference][key])
            for place, method in enumerate(NAMES):
                values = record["methods"][method][key]
                ratio = _middle(values) / base
                y = row + 0.14 * (place - 2)
                if isinstance(values, list):
                    axis.plot([min(values) / base, max(values) / base], [y, y], color=_COLORS[method], alpha=0.35)
                label = NAMES[method] if row == 0 else None
                axis.plot(ratio, y, "o", markersize=5, color=_COLORS[method], label=label)
        axis.axvline(1.0, color="black", linewidth=0.6)
        axis.set_title(title, fontsize=10)
        # one slow step on a busy machine must not squeeze the rest
        highest = max(
            _middle(m[key]) / _middle(r["methods"][reference][key])
            for r in records.values()
            for m in r["methods"].values()
        )
        # inference differs by hundredths, which an axis from 0 would hide
        axis.set_xlim(*((0.9, 1.05 * highest) if key == "inference_seconds" else (0, 1.1 * highest)))
        for row in range(1, len(records)):
            axis.axhline(row - 0.5, color="black", linewidth=0.3, alpha=0.5)
        axis.grid(axis="x", alpha=0.3)
    axes[0].set_yticks(range(len(records)), [name.replace(" tokens, ", " tokens,\n") for name in records], fontsize=8)
    axes[0].invert_yaxis()
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, fontsize=9)
    figure.suptitle(
        f"Medians of interleaved steps, with the range of the rounds; {found['environment']['device']}", fontsize=10
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _middle(values: list[float] | float) -> float:
    return median(values) if isinstance(values, list) else values


def _markdown(rows: list[list[str]]) -> str:
    """A table whose columns also line up as text; numbers to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    numeric = [all(re.fullmatch(r"[\d.,]*", row[i]) for row in rows[1:]) for i in range(len(widths))]
    lines = []
    for row in rows:
        cells = [c.rjust(w) if n else c.ljust(w) for c, w, n in zip(row, widths, numeric, strict=True)]
        lines.append(f"| {' | '.join(cells)} |")
    rule = ["-" * (w - 1) + ":" if n else "-" * w for w, n in zip(widths, numeric, strict=True)]
    return "\n".join([lines[0], f"| {' | '.join(rule)} |", *lines[1:]])
