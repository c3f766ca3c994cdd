"""With the same numbers and the same positions, deep prompts compute what PEFT's own prefix tuning computes."""

from __future__ import annotations

import pytest
import torch
from peft import PrefixTuningConfig, get_peft_model
from transformers import AutoModelForCausalLM

from dpt_peft import DeepPromptConfig
from tests.architectures import make_batch, make_config, make_model
from tests.deep_prompt.test_common import bank_of

LENGTH = 5


def copy_prefix(prefix_model: torch.nn.Module, deep_model: torch.nn.Module) -> None:
    """PEFT keeps one row of 2 * layers * width numbers per virtual token, and so do deep prompts."""
    # an encoder-decoder's table has rows for the encoder's side too, which PEFT does not use
    table = prefix_model.prompt_encoder["default"].embedding.weight.detach()[:LENGTH]
    bank_of(deep_model).deep_prompt_stored["default"].data.copy_(table)


def shifted_positions(name: str, input_ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The position ids that PEFT's prefix leads to: those of the text, moved by the prompt length."""
    if name == "roberta":
        padding = make_config(name).pad_token_id
        seen = (input_ids != padding).int()
        return (seen.cumsum(1) + LENGTH) * seen + padding
    return torch.arange(LENGTH, LENGTH + input_ids.shape[1]).expand_as(input_ids)


@pytest.mark.parametrize("attn_implementation", ["sdpa", "eager"])
@pytest.mark.parametrize("name", ["bert", "roberta", "electra"])
def test_same_output_as_peft_prefix_tuning(name, attn_implementation):
    prefix = get_peft_model(
        make_model(name, attn_implementation), PrefixTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=LENGTH)
    ).eval()
    deep = get_peft_model(
        make_model(name, attn_implementation), DeepPromptConfig(task_type="SEQ_CLS", num_virtual_tokens=LENGTH)
    ).eval()
    deep.load_state_dict({k: v for k, v in prefix.state_dict().items() if "modules_to_save" in k}, strict=False)
    copy_prefix(prefix, deep)
    batch = make_batch(name)
    positions = shifted_positions(name, batch.input_ids, batch.attention_mask)
    with torch.no_grad():
        expected = prefix(**batch.asdict()).logits
        ours = deep(**batch.asdict(), position_ids=positions).logits
        unshifted = deep(**batch.asdict()).logits
    assert torch.allclose(ours, expected, atol=1e-5)
    # the comparison sees positions at all
    assert not torch.allclose(unshifted, expected, atol=1e-4)


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_same_generation_as_peft_prefix_tuning(name):
    def causal_lm() -> torch.nn.Module:
        torch.manual_seed(0)
        return AutoModelForCausalLM.from_config(make_config(name)).eval()

    prefix = get_peft_model(causal_lm(), PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=LENGTH)).eval()
    deep = get_peft_model(causal_lm(), DeepPromptConfig(task_type="CAUSAL_LM", num_virtual_tokens=LENGTH)).eval()
    copy_prefix(prefix, deep)
    input_ids = make_batch(name).input_ids[:1]
    positions = torch.arange(LENGTH, LENGTH + input_ids.shape[1])[None]
    with torch.no_grad():
        expected = prefix(input_ids=input_ids).logits
        ours = deep(input_ids=input_ids, position_ids=positions).logits
    assert torch.allclose(ours, expected, atol=1e-5)
