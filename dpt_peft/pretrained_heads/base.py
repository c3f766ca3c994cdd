"""What the task wrappers of a discriminator share: config, construction, loading, embeddings.

A task wrapper is a transformers model with one submodule, `discriminator`, and a config with one sub-config,
`discriminator_config`. A new task takes two short classes:

- a config derived from `DiscriminatorWrapperConfig`, which names the options that need a tokenizer
  (`tokenizer_options`), the attributes that describe the task rather than the backbone (`task_attributes`), and makes
  itself from a discriminator's config in `from_discriminator_config`;
- a model derived from `DiscriminatorWrapper`, with a `forward`.

`from_pretrained` then takes the folder of a plain discriminator as well as one of a saved wrapper (of this task or of
another, whose backbone it takes over), refuses a checkpoint without a pretrained replaced-token head, and hands
dropout and the like to the backbone's config.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import nn
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.configuration_utils import SubConfigSpec

from .discriminators import PRETRAINING_EXAMPLE, get_discriminator
from .loading import adapter_beside_config, prepare_config


class DiscriminatorWrapperConfig(PreTrainedConfig):
    """Base of the wrappers' configs.

    Attributes:
        discriminator_config: Config of the discriminator.
        tokenizer_options: Arguments of `from_discriminator_config` that take effect through the tokenizer only, so
            that they cannot be changed in a finished config.
        needs_tokenizer: Whether `from_discriminator_config` gets a tokenizer or `None`.
        task_attributes: Config attributes that `from_pretrained` leaves to the wrapper; those of the architecture
            (dropout, ...) go to the discriminator's config.
    """

    sub_configs_defaults = {"discriminator_config": SubConfigSpec(config_class=AutoConfig, model_type="electra")}  # noqa: RUF012

    tokenizer_options: ClassVar[tuple[str, ...]] = ()
    needs_tokenizer: ClassVar[bool] = True
    task_attributes: ClassVar[tuple[str, ...]] = (
        "id2label",
        "label2id",
        "num_labels",
        "output_attentions",
        "output_hidden_states",
        "problem_type",
        "return_dict",
    )

    discriminator_config: PreTrainedConfig | dict[str, Any] | None = None

    def get_text_config(self, decoder: bool | None = None, encoder: bool | None = None) -> PreTrainedConfig:
        """Return the discriminator's config, which knows the vocabulary, the sizes and the padding id."""
        return self.discriminator_config.get_text_config(decoder=decoder, encoder=encoder)  # type: ignore[union-attr]

    @classmethod
    def from_discriminator_config(
        cls, discriminator_config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase | None, **options: Any
    ) -> Any:
        """Make the wrapper's config of the discriminator's; every wrapper says how."""
        raise NotImplementedError

    @classmethod
    def check_options(cls, options: dict[str, Any], path: str | os.PathLike[str]) -> None:
        """Raise a `ValueError` if the options do not tell the task of the plain discriminator at `path`."""

    def choices_to_keep(self, changed: set[str]) -> dict[str, Any]:
        """Arguments of `from_discriminator_config` that make this config again, but for those in `changed`."""
        raise NotImplementedError

    def consequences(self, attributes: Mapping[str, Any]) -> dict[str, Any]:
        """What of a saved config does not hold any more once these attributes change, with its new values."""
        return {"label2id": None} if "id2label" in attributes else {}

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """Make a config from its dictionary, as in every transformers config.

        What needs the tokenizer (label words, template, ...) cannot be changed here, because the token ids would stay
        what they were. Auto classes, which ask for unused arguments, hand them on to the `from_pretrained` of the
        model.

        Raises:
            ValueError: One of them is passed by somebody else.
        """
        choices = {name: kwargs.pop(name) for name in cls.tokenizer_options if name in kwargs}
        if choices and not kwargs.get("return_unused_kwargs"):
            raise ValueError(
                f"`{next(iter(choices))}` needs the tokenizer to take effect: pass it to "
                f"{cls.__name__.removesuffix('Config')}.from_pretrained, or make a config with "
                "from_discriminator_config"
            )
        made = super().from_dict(config_dict, **kwargs)
        return (made[0], {**made[1], **choices}) if kwargs.get("return_unused_kwargs") else made

    @staticmethod
    def longest_row(
        max_length: int | None, discriminator_config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase
    ) -> int:
        """Return the longest row in tokens: what is asked for, or what model and tokenizer allow.

        Raises:
            ValueError: More is asked for than they allow.
        """
        # Without positions of its own (Funnel) and with a tokenizer that knows no limit, the limit is an index's.
        positions = getattr(discriminator_config, "max_position_embeddings", float("inf"))
        limit = int(min(positions, tokenizer.model_max_length, torch.iinfo(torch.int32).max))
        if max_length is None:
            return limit
        if not 0 < max_length <= limit:
            raise ValueError(
                f"`max_length` must be between 1 and {limit}, the most that this model reads, got {max_length}"
            )
        return max_length

    @staticmethod
    def special_token_ids(tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
        """Return `cls_token_id`, `sep_token_id` and `pad_token_id` of the tokenizer.

        Raises:
            ValueError: It lacks one.
        """
        ids = {name: getattr(tokenizer, name) for name in ("cls_token_id", "sep_token_id", "pad_token_id")}
        for name, value in ids.items():
            if value is None:
                raise ValueError(f"`tokenizer` has no `{name}`, which the rows of this model need")
        return ids


class DiscriminatorWrapper(PreTrainedModel):
    """Base of the task wrappers: a discriminator with its pretrained head, and how to load it.

    Args:
        config: The wrapper's config. A subclass calls `post_init` when its own modules are made.

    Attributes:
        discriminator: The backbone with its replaced-token head, as its own class in transformers.
    """

    config_class = DiscriminatorWrapperConfig
    base_model_prefix = "discriminator"
    supports_gradient_checkpointing = True
    # What the discriminator inside cannot do, it refuses itself.
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    # The loss is a mean over the rows of one batch: Trainer divides by the accumulation steps.
    accepts_loss_kwargs = False

    def __init__(self, config: DiscriminatorWrapperConfig) -> None:
        super().__init__(config)
        inner: Any = config.discriminator_config
        self.discriminator = get_discriminator(inner).build(inner)

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        # Modules whose buffers come from the config (template banks) fill them again after loading on the meta device.
        if (reset := getattr(module, "reset_buffers", None)) is not None:
            reset()

    def get_input_embeddings(self) -> nn.Module:
        """Return the discriminator's word embeddings."""
        return self.discriminator.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the discriminator's word embeddings."""
        self.discriminator.set_input_embeddings(value)

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike[str],
        *model_args: Any,
        tokenizer: PreTrainedTokenizerBase | str | os.PathLike[str] | None = None,
        config: PreTrainedConfig | str | os.PathLike[str] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Load a plain discriminator and put the wrapper around it, or load a saved wrapper.

        Args:
            pretrained_model_name_or_path: Folder or Hub id of a discriminator, or of a saved wrapper; or folder of a
                PEFT adapter with the wrapper's config beside it, which is loaded onto the weights that the adapter
                names.
            *model_args: Passed on to `__init__`.
            tokenizer: Tokenizer of the discriminator, or where to read it; default: the same place as the weights. A
                saved wrapper needs none unless an option that goes through the tokenizer changes.
            config: Config in place of the one read from the folder.
            **kwargs: The options of the wrapper's config; everything that `from_pretrained` takes in transformers
                (`dtype`, `revision`, `attn_implementation`, ...); other config attributes (`hidden_dropout_prob`,
                ...) go to the discriminator's config.

        Returns:
            The model, in evaluation mode; with `output_loading_info=True` the pair (model, loading info).

        Raises:
            TypeError, ValueError: The options cannot work, or the checkpoint has no pretrained replaced-token head.
        """
        config, head, kwargs = prepare_config(
            cls.config_class, pretrained_model_name_or_path, config=config, tokenizer=tokenizer, arguments=kwargs
        )
        output_loading_info = kwargs.pop("output_loading_info", False)
        adapter = adapter_beside_config(pretrained_model_name_or_path)
        weights = pretrained_model_name_or_path if adapter is None else adapter.base_model_name_or_path
        if adapter is not None:
            # Auto classes name the adapter too; it would be loaded twice.
            kwargs.pop("adapter_kwargs", None)
        model, info = super().from_pretrained(weights, *model_args, config=config, output_loading_info=True, **kwargs)
        missing = [key for key in info["missing_keys"] if key.startswith(f"{cls.base_model_prefix}.{head}.")]
        if missing:
            raise ValueError(
                f"{pretrained_model_name_or_path} has no pretrained replaced-token head ({', '.join(sorted(missing))} "
                "are not in the checkpoint): it was saved as a generator, an encoder or a task model. "
                "Use a discriminator checkpoint, or continue the pre-training of this encoder as one with "
                f"{PRETRAINING_EXAMPLE}"
            )
        if adapter is not None:
            model.load_adapter(pretrained_model_name_or_path)
        return (model, info) if output_loading_info else model
