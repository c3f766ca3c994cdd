"""New prompts from tokens: the keys and values that the frozen backbone itself makes of them."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from transformers import AutoTokenizer

from .attention.base import DeepPromptLayer
from .bank import PromptBank
from .config import DeepPromptConfig
from .mixed_batch import BASE, RowPlan
from .positions import ShiftedPositions


def initialise_from_tokens(model: nn.Module, adapter_name: str, config: DeepPromptConfig) -> None:
    """Set the prompts of an adapter to the keys and values of `init_text`, or of tokens drawn from the vocabulary.

    The tokens are run through the backbone as a text of their own, and every prompted attention module contributes its
    keys and values, by layer. Prompts join keys after positions have been applied. Backbones with rotary positions are
    given the positions -n to -1, so that a causal one then reads every batch as if the text stood before it. Others,
    and those whose tokens make room for it by `shift_positions`, have the text at its usual positions.

    Args:
        model: the backbone with the new prompts in it.
        adapter_name: the new adapter.
        config: its configuration, with `init_weights` other than `"normal"`.

    Raises:
        ValueError: if an attention module's keys and values cannot be read; the message names it.
    """
    layers = [m for m in model.modules() if isinstance(m, DeepPromptLayer) and adapter_name in m.slots]
    input_ids = _tokens(model, config)
    room = _room(model) or len(input_ids)
    parts = []
    for piece in input_ids.split(room):
        with _recording(model, layers):
            _run(model, piece, config.shift_positions)
            parts.append([layer.recorded or [] for layer in layers])
    for index, layer in enumerate(layers):
        for prompt, run in enumerate(layer.slots[adapter_name]):
            for kind, prompts in enumerate(layer.keys_and_values(adapter_name)):
                prompts[prompt].copy_(torch.cat([part[index][run][kind] for part in parts]))


def _tokens(model: Any, config: DeepPromptConfig) -> torch.Tensor:
    """`num_virtual_tokens` token ids."""
    count = config.num_virtual_tokens
    embeddings = model.get_input_embeddings()
    device = embeddings.weight.device
    if config.init_weights == "sample_vocab":
        return torch.randint(0, embeddings.num_embeddings, (count,), device=device)
    options = dict(config.tokenizer_kwargs or {})
    # of the call alone: transformers' loading has no such option
    special = options.pop("add_special_tokens", True)
    tokenizer = AutoTokenizer.from_pretrained(config.tokenizer_name_or_path, **options)
    ids = tokenizer(config.init_text, add_special_tokens=special)["input_ids"]
    ids = torch.tensor(ids, dtype=torch.long, device=device)
    if len(ids) == 0:
        raise ValueError(f"`init_text` has no tokens: {config.init_text!r}.")
    # repeated before it is run and not after: prompts that start out the same would stay the same
    return ids.repeat(-(-count // len(ids)))[:count]


def _run(model: Any, input_ids: torch.Tensor, positions_are_shifted: bool) -> None:
    body = getattr(model, "base_model", model)
    kwargs = {"input_ids": input_ids[None], "attention_mask": torch.ones_like(input_ids[None])}
    parameters = inspect.signature(body.forward).parameters
    if getattr(body.config, "is_encoder_decoder", False):
        kwargs["decoder_input_ids"] = input_ids[None]
    elif "position_ids" in parameters and not positions_are_shifted and _has_rotary_positions(body):
        kwargs["position_ids"] = torch.arange(-len(input_ids), 0, device=input_ids.device)[None]
    with torch.no_grad():
        body(**kwargs)


def _has_rotary_positions(model: nn.Module) -> bool:
    return any("RotaryEmbedding" in type(module).__name__ for module in model.modules())


def _room(model: Any) -> int | None:
    """How many tokens the backbone's position table takes; some tables begin behind the padding index."""
    config = model.config.get_text_config()
    positions = getattr(config, "max_position_embeddings", None)
    return positions - (getattr(config, "pad_token_id", None) or 0) - 1 if positions else None


@contextmanager
def _recording(model: nn.Module, layers: list[DeepPromptLayer]) -> Iterator[None]:
    """Let `layers` note keys and values in `recorded`: no layer has prompts, no position is shifted, no dropout."""
    training = {module: module.training for module in model.modules()}
    switched = [module for module in model.modules() if isinstance(module, PromptBank | ShiftedPositions)]
    model.eval()
    for part in switched:
        part.plan_rows(RowPlan((BASE,), (0,)))
    for layer in layers:
        layer.recorded = []
    try:
        yield
    finally:
        for module, mode in training.items():
            module.training = mode
        for layer in layers:
            layer.recorded = None
        for part in switched:
            part.plan_rows(None)
