import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "examples" / "benchmarks" / "frozen_backbone.py"


def test_the_benchmark_runs_every_peer_and_writes_its_ratios(tmp_path, capsys):
    spec = importlib.util.spec_from_file_location("frozen_backbone", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
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
    module.main([*small, "--output", str(tmp_path / "result.json")])
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
    path = SCRIPT.parents[1] / script
    told = {"PYTHONPATH": str(SCRIPT.parents[2])}
    done = subprocess.run([sys.executable, path, "--help"], capture_output=True, text=True, env=os.environ | told)
    assert done.returncode == 0, done.stderr
