"""The benchmark of cost: its counts against torch's own, and one tiny run of all of it."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

FOLDER = Path(__file__).parents[2] / "examples" / "benchmarks"


@pytest.fixture
def cost(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("deep_prompt_cost")


def counted(cost, setting, method: str) -> int:
    """What torch counts in one training step, eager attention and without dropout."""
    backbone = cost.make_backbone(setting.size, setting.text_length, setting.prompt_length)
    backbone.set_attn_implementation("eager")
    model = cost.make_model(method, backbone, setting.prompt_length)
    batch = cost.make_batch(setting.rows, setting.text_length, "cpu")
    with FlopCounterMode(display=False) as counter:
        model(**batch).loss.backward()
    return counter.get_total_flops()


@pytest.mark.parametrize("method", ["fine_tuning", "prefix_tuning", "deep_prompt", "deep_prompt_last_third"])
def test_operations_are_those_that_torch_counts(cost, method, monkeypatch):
    # wide enough for the head, and for gradients of the lowest layer's queries that are not needed, to vanish
    sizes = {"hidden_size": 64, "num_hidden_layers": 6, "num_attention_heads": 4, "intermediate_size": 256}
    monkeypatch.setitem(cost.SIZES, "tiny", sizes)
    setting = cost.Setting("tiny", 2, 32, 8)
    assert cost.operations(setting, method) == pytest.approx(counted(cost, setting, method), rel=0.03)


def test_prompts_in_the_last_third_keep_a_third_for_the_backward_pass(cost):
    from deep_prompt_cost_memory import kept_bytes

    batch = cost.make_batch(4, 16, "cpu")
    kept = {
        method: kept_bytes(cost.make_model(method, cost.make_backbone("tiny", 16, 4), 4), batch)
        for method in cost.METHODS
    }
    assert kept["deep_prompt_last_third"] < 0.45 * kept["prefix_tuning"]
    assert kept["deep_prompt"] <= 1.02 * kept["prefix_tuning"] < kept["fine_tuning"]


def test_methods_share_the_frozen_weights_and_nothing_else(cost):
    backbone = cost.make_backbone("tiny", 8, 4)
    before = {name: p.clone() for name, p in backbone.named_parameters()}
    for method in cost.METHODS:
        model = cost.make_model(method, backbone, 4)
        cost.make_training_step(model, cost.make_batch(2, 8, "cpu"))()
        assert all(torch.equal(p, before[name]) for name, p in backbone.named_parameters()), method


def test_a_run_writes_table_plot_and_page_and_does_not_measure_twice(cost, tmp_path, capsys, monkeypatch):
    page = tmp_path / "page.md"
    page.write_text("Before.\n<!-- begin: time -->\nold\n<!-- end -->\nAfter.\n")
    words = ["--grid", "tiny", "--output", str(tmp_path / "found.json"), "--page", str(page)]
    cost.main(words)
    assert (tmp_path / "found.png").stat().st_size > 10_000
    text = page.read_text()
    assert "deep prompts, last third" in text
    assert "old" not in text
    assert text.startswith("Before.") and text.endswith("After.\n")  # noqa: PT018
    (record,) = json.loads((tmp_path / "found.json").read_text())["settings"].values()
    for method in cost.METHODS:
        figures = record["methods"][method]
        assert len(figures["training_seconds"]) == len(figures["inference_seconds"]) == 2
        assert figures["kept_bytes"] > 0
        assert 0 < figures["step_bytes"] < figures["peak_bytes"]
    assert capsys.readouterr().out.count(" s\n") == 3

    monkeypatch.setattr(cost, "measure", None)
    monkeypatch.setattr(cost, "measure_mixed", None)
    monkeypatch.setattr(cost, "measure_generation", None)
    cost.main(words)
    assert page.read_text() == text


def test_the_script_for_a_gpu_measures_every_aim_once(cost, tmp_path, capsys, monkeypatch):
    gpu = importlib.import_module("deep_prompt_cost_gpu")
    words = ["--small", "--device", "cpu", "--output", str(tmp_path / "found.json")]
    gpu.main(words)
    parts = json.loads((tmp_path / "found.json").read_text())["parts"]
    assert len(parts) == 2 + 4
    aims = capsys.readouterr().out.splitlines()[-len(parts) :]
    for line, limit in zip(aims, ("0.93", "0.93", "0.90", "1.03", "0.50", "1.05"), strict=True):
        assert f"({limit}" in line
    monkeypatch.setattr(gpu, "milliseconds", None)
    gpu.main(words)
    assert capsys.readouterr().out.splitlines() == aims
