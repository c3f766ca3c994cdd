"""The model that a run is given: which one it is, and what a trained one must be to measure or predict with it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from peft import PeftConfig, PeftModel
from transformers import AutoConfig
from transformers.hf_argparser import HfArg
from transformers.utils import find_adapter_config_file

from dpt_peft.auto import THRESHOLDS, config_of_adapter
from dpt_peft.deep_prompt.task_head import modules_left_out
from dpt_peft.pretrained_heads.base import PretrainedHeadConfig
from dpt_peft.pretraining.embedded import embedded_discriminator
from dpt_peft.tasks.base import Task, TaskData, is_adapter
from dpt_peft.tasks.heads import NEW_HEAD, has_prototypes, names_in
from dpt_peft.tasks.labels import SavedNames
from dpt_peft.training.methods import METHODS, methods_of, split_options

_SEVERAL = "multi_label_classification"


@dataclass
class ModelArguments:
    """Which pretrained model to tune, or which trained one to use."""

    model_name_or_path: str | None = HfArg(
        default=None,
        help="Hub id or folder; to measure or predict, also of a model or adapter that was trained. "
        "Default: the small discriminator that comes with dpt_peft.",
    )
    model_revision: str = HfArg(default="main", help="Branch, tag or commit of the model.")
    attn_implementation: str | None = HfArg(default=None, help="Attention kernel, such as sdpa or eager.")

    def resolve(self) -> str:
        """Return the model's id or folder; the embedded discriminator is built when none is named."""
        return embedded_discriminator() if self.model_name_or_path is None else self.model_name_or_path

    def for_loading(self) -> dict[str, Any]:
        """Return the arguments of the model's `from_pretrained`."""
        kernel = {} if self.attn_implementation is None else {"attn_implementation": self.attn_implementation}
        return {"revision": self.model_revision, **kernel}

    def adapter(self) -> PeftConfig | None:
        """Return the config of the adapter that is named; None: it is a whole model."""
        name = self.resolve()
        if find_adapter_config_file(name, revision=self.model_revision) is None:
            return None
        return PeftConfig.from_pretrained(name, revision=self.model_revision)

    def saved_config(self) -> Any:
        """Return the model's config; of an adapter that of its base, with what was saved of the task."""
        name, adapter = self.resolve(), self.adapter()
        if adapter is None:
            return AutoConfig.from_pretrained(name, revision=self.model_revision)
        return config_of_adapter(name, adapter, revision=self.model_revision)


def load_adapter(
    task: Task, method: str, given: ModelArguments, data: TaskData, options: Mapping[str, Any]
) -> torch.nn.Module:
    """Load a trained adapter with its base model, to measure or predict with it.

    Args:
        task: The task family.
        method: The method that it was trained with.
        given: Names the adapter.
        data: The data; its classes are those of the adapter.
        options: Of the head, as for a whole model. Those of the adapter are its own.

    Returns:
        The model, in evaluation mode: a `PeftModel`, or a task wrapper into which transformers has put the adapter.

    Raises:
        ValueError: If the adapter is not the method's; if it was saved without the head that it needs; if an option
            is given that was settled when it was trained.
    """
    name, adapter, saved = given.resolve(), given.adapter(), given.saved_config()
    assert adapter is not None
    own_head = isinstance(saved, PretrainedHeadConfig)

    def fits(candidate: str) -> bool:
        chosen = METHODS[candidate]
        kind = None if chosen.adapter is None else chosen.adapter(**chosen.settings).peft_type
        return kind == adapter.peft_type and own_head == (chosen.head != NEW_HEAD)

    if not fits(method):
        fitting = ", ".join(filter(fits, methods_of(task))) or f"none of {task.name}"
        raise ValueError(
            f"`method`: {name!r} is an adapter of the kind {adapter.peft_type.value} over "
            f"{'a pretrained head' if own_head else 'a new head'}, and not one of {method!r}. Methods that have such: "
            f"{fitting}."
        )
    head, _ = split_options(task, method, options)
    for option in options.keys() - vars(head).keys():
        raise ValueError(f"`{option}` was settled when the adapter {name!r} was trained: leave it out.")
    refuse_other_classes(name, saved, data)
    load = partial(task.heads[METHODS[method].head].load, dtype=torch.float32)
    if own_head:
        wrapper: torch.nn.Module = load(name, data, head, **given.for_loading())
        return wrapper
    of_base = {**given.for_loading(), "revision": adapter.revision or "main"}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="the head of")  # the adapter brings its own
        base = load(str(adapter.base_model_name_or_path), data, head, **of_base)
    if missing := modules_left_out(base, adapter):
        raise ValueError(
            f"`model_name_or_path`: the adapter {name!r} was saved without {', '.join(missing)}, which would be new."
        )
    for threshold in THRESHOLDS:
        if hasattr(saved, threshold):
            setattr(base.config, threshold, getattr(saved, threshold))
    return PeftModel.from_pretrained(base, name, revision=given.model_revision)


def check_trained(method: str, options: Mapping[str, Any], model: Any) -> None:
    """Refuse to measure or predict with parameters that are new.

    Args:
        method: The method.
        options: Its options.
        model: What `build_model` gave.

    Raises:
        ValueError: If there are such parameters.
    """
    wrapper = model.get_base_model() if is_adapter(model) else model
    if is_adapter(model) and "init_from" not in options:
        new = "an adapter"
    elif has_prototypes(model.config) and not wrapper.class_prototypes.weight.any():
        new = "prototypes of classes"
    elif getattr(wrapper, "has_new_head", False):
        new = "a head"
    else:
        return
    raise ValueError(
        f"`do_train` is not set, and method {method!r} has {new} that nothing has trained. Train it first, and name "
        "the folder of the trained model."
    )


def check_classes(given: ModelArguments, model: Any, data: TaskData) -> None:
    """Refuse to measure or predict with a trained model as if it were trained for other answers than it was.

    Args:
        given: Names the model.
        model: The model as it was loaded: its config has the data's names, where the family names classes.
        data: The data.

    Raises:
        ValueError: If its classes are others than the data's, or prototypes in another order; if it gives a text
            several labels, and the data one, or the reverse.
    """
    name, saved = given.resolve(), given.saved_config()
    kinds = [getattr(config, "problem_type", None) for config in (saved, model.config)]
    if kinds[0] == _SEVERAL != kinds[1]:
        raise ValueError(
            f"`model_name_or_path`: {name!r} was trained to give a text several labels. The label column of the data "
            "must hold lists, or `label_separator` must say that a cell holds several."
        )
    if kinds == ["single_label_classification", _SEVERAL]:
        raise ValueError(
            f"`model_name_or_path`: {name!r} was trained to give a text one label, but the data gives a text several "
            "(lists, or `label_separator`)."
        )
    told = model.config.id2label or {}
    if [told[index] for index in sorted(told)] != data.label_names:
        return  # the choices of multiple choice are no classes
    if isinstance(model.config, PretrainedHeadConfig) and not has_prototypes(model.config):
        return  # it scores the words of any classes
    if not has_prototypes(model.config) and sorted(names_in(saved)) == sorted(data.label_names):
        return  # each class has its own row of the head
    refuse_other_classes(name, saved, data)


def refuse_other_classes(name: str, saved: Any, data: TaskData) -> None:
    """Raise a `ValueError` if the data has other classes than a config has names of, or has them in another order."""
    names = names_in(saved)
    if names and data.label_names and data.label_names != names:
        raise ValueError(
            f"`model_name_or_path`: {name!r} was trained for the classes {', '.join(names)}, and those of the data "
            f"are {', '.join(data.label_names)}. To predict with it, they must be the same, in the same order."
        )


def with_saved_names(task: Task, data: Any, given: ModelArguments) -> Any:
    """Return the data arguments; of files without training data with the classes that a trained model has.

    Args:
        task: The task family.
        data: The data arguments.
        given: Names the model.
    """
    argument = task.names_argument
    alone = data.dataset_name is None and data.train_file is None
    if not alone or argument is None or getattr(data, argument) is not None:
        return data
    saved = given.saved_config()
    several, tree = getattr(saved, "problem_type", None) == _SEVERAL, getattr(saved, "tree", None)
    names = names_in(saved)
    return replace(data, **{argument: SavedNames(names, several=several, tree=tree) if names else None})
