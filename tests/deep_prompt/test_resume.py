"""Training that was killed goes on to the weights of a run that was not, to the last bit."""

from __future__ import annotations

import numpy as np
import pytest
from safetensors import safe_open

from tests.deep_prompt.test_common import ENCODERS
from tests.deep_prompt.trainer_runs import train_with_checkpoints
from tests.processes import run_in_processes


@pytest.mark.parametrize("encoder", ENCODERS)
def test_resumed_training_is_exact(encoder, tmp_path):
    whole, cut = str(tmp_path / "whole"), tmp_path / "cut"
    (expected,) = run_in_processes(train_with_checkpoints, whole, encoder, processes=1)
    assert run_in_processes(train_with_checkpoints, str(cut), encoder, True, processes=1) == [None]
    assert [path.name for path in cut.iterdir()] == ["checkpoint-2"]
    with safe_open(cut / "checkpoint-2" / "adapter_model.safetensors", "pt") as file:
        assert any("deep_prompt_table" in key for key in file.keys()) == (encoder == "mlp")  # noqa: SIM118

    (resumed,) = run_in_processes(train_with_checkpoints, str(cut), encoder, False, True, processes=1)
    assert resumed.keys() == expected.keys()
    for name, weights in expected.items():
        assert np.array_equal(resumed[name], weights), name
