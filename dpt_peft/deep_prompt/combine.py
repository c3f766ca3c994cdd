"""New adapters from those that exist: handed on, averaged, or joined."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from peft import get_peft_model_state_dict
from peft.tuners.tuners_utils import BaseTuner
from peft.utils import load_peft_weights

from .bank import PromptBank
from .config import DeepPromptConfig


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
        first.without_initialisation(),
        num_virtual_tokens=lengths[0] if combination_type == "linear" else sum(lengths),
        encoder_reparameterization="none",
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
