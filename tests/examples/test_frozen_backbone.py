import json
import os
import subprocess
import sys

import pytest

from tests.examples.scripts import EXAMPLES, load_script


def test_the_benchmark_runs_every_peer_and_writes_its_ratios(tmp_path, capsys):
    small = [
        "--hidden_size",
        "64",
        "--layers",
        "3",
        "--length",
        "8",
        "--batch_size",
        "2",
        "--steps",
        "2",
        "--rounds",
        "3",
        "--trials",
        "2",
    ]
    load_script("benchmarks/frozen_backbone").main([*small, "--output", str(tmp_path / "result.json")])
    result = json.loads((tmp_path / "result.json").read_text())
    assert {len(values) for values in result["cache"]["seconds"].values()} == {3}
    assert set(result["ratios"]) == {
        "cached / uncached",
        "cached / PEFT prefix tuning",
        "trials in one batch / one after the other",
    }
    assert "| cached / uncached" in (tmp_path / "result.md").read_text()


@pytest.mark.parametrize("script", ["benchmarks/frozen_backbone.py", "run_hierarchical_classification.py"])
def test_scripts_that_share_modules_with_the_experiments_find_them(script):
    # In this process the tests' own path would find them.
    told = {"PYTHONPATH": str(EXAMPLES.parent)}
    done = subprocess.run(
        [sys.executable, EXAMPLES / script, "--help"], capture_output=True, text=True, env=os.environ | told
    )
    assert done.returncode == 0, done.stderr
