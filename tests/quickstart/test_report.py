"""Table and picture."""

from __future__ import annotations

from io import StringIO
from statistics import mean, stdev

import numpy as np
import pytest
from matplotlib import image
from rich.console import Console

from dpt_peft.quickstart.run import make_table, plot_spread
from dpt_peft.training import METHODS


def record(accuracy=0.5, **changes):
    values = {"trained_parameters": 1_234_567, "saved_bytes": 90_868_268, "seconds": 12.3, **changes}
    return {"accuracy": accuracy, **values}


RECORDS = {
    "fine_tuning": [record(accuracy) for accuracy in (0.61, 0.7, 0.655)],
    "dpt_deep_prompt": [record(1.0, trained_parameters=92_160, saved_bytes=370_536)] * 3,
}


def shown(records):
    console = Console(file=StringIO(), width=120)
    console.print(make_table(records))
    return [line.rstrip() for line in console.file.getvalue().splitlines() if line.strip()]


def test_table_says_mean_and_spread() -> None:
    head, _, first, second = shown(RECORDS)
    assert head.split() == ["method", "accuracy", "%", "spread", "trained", "parameters", "saved", "size", "seconds"]
    assert f"{100 * mean((0.61, 0.7, 0.655)):.1f}  " in first
    assert f"{100 * stdev((0.61, 0.7, 0.655)):.1f}  " in first
    assert "1,234,567" in first
    assert "90.9 MB" in first
    assert second.strip().startswith(METHODS["dpt_deep_prompt"].title)
    assert "370.5 kB" in second
    assert len(head) == len(first) == len(second)  # numbers end where their headings end


def test_one_seed_has_no_spread() -> None:
    assert shown({"dpt": [record()]})[2].split()[2] == "-"


@pytest.mark.parametrize("records", [RECORDS, {"dpt": [record(1.0)]}, {"lora": [record(0.0), record()]}])
def test_picture_is_not_blank(tmp_path, records) -> None:
    pixels = image.imread(plot_spread(records, tmp_path / "spread.png", "a title"))
    height, width = pixels.shape[:2]
    assert width == 1200
    assert height > 300
    # Points and bars are in colour: at least one hue a method, the rest is grey.
    coloured = pixels[np.ptp(pixels[..., :3], axis=-1) > 0.4][:, :3]
    assert len(np.unique(coloured.round(1), axis=0)) >= len(records)
