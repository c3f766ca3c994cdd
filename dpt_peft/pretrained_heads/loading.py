"""From a folder or Hub id and the user's choices to a wrapper's config."""

from __future__ import annotations

import copy
import os
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peft import PeftConfig
from peft.utils import CONFIG_NAME as PEFT_CONFIG_NAME
from transformers import AutoConfig, AutoTokenizer, PreTrainedConfig, PreTrainedTokenizerBase

from .discriminators import get_discriminator

if TYPE_CHECKING:
    from .base import DiscriminatorWrapperConfig

# Arguments that say where files are; config and tokenizer are read from the same place as the weights.
HUB_ARGUMENTS = (
    "cache_dir",
    "force_download",
    "local_files_only",
    "proxies",
    "revision",
    "subfolder",
    "token",
    "trust_remote_code",
)


def prepare_config(
    config_class: type[DiscriminatorWrapperConfig],
    path: str | os.PathLike[str],
    *,
    config: PreTrainedConfig | str | os.PathLike[str] | None,
    tokenizer: PreTrainedTokenizerBase | str | os.PathLike[str] | None,
    arguments: dict[str, Any],
) -> tuple[DiscriminatorWrapperConfig, str, dict[str, Any]]:
    """Make the wrapper's config for a plain discriminator, or complete that of a saved wrapper.

    Args:
        config_class: Config class of the wrapper.
        path: Folder or Hub id of a discriminator or of a saved wrapper.
        config: Config, or where to read it; default: `path`.
        tokenizer: Tokenizer, or where to read it; default: `path`. Read only if it is needed.
        arguments: The other arguments of `from_pretrained`; options that are `None` count as not given.

    Returns:
        The config, the name of the discriminator's head, and the arguments left for loading the weights.

    Raises:
        TypeError, ValueError: See `DiscriminatorWrapper.from_pretrained`.
    """
    arguments = dict(arguments)
    hub_arguments = {name: arguments[name] for name in HUB_ARGUMENTS if name in arguments}
    attributes = {name: arguments.pop(name) for name in config_class.task_attributes if name in arguments}
    options = {name: arguments.pop(name) for name in config_class.tokenizer_options if name in arguments}
    options = {name: value for name, value in options.items() if value is not None}
    if not isinstance(config, PreTrainedConfig):
        config = AutoConfig.from_pretrained(config or path, **hub_arguments)
    else:
        # As everywhere in transformers, a config that was passed stays as it was.
        config = copy.deepcopy(config)
    assert isinstance(config, PreTrainedConfig)

    saved = config if isinstance(config, config_class) else None
    # The wrappers of one discriminator can be turned into each other: only the backbone is taken over.
    discriminator_config: Any = getattr(config, "discriminator_config", config)
    head = get_discriminator(discriminator_config).head
    if saved is None:
        config_class.check_options(options, path)
    architecture = {field.name for field in fields(discriminator_config)} - {f.name for f in fields(PreTrainedConfig)}
    for name in architecture & arguments.keys():
        setattr(discriminator_config, name, arguments.pop(name))

    if saved is not None and not options:
        return _change_attributes(saved, attributes), head, arguments
    if saved is not None:
        kept = saved.choices_to_keep(options.keys() | attributes.keys())
        options = {**kept, **options}
    attributes.setdefault("dtype", config.dtype)
    loaded = _load_tokenizer(tokenizer, path, hub_arguments) if config_class.needs_tokenizer else None
    made = config_class.from_discriminator_config(discriminator_config, loaded, **{**options, **attributes})
    return made, head, arguments


def adapter_beside_config(path: str | os.PathLike[str]) -> PeftConfig | None:
    """The config of a PEFT adapter in a folder that holds no weights of a model, else `None`."""
    folder = Path(path)
    if not (folder / PEFT_CONFIG_NAME).is_file() or any(folder.glob("model*.safetensors")):
        return None
    return PeftConfig.from_pretrained(str(folder))


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


def _change_attributes(saved: DiscriminatorWrapperConfig, attributes: dict[str, Any]) -> DiscriminatorWrapperConfig:
    if not attributes:
        return saved
    return type(saved).from_dict({**saved.to_dict(), **saved.consequences(attributes), **attributes})
