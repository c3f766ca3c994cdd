"""From a folder or Hub id and the user's choices to the wrapper's config."""

from __future__ import annotations

import os
from dataclasses import fields
from typing import Any

from transformers import AutoConfig, AutoTokenizer, PreTrainedConfig, PreTrainedTokenizerBase

from .configuration import DPTForSequenceClassificationConfig
from .discriminators import get_discriminator

# Arguments that say where files are; config and tokenizer are read from the same place as the weights.
_HUB_ARGUMENTS = (
    "cache_dir",
    "force_download",
    "local_files_only",
    "proxies",
    "revision",
    "subfolder",
    "token",
    "trust_remote_code",
)
# Config attributes that describe the task; those of the architecture (dropout, ...) go to the discriminator's config.
_TASK_ATTRIBUTES = (
    "id2label",
    "label2id",
    "num_labels",
    "output_attentions",
    "output_hidden_states",
    "problem_type",
    "return_dict",
    "score_function",
)


def prepare_config(
    path: str | os.PathLike[str],
    *,
    config: PreTrainedConfig | str | os.PathLike[str] | None,
    tokenizer: PreTrainedTokenizerBase | str | os.PathLike[str] | None,
    template_options: dict[str, Any],
    arguments: dict[str, Any],
) -> tuple[DPTForSequenceClassificationConfig, str, dict[str, Any]]:
    """Make the wrapper's config for a plain discriminator, or complete that of a saved wrapper.

    Args:
        path: Folder or Hub id of a discriminator or of a saved wrapper.
        config: Config, or where to read it; default: `path`.
        tokenizer: Tokenizer, or where to read it; default: `path`. Read only if it is needed.
        template_options: `label_words`, `template`, `label_order`, `max_length`; `None` where not given.
        arguments: The other arguments of `from_pretrained`.

    Returns:
        The config, the name of the discriminator's head, and the arguments left for loading the weights.

    Raises:
        TypeError, ValueError: See `DPTForSequenceClassification.from_pretrained`.
    """
    arguments = dict(arguments)
    hub_arguments = {name: arguments[name] for name in _HUB_ARGUMENTS if name in arguments}
    attributes = {name: arguments.pop(name) for name in _TASK_ATTRIBUTES if name in arguments}
    options = {name: value for name, value in template_options.items() if value is not None}
    if not isinstance(config, PreTrainedConfig):
        config = AutoConfig.from_pretrained(config or path, **hub_arguments)
    assert isinstance(config, PreTrainedConfig)

    saved = config if isinstance(config, DPTForSequenceClassificationConfig) else None
    discriminator_config: Any = config if saved is None else saved.discriminator_config
    head = get_discriminator(discriminator_config).head
    if saved is None and "label_words" not in options:
        raise ValueError(
            f"`label_words` is missing: {path} is a discriminator without a task. "
            "Pass one word a class, such as label_words=['negative', 'positive']"
        )
    architecture = {field.name for field in fields(discriminator_config)} - {f.name for f in fields(PreTrainedConfig)}
    for name in architecture & arguments.keys():
        setattr(discriminator_config, name, arguments.pop(name))

    if saved is not None and not options:
        return _change_task(saved, attributes), head, arguments
    if saved is not None:
        options, attributes = _keep(saved, options, attributes)
    attributes.setdefault("dtype", config.dtype)
    made = DPTForSequenceClassificationConfig.from_discriminator_config(
        discriminator_config, _load_tokenizer(tokenizer, path, hub_arguments), **options, **attributes
    )
    return made, head, arguments


def _load_tokenizer(
    tokenizer: PreTrainedTokenizerBase | str | os.PathLike[str] | None,
    path: str | os.PathLike[str],
    hub_arguments: dict[str, Any],
) -> PreTrainedTokenizerBase:
    if isinstance(tokenizer, PreTrainedTokenizerBase):
        return tokenizer
    # Revision and subfolder belong to the weights' place.
    loaded = (
        AutoTokenizer.from_pretrained(path, **hub_arguments)
        if tokenizer is None
        else AutoTokenizer.from_pretrained(tokenizer)
    )
    if len(loaded) <= len(set(loaded.all_special_ids)):
        # What transformers makes of a folder that holds no tokenizer.
        where = path if tokenizer is None else tokenizer
        raise ValueError(f"there is no tokenizer in {where}: pass `tokenizer` (an object, a folder or a Hub id)")
    return loaded


def _change_task(
    saved: DPTForSequenceClassificationConfig, attributes: dict[str, Any]
) -> DPTForSequenceClassificationConfig:
    if not attributes:
        return saved
    if "id2label" in attributes:
        attributes.setdefault("label2id", None)
    return DPTForSequenceClassificationConfig.from_dict({**saved.to_dict(), **attributes})


def _keep(
    saved: DPTForSequenceClassificationConfig, options: dict[str, Any], attributes: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Complete the choices that change a saved wrapper's template by those that stay as they were."""
    kept = {"label_words": saved.label_words, "template": saved.template, "max_length": saved.max_length}
    kept_attributes = {"score_function": saved.score_function, "problem_type": saved.problem_type}
    if "label_words" not in options:
        kept["label_order"] = saved.label_order
        kept_attributes["id2label"] = saved.id2label
    return {**kept, **options}, {**kept_attributes, **attributes}
