"""The PEFT methods that the example scripts compare, and the options that a user can give them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from peft import LoraConfig, PeftConfig, PromptEncoderConfig, PromptTuningConfig, TaskType

from dpt_peft.deep_prompt import DeepPromptConfig


@dataclass
class AdapterOptions:
    """What the adapters can be told; each reads its own fields and leaves the others alone.

    Attributes:
        readers: For each option the names of the functions here that read it. An option that is not among them is
            read by every method.
    """

    readers: ClassVar[dict[str, tuple[str, ...]]] = {
        "num_virtual_tokens": ("deep_prompt", "shallow_prompt", "p_tuning"),
        "encoder_hidden_size": ("deep_prompt", "p_tuning"),
        **dict.fromkeys(("layers_to_transform", "prompt_dropout", "encoder_reparameterization"), ("deep_prompt",)),
        **dict.fromkeys(("use_gate", "init_weights", "init_std", "init_from"), ("deep_prompt",)),
        **dict.fromkeys(("lora_r", "lora_alpha", "lora_dropout", "lora_target_modules"), ("lora",)),
    }
    num_virtual_tokens: int = field(
        default=20, metadata={"help": "*prompt, p_tuning: prompt length (deep prompts: in every layer)."}
    )
    layers_to_transform: list[str] | None = field(
        default=None,
        metadata={
            "help": "*deep_prompt: layers that get prompts: numbers from 0, or 'last 8', 'first 8'. Default: all."
        },
    )
    prompt_dropout: float = field(default=0.0, metadata={"help": "*deep_prompt: dropout on the prompts."})
    encoder_reparameterization: Literal["none", "mlp"] = field(
        default="none", metadata={"help": "*deep_prompt: prompts as a table, or made by an MLP."}
    )
    encoder_hidden_size: int = field(
        default=512, metadata={"help": "*deep_prompt, p_tuning: width of the prompt encoder's hidden layer."}
    )
    use_gate: bool = field(
        default=False, metadata={"help": "*deep_prompt: prompts beside the attention, times a gate that starts at 0."}
    )
    init_weights: Literal["normal", "sample_vocab"] = field(
        default="normal",
        metadata={"help": "*deep_prompt: start from random numbers, or from keys and values of the vocabulary."},
    )
    init_std: float = field(default=0.02, metadata={"help": "*deep_prompt: standard deviation of the random numbers."})
    init_from: str | None = field(
        default=None,
        metadata={"help": "*deep_prompt: start from the prompts of this saved adapter (folder or Hub id)."},
    )
    lora_r: int = field(default=8, metadata={"help": "lora: rank."})
    lora_alpha: int = field(default=16, metadata={"help": "lora: scale, applied as lora_alpha / lora_r."})
    lora_dropout: float = field(default=0.0, metadata={"help": "lora: dropout before the low-rank matrices."})
    lora_target_modules: list[str] | None = field(
        default=None, metadata={"help": "lora: modules to adapt. Default: PEFT's choice for the architecture."}
    )


AdapterFactory = Callable[[AdapterOptions, TaskType], PeftConfig]


def _layers(layers: list[str] | list[int] | str | None) -> list[int] | str | None:
    """Turns `--layers_to_transform 4 5` or `--layers_to_transform last 2` into what `DeepPromptConfig` takes."""
    if layers is None or isinstance(layers, str):
        return layers
    words = [str(layer) for layer in layers]
    return [int(word) for word in words] if all(word.isdigit() for word in words) else " ".join(words)


def deep_prompt(options: AdapterOptions, task_type: TaskType) -> PeftConfig:
    """Deep prompts (P-tuning v2, section 3.2)."""
    return DeepPromptConfig(
        task_type=task_type,
        num_virtual_tokens=options.num_virtual_tokens,
        layers_to_transform=_layers(options.layers_to_transform),
        prompt_dropout=options.prompt_dropout,
        encoder_reparameterization=options.encoder_reparameterization,
        encoder_hidden_size=options.encoder_hidden_size,
        use_gate=options.use_gate,
        init_weights=options.init_weights,
        init_std=options.init_std,
        init_from=options.init_from,
    )


def lora(options: AdapterOptions, task_type: TaskType) -> PeftConfig:
    """Low-rank matrices in the attention (PEFT's LoRA)."""
    return LoraConfig(
        task_type=task_type,
        r=options.lora_r,
        lora_alpha=options.lora_alpha,
        lora_dropout=options.lora_dropout,
        target_modules=options.lora_target_modules,
    )


def shallow_prompt(options: AdapterOptions, task_type: TaskType) -> PeftConfig:
    """Prompts at the input only, from the vocabulary's own vectors (Lester et al. 2021; PEFT's prompt tuning).

    P-tuning v2's tables call it PT.
    """
    return PromptTuningConfig(
        task_type=task_type, num_virtual_tokens=options.num_virtual_tokens, prompt_tuning_init="SAMPLE_VOCAB"
    )


def p_tuning(options: AdapterOptions, task_type: TaskType) -> PeftConfig:
    """Prompts at the input only, made by an MLP (P-tuning, Liu et al. 2021; PEFT's prompt encoder)."""
    return PromptEncoderConfig(
        task_type=task_type,
        num_virtual_tokens=options.num_virtual_tokens,
        encoder_hidden_size=options.encoder_hidden_size,
    )
