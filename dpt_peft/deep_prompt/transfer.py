"""Weights of one adapter in another: whether saved ones fit, copies and hot-swapping, and adapters made of several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

import torch
from peft import PeftConfig, PeftModel, get_peft_model_state_dict, set_peft_model_state_dict
from peft.tuners.tuners_utils import BaseTuner
from peft.utils import load_peft_weights

from .bank import PromptBank
from .config import DeepPromptConfig, shorten

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


def prompts_of(state: Mapping[str, torch.Tensor], adapter_name: str, prefix: str) -> dict[str, torch.Tensor]:
    """Return those entries of a model's state that are prompts of one adapter."""
    marker = f".{prefix}"
    # the name of its kind is followed by that of its adapter, and in modules by a parameter's
    return {
        key: tensor
        for key, tensor in state.items()
        if marker in key and key.rpartition(marker)[2].split(".")[1] == adapter_name
    }


def check_fit(
    model_state: dict[str, torch.Tensor], adapter_state: dict[str, torch.Tensor], adapter_name: str, prefix: str
) -> None:
    """Raise if a saved adapter's prompts are not exactly those that this backbone has room for."""
    ours = prompts_of(model_state, adapter_name, prefix)
    theirs = {key: value for key, value in adapter_state.items() if f".{prefix}" in key}
    foreign = [key for key in theirs if key not in ours]
    wrong = [
        f"{key} is {tuple(theirs[key].shape)}, expected {tuple(value.shape)}"
        for key, value in ours.items()
        if key in theirs and theirs[key].shape != value.shape
    ]
    missing = [key for key in ours if key not in theirs]
    if wrong or missing or foreign:
        parts = [
            f"of another size: {shorten(wrong)}" if wrong else "",
            f"missing in the adapter: {shorten(missing)}" if missing else "",
            f"unknown to the backbone: {shorten(foreign)}" if foreign else "",
        ]
        raise ValueError(
            "The adapter was trained on another backbone, or with another configuration, and was not loaded. Prompts "
            f"{'; '.join(part for part in parts if part)}."
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


def initialise_from(tuner: BaseTuner, adapter_name: str, source: str) -> None:
    """Copy the prompts of another adapter into a new one; task heads stay new.

    This is how prompts that were trained on several tasks are handed on to one (P-tuning v2, section 3.3).

    Args:
        tuner: the model that holds the new adapter.
        adapter_name: the new adapter.
        source: name of an adapter of the same model, or else folder or Hub id of a saved one.

    Raises:
        ValueError: if there is no such source, or its prompts are not exactly those that the new adapter has room for.
    """
    if source in tuner.peft_config and source != adapter_name:
        state = get_peft_model_state_dict(tuner.model, adapter_name=source)
    else:
        try:
            state = load_peft_weights(source, device="cpu")
        except (OSError, ValueError) as error:
            others = ", ".join(repr(name) for name in tuner.peft_config if name != adapter_name)
            raise ValueError(
                f"`init_from` is {source!r}, which is neither an adapter of this model ({others or 'it has no other'})"
                f" nor folder or Hub id of a saved one: {error}"
            ) from error
    prompts = {key: tensor for key, tensor in state.items() if f".{tuner.prefix}" in key}
    config = tuner.peft_config[adapter_name]
    remapped = tuner._remap_adapter_state_dict_for_load(tuner.model, config, adapter_name, prompts)
    tuner.model.load_state_dict(remapped, strict=False)


def combined_config(
    configs: Sequence[DeepPromptConfig], weights: Sequence[float], combination_type: str
) -> DeepPromptConfig:
    """Return the configuration of a combination, after checking that there can be one.

    Raises:
        ValueError: if the arguments or the adapters do not fit together; the message names what does not.
    """
    if len(configs) != len(weights) or not configs:
        raise ValueError(f"`weights` must have one number per adapter, got {len(weights)} for {len(configs)}.")
    if combination_type not in ("linear", "cat"):
        raise ValueError(f"`combination_type` must be 'linear' or 'cat', got {combination_type!r}.")
    first = configs[0]
    for name in ("layers_to_transform", "target_modules", "exclude_modules", "shift_positions", "use_gate"):
        if any(getattr(config, name) != getattr(first, name) for config in configs):
            raise ValueError(f"`adapters`: only adapters with the same `{name}` can be combined.")
    if first.use_gate and combination_type == "cat":
        raise ValueError("`combination_type`: gated prompts have one softmax per adapter and cannot be put in a row.")
    lengths = [config.num_virtual_tokens for config in configs]
    if combination_type == "linear" and len(set(lengths)) > 1:
        raise ValueError(
            f"`adapters`: their prompts are of different lengths ({', '.join(map(str, lengths))}), which have no sum; "
            "use combination_type='cat'."
        )
    return replace(
        first.without_initialisation().without_encoder(),
        num_virtual_tokens=lengths[0] if combination_type == "linear" else sum(lengths),
    )


def combine_prompts(
    bank: PromptBank, adapters: Sequence[str], weights: Sequence[float], adapter_name: str, combination_type: str
) -> None:
    """Fill the prompts of `adapter_name` with the weighted sum of others, or with theirs in a row.

    In a row, a weight scales an adapter's values, so that what attention reads from its prompts counts as much.
    """

    def weighted(dicts: Any) -> torch.Tensor:
        return torch.stack([weight * dicts(name) for weight, name in zip(weights, adapters, strict=True)]).sum(0)

    with torch.no_grad():
        if combination_type == "linear":
            bank.deep_prompt_stored[adapter_name].copy_(weighted(bank.flat))
        else:
            bank.deep_prompt_stored[adapter_name].copy_(torch.cat([bank.flat(name) for name in adapters]))
            lengths = [len(bank.flat(name)) for name in adapters]
            for layer in bank.layers:
                if adapter_name in layer.slots:
                    values = layer.keys_and_values(adapter_name)[1].split(lengths, dim=1)
                    for weight, value in zip(weights, values, strict=True):
                        value.mul_(weight)
        if adapter_name in bank.deep_prompt_gate:
            bank.deep_prompt_gate[adapter_name].copy_(weighted(bank.deep_prompt_gate.__getitem__))


def _plain(value: Any) -> Any:
    """Return collections of names as sorted lists without doubles: PEFT appends the names of heads repeatedly."""
    return sorted(set(value)) if isinstance(value, set | list) else value
