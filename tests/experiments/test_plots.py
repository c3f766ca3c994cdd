import numpy as np
import pytest
from matplotlib import image
from plots import plot_boxes, plot_curves


def ink(path):
    """Colours of a picture beside grey ones, as a share of its points."""
    pixels = image.imread(path)[..., :3]
    return float((np.ptp(pixels, axis=-1) > 0.2).mean())


@pytest.mark.parametrize("panels", [1, 5])
def test_curves_draw_every_panel_and_series(tmp_path, panels):
    curves = {f"data {i}": {"one": {8: [1.0, 2.0], 16: [3.0]}, "two": {8: [2.0]}} for i in range(panels)}
    path = plot_curves(curves, tmp_path / "a.png", title="t", x_label="x", y_label="y", log_x=True)
    more = {panel: {**series, "three": {8: [9.0, 1.0], 16: [4.0, 8.0]}} for panel, series in curves.items()}
    richer = plot_curves(more, tmp_path / "b.png", title="t", x_label="x", y_label="y", log_x=True)
    assert 0 < ink(path) < ink(richer)


def test_boxes_leave_out_what_has_no_runs(tmp_path):
    groups = {"data": {"one": [1.0, 2.0, 3.0], "two": [], "three": [2.0]}}
    assert ink(plot_boxes(groups, tmp_path / "a.png", title="t", y_label="y")) > 0
