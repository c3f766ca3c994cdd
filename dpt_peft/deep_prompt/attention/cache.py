"""Prompts in the cache of keys and values: they join the tokens once, and decoding has nothing to add."""

from __future__ import annotations

from typing import Any

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from dpt_peft.deep_prompt.forward_pass import Prompts


class PromptedCacheLayer(DynamicLayer):
    """A layer of a dynamic cache that has prompts before its tokens.

    To everyone else it is as long as its tokens: prompts take no positions, and masks are made for tokens.

    Attributes:
        length: how many prompts there are.
        visible: which of them each row has, see [`Prompts`].
        owner: says which prompts they are.
    """

    length = 0
    visible: torch.Tensor | None = None
    owner: Any = None

    def put(self, prompts: Prompts, owner: Any, key: torch.Tensor, value: torch.Tensor) -> None:
        """Keep keys and values that have prompts in front."""
        self.keys, self.values = key, value
        self.length, self.visible, self.owner = prompts.length, prompts.visible, owner

    def take_out(self) -> None:
        """Leave the tokens alone in the cache."""
        if self.length:
            self.keys, self.values = self.keys[:, :, self.length :], self.values[:, :, self.length :]
        self.length, self.visible, self.owner = 0, None, None

    def get_seq_length(self) -> int:
        """Return the number of tokens."""
        return max(super().get_seq_length() - self.length, 0)

    def reset(self) -> None:
        """Forget everything, prompts too."""
        self.length, self.visible, self.owner = 0, None, None
        super().reset()

    def crop(self, *args: Any, **kwargs: Any) -> None:
        """Cut tokens off, and no prompts."""
        prompts = [part[:, :, : self.length] for part in (self.keys, self.values)] if self.length else None
        length, visible, owner = self.length, self.visible, self.owner
        self.take_out()
        super().crop(*args, **kwargs)
        if prompts is not None:
            self.keys, self.values = (torch.cat(p, 2) for p in zip(prompts, (self.keys, self.values), strict=True))
            self.length, self.visible, self.owner = length, visible, owner


def cache_layer(cache: Any, index: Any) -> DynamicLayer | None:
    """Return a cache's layer that prompts can be put into, or `None`.

    Static and quantised caches, and windows that slide, have no room for them.
    """
    if not isinstance(cache, DynamicCache) or not isinstance(index, int) or index >= len(cache.layers):
        return None
    layer = cache.layers[index]
    return layer if type(layer) in (DynamicLayer, PromptedCacheLayer) else None


def with_prompts(cache: Any, index: int) -> PromptedCacheLayer:
    """Return a cache's layer as one that can hold prompts; it takes the place of the plain one."""
    plain = cache.layers[index]
    if isinstance(plain, PromptedCacheLayer):
        return plain
    prompted = PromptedCacheLayer()
    prompted.__dict__.update(plain.__dict__)
    cache.layers[index] = prompted
    return prompted
