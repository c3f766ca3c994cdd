"""Table, picture and records."""

from __future__ import annotations

import json
from statistics import mean, stdev

import numpy as np
import pytest
from matplotlib import image

from dpt_peft.quickstart.records import RunLog, RunRecord, fingerprint
from dpt_peft.quickstart.report import HEADER, format_size, format_table, plot_spread
from dpt_peft.training.methods import METHODS


def record(method="dpt", seed=0, accuracy=0.5, settings="s", **changes) -> RunRecord:
    values = {"trained_parameters": 1_234_567, "saved_bytes": 90_868_268, "seconds": 12.3, **changes}
    return RunRecord(method=method, seed=seed, settings=settings, accuracy=accuracy, **values)


RECORDS = [
    *(record("fine_tuning", seed, accuracy) for seed, accuracy in enumerate((0.61, 0.7, 0.655))),
    *(record("dpt_deep_prompt", seed, 1.0, trained_parameters=92_160, saved_bytes=370_536) for seed in range(3)),
]


def test_table_is_aligned_and_says_mean_and_spread() -> None:
    lines = format_table(RECORDS).splitlines()
    assert len({len(line) for line in lines}) == 1
    # Every column but the first ends where its heading ends.
    ends = [lines[0].index(name) + len(name) for name in HEADER[1:]]
    for line in lines[2:]:
        assert all(line[end - 1] != " " and line[end : end + 2].strip() == "" for end in ends), line
    assert f"{100 * mean((0.61, 0.7, 0.655)):.1f}  " in lines[2]
    assert f"{100 * stdev((0.61, 0.7, 0.655)):.1f}  " in lines[2]
    assert "1,234,567" in lines[2]
    assert "90.9 MB" in lines[2]
    assert lines[3].startswith(METHODS["dpt_deep_prompt"].title)
    assert "371 kB" in lines[3]


def test_one_seed_has_no_spread() -> None:
    assert format_table([record()]).splitlines()[2].split()[2] == "-"


def test_format_size() -> None:
    assert [format_size(n) for n in (1_400, 999_000, 1_000_000)] == ["1 kB", "999 kB", "1.0 MB"]


@pytest.mark.parametrize("records", [RECORDS, [record(accuracy=1.0)], [record(accuracy=0.0), record(seed=1)]])
def test_picture_is_not_blank(tmp_path, records) -> None:
    pixels = image.imread(plot_spread(records, tmp_path / "spread.png", "a title"))
    height, width = pixels.shape[:2]
    assert width == 1200
    assert height > 300
    methods = len({run.method for run in records})
    # Points and bars are in colour: at least one hue a method, the rest is grey.
    coloured = pixels[np.ptp(pixels[..., :3], axis=-1) > 0.4][:, :3]
    assert len(np.unique(coloured.round(1), axis=0)) >= methods


def test_log_keeps_what_was_appended(tmp_path) -> None:
    log = RunLog(tmp_path / "runs.jsonl")
    log.append(record(seed=0, accuracy=0.1))
    log.append(record(seed=1, accuracy=0.2))
    again = RunLog(log.path)
    assert again.find("dpt", 1, "s") == record(seed=1, accuracy=0.2)
    assert again.find("dpt", 1, "other settings") is None
    assert again.find("fine_tuning", 1, "s") is None
    assert json.loads(log.path.read_text().splitlines()[0])["accuracy"] == 0.1


def test_newest_record_counts(tmp_path) -> None:
    log = RunLog(tmp_path / "runs.jsonl")
    log.append(record(accuracy=0.1))
    log.append(record(accuracy=0.2))
    assert RunLog(log.path).find("dpt", 0, "s").accuracy == 0.2


def test_half_a_line_is_passed_over_and_spoils_nothing(tmp_path) -> None:
    log = RunLog(tmp_path / "runs.jsonl")
    log.append(record(seed=0))
    with log.path.open("a") as file:
        file.write('{"method": "dpt", "seed": 1, "acc')
    log = RunLog(log.path)
    log.append(record(seed=2))
    again = RunLog(log.path)
    assert [seed for seed in range(3) if again.find("dpt", seed, "s")] == [0, 2]


def test_clear(tmp_path) -> None:
    log = RunLog(tmp_path / "runs.jsonl")
    log.append(record())
    log.clear()
    assert log.find("dpt", 0, "s") is None
    assert not log.path.exists()
    log.clear()


def test_fingerprint_tells_settings_apart() -> None:
    assert fingerprint({"a": 1, "b": [2]}) == fingerprint({"b": [2], "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": 2})
