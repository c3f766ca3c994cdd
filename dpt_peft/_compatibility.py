"""The one door to what is not public in the libraries underneath, and to what differs between their versions."""

from __future__ import annotations

import copy
import inspect
import json
import logging
import re
import sys
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial, wraps
from itertools import chain
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import torch
from accelerate import __version__ as accelerate_version
from huggingface_hub import ModelCard
from packaging.version import Version
from peft import PeftConfig, PeftModel, mapping
from peft.tuners.tuners_utils import BaseTuner
from peft.utils import INCLUDE_LINEAR_LAYERS_SHORTHAND
from tokenizers import models
from torch import nn
from transformers import (
    AutoConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    configuration_utils,
)
from transformers.pytorch_utils import Conv1D
from transformers.utils import logging as transformers_logging, output_capturing


def refuse_old_accelerate(version: str) -> None:
    """Raise an `ImportError` for an accelerate under whose FSDP2 other weights are trained, without an error."""
    if Version(version) < Version("1.12"):
        raise ImportError(f"accelerate {version} trains other weights under FSDP2: install accelerate>=1.12")


refuse_old_accelerate(accelerate_version)


def declares_sub_config(name: str, model_type: str) -> Callable[[type], type]:
    """Decorate a config class: its attribute `name` holds another config, by default one of `model_type`.

    transformers 5.20 renamed `sub_configs` to `sub_configs_defaults`.
    """
    specification = getattr(configuration_utils, "SubConfigSpec", None)

    def declare(config_class: Any) -> Any:
        if specification is None:
            config_class.sub_configs = {name: AutoConfig}
        else:
            config_class.sub_configs_defaults = {name: specification(config_class=AutoConfig, model_type=model_type)}
        return config_class

    return declare


def as_config(value: PreTrainedConfig | dict[str, Any] | None, model_type: str) -> PreTrainedConfig:
    """Return a sub-config of what a saved config holds; transformers does so itself since 5.20."""
    if isinstance(value, PreTrainedConfig):
        return value
    values = dict(value or {})
    return AutoConfig.for_model(values.pop("model_type", model_type), **values)


#: Set in a config when its constructor is done; older versions of transformers (5.18) have no such mark.
_MADE = "_post_init_done"


def mark_made(config: PreTrainedConfig) -> None:
    """Say of a config that its constructor is through with asking it for attributes."""
    setattr(config, _MADE, True)


def is_made(config: PreTrainedConfig) -> bool:
    """Return whether the constructor of a config is through with asking it for attributes."""
    return _MADE in vars(config)


def without_mark(values: dict[str, Any]) -> dict[str, Any]:
    """Return what is to be saved of a config."""
    return {name: value for name, value in values.items() if name != _MADE}


@contextmanager
def quiet_peft() -> Iterator[None]:
    """Hide a warning that no user can help: peft 0.21 reads a transformers attribute under its former name."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)
        yield


#: Unigram models of tokenizers that were asked for once: to rebuild one takes a third of a second.
_REBUILT: WeakKeyDictionary[PreTrainedTokenizerBase, dict[Any, models.Unigram]] = WeakKeyDictionary()


def split_special_tokens(tokenizer: PreTrainedTokenizerBase) -> Callable[[], None]:
    """Make a tokenizer read special tokens that stand in a text as ordinary text.

    transformers' own switch alone does not do it: a Unigram model (XLM-R, DeBERTa-v3, T5) still prefers `</s>` as one
    piece, whose score is 0, and the tokenizers written in Python keep `[SEP]` in one piece unless their `_tokenize`
    is told not to. A special piece gets the lowest score here. Nothing else is read differently for that: the
    pieces of a SentencePiece vocabulary can always be spelled with its single characters.

    Args:
        tokenizer: Changed in place. Saved, it is read again with the same switch.

    Returns:
        A function that takes everything back.
    """
    backend: Any = getattr(tokenizer, "backend_tokenizer", None)
    switch, saved = tokenizer.split_special_tokens, dict(tokenizer.init_kwargs)
    model, encode_special_tokens = getattr(backend, "model", None), getattr(backend, "encode_special_tokens", None)
    tokenizer.split_special_tokens = True
    tokenizer.init_kwargs["split_special_tokens"] = True
    told = backend is None and "_tokenize" not in vars(tokenizer)
    told = told and "split_special_tokens" in inspect.signature(tokenizer._tokenize).parameters
    if told:
        tokenizer._tokenize = partial(tokenizer._tokenize, split_special_tokens=True)
    if isinstance(model, models.Unigram):
        special = frozenset(token.content for token in tokenizer.added_tokens_decoder.values() if token.special)
        if any(token.value in special for content in special for token in model.tokenize(content)):
            key = (special, backend.get_vocab_size(with_added_tokens=False))
            rebuilt = _REBUILT.setdefault(tokenizer, {})
            if key not in rebuilt:
                rebuilt[key] = _without_pieces(json.loads(backend.to_str())["model"], special)
            backend.model = rebuilt[key]

    def take_back() -> None:
        tokenizer.split_special_tokens, tokenizer.init_kwargs = switch, saved
        if told:
            del tokenizer._tokenize
        if backend is not None:
            backend.model, backend.encode_special_tokens = model, encode_special_tokens

    return take_back


@contextmanager
def special_tokens_as_text(tokenizer: PreTrainedTokenizerBase) -> Iterator[None]:
    """Read `[SEP]`, `</s>`, `<mask>` and their kin in texts as what they are there: text.

    The tokenizer still puts its own special tokens around texts. What must hold special tokens (a template) is written
    outside of this block, or with `split_special_tokens=False` in the call.

    Args:
        tokenizer: Any tokenizer. Inside of the block it reads that way, behind it as before.
    """
    take_back = split_special_tokens(tokenizer)
    try:
        yield
    finally:
        take_back()


def _without_pieces(unigram: dict[str, Any], pieces: frozenset[str]) -> models.Unigram:
    """Rebuild a Unigram model with scores for `pieces` that are worse than any way to spell them."""
    lowest = min(score for _, score in unigram["vocab"]) - 1000
    vocab = [(piece, lowest if piece in pieces else score) for piece, score in unigram["vocab"]]
    return models.Unigram(vocab, unk_id=unigram["unk_id"], byte_fallback=unigram.get("byte_fallback", False))


@contextmanager
def _load_report_held_back() -> Iterator[list[logging.LogRecord]]:
    """Keep back transformers' report of a load, so that it can be shown if it says too much."""
    held: list[logging.LogRecord] = []

    def keep(record: logging.LogRecord) -> bool:
        is_report = "LOAD REPORT" in str(record.msg)
        if is_report:
            held.append(record)
        return not is_report

    logger = logging.getLogger("transformers.modeling_utils")
    logger.addFilter(keep)
    try:
        yield held
    finally:
        logger.removeFilter(keep)


def _show(held: Iterable[logging.LogRecord]) -> None:
    for record in held:
        logging.getLogger(record.name).handle(record)


@contextmanager
def no_report_of(names: Collection[str]) -> Iterator[None]:
    """Keep back the report of a base model's load that misses nothing but these weights, which an adapter brings.

    If the load fails the report is shown, as the error may refer to it.
    """
    known = set(names)
    try:
        with _load_report_held_back() as held:
            yield
    except Exception:
        known = set()
        raise
    finally:
        _show(record for record in held if not _lost_weights(str(record.msg)) <= known)


def _lost_weights(report: str) -> set[str]:
    """Return the weights that are missing, or of another shape, by transformers' report of a load."""
    lines = re.findall(r"^(\S.*?) *\| *\S*(?:MISSING|MISMATCH)", report, re.MULTILINE)
    return set(chain.from_iterable(map(_expanded, lines)))


def _expanded(key: str) -> list[str]:
    """Return the names in a line of the report: `{0, 2}` stands for two numbers, `{0...11}` for all from 0 to 11."""
    found = re.search(r"\{([^}]*)\}", key)
    if found is None:
        return [key]
    first, _, last = found[1].partition("...")
    numbers = map(str, range(int(first), int(last) + 1)) if last else found[1].split(", ")
    return [name for number in numbers for name in _expanded(key[: found.start()] + number + key[found.end() :])]


def load_with_new_head(auto_class: Any, path: str, **kwargs: Any) -> PreTrainedModel:
    """Load a backbone under a new head, without the report that the head is new.

    A head that is not in the checkpoint, or has another number of classes there, is what fine-tuning means. If a
    backbone's weight is missing too, the report is shown as transformers wrote it.

    Args:
        auto_class: One of transformers' `AutoModelFor...`.
        path: Hub id or folder.
        **kwargs: For `from_pretrained`.

    Returns:
        The model; its attribute `has_new_head` says whether weights of the head are new.

    Raises:
        ValueError: A weight of the backbone has another shape in the checkpoint.
    """
    try:
        with _load_report_held_back() as held:
            model, loading = auto_class.from_pretrained(
                path, output_loading_info=True, ignore_mismatched_sizes=True, **kwargs
            )
    except Exception:
        _show(held)
        raise
    backbone = f"{model.base_model_prefix}."
    reshaped = [entry[0] for entry in loading["mismatched_keys"]]
    wrong = [key for key in reshaped if key.startswith(backbone)]
    if wrong:
        raise ValueError(f"{path!r} does not fit its own config: {', '.join(wrong)} have other shapes.")
    of_backbone = [key for key in loading["missing_keys"] if key.startswith(backbone)]
    model.has_new_head = len(loading["missing_keys"]) > len(of_backbone) or bool(reshaped)
    if of_backbone:
        _show(held)
    return model


def dataset_of(columns: dict[str, list[Any]]) -> Any:
    """Return a data set of values read from json, which keep their type also where those of a column differ.

    Before `datasets` 4.7 an object has null for a key that only other objects of its column have.

    Raises:
        ValueError: If their types differ and the installed `datasets` has no type for that.
    """
    import datasets  # slow

    if hasattr(datasets, "Json"):
        return datasets.Dataset.from_dict(columns, on_mixed_types="use_json")
    for name, values in columns.items():
        if differ(values, keys=False):
            raise ValueError(
                f"the values of {name!r} are not all of one type, which datasets {datasets.__version__} cannot keep: "
                "install datasets>=4.7, or write them all alike"
            )
    return datasets.Dataset.from_dict(columns)


def differ(values: Iterable[Any], *, keys: bool = True) -> bool:
    """Return whether values of json are of several types, here or within; whole numbers and others are one.

    Args:
        values: The values; null is of any type.
        keys: Whether objects with other keys are of another type.
    """
    given = [value for value in values if value is not None]
    kinds = {float if type(value) is int else type(value) for value in given}
    if kinds == {list}:
        return differ(chain.from_iterable(given), keys=keys)
    if kinds == {dict}:
        names = dict.fromkeys(chain.from_iterable(given))
        if keys and any(value.keys() != names.keys() for value in given):
            return True
        return any(differ((row.get(name) for row in given), keys=keys) for name in names)
    return len(kinds) > 1


@contextmanager
def no_progress_bars() -> Iterator[None]:
    """Hide the bars of loading weights and of mapping rows; the Trainer's own bar has `disable_tqdm`."""
    datasets = sys.modules.get("datasets")  # slow to import; where nobody has, there are no bars of it
    of_transformers = transformers_logging.is_progress_bar_enabled()
    of_datasets = datasets is not None and datasets.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    if datasets is not None:
        datasets.disable_progress_bars()
    try:
        yield
    finally:
        if of_transformers:
            transformers_logging.enable_progress_bar()
        if datasets is not None and of_datasets:
            datasets.enable_progress_bars()


def register_peft_type(name: str, config: type, tuner: type, prefix: str) -> None:
    """Make a method known to PEFT.

    `peft.utils.register_peft_method` writes these same entries, but refuses names that PEFT's own closed enum lacks
    (peft #2273).
    """
    mapping.PEFT_TYPE_TO_CONFIG_MAPPING[name] = config
    mapping.PEFT_TYPE_TO_TUNER_MAPPING[name] = tuner
    mapping.PEFT_TYPE_TO_PREFIX_MAPPING[name] = prefix


def take_names_of_rows(model: nn.Module) -> set[str]:
    """Return the adapters that the rows of the present call have (`adapter_names`), and take them off PEFT's layers.

    PEFT hands the names to its layers by hooks, which stay where an error ends the call; deep prompts have a plan.
    """
    names: set[str] = set()
    for module in model.modules():
        names.update(getattr(getattr(module, "plan", None), "names", ()))
        for key, hook in [*module._forward_pre_hooks.items()]:
            if found := getattr(hook, "keywords", {}).get("adapter_names"):
                names.update(found)
                del module._forward_pre_hooks[key]
                module._forward_pre_hooks_with_kwargs.pop(key, None)
    return names


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
    return None if cache is None else getattr(cache, "self_attention_cache", cache)


def _forward_of(module: nn.Module) -> Any:
    return inspect.unwrap(type(module).forward)


def forget_capturing_hooks(model: nn.Module) -> None:
    """Take away the hooks by which transformers captures hidden states: being functions within one, they cannot be
    pickled. The next forward pass that is asked for hidden states or attentions sets them again.
    """
    with output_capturing._hook_installation_lock:
        for module in model.modules():
            for key, hook in list(module._forward_hooks.items()):
                if getattr(hook, "__module__", "") == output_capturing.__name__:
                    del module._forward_hooks[key]
        for module in model.modules():
            if getattr(module, "_output_capturing_hooks_installed", False):
                setattr(module, "_output_capturing_hooks_installed", False)  # noqa: B010


def call_when_an_adapter_is_saved(write: Callable[[PeftModel, Path], None]) -> None:
    """Call a function for every adapter that PEFT writes: by `save_pretrained`, a Trainer's checkpoints, or a push.

    PEFT tells nobody which folder it saves to; we would ask for a method of the base model that it calls.

    Args:
        write: Gets the model and the adapter's folder, in the main process alone, after PEFT has written to it.
    """
    save = PeftModel.save_pretrained

    @wraps(save)
    def save_pretrained(self: PeftModel, *args: Any, **kwargs: Any) -> Any:
        result = save(self, *args, **kwargs)
        given = inspect.signature(save).bind(self, *args, **kwargs)
        given.apply_defaults()
        if given.arguments["is_main_process"]:
            names = given.arguments["selected_adapters"]
            for name in list(self.peft_config) if names is None else names:
                write(self, Path(given.arguments["save_directory"]) / ("" if name == "default" else name))
        return result

    PeftModel.save_pretrained = save_pretrained


def call_when_an_adapters_card_is_written(add: Callable[[PeftModel, ModelCard], None]) -> None:
    """Call a function for every card that PEFT writes with an adapter, and for that of a push, which replaces it.

    Args:
        add: Gets the model and the card, which it may change.
    """

    def change(method: Callable[..., Any], *, before: bool) -> Callable[..., Any]:
        @wraps(method)
        def changed(self: PeftModel, folder: str, *args: Any, **kwargs: Any) -> Any:
            result = None if before else method(self, folder, *args, **kwargs)
            path = Path(folder) / "README.md"
            card = ModelCard.load(path)
            add(self, card)
            card.save(path)
            return method(self, folder, *args, **kwargs) if before else result

        return changed

    PeftModel.create_or_update_model_card = change(PeftModel.create_or_update_model_card, before=False)
    PeftModel._upload_modified_files = change(PeftModel._upload_modified_files, before=True)


def call_before_an_adapter_is_put_on(check: Callable[[BaseTuner, nn.Module, PeftConfig], None]) -> None:
    """Call a function before PEFT puts an adapter of any method on a model.

    PEFT passes by whatever lies within another method's layer; we would ask that such a layer can say so.

    Args:
        check: Gets the method's tuner, the model, and the adapter's config, which it must not change.
    """
    inject = BaseTuner.inject_adapter

    @wraps(inject)
    def inject_adapter(self: BaseTuner, model: nn.Module, adapter_name: str, *args: Any, **kwargs: Any) -> Any:
        check(self, model, self.peft_config[adapter_name])
        return inject(self, model, adapter_name, *args, **kwargs)

    BaseTuner.inject_adapter = inject_adapter


def call_before_an_adapter_is_loaded(check: Callable[[PeftModel, str, dict[str, Any]], None]) -> None:
    """Call a function whenever `PeftModel.load_adapter` begins, as it does in `PeftModel.from_pretrained` too.

    PEFT gives the folder to nobody else; we would ask that it looks for a method of the base model.

    Args:
        check: Gets the model, the adapter's folder or Hub id, and the further arguments by name.
    """
    load = PeftModel.load_adapter

    @wraps(load)
    def load_adapter(self: PeftModel, model_id: Any, adapter_name: str, *args: Any, **kwargs: Any) -> Any:
        check(self, str(model_id), kwargs)
        return load(self, model_id, adapter_name, *args, **kwargs)

    PeftModel.load_adapter = load_adapter


def call_when_an_adapters_weights_are_read(
    check: Callable[[nn.Module, PeftConfig, Mapping[str, torch.Tensor]], None],
) -> None:
    """Call a function with what PEFT picks out of a model's state as an adapter of any method, to save it above all.

    Args:
        check: Gets the model, the adapter's config, and its weights by name.
    """
    pick = BaseTuner.__dict__["_get_adapter_state_dict"].__func__

    @wraps(pick)
    def picked(cls: type[BaseTuner], model: nn.Module, config: PeftConfig, *args: Any, **kwargs: Any) -> Any:
        result = pick(cls, model, config, *args, **kwargs)
        check(model, config, result)
        return result

    BaseTuner._get_adapter_state_dict = classmethod(picked)


def with_default_targets(tuner: BaseTuner, model: nn.Module, config: PeftConfig) -> PeftConfig:
    """Return an adapter's config with the target modules that its method has for the model where none are given.

    Raises:
        ValueError: If it has none, as PEFT itself does.
    """
    prepared: PeftConfig = tuner._prepare_adapter_config(copy.copy(config), tuner.get_model_config(model))
    return prepared


def is_targeted(tuner: BaseTuner, config: PeftConfig, name: str, module: nn.Module) -> bool:
    """Return whether an adapter is meant for a module, by the module's name and kind."""
    targets = getattr(config, "target_modules", None)
    if isinstance(targets, str) and targets.lower() == INCLUDE_LINEAR_LAYERS_SHORTHAND:
        return isinstance(module, nn.Linear | Conv1D)
    return bool(targets and tuner._check_target_module_exists(config, name))


def call_when_a_trainer_is_made(check: Callable[[Any, Any], None]) -> None:
    """Call a function with the arguments and the model of every Trainer that is made from now on.

    A Trainer takes its callbacks from a list, to which the check is added once. To be called when the Trainer asks its
    model for `accepts_loss_kwargs`, before it reads the list: transformers' module is slow to load, and not loaded
    for this.
    """
    trainer = sys.modules.get("transformers.trainer")
    if trainer is None or any(getattr(callback, "check", None) is check for callback in trainer.DEFAULT_CALLBACKS):
        return

    def on_init_end(*given: Any, **named: Any) -> None:
        _, arguments, *_ = given
        check(arguments, named.get("model"))

    methods = {"on_init_end": on_init_end, "check": staticmethod(check)}
    trainer.DEFAULT_CALLBACKS.append(type("ModelCheck", (trainer.TrainerCallback,), methods))
