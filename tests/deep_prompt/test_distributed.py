"""Two CPU processes (gloo) give the weights of one process with the same global batch."""

from __future__ import annotations

import numpy as np
import pytest
from peft import PeftModel, get_peft_model_state_dict

from tests.architectures import make_model
from tests.deep_prompt.test_common import ENCODERS, prompted
from tests.deep_prompt.trainer_runs import Weights, train, train_sharded, trained_weights
from tests.processes import run_in_processes

# sums of gradients over other groups of rows round differently: seen 3e-7 on numbers about 1
ROUNDING = 2e-6


def largest_difference(ours: Weights, expected: Weights) -> float:
    assert ours.keys() == expected.keys()
    return max(float(np.abs(ours[name] - expected[name]).max()) for name in expected)


@pytest.fixture(scope="module", params=ENCODERS)
def alone(request, tmp_path_factory) -> tuple[str, Weights]:
    """The encoder, and the weights that one process trains with it."""
    folder = tmp_path_factory.mktemp("alone")
    (weights,) = run_in_processes(train, str(folder), request.param, processes=1)
    untrained = trained_weights(prompted("bert", request.param))
    assert largest_difference(weights, untrained) > 1000 * ROUNDING
    return request.param, weights


def test_ddp_gives_the_weights_of_one_process(alone, tmp_path):
    encoder, expected = alone
    for weights in run_in_processes(train, str(tmp_path), encoder, 2):
        assert largest_difference(weights, expected) < ROUNDING


def test_fsdp2_shards_gives_the_weights_of_one_process_and_saves_what_one_process_loads(alone, tmp_path):
    encoder, expected = alone
    (weights, first), (_, second) = run_in_processes(train_sharded, str(tmp_path), encoder)
    assert largest_difference(weights, expected) < ROUNDING
    for name, (whole, held) in first.items():
        assert held + second[name][1] == whole, name
    frozen = [name for name in first if name not in expected]
    assert all(0.4 < first[name][1] / first[name][0] < 0.7 for name in frozen)

    loaded = PeftModel.from_pretrained(make_model("bert"), tmp_path, is_trainable=True)
    assert largest_difference(trained_weights(loaded), weights) == 0.0
    assert len(get_peft_model_state_dict(loaded)) == len(expected)
