"""`adapter_names`: every row of a batch as if it were alone with its adapter."""

from __future__ import annotations

import pytest
import torch
from peft import get_peft_model
from transformers import AutoModelForCausalLM

from dpt_peft.deep_prompt.forward_pass import spread_over
from dpt_peft.deep_prompt.mixed_batch import RowPlan
from tests.architectures import CONFIGS, VOCAB_SIZE, make_config, make_model
from tests.deep_prompt.test_common import prompt_config, prompted

NAMES = ["short", "__base__", "long", "short", "deep", "joint"]


def several_adapters(name: str, attn_implementation: str | None = None) -> torch.nn.Module:
    """Adapters of different lengths, depths and encoders on one backbone."""
    model = prompted(name, base=make_model(name, attn_implementation), num_virtual_tokens=2)
    num_layers = make_config(name).num_hidden_layers
    model.add_adapter("short", prompt_config(num_virtual_tokens=2))
    model.add_adapter("long", prompt_config(num_virtual_tokens=6))
    model.add_adapter("deep", prompt_config(num_virtual_tokens=4, layers_to_transform=[num_layers - 1]))
    model.add_adapter("joint", prompt_config("mlp", num_virtual_tokens=3))
    # a head of its own for each adapter, in fact and not only in name
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if ".modules_to_save." in key:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def six_rows(name: str, padded: bool) -> dict[str, torch.Tensor]:
    input_ids = torch.randint(3, VOCAB_SIZE, (6, 7), generator=torch.Generator().manual_seed(3))
    mask = torch.ones_like(input_ids)
    if padded:
        mask[1, 4:] = mask[2, 5:] = 0
        input_ids[mask == 0] = make_config(name).pad_token_id or 0
    return {"input_ids": input_ids, "attention_mask": mask}


def one_by_one(model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    rows = []
    for row, adapter in enumerate(NAMES):
        alone = {key: value[row : row + 1] for key, value in batch.items()}
        if adapter == "__base__":
            with model.disable_adapter():
                rows.append(model(**alone).logits)
        else:
            model.set_adapter(adapter)
            rows.append(model(**alone).logits)
    return torch.cat(rows)


@pytest.mark.parametrize("padded", [True, False], ids=["padded", "full"])
@pytest.mark.parametrize("attn_implementation", ["sdpa", "eager"])
@pytest.mark.parametrize("name", CONFIGS)
def test_each_row_as_if_alone(name, attn_implementation, padded):
    if attn_implementation == "sdpa" and not make_model(name)._supports_sdpa:
        pytest.skip("the architecture has one attention implementation")
    model = several_adapters(name, attn_implementation)
    batch = six_rows(name, padded)
    with torch.no_grad():
        expected = one_by_one(model, batch)
        mixed = model(**batch, adapter_names=NAMES).logits
        assert torch.allclose(mixed, expected, atol=1e-5)
        # and nothing of it stays behind
        model.set_adapter("long")
        assert torch.equal(model(**batch).logits, model(**batch, adapter_names=None).logits)
        assert torch.allclose(model(**batch).logits, model(**batch, adapter_names=["long"] * 6).logits, atol=1e-5)


@pytest.mark.parametrize("name", ["bert", "deberta-v2", "llama"])
def test_gradients_reach_each_rows_adapter_alone(name):
    model = several_adapters(name)
    batch = six_rows(name, padded=True)
    for key, parameter in model.named_parameters():
        parameter.requires_grad_("deep_prompt_" in key)
    model(**batch, adapter_names=["short", "__base__", "long", "short", "long", "short"]).logits.sum().backward()
    for key, parameter in model.named_parameters():
        if "deep_prompt_" in key:
            assert (parameter.grad is not None) == key.endswith((".short", ".long")), key


@pytest.mark.parametrize("kwargs", [{}, {"num_beams": 3}], ids=["greedy", "beams"])
def test_generation_with_one_adapter_per_row(kwargs):
    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_config(make_config("llama"))
    model = get_peft_model(base, prompt_config(task_type="CAUSAL_LM")).eval()
    model.add_adapter("other", prompt_config(task_type="CAUSAL_LM", num_virtual_tokens=2))
    input_ids = torch.randint(3, VOCAB_SIZE, (3, 5))
    kwargs = kwargs | {"max_new_tokens": 5, "do_sample": False, "eos_token_id": None}
    mixed = model.generate(input_ids=input_ids, adapter_names=["default", "__base__", "other"], **kwargs)
    model.set_adapter("default")
    assert torch.equal(mixed[:1], model.generate(input_ids=input_ids[:1], **kwargs))
    with model.disable_adapter():
        assert torch.equal(mixed[1:2], model.generate(input_ids=input_ids[1:2], **kwargs))
    model.set_adapter("other")
    assert torch.equal(mixed[2:], model.generate(input_ids=input_ids[2:], **kwargs))


@pytest.mark.parametrize("name", ["bert", "roberta", "distilbert"])
@pytest.mark.parametrize("modules_to_save", [None, ["word_embeddings"], ["pooler"]], ids=str)
def test_trained_modules_of_every_kind_are_each_rows_own(name, modules_to_save):
    """Linear heads and heads of several layers in one product; embeddings, which are large, one after the other."""
    if modules_to_save == ["pooler"] and name != "bert":
        return
    options = {} if modules_to_save is None else {"modules_to_save": modules_to_save}
    model = prompted(name, **options)
    for adapter in ("b", "c"):
        model.add_adapter(adapter, prompt_config(num_virtual_tokens=3, **options))
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if ".modules_to_save." in key:
                parameter.add_(0.3 * torch.randn_like(parameter))
    batch = six_rows(name, padded=True)
    names = ["b", "default", "b", "__base__", "c", "b"]
    with torch.no_grad():
        mixed = model(**batch, adapter_names=names).logits
        for row, adapter in enumerate(names):
            alone = {key: value[row : row + 1] for key, value in batch.items()}
            assert torch.allclose(mixed[row], model(**alone, adapter_names=[adapter]).logits[0], atol=1e-5), row


def test_a_trained_module_that_is_called_by_name():
    options = {"modules_to_save": ["embeddings"]}
    model = prompted("bert", **options)
    model.add_adapter("b", prompt_config(num_virtual_tokens=3, **options))
    batch = six_rows("bert", padded=True)
    model.set_adapter("b")
    with torch.no_grad():
        assert torch.allclose(model(**batch, adapter_names=["b"] * 6).logits, model(**batch).logits, atol=1e-6)
    with pytest.raises(TypeError, match="`adapter_names`: .*BertEmbeddings of `modules_to_save`"):
        model(**batch, adapter_names=["b", "default"] * 3)


def test_heads_in_one_product_train_as_each_alone():
    model = several_adapters("roberta")
    batch, labels = six_rows("roberta", padded=True), torch.tensor([0, 1, 2, 0, 1, 2])
    names = ["short", "long", "long", "short", "deep", "joint"]
    for key, parameter in model.named_parameters():
        parameter.requires_grad_("deep_prompt_" in key or ".modules_to_save." in key)
    (model(**batch, adapter_names=names, labels=labels).loss * len(names)).backward()
    mixed = {key: p.grad.clone() for key, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    for row, adapter in enumerate(names):
        alone = {key: value[row : row + 1] for key, value in batch.items()}
        model(**alone, adapter_names=[adapter], labels=labels[row : row + 1]).loss.backward()
    for key, parameter in model.named_parameters():
        if parameter.grad is not None:
            assert torch.allclose(mixed[key], parameter.grad, atol=1e-6), key


def test_disabled_layers_have_the_backbones_own_heads_in_every_row():
    model = several_adapters("bert")
    model.base_model.disable_adapter_layers()
    batch = six_rows("bert", padded=True)
    with torch.no_grad():
        assert torch.equal(model(**batch, adapter_names=NAMES).logits, make_model("bert")(**batch).logits)


def test_errors_name_the_argument():
    model = several_adapters("bert")
    batch = six_rows("bert", padded=False)
    with pytest.raises(ValueError, match=r"adapter_names.*'nobody'.*'deep', 'default'.*'__base__'"):
        model(**batch, adapter_names=["nobody"] * 6)
    with pytest.raises(TypeError, match="adapter_names.*one adapter name per row"):
        model(**batch, adapter_names="short")
    with pytest.raises(TypeError, match="adapter_names.*one adapter name per row, got 5"):
        model(**batch, adapter_names=5)
    with pytest.raises(ValueError, match="adapter_names.*4 names.*6 rows"):
        model(**batch, adapter_names=["short"] * 4)
    with pytest.raises(ValueError, match="adapter_names.*3 names.*6 rows"):
        model(batch["input_ids"], adapter_names=["short"] * 3)
    model.base_model.model.gradient_checkpointing_enable()
    with pytest.raises(ValueError, match="adapter_names.*gradient checkpointing"):
        model.train()(**batch, adapter_names=NAMES)


def test_plan():
    plan = RowPlan.of(["b", "__base__", "a", "b"], ["a", "b", "c"])
    assert plan == RowPlan(("b", "__base__", "a"), (0, 1, 2, 0))
    rows = plan.on(torch.device("cpu"))
    assert spread_over(rows, 8).tolist() == [0, 0, 1, 1, 2, 2, 0, 0]
    adapters, blocks, places = plan.blocks(8, torch.device("cpu"))
    assert adapters.tolist() == [0, 0, 1, 2]
    assert blocks.tolist() == [[0, 1, 6], [7, 7, 7], [2, 3, 3], [4, 5, 5]]
    assert blocks.flatten()[places].tolist() == list(range(8))
    with pytest.raises(ValueError, match="adapter_names.*empty"):
        RowPlan.of([], ["a"])
