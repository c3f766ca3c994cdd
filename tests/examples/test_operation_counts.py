"""What deep prompts add, in operations: the aims, counted."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest
import torch

FOLDER = Path(__file__).parents[2] / "examples" / "benchmarks"


@pytest.fixture(scope="module")
def counts():
    sys.path.insert(0, str(FOLDER))
    try:
        return importlib.import_module("operation_counts")
    finally:
        sys.path.remove(str(FOLDER))


@pytest.mark.parametrize("padded", [True, False], ids=["padded", "full"])
@pytest.mark.parametrize("name", ["bert", "albert", "deberta-v2", "gpt2", "llama"])
def test_a_prompted_layer_adds_two_joins_and_little_else(counts, name, padded):
    batch = counts.make_batch(padded=padded)
    bare = counts.count_forward(counts.backbone(name), batch)
    operations, kernels = bare.added_by(
        counts.count_forward(counts.with_method(counts.backbone(name), "deep_prompt"), batch), counts.LAYERS
    )
    # a causal model that shares keys among heads has its queries widened too
    shares_heads = name == "llama" and not padded
    assert operations <= (7 if shares_heads else 5)
    assert kernels <= (2 if name in ("bert", "albert") else 4 if shares_heads else 3)
    gated = counts.with_method(counts.backbone(name), "deep_prompt", use_gate=True)
    operations, _ = bare.added_by(counts.count_forward(gated, batch), counts.LAYERS)
    assert operations <= 9


def test_what_is_done_once_a_forward_does_not_grow_with_the_layers(counts, monkeypatch):
    """The joins are all that a further layer adds."""
    batch, added = counts.make_batch(padded=False), []
    for layers in (6, 12):
        monkeypatch.setitem(counts.BACKBONES, "bert", counts.BACKBONES["bert"] | {"num_hidden_layers": layers})
        bare, ours = (
            counts.count_forward(counts.with_method(counts.backbone("bert"), method), batch)
            for method in ("bare", "deep_prompt")
        )
        added.append(bare.added_by(ours))
    (few, few_kernels), (many, many_kernels) = added
    assert (many - few, many_kernels - few_kernels) == (2 * 6, 2 * 6)


def test_layers_without_prompts_add_nothing(counts):
    batch = counts.make_batch(padded=False)
    bare = counts.count_forward(counts.backbone("bert"), batch)
    model = counts.with_method(counts.backbone("bert"), "deep_prompt")
    with model.disable_adapter():
        assert counts.count_forward(model, batch) == bare
    some = counts.with_method(counts.backbone("bert"), "deep_prompt", layers_to_transform="last 4")
    operations, kernels = bare.added_by(counts.count_forward(some, batch))
    assert operations <= 2 * 4 + 8
    assert kernels <= 2 * 4


def test_a_training_step_has_fewer_kernels_than_that_of_prefix_tuning(counts):
    batch = counts.make_batch()
    step = counts.count_training_step(counts.with_method(counts.backbone("bert"), "deep_prompt"), batch)
    assert step.kernels <= 800


@pytest.mark.parametrize("name", ["bert", "albert", "deberta-v2"])
@pytest.mark.parametrize("options", [{}, {"use_gate": True}], ids=["", "gated"])
def test_a_mixed_batch_costs_what_one_adapter_costs_however_many_there_are(counts, name, options):
    one, few = counts.count_mixed(name, 2, **options)
    same, many = counts.count_mixed(name, 16, **options)
    assert one == same
    assert few == many
    assert many.operations <= 1.15 * one.operations


def test_adapters_of_other_lengths_and_depths_are_mixed_by_depth_and_not_by_row(counts):
    from dpt_peft import DeepPromptConfig

    model = counts.several_adapters("bert", 2)
    for number, length in enumerate((3, 5, 7), 2):
        config = DeepPromptConfig(task_type="SEQ_CLS", num_virtual_tokens=length, layers_to_transform="last 6")
        model.add_adapter(str(number), config)
    model.eval()
    batch = counts.make_batch(counts.MIXED_ROWS)
    one = counts.count_forward(model, batch)
    names = [str(row % 5) for row in range(counts.MIXED_ROWS)]
    assert counts.count_forward(model, batch, adapter_names=names).operations <= 1.15 * one.operations


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_decoding_with_the_prompts_in_the_cache_adds_nothing(counts, name):
    for padded in (False, True):
        bare, ours = (
            counts.count_decoding(counts.with_method(counts.backbone(name, causal=True), method), padded)
            for method in ("bare", "deep_prompt")
        )
        assert ours.operations <= bare.operations
        assert ours.kernels <= bare.kernels


def test_the_least_that_prompts_can_cost_is_two_joins_a_layer(counts):
    batch = counts.make_batch()
    bare, alone = counts.backbone("bert"), counts.joins_alone(batch, counts.PROMPTS)
    with torch.no_grad(), counts.Counting() as counting:
        alone(**batch)
    ours = counts.count_forward(counts.with_method(counts.backbone("bert"), "deep_prompt"), batch)
    assert counting.names["cat"] == 2 * counts.LAYERS
    assert counting.names.total() <= ours.operations < counting.names.total() + counts.LAYERS
    assert not torch.equal(alone(**batch).logits, bare(**batch).logits)


def test_the_tables_go_into_the_page(counts, tmp_path, monkeypatch, capsys):
    page = tmp_path / "page.md"
    page.write_text("Before.\n<!-- counts: decoding -->\nold\n<!-- end -->\nAfter.\n")
    for table in ("method_table", "architecture_table", "mixed_table"):
        monkeypatch.setattr(counts, table, lambda *_: "none")
    monkeypatch.setattr(sys, "argv", ["operation_counts.py", "--page", str(page), "--rounds", "1"])
    counts.main()
    text = page.read_text()
    assert "| gpt2 | full |" in text
    assert "old" not in text
    assert text.startswith("Before.")
    assert text.endswith("After.\n")
    assert "| gpt2 | full |" in capsys.readouterr().out
