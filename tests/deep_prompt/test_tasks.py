"""Every task type of PEFT, and multiple choice: heads are trained and saved as for LoRA, prompts with them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file

from dpt_peft import DeepPromptConfig
from tests.architectures import VOCAB_SIZE, make_config
from tests.deep_prompt.test_common import keys_of, layers_of, prompt_config, values_of
from tests.deep_prompt.test_generation import seq2seq

ENCODERS = ("bert", "roberta", "distilbert", "deberta-v2", "modernbert")
DECODERS = ("gpt2", "llama")
CHOICES = 3


@dataclass(frozen=True)
class Task:
    """One task: its auto class, the architectures it is tried on, and what a batch has besides token ids."""

    name: str
    task_type: str | None
    auto_class: str
    architectures: tuple[str, ...]
    output: str = "logits"

    def make(self, architecture: str) -> torch.nn.Module:
        """A random model, frozen: matrix products may take another kernel where a weight wants a gradient."""
        torch.manual_seed(0)
        if self.task_type == "SEQ_2_SEQ_LM":
            return seq2seq(architecture).requires_grad_(False)
        config = make_config(architecture, num_labels=2 if self.name == "question answering" else 3)
        return getattr(transformers, self.auto_class).from_config(config).eval().requires_grad_(False)

    def batch(self, num_rows: int = 2) -> dict[str, torch.Tensor]:
        shape = (num_rows, CHOICES, 7) if self.name == "multiple choice" else (num_rows, 7)
        input_ids = torch.randint(3, VOCAB_SIZE, shape, generator=torch.Generator().manual_seed(1))
        mask = torch.ones_like(input_ids)
        mask[1, ..., 5:] = 0
        return {"input_ids": input_ids, "attention_mask": mask}

    def labels(self, num_rows: int = 2) -> dict[str, torch.Tensor]:
        generator = torch.Generator().manual_seed(2)
        if self.name == "question answering":
            return {
                f"{end}_positions": torch.randint(0, 5, (num_rows,), generator=generator) for end in ("start", "end")
            }
        high, shape = {
            "tagging": (3, (num_rows, 7)),
            "causal language model": (VOCAB_SIZE, (num_rows, 7)),
            "sequence to sequence": (VOCAB_SIZE, (num_rows, 4)),
        }.get(self.name, (3, (num_rows,)))
        return {"labels": torch.randint(0, high, shape, generator=generator)}

    def outputs(self, model: torch.nn.Module, **kwargs: Any) -> torch.Tensor:
        extra = {"decoder_input_ids": self.labels()["labels"]} if self.task_type == "SEQ_2_SEQ_LM" else {}
        with torch.no_grad():
            output = model(**self.batch(), **extra, **kwargs)
        if self.name == "question answering":
            return torch.stack([output.start_logits, output.end_logits])
        return getattr(output, self.output)


TASKS = (
    Task("classification", "SEQ_CLS", "AutoModelForSequenceClassification", ENCODERS + DECODERS),
    Task("tagging", "TOKEN_CLS", "AutoModelForTokenClassification", ENCODERS + DECODERS),
    Task("question answering", "QUESTION_ANS", "AutoModelForQuestionAnswering", ENCODERS + DECODERS),
    Task("causal language model", "CAUSAL_LM", "AutoModelForCausalLM", DECODERS),
    Task("sequence to sequence", "SEQ_2_SEQ_LM", "AutoModelForSeq2SeqLM", ("t5", "bart", "led")),
    Task("features", "FEATURE_EXTRACTION", "AutoModel", ENCODERS + DECODERS, output="last_hidden_state"),
    # PEFT has no name for it: as for LoRA, its head is that of a classifier
    Task("multiple choice", "SEQ_CLS", "AutoModelForMultipleChoice", ENCODERS),
)
every_case = pytest.mark.parametrize(
    ("task", "architecture"),
    [pytest.param(task, a, id=f"{task.name}-{a}") for task in TASKS for a in task.architectures],
)


def prompted(task: Task, architecture: str) -> PeftModel:
    base = task.make(architecture)
    torch.manual_seed(2)
    return get_peft_model(base, prompt_config(task_type=task.task_type)).eval()


@every_case
def test_disabling_saving_and_loading_are_exact(task, architecture, tmp_path):
    plain = task.outputs(task.make(architecture))
    model = prompted(task, architecture)
    outputs = task.outputs(model)
    assert outputs.shape == plain.shape
    assert (outputs - plain).abs().max() > 1e-5
    with model.disable_adapter():
        assert torch.equal(task.outputs(model), plain)
    model.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(task.make(architecture), tmp_path).eval()
    assert type(loaded) is type(model)
    assert torch.equal(task.outputs(loaded), outputs)


@every_case
def test_heads_are_trained_and_saved_as_for_lora(task, architecture, tmp_path):
    model = prompted(task, architecture)
    model.save_pretrained(tmp_path / "ours")
    targets = ["query", "q_lin", "query_proj", "Wqkv", "q_proj", "c_attn", "q"]
    lora = LoraConfig(task_type=task.task_type, target_modules=targets)
    other = get_peft_model(task.make(architecture), lora)
    other.save_pretrained(tmp_path / "lora")

    def head(folder: str) -> set[str]:
        saved = load_file(tmp_path / folder / "adapter_model.safetensors")
        return {key for key in saved if "lora_" not in key and "deep_prompt_" not in key}

    assert head("ours") == head("lora")
    trained = {key for key, p in model.named_parameters() if p.requires_grad and "deep_prompt_" not in key}
    assert trained == {key for key, p in other.named_parameters() if p.requires_grad and "lora_" not in key}


@every_case
def test_the_tasks_loss_reaches_every_prompt_and_the_head_alone(task, architecture):
    model = prompted(task, architecture).train()
    if task.name == "features":
        model(**task.batch()).last_hidden_state.square().sum().backward()
    else:
        model(**task.batch(), **task.labels()).loss.backward()
    for key, parameter in model.named_parameters():
        ours = "deep_prompt_" in key or ".modules_to_save." in key
        assert parameter.requires_grad is ours, key
        assert (parameter.grad is not None) is ours, key
        # of a head, the bias may have none: a softmax over choices or tokens is the same with any
        if "deep_prompt_" in key:
            assert parameter.grad.abs().sum() > 0, key


@pytest.mark.parametrize("task", [t for t in TASKS if "bert" in t.architectures], ids=lambda task: task.name)
@pytest.mark.parametrize("architecture", ["bert", "deberta-v2"])
def test_each_row_has_its_own_adapter_and_head(task, architecture):
    model = prompted(task, architecture)
    model.add_adapter("other", prompt_config(task_type=task.task_type, num_virtual_tokens=2))
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if ".modules_to_save.other" in key:
                parameter.add_(0.1)
    mixed = task.outputs(model, adapter_names=["other", "default"])
    rows = 1 if task.name == "question answering" else 0
    for row, name in enumerate(["other", "default"]):
        model.set_adapter(name)
        alone = task.outputs(model)
        assert torch.allclose(mixed.select(rows, row), alone.select(rows, row), atol=1e-5)


@pytest.mark.parametrize("architecture", ["t5", "bart", "led"])
def test_cross_attention_gets_prompts_only_if_asked(architecture):
    base = seq2seq(architecture)
    model = get_peft_model(base, prompt_config(task_type="SEQ_2_SEQ_LM"))
    cross = ("EncDecAttention", "encoder_attn")

    def prompted_modules(model: torch.nn.Module) -> list[str]:
        wrapped = layers_of(model)
        return [key for key, module in model.named_modules() if any(module is layer for layer in wrapped)]

    assert len(prompted_modules(model)) == 4
    assert not any(name.endswith(cross) for name in prompted_modules(model))
    asked = get_peft_model(
        seq2seq(architecture), prompt_config(task_type="SEQ_2_SEQ_LM", target_modules=list(cross))
    ).eval()
    assert [name.endswith(cross) for name in prompted_modules(asked)] == [True] * 2
    # the prompts join what the decoder reads from the encoder, at every step of generation
    task = next(task for task in TASKS if task.task_type == "SEQ_2_SEQ_LM")
    with_prompts = task.outputs(asked)
    with asked.disable_adapter():
        assert (task.outputs(asked) - with_prompts).abs().max() > 1e-4
    generate = {"max_new_tokens": 5, "do_sample": False, "num_beams": 2, "eos_token_id": None}
    expected = asked.generate(**task.batch(), **generate, use_cache=False)
    assert torch.equal(asked.generate(**task.batch(), **generate), expected)


def test_prompts_of_cross_attention_by_hand():
    """T5's cross-attention has no positions: copies of the encoder's own keys and values change nothing."""
    model = seq2seq("t5")
    task = next(task for task in TASKS if task.task_type == "SEQ_2_SEQ_LM")
    batch = {key: value[:1, :5] for key, value in task.batch().items()}
    decoder_input_ids = task.labels()["labels"][:1]
    with torch.no_grad():
        states = model.encoder(**batch).last_hidden_state
        expected = model(**batch, decoder_input_ids=decoder_input_ids).logits
        config = DeepPromptConfig(task_type="SEQ_2_SEQ_LM", num_virtual_tokens=5, target_modules=["EncDecAttention"])
        prompted_model = get_peft_model(model, config).eval()
        for layer in layers_of(prompted_model):
            keys_of(layer).copy_(layer.base_layer.k(states))
            values_of(layer).copy_(layer.base_layer.v(states))
        output = prompted_model(**batch, decoder_input_ids=decoder_input_ids).logits
    assert torch.allclose(output, expected, atol=1e-5)
