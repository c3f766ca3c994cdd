"""bfloat16: backbones in it, and autocast."""

from __future__ import annotations

import pytest
import torch
from peft import PeftModel, get_peft_model

from tests.architectures import CONFIGS, make_batch, make_model
from tests.deep_prompt.test_common import every_encoder_once, logits, prompt_config, prompted

LABELS = torch.tensor([0, 1])
# bfloat16 has 8 bits of mantissa; logits are sums over many products that were rounded to that
RELATIVE = 0.05


def prompt_parameters(model: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    return {name: p for name, p in model.named_parameters() if ".deep_prompt_" in name}


def assert_close_for_bfloat16(ours: torch.Tensor, expected: torch.Tensor) -> None:
    assert (ours.float() - expected).abs().max() < RELATIVE * expected.abs().max()


def assert_trains_in_float32(model: torch.nn.Module, loss: torch.Tensor) -> None:
    loss.backward()
    for name, parameter in prompt_parameters(model).items():
        assert parameter.dtype == parameter.grad.dtype == torch.float32, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().max() > 0, name


@every_encoder_once
def test_a_bfloat16_backbone_trains_prompts_in_float32(name, encoder, tmp_path):
    expected = logits(prompted(name, encoder), name)
    model = prompted(name, encoder, make_model(name).to(torch.bfloat16))
    ours = logits(model, name)
    assert ours.dtype == torch.bfloat16
    assert_close_for_bfloat16(ours, expected)
    assert_trains_in_float32(model, model.train()(**make_batch(name).asdict(), labels=LABELS).loss)

    model.eval().save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(make_model(name).to(torch.bfloat16), tmp_path).eval()
    assert {p.dtype for p in prompt_parameters(loaded).values()} == {torch.float32}
    assert torch.equal(logits(loaded, name), ours)


@every_encoder_once
def test_bfloat16_autocast(name, encoder):
    base = make_model(name)
    with torch.autocast("cpu", torch.bfloat16):
        try:
            base(**make_batch(name).asdict())
        except RuntimeError as error:
            pytest.skip(f"the bare backbone does not run under autocast: {error}")
    model = prompted(name, encoder, base)
    expected = logits(model, name)
    with torch.autocast("cpu", torch.bfloat16):
        assert_close_for_bfloat16(logits(model, name), expected)
    # of its own, as a Trainer has it: torch before 2.10 keeps casts that were made without gradients
    with torch.autocast("cpu", torch.bfloat16):
        loss = model.train()(**make_batch(name).asdict(), labels=LABELS).loss
    assert_trains_in_float32(model, loss)


def test_prompts_can_be_kept_in_the_backbones_precision():
    base = make_model("bert").to(torch.bfloat16)
    model = get_peft_model(base, prompt_config(), autocast_adapter_dtype=False)
    assert {p.dtype for p in prompt_parameters(model).values()} == {torch.bfloat16}
    model(**make_batch("bert").asdict(), labels=LABELS).loss.backward()


def test_every_architecture_but_one_runs_under_autocast():
    """So that the skip above does not swallow what should run."""
    refused = []
    for name in CONFIGS:
        with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
            try:
                make_model(name)(**make_batch(name).asdict())
            except RuntimeError:
                refused.append(name)
    assert refused == ["deberta"]
