"""The tuning methods that the example scripts compare, each as one call that gives a model ready for the Trainer."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from peft import LoraConfig, PeftConfig, TaskType, get_peft_model
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from dpt_peft._compatibility import quiet_peft
from dpt_peft.deep_prompt import DeepPromptConfig
from dpt_peft.discriminative.modeling import DPTForSequenceClassification

METHODS = ("fine_tuning", "dpt", "deep_prompt", "dpt_deep_prompt", "lora")

#: Learning rate that a method starts from when none is given, for small models: full fine-tuning and DPT train every
#: parameter, the others a few new ones. Search it for your own data and model. The DPT paper uses 2e-5 for
#: ELECTRA-base and -large, the released P-tuning v2 scripts 5e-3 to 6e-2.
DEFAULT_LEARNING_RATES = {
    "fine_tuning": 1e-4,
    "dpt": 1e-4,
    "deep_prompt": 1e-2,
    "dpt_deep_prompt": 1e-2,
    "lora": 1e-3,
}


@dataclass
class MethodOptions:
    """What the methods can be told; each reads its own fields and leaves the others alone.

    A field that a method has no use for is no error, so that one set of options serves a comparison of methods.
    The fields double as command-line arguments (`transformers.HfArgumentParser`).
    """

    label_words: list[str] | None = field(
        default=None,
        metadata={
            "help": "dpt*: one word (or words) per class, in the order of the labels. Default: the label names."
        },
    )
    template: str | None = field(
        default=None,
        metadata={"help": "dpt*: template around {text} and {labels}. Default: '{text} Class: {labels}.'"},
    )
    score_function: Literal["one_minus_sigmoid", "sigmoid"] = field(
        default="one_minus_sigmoid",
        metadata={"help": "dpt*: how the head's output is read; 'sigmoid' is the ablation of the paper's Table 3."},
    )
    num_virtual_tokens: int = field(default=20, metadata={"help": "*deep_prompt: prompt length in every layer."})
    layers_to_transform: list[str] | None = field(
        default=None,
        metadata={
            "help": "*deep_prompt: layers that get prompts: numbers from 0, or 'last 8', 'first 8'. Default: all."
        },
    )
    prompt_dropout: float = field(default=0.0, metadata={"help": "*deep_prompt: dropout on the prompts."})
    encoder_reparameterization: Literal["none", "mlp"] = field(
        default="none", metadata={"help": "*deep_prompt: prompts as a table, or made by an MLP."}
    )
    lora_r: int = field(default=8, metadata={"help": "lora: rank."})
    lora_alpha: int = field(default=16, metadata={"help": "lora: scale, applied as lora_alpha / lora_r."})
    lora_dropout: float = field(default=0.0, metadata={"help": "lora: dropout before the low-rank matrices."})
    lora_target_modules: list[str] | None = field(
        default=None, metadata={"help": "lora: modules to adapt. Default: PEFT's choice for the architecture."}
    )


class _HoldBackLoadReport(logging.Filter):
    """Keeps the "newly initialized" report of one load, so that it can be shown if it says more than expected."""

    def __init__(self) -> None:
        super().__init__()
        self.held: list[logging.LogRecord] = []

    def filter(self, record: logging.LogRecord) -> bool:
        if "LOAD REPORT" not in str(record.msg):
            return True
        self.held.append(record)
        return False


@contextmanager
def _hold_back_load_report() -> Iterator[_HoldBackLoadReport]:
    hold = _HoldBackLoadReport()
    logger = logging.getLogger("transformers.modeling_utils")
    logger.addFilter(hold)
    try:
        yield hold
    finally:
        logger.removeFilter(hold)


def _load_with_new_head(model_name_or_path: str, label_names: Sequence[str], **kwargs: Any) -> PreTrainedModel:
    """Loads a backbone under a new classification head, without the report that the head is new.

    A head that is not in the checkpoint is what fine-tuning means. If a backbone's weight is missing too, the report
    is shown as transformers wrote it.
    """
    with _hold_back_load_report() as hold:
        model, loading = AutoModelForSequenceClassification.from_pretrained(
            model_name_or_path,
            id2label=dict(enumerate(label_names)),
            label2id={name: index for index, name in enumerate(label_names)},
            output_loading_info=True,
            **kwargs,
        )
    if any(key.startswith(f"{model.base_model_prefix}.") for key in loading["missing_keys"]):
        for record in hold.held:
            logging.getLogger(record.name).handle(record)
    return model


def _layers(layers: list[str] | list[int] | str | None) -> list[int] | str | None:
    """Turns `--layers_to_transform 4 5` or `--layers_to_transform last 2` into what `DeepPromptConfig` takes."""
    if layers is None or isinstance(layers, str):
        return layers
    words = [str(layer) for layer in layers]
    return [int(word) for word in words] if all(word.isdigit() for word in words) else " ".join(words)


def _deep_prompt_config(options: MethodOptions) -> PeftConfig:
    return DeepPromptConfig(
        task_type=TaskType.SEQ_CLS,
        num_virtual_tokens=options.num_virtual_tokens,
        layers_to_transform=_layers(options.layers_to_transform),
        prompt_dropout=options.prompt_dropout,
        encoder_reparameterization=options.encoder_reparameterization,
    )


def _load_dpt(
    model_name_or_path: str, label_names: Sequence[str], options: MethodOptions, **kwargs: Any
) -> PreTrainedModel:
    label_words = list(options.label_words) if options.label_words is not None else list(label_names)
    if len(label_words) != len(label_names):
        raise ValueError(
            f"`label_words` must give one entry per class: there are {len(label_names)} classes "
            f"({', '.join(label_names)}) but {len(label_words)} label words ({', '.join(label_words)})."
        )
    if options.template is not None:
        kwargs["template"] = options.template
    return DPTForSequenceClassification.from_pretrained(
        model_name_or_path,
        label_words=label_words,
        score_function=options.score_function,
        # The data's own names, and not the label words, are what a user expects a prediction to say.
        id2label=dict(enumerate(label_names)),
        label2id={name: index for index, name in enumerate(label_names)},
        **kwargs,
    )


def build_text_classifier(
    method: str,
    model_name_or_path: str,
    label_names: Sequence[str],
    *,
    options: MethodOptions | None = None,
    dtype: torch.dtype | str = torch.float32,
    model_kwargs: dict[str, Any] | None = None,
    **overrides: Any,
) -> torch.nn.Module:
    """Builds a text classifier to be trained with one of `METHODS`.

    | method | model | what is trained |
    |--|--|--|
    | `fine_tuning` | `AutoModelForSequenceClassification` | everything, the head is new |
    | `dpt` | `DPTForSequenceClassification` | everything, no new parameter (DPT, Section 3) |
    | `deep_prompt` | `AutoModelForSequenceClassification` + `DeepPromptConfig` | prompts, a new head (P-tuning v2) |
    | `dpt_deep_prompt` | `DPTForSequenceClassification` + `DeepPromptConfig` | prompts alone |
    | `lora` | `AutoModelForSequenceClassification` + `LoraConfig` | low-rank matrices and a new head |

    Call `transformers.set_seed` before: new heads, prompts and LoRA matrices are drawn here.

    Args:
        method: One of `METHODS`.
        model_name_or_path: Hub id or folder; for `dpt*` a discriminator with its tokenizer.
        label_names: Names of the classes in the order of their ids; they become `config.id2label`.
        options: What the methods can be told; see `MethodOptions`. Default: its defaults.
        dtype: Type of the weights. Default float32 (for training; use `bf16=True` of the Trainer for speed).
        model_kwargs: Further arguments for `from_pretrained`, such as `revision`, `token` or `attn_implementation`.
        **overrides: Fields of `MethodOptions` by name, over those in `options`; `label_words=[...]` for instance.

    Returns:
        The model (a `PreTrainedModel` or a `PeftModel`), in training mode as the Trainer sets it.

    Raises:
        ValueError: If `method` is unknown, there are fewer than two labels, or the number of label words differs.
        TypeError: If an override is no field of `MethodOptions`.
    """
    if method not in METHODS:
        raise ValueError(f"`method` must be one of {', '.join(METHODS)}, got {method!r}.")
    if isinstance(label_names, str) or len(label_names) < 2:
        raise ValueError(f"`label_names` must be a list of at least two class names, got {label_names!r}.")
    options = replace(options or MethodOptions(), **overrides)
    if isinstance(options.label_words, str):
        raise ValueError(
            f"`label_words` must be a list with one entry per class, got the string {options.label_words!r}."
        )
    kwargs = {"dtype": dtype, **(model_kwargs or {})}

    if method in ("dpt", "dpt_deep_prompt"):
        model = _load_dpt(model_name_or_path, label_names, options, **kwargs)
    else:
        model = _load_with_new_head(model_name_or_path, label_names, **kwargs)

    config: PeftConfig | None = None
    if method in ("deep_prompt", "dpt_deep_prompt"):
        config = _deep_prompt_config(options)
    elif method == "lora":
        config = LoraConfig(
            task_type=TaskType.SEQ_CLS,
            r=options.lora_r,
            lora_alpha=options.lora_alpha,
            lora_dropout=options.lora_dropout,
            target_modules=options.lora_target_modules,
        )
    if config is None:
        return model
    with quiet_peft():
        return get_peft_model(model, config)


def count_parameters(model: torch.nn.Module) -> tuple[int, int]:
    """Counts a model's parameters.

    Args:
        model: Any module.

    Returns:
        Number of trained parameters, number of all.
    """
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return trained, sum(p.numel() for p in model.parameters())
