"""The tuning methods that the example scripts compare, each as one call that gives a model ready for the Trainer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, Literal

import torch
from peft import get_peft_model

from dpt_peft._compatibility import quiet_peft
from dpt_peft.pretrained_heads.template_presets import PRESETS as TEMPLATE_PRESETS
from dpt_peft.training import adapters
from dpt_peft.training.families import DISCRIMINATOR, LANGUAGE_MODEL, NEW_HEAD, TaskFamily


@dataclass(frozen=True)
class Method:
    """A tuning method.

    Attributes:
        title: Its name in tables and pictures.
        base: Which part of the model answers: `NEW_HEAD`, `DISCRIMINATOR` or `LANGUAGE_MODEL`.
        adapter: What is trained in a frozen backbone. None: every parameter is trained.
        learning_rate: Where to start from when none is given, for small models. Search it for your own data and model:
            the DPT paper uses 2e-5 for ELECTRA-base and -large, the released P-tuning v2 scripts 5e-3 to 6e-2.
        as_tokens: Whether the adapter's prompts stand before the text as tokens (PEFT's prompt learning), which not
            every family's models take.
    """

    title: str
    base: str
    adapter: adapters.AdapterFactory | None
    learning_rate: float
    as_tokens: bool = False

    @property
    def readers(self) -> set[str]:
        """What reads the method's options: the part of the model that answers, and what makes the adapter."""
        return {self.base} if self.adapter is None else {self.base, self.adapter.__name__}


METHODS = {
    "fine_tuning": Method("Fine-tuning, new head", NEW_HEAD, None, 1e-4),
    "dpt": Method("DPT", DISCRIMINATOR, None, 1e-4),
    "deep_prompt": Method("Deep prompts, new head", NEW_HEAD, adapters.deep_prompt, 1e-2),
    "dpt_deep_prompt": Method("DPT + deep prompts, frozen", DISCRIMINATOR, adapters.deep_prompt, 1e-2),
    "verbalizer": Method("Deep prompts, verbalizer", LANGUAGE_MODEL, adapters.deep_prompt, 1e-2),
    "lora": Method("LoRA, new head", NEW_HEAD, adapters.lora, 1e-3),
    "shallow_prompt": Method("Shallow prompts, new head", NEW_HEAD, adapters.shallow_prompt, 1e-2, as_tokens=True),
    "p_tuning": Method("P-tuning, new head", NEW_HEAD, adapters.p_tuning, 1e-3, as_tokens=True),
}
"""The methods by name.

| method | model | what is trained |
|--|--|--|
| `fine_tuning` | backbone under a new head | everything |
| `dpt` | discriminator under its own head | everything, no new parameter (DPT, section 3) |
| `deep_prompt` | backbone under a new head | prompts in every layer and the head (P-tuning v2) |
| `dpt_deep_prompt` | discriminator under its own head | prompts in every layer alone |
| `verbalizer` | masked language model under its own head | prompts in every layer alone (P-tuning v2, Table 5) |
| `lora` | backbone under a new head | low-rank matrices and the head |
| `shallow_prompt` | backbone under a new head | prompts at the input and the head (Lester et al. 2021) |
| `p_tuning` | backbone under a new head | prompts at the input, their MLP, and the head (Liu et al. 2021) |
"""


@dataclass
class MethodOptions(adapters.AdapterOptions):
    """What the methods can be told; each reads its own fields and leaves the others alone.

    A field that a method has no use for is no error here, so that one set of options serves a comparison of methods;
    on a command line it is one (`dpt_peft.training.command_line`).
    The fields double as command-line arguments (`transformers.HfArgumentParser`).

    Attributes:
        readers: For each option what reads it: functions of `dpt_peft.training.adapters` and parts of the model
            (`Method.readers`). An option that is not among them is read by every method.
    """

    readers: ClassVar[dict[str, tuple[str, ...]]] = {
        **adapters.AdapterOptions.readers,
        "label_words": (DISCRIMINATOR, LANGUAGE_MODEL),
        "mask_template": (LANGUAGE_MODEL,),
        **dict.fromkeys(
            ("template", "template_preset", "wordpieces", "classes_per_pass", "calibrate", "score_function"),
            (DISCRIMINATOR,),
        ),
    }

    label_words: list[str] | None = field(
        default=None,
        metadata={
            "help": "dpt*, verbalizer: one word (or words) per class, in the order of the labels. Default: the label "
            "names."
        },
    )
    template: str | None = field(
        default=None,
        metadata={"help": "dpt*: template around {text} and {labels}. Default: '{text} Class: {labels}.'"},
    )
    mask_template: str | None = field(
        default=None,
        metadata={"help": "verbalizer: template around {text} and {mask}. Default: '{text} It was {mask}.'"},
    )
    template_preset: str | None = field(
        default=None,
        metadata={
            "help": "dpt*: template (and label words, and trainable label tokens) of the paper or its released code; "
            "what `template` and `label_words` give goes before it. Default: paper.",
            "choices": list(TEMPLATE_PRESETS),
        },
    )
    wordpieces: Literal["first", "mean", "max"] = field(
        default="first", metadata={"help": "dpt*: which wordpieces of a class are read."}
    )
    classes_per_pass: int | None = field(
        default=None,
        metadata={"help": "dpt*: most classes in one template; with more of them a text is read several times."},
    )
    calibrate: bool = field(
        default=False,
        metadata={
            "help": "dpt*: take from every class what it scores without a text, before anything is trained "
            "(for use without training, or with little)."
        },
    )
    score_function: Literal["one_minus_sigmoid", "sigmoid"] = field(
        default="one_minus_sigmoid",
        metadata={"help": "dpt*: how the head's output is read; 'sigmoid' is the ablation of the paper's Table 3."},
    )


def methods_of(family: TaskFamily) -> tuple[str, ...]:
    """Returns the names of the methods that a task family has."""
    return tuple(
        name
        for name, method in METHODS.items()
        if method.base in family.loaders and (family.prompts_as_tokens or not method.as_tokens)
    )


def options_without_use(method: str, options: Any) -> dict[str, tuple[str, ...]]:
    """Returns the options that a method does not read.

    Args:
        method: One of `METHODS`.
        options: `MethodOptions`, or any other dataclass with `readers`.

    Returns:
        Option -> the methods that read it.
    """
    return {
        option.name: tuple(name for name, other in METHODS.items() if other.readers.intersection(readers))
        for option in fields(options)
        if (readers := options.readers.get(option.name)) is not None
        and not METHODS[method].readers.intersection(readers)
    }


def build_model(
    family: TaskFamily,
    method: str,
    model_name_or_path: str,
    label_names: Sequence[str] = (),
    *,
    options: MethodOptions | None = None,
    dtype: torch.dtype | str = torch.float32,
    model_kwargs: dict[str, Any] | None = None,
    **overrides: Any,
) -> torch.nn.Module:
    """Builds a task family's model to be trained with one of `METHODS`.

    Call `transformers.set_seed` before: new heads, prompts and LoRA matrices are drawn here.

    Args:
        family: One of `dpt_peft.training.families`.
        method: One of `methods_of(family)`.
        model_name_or_path: Hub id or folder; for `dpt*` a discriminator, for `verbalizer` a masked language model,
            with its tokenizer.
        label_names: Names of the classes in the order of their ids; they become `config.id2label`. None for families
            without classes.
        options: What the methods can be told; see `MethodOptions`. Default: its defaults.
        dtype: Type of the weights. Default float32 (for training; use `bf16=True` of the Trainer for speed).
        model_kwargs: Further arguments for `from_pretrained`, such as `revision`, `token` or `attn_implementation`.
        **overrides: Fields of `MethodOptions` by name, over those in `options`; `label_words=[...]` for instance.

    Returns:
        The model (a `PreTrainedModel` or a `PeftModel`), in training mode as the Trainer sets it.

    Raises:
        ValueError: If the family has no such method, there is only one label, or the number of label words differs.
        TypeError: If an override is no field of `MethodOptions`.
    """
    if method not in methods_of(family):
        known = f"`method` must be one of {', '.join(methods_of(family))} for {family.name}, got {method!r}."
        raise ValueError(known)
    if isinstance(label_names, str) or len(label_names) == 1:
        raise ValueError(f"`label_names` must be a list of at least two class names, got {label_names!r}.")
    chosen, options = METHODS[method], replace(options or MethodOptions(), **overrides)
    load = family.loaders[chosen.base]
    model = load(model_name_or_path, label_names, options, dtype=dtype, **(model_kwargs or {}))
    if chosen.adapter is None:
        return model
    adapter = chosen.adapter(options, family.task_type)
    if new := getattr(model, "new_modules", None):
        # Beside the pretrained head stands something new (the released code's label tokens): frozen it would be idle.
        adapter.modules_to_save = new
    with quiet_peft():
        return get_peft_model(model, adapter)


def count_parameters(model: torch.nn.Module) -> tuple[int, int]:
    """Counts a model's parameters.

    Args:
        model: Any module.

    Returns:
        Number of trained parameters, number of all.
    """
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return trained, sum(p.numel() for p in model.parameters())
