"""The weights of one adapter put into another: a copy under a new name, and hot-swapping."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import torch
from peft import PeftConfig, PeftModel, get_peft_model_state_dict, set_peft_model_state_dict
from peft.utils import load_peft_weights

from .config import DeepPromptConfig

# What may differ between an adapter and the one that takes its place: how it was made and how it was trained.
_FREE = frozenset(
    {
        "auto_mapping",
        "base_model_name_or_path",
        "inference_mode",
        "init_from",
        "init_std",
        "init_text",
        "init_weights",
        "peft_version",
        "prompt_dropout",
        "revision",
        "tokenizer_kwargs",
        "tokenizer_name_or_path",
    }
)


def copy_adapter(model: PeftModel, source: str, adapter_name: str) -> None:
    """Add an adapter that is the same as another, with its task head. Deleting `source` then makes it a renaming.

    Args:
        model: the model that holds the adapter.
        source: name of the adapter to copy.
        adapter_name: name of the copy.

    Raises:
        ValueError: if there is no adapter `source`, or one of the new name.
    """
    if source not in model.peft_config:
        raise ValueError(f"`source`: there is no adapter {source!r}, only {', '.join(map(repr, model.peft_config))}.")
    if adapter_name in model.peft_config:
        raise ValueError(f"`adapter_name`: there is an adapter {adapter_name!r} already.")
    config: Any = model.peft_config[source]
    state = get_peft_model_state_dict(model, adapter_name=source)
    in_float32 = all(tensor.dtype == torch.float32 for key, tensor in state.items() if ".deep_prompt_" in key)
    model.add_adapter(adapter_name, config.without_initialisation(), autocast_adapter_dtype=in_float32)
    set_peft_model_state_dict(model, state, adapter_name=adapter_name)


def hotswap_adapter(
    model: Any, model_name_or_path: str, adapter_name: str = "default", torch_device: str | None = None, **kwargs: Any
) -> None:
    """Put the weights of a saved adapter into one that is in use, under its name: a compiled model stays compiled.

    `peft.utils.hotswap.hotswap_adapter` does the same for LoRA, with the same arguments.

    Args:
        model: a `PeftModel`, compiled or not.
        model_name_or_path: folder or Hub id of the saved adapter.
        adapter_name: the adapter whose weights are replaced, task head included.
        torch_device: where to load the weights to; default: the CPU.
        kwargs: passed on to PEFT's loading of configuration and weights (`subfolder`, `revision`, `token` ...).

    Raises:
        ValueError: if there is no such adapter, or the saved one is of another shape; the message names what differs.
    """
    model = getattr(model, "_orig_mod", model)
    if adapter_name not in model.peft_config:
        raise ValueError(f"`adapter_name`: there is no adapter {adapter_name!r} to be replaced.")
    old, new = model.peft_config[adapter_name], PeftConfig.from_pretrained(model_name_or_path, **kwargs)
    if not isinstance(new, DeepPromptConfig):
        raise ValueError(f"`model_name_or_path`: {model_name_or_path!r} holds no deep prompts, but {new.peft_type}.")
    names = [field.name for field in fields(old) if field.name not in _FREE]
    different = [name for name in names if _plain(getattr(old, name)) != _plain(getattr(new, name))]
    if different:
        listed = ", ".join(f"{name} {getattr(old, name)!r} and {getattr(new, name)!r}" for name in different)
        raise ValueError(f"Adapters of different configurations cannot be swapped: {listed}.")
    state = load_peft_weights(model_name_or_path, device=torch_device or "cpu", **kwargs)
    # copies into the parameters that are there: compiled graphs keep them
    set_peft_model_state_dict(model, state, adapter_name=adapter_name)


def _plain(value: Any) -> Any:
    """Return collections of names as sorted lists without doubles: PEFT appends the names of heads repeatedly."""
    return sorted(set(value)) if isinstance(value, set | list) else value
