"""Which part of a pretrained model answers a task: a new head, a discriminator's own, or a language model's own."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

import torch
from torch import nn
from transformers import AutoConfig, AutoTokenizer, PreTrainedModel
from transformers.hf_argparser import HfArg

from dpt_peft._compatibility import load_with_new_head
from dpt_peft.pretrained_heads import DPTForSequenceClassification, VerbalizerForSequenceClassification
from dpt_peft.pretrained_heads.base import PretrainedHeadConfig, hub_arguments
from dpt_peft.pretrained_heads.template import PRESETS, preset_options

NEW_HEAD, DISCRIMINATOR, LANGUAGE_MODEL = "new head", "discriminator", "language model"


@dataclass
class NoOptions:
    """Options of a head that has none."""


@dataclass(frozen=True)
class Head:
    """A part of a pretrained model that answers.

    Attributes:
        load: Loads the model: `(path, data, options, **kwargs)`, with the task's `TaskData` and an instance of
            `options`; `kwargs` are for `from_pretrained`.
        options: Dataclass of what a user can choose; its fields are command line arguments too.
    """

    load: Callable[..., PreTrainedModel]
    options: type[Any] = NoOptions


def new_head(auto_class: Any, label_names: Sequence[str] | None = None, **fixed: Any) -> Head:
    """Return the head that one of transformers' auto classes puts on a backbone.

    Args:
        auto_class: One of `AutoModelFor...`.
        label_names: Names of the classes where the family has always the same, or none. Default: the data's.
        **fixed: Config attributes that the family needs, whatever the checkpoint was tuned for before.
    """

    def load(path: str, data: Any, _options: NoOptions, **kwargs: Any) -> PreTrainedModel:
        classes = config_of_classes(data) if label_names is None else names_of_classes(label_names)
        saved = names_in(AutoConfig.from_pretrained(path, **hub_arguments(kwargs)))
        model = load_with_new_head(auto_class, path, **{**classes, **fixed, **kwargs})
        if isinstance(model.config, PretrainedHeadConfig):
            raise ValueError(
                f"`model_name_or_path`: {path!r} is a {type(model).__name__}, which has its own head: choose a "
                "`method` that keeps it, or name the model that it was made of."
            )
        if label_names is None and classes and saved and not model.has_new_head:
            match_head(model, path, saved, [model.config.id2label[index] for index in range(len(saved))])
        return model

    return Head(load)


def match_head(model: PreTrainedModel, path: str, saved: list[str], names: list[str]) -> None:
    """Let each class keep its own row of a trained head, or none if the head was trained for other classes.

    Args:
        model: A model with a trained head for `len(names)` classes. Its last layer is changed: its rows are put into
            the order of `names`, or drawn anew, of which a warning tells.
        path: Where it is from.
        saved: Names of the classes in the order of the head.
        names: Those that the model is to have; numbers, or the same in other letters ("Spam"), are the head's own.

    Raises:
        ValueError: If the order is another and the head's last layer is not to be found.
    """
    had, wanted = saved, names
    if set(had) != set(wanted):
        had, wanted = [name.casefold() for name in saved], [name.casefold() for name in names]
    same = set(had) == set(wanted) and len(set(had)) == len(had)
    if had == wanted or (not same and names == [str(index) for index in range(len(names))]):
        return
    of_backbone = {id(module) for module in model.base_model.modules()}
    layers = [module for module in model.modules() if isinstance(module, nn.Linear) and id(module) not in of_backbone]
    layers = [layer for layer in layers if layer.out_features == len(names)]
    if not layers and not same:
        return
    if not layers:
        raise ValueError(
            f"`model_name_or_path`: {path!r} was trained for the classes {', '.join(saved)}, here they are "
            f"{', '.join(names)}: give them in the same order, or name the model that it was made of."
        )
    last = layers[-1]
    with torch.no_grad():
        if same:
            order = [had.index(name) for name in wanted]
            for values in (last.weight, last.bias):
                if values is not None:
                    values.copy_(values[order].clone())
            return
        nn.init.normal_(last.weight, std=getattr(model.config, "initializer_range", 0.02))
        if last.bias is not None:
            nn.init.zeros_(last.bias)
    model.has_new_head = True
    warnings.warn(
        f"the head of {path!r} was trained for the classes {', '.join(saved)}, and here they are {', '.join(names)}: "
        "its last layer starts anew (`class_names` says which class is which)",
        stacklevel=2,
    )


def words_of_classes(label_names: Sequence[str], label_words: Sequence[str] | Mapping[str, str] | None) -> list[str]:
    """Return one word (or words) per class: those given, or else the classes' names.

    Args:
        label_names: Names of the classes.
        label_words: Words in their order, or by name.

    Raises:
        ValueError: If it does not give one entry per class, or is a string or a set.
    """
    if label_words is None:
        return list(label_names)
    if isinstance(label_words, Mapping):
        label_words = {str(name): word for name, word in label_words.items()}  # classes 0 and 1 are called so
        if set(label_words) != set(label_names):
            raise ValueError(
                f"`label_words` must have the names of the classes as keys: {', '.join(label_names)}; got "
                f"{', '.join(map(repr, label_words))}."
            )
        return [label_words[name] for name in label_names]
    if isinstance(label_words, str) or not isinstance(label_words, Sequence):
        raise ValueError(
            f"`label_words` must be a list with one entry per class, or words by class name, got {label_words!r}."
        )
    if len(label_words) != len(label_names):
        raise ValueError(
            f"`label_words` must give one entry per class: there are {len(label_names)} classes "
            f"({', '.join(label_names)}) but {len(label_words)} label words ({', '.join(label_words)})."
        )
    return list(label_words)


def saved_wrapper(path: str, label_names: Sequence[str], arguments: Mapping[str, Any]) -> Any:
    """Return the config of a task wrapper that was saved for the same classes, in whatever order; None: it is none.

    What it says of the classes (words, tree) belongs to the weights, so that it is kept where nothing else is given.

    Args:
        path: Folder or Hub id.
        label_names: Names of the classes.
        arguments: Those of `from_pretrained`.
    """
    where = hub_arguments(arguments)
    config = AutoConfig.from_pretrained(path, **where)
    same = isinstance(config, PretrainedHeadConfig) and set((config.id2label or {}).values()) == set(label_names)
    return config if same else None


def label_words_of(path: str, data: Any, given: Sequence[str] | None, arguments: Mapping[str, Any]) -> list[str]:
    """Return the words of the classes: those given, else those of a saved wrapper, else the classes' names."""
    saved = None if given is not None else saved_wrapper(path, data.label_names, arguments)
    if saved is not None and getattr(saved, "label_words", None):
        names = [saved.id2label[index] for index in range(len(saved.id2label))]
        given = [dict(zip(names, saved.label_words, strict=True))[name] for name in data.label_names]
    return words_of_classes(data.label_names, given)


def names_in(config: Any) -> list[str]:
    """Return the names of the classes that a config has by id; none where these are only "LABEL_0", ..."""
    names = [name for _, name in sorted((config.id2label or {}).items())]
    return [] if names == [f"LABEL_{index}" for index in range(len(names))] else names


def has_prototypes(config: Any) -> bool:
    """Return whether a model with this config compares texts with prototypes of the classes."""
    return bool(getattr(config, "prototypes", False))


def names_of_classes(label_names: Sequence[str]) -> dict[str, Any]:
    """Return a config's names of the classes; nothing where there are none."""
    if not label_names:
        return {}
    return {
        "id2label": dict(enumerate(label_names)),
        "label2id": {name: index for index, name in enumerate(label_names)},
    }


def config_of_classes(data: Any) -> dict[str, Any]:
    """Return what a config says of a task's classes: the data's own names, which predictions are to say."""
    # None goes before what a model was saved with
    kind = {"problem_type": "multi_label_classification" if data.several_labels else None}
    return {**names_of_classes(data.label_names), **kind}


@dataclass
class LabelWordOptions:
    """Words in the place of classes."""

    label_words: list[str] | None = HfArg(
        default=None,
        help="One word (or words) per class, in the order of the labels. Default: a saved classifier's own, "
        "else the label names.",
    )
    template: str | None = HfArg(
        default=None,
        help="Template around the text. DPT: with {text} and {labels}; default '{text} Class: {labels}.' "
        "Verbalizer: with {text} and {mask}; default '{text} It was {mask}.'",
    )


@dataclass
class DPTOptions(LabelWordOptions):
    """What a discriminator that scores classes in a template can be told."""

    template_preset: str | None = HfArg(
        default=None,
        help="Template (and label words, and trainable label tokens) of the paper or its released code; "
        "what `template` and `label_words` give goes before it. Default: paper.",
        metadata={"choices": list(PRESETS)},
    )
    wordpieces: Literal["first", "mean", "max"] | None = HfArg(
        default=None, help="Which wordpieces of a class are read. Default: the first, or all where classes share it."
    )
    classes_per_pass: int | None = HfArg(
        default=None, help="Most classes in one template; with more of them a text is read several times."
    )
    calibrate: bool = HfArg(
        default=False,
        help="Take from every class what it scores without a text, before anything is trained (for use without "
        "training, or with little).",
    )
    prototypes: bool = HfArg(
        default=False,
        help="Compare the mean state of a text with a prototype of every class as well. For discriminators that were "
        "made from a sentence encoder.",
    )
    short_list: int | None = HfArg(
        default=None,
        help="With prototypes: how many classes stand in the template of a text, those whose prototypes are nearest; "
        "for more classes than a template holds. Default: a saved classifier's own, else all.",
    )
    score_function: Literal["one_minus_sigmoid", "sigmoid"] | None = HfArg(
        default=None,
        help="How the head's output is read; 'sigmoid' is the ablation of the DPT paper's Table 3. Default: a saved "
        "classifier's own, else one_minus_sigmoid.",
    )


def load_dpt_classifier(path: str, data: Any, options: DPTOptions, **kwargs: Any) -> PreTrainedModel:
    """Load a discriminator that scores the classes in a template (`Head.load`)."""
    chosen = {known.name: getattr(options, known.name) for known in fields(DPTOptions)}
    label_words, preset, calibrate = (chosen.pop(name) for name in ("label_words", "template_preset", "calibrate"))
    if label_words is None and preset is not None:
        label_words = preset_options(preset).get("label_words")
    saved: Any = AutoConfig.from_pretrained(path, **hub_arguments(kwargs))
    if not options.prototypes and has_prototypes(saved):
        raise ValueError(
            f"`method`: {path!r} compares texts with prototypes of its classes, which the method leaves out. Take one "
            "that has them, such as 'dpt_prototypes', or name the discriminator that it was made of."
        )
    of_its_classes = has_prototypes(saved) or getattr(saved, "untied_labels", False)
    if of_its_classes and label_words is None and names_in(saved) not in ([], data.label_names):
        raise ValueError(
            f"`model_name_or_path`: {path!r} has parameters for each of its classes, {', '.join(names_in(saved))}, "
            f"and here they are {', '.join(data.label_names)}. Give `class_names` as it has them, or name the "
            "discriminator that it was made of."
        )
    words = label_words_of(path, data, label_words, kwargs)
    given = {name: value for name, value in chosen.items() if value is not None}
    if not options.prototypes:
        given["short_list"] = options.short_list  # also where a saved classifier has one
    model = DPTForSequenceClassification.from_pretrained(
        path, label_words=words, preset=preset, **given, **config_of_classes(data), **kwargs
    )
    if calibrate:
        where = hub_arguments(kwargs)
        model.calibrate(AutoTokenizer.from_pretrained(path, **where))
    return model


def load_verbalizer(path: str, data: Any, options: LabelWordOptions, **kwargs: Any) -> PreTrainedModel:
    """Load a masked language model that is read at a gap (`Head.load`)."""
    return VerbalizerForSequenceClassification.from_pretrained(
        path,
        label_words=label_words_of(path, data, options.label_words, kwargs),
        template=options.template,
        **config_of_classes(data),
        **kwargs,
    )
