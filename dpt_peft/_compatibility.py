"""What the libraries underneath do not promise to keep, each behind a function with a test of its own."""

from __future__ import annotations

import copy
import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from peft import mapping
from peft.utils import ModulesToSaveWrapper
from torch import nn


@contextmanager
def quiet_peft() -> Iterator[None]:
    """Hides a warning that no user can help: peft 0.21 reads a transformers attribute under its former name."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)
        yield


def register_peft_type(name: str, config: type, tuner: type, prefix: str) -> None:
    """Make a method known to PEFT.

    `peft.utils.register_peft_method` writes these same entries, but refuses names that PEFT's own closed enum lacks
    (peft #2273).
    """
    mapping.PEFT_TYPE_TO_CONFIG_MAPPING[name] = config
    mapping.PEFT_TYPE_TO_TUNER_MAPPING[name] = tuner
    mapping.PEFT_TYPE_TO_PREFIX_MAPPING[name] = prefix


def is_plain_trained_module(module: nn.Module) -> bool:
    """Return whether a module is PEFT's wrapper of a trained module and no subclass of it."""
    return type(module) is ModulesToSaveWrapper


def change_class(module: nn.Module, cls: type) -> None:
    """Make an object one of a subclass that adds behaviour and no parameters: same identity, same state."""
    assert issubclass(cls, type(module))
    module.__class__ = cls


# torch has several names for one operation: functions, operators, and those that write in place
_ALIASES = {
    "add": ("__add__", "__radd__", "add_", "__iadd__"),
    "sub": ("subtract", "__sub__", "sub_", "__isub__"),
    "mul": ("multiply", "__mul__", "__rmul__", "mul_", "__imul__"),
    "div": ("true_divide", "divide", "__truediv__", "div_", "__itruediv__", "__idiv__"),
    "matmul": ("__matmul__",),
    "baddbmm": ("baddbmm_",),
    "cat": ("concat", "concatenate"),
    "masked_fill": ("masked_fill_",),
}
_PLAIN_NAMES = {alias: name for name, aliases in _ALIASES.items() for alias in aliases}


def torch_operation(func: Callable) -> str:
    """Return the plain name of what a `TorchFunctionMode` sees, the same for all of torch's names of an operation."""
    name = getattr(func, "__name__", "")
    return _PLAIN_NAMES.get(name, name)


def in_backward() -> bool:
    """Return whether autograd is running a backward pass in this thread; `torch.utils.checkpoint` asks the same."""
    return torch._C._current_graph_task_id() != -1


def asks_attention_interface(module: nn.Module) -> bool:
    """Return whether a module's forward asks transformers' attention interface for a kernel named by its `config`."""
    return "get_interface" in _forward_of(module).__code__.co_names and hasattr(module, "config")


def attention_kernels(module: nn.Module) -> tuple[Callable, Mapping[str, Callable]]:
    """Return the eager kernel of a module that asks the attention interface, and the registry of the others.

    Both are looked up where its forward looks: some modeling files have kernels and a registry of their own.
    """
    forward = _forward_of(module)
    eager = next(name for name in forward.__code__.co_names if name.endswith("eager_attention_forward"))
    return forward.__globals__[eager], forward.__globals__["ALL_ATTENTION_FUNCTIONS"]


def config_with_attention(config: Any, implementation: str) -> Any:
    """Return a copy of a config that names another attention implementation, known to the interface or not."""
    changed = copy.copy(config)
    changed._attn_implementation_internal = implementation
    return changed


def attention_implementation(config: Any) -> str:
    """Return the attention implementation that a config names."""
    return config._attn_implementation or "eager"


def cache_of_call(kwargs: Mapping[str, Any]) -> Any:
    """Return the cache of self-attention among the arguments of an attention module; `None` without one.

    transformers 5.24 renames `past_key_values` to `cache`, one architecture after the other.
    """
    cache = kwargs.get("past_key_values")
    if cache is None:
        cache = kwargs.get("cache")
    return getattr(cache, "self_attention_cache", cache)


def _forward_of(module: nn.Module) -> Any:
    return inspect.unwrap(type(module).forward)
