"""What all models share whose pretrained head answers: config, construction, loading, embeddings.

Such a wrapper is a transformers model with one submodule, `language_model`, a discriminator or a masked language model
with its own head, and a config with one sub-config, `language_model_config`. A new wrapper takes two short classes:

- a config derived from `PretrainedHeadConfig`, which declares its attributes, names those that only a tokenizer can
  tell (`from_tokenizer`) and the kind of head where it is no discriminator's (`head_kind`), and makes itself in
  `from_language_model_config`, whose named arguments are the options that need a tokenizer;
- a model derived from `PretrainedHeadModel`, with a `forward`.

Wrappers that put templates around texts derive from `TemplateConfig` and `TemplateModel` in `templated.py`.

`from_pretrained` then takes the folder of a plain language model as well as one of a saved wrapper (of this class or
of another, whose language model it takes over), refuses a checkpoint without the pretrained head, and hands dropout
and the like to the language model's config.
"""

from __future__ import annotations

import copy
import inspect
import logging
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

import torch
from peft import PeftConfig, PeftModel
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import (
    SAFE_WEIGHTS_INDEX_NAME,
    SAFE_WEIGHTS_NAME,
    cached_file,
    find_adapter_config_file,
)

from dpt_peft._compatibility import (
    as_config,
    call_when_a_trainer_is_made,
    declares_sub_config,
    forget_capturing_hooks,
    is_made,
    mark_made,
    without_mark,
)

from .discriminators import PRETRAINING_EXAMPLE, get_discriminator

_logger = logging.getLogger(__name__)
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
_DEFAULT_MODEL_TYPE = "electra"
# Models whose positions begin behind the padding id, as RoBERTa's: the first rows of their tables are never used.
_POSITIONS_BEHIND_PADDING = frozenset(
    {
        *("roberta", "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "camembert", "xmod", "data2vec-text"),
        *("longformer", "mpnet", "luke", "ibert", "esm", "lilt", "layoutlmv3", "markuplm"),
    }
)


def hub_arguments(arguments: Mapping[str, Any], without: str | None = None) -> dict[str, Any]:
    """Return those of a model's `from_pretrained` that say where its files are found, but for one that is left out."""
    return {name: arguments[name] for name in _HUB_ARGUMENTS if name in arguments and name != without}


def longest_row(
    asked: int | None,
    tokenizer: PreTrainedTokenizerBase,
    model: Any,
    *,
    default: int | None = None,
    argument: str = "max_length",
) -> int:
    """Return the longest row in tokens, special tokens included.

    Args:
        asked: What the user wants; `None`: as much as model and tokenizer allow.
        tokenizer: Tokenizer. Many know no limit of their own.
        model: The model or its config. PEFT's prompt learning takes positions for its own tokens. Models with relative
            positions may have no limit, and RoBERTa and its kin have fewer positions than rows in the table
            (`unused_positions`).
        default: At most so much where nothing is asked for.
        argument: Name of what is asked for, for the message.

    Returns:
        `asked`, or the lowest limit; where nothing has one, the highest 32-bit integer.

    Raises:
        ValueError: More is asked for than they allow, or less than one token.
    """
    config = getattr(model, "config", model)
    config = config.get_text_config()
    positions = getattr(config, "max_position_embeddings", None)
    if positions is None or positions <= 0:
        positions = torch.inf
    peft_config: Any = getattr(model, "active_peft_config", None)
    if getattr(peft_config, "is_prompt_learning", False):
        positions -= peft_config.num_virtual_tokens
    limit = int(min(positions - unused_positions(config), tokenizer.model_max_length, torch.iinfo(torch.int32).max))
    if asked is not None and not 0 < asked <= limit:
        raise ValueError(
            f"`{argument}` must be between 1 and {limit}, the most that the model and its tokenizer "
            f"(`model_max_length`) read, got {asked}"
        )
    return asked or min(limit, default or limit)


def unused_positions(config: PreTrainedConfig) -> int:
    """Return how many rows at the head of the position table no token ever uses."""
    behind = config.model_type in _POSITIONS_BEHIND_PADDING and config.pad_token_id is not None
    return config.pad_token_id + 1 if behind else 0


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Run a model without dropout and gradients, and put the mode of each module back."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in modes.items():
            module.training = training


@dataclass(frozen=True)
class HeadKind:
    """A kind of pretrained head.

    Attributes:
        name: What it is called in messages.
        find_class: Returns the transformers class with this head for a language model's config, or raises a
            `ValueError`.
        advice: What to do about a checkpoint that lacks the head's weights.
    """

    name: str
    find_class: Callable[[PreTrainedConfig], type[PreTrainedModel]]
    advice: str


DISCRIMINATOR_HEAD = HeadKind(
    "replaced-token head",
    get_discriminator,
    "it was saved as a generator, an encoder or a task model. Use a discriminator checkpoint, or continue the "
    f"pre-training of this encoder as one with {PRETRAINING_EXAMPLE}",
)


#: Whether a value is one for an attribute, and what it must be.
Check = tuple[Callable[[Any], bool], str]


def one_of(*choices: str) -> Check:
    """Return the check of an attribute that is one of a few words."""
    return choices.__contains__, f"one of {', '.join(map(repr, choices))}"


@declares_sub_config("language_model_config", _DEFAULT_MODEL_TYPE)
class PretrainedHeadConfig(PreTrainedConfig):
    """Base of the wrappers' configs.

    What it does not know itself (vocabulary size, hidden size, ...) it answers as the language model's config does.

    Attributes:
        language_model_config: Config of the discriminator or masked language model.
        head_kind: Which pretrained head the wrapper reads.
        auto_class: Transformers' auto class for the wrapper.
        from_tokenizer: Attributes that are derived, with the tokenizer's help, and are no choices.
        needs_tokenizer: Whether `from_language_model_config` gets a tokenizer or `None`.
        checks: Attribute -> whether a value is one for it, and what it must be. They hold in a finished config too.
        label_smoothing: How far the loss draws its targets away from 0 and 1, at least 0 and less than 1.
    """

    head_kind: ClassVar[HeadKind] = DISCRIMINATOR_HEAD
    auto_class: ClassVar[Any] = AutoModelForSequenceClassification
    from_tokenizer: ClassVar[frozenset[str]] = frozenset({"language_model_config"})
    needs_tokenizer: ClassVar[bool] = True
    checks: ClassVar[Mapping[str, Check]] = {
        "label_smoothing": (lambda value: 0 <= value < 1, "at least 0 and less than 1")
    }
    _settled: ClassVar[frozenset[str]] = frozenset()

    language_model_config: PreTrainedConfig | dict[str, Any] | None = None
    label_smoothing: float = 0.0

    def __init_subclass__(cls, *args: Any, **kwargs: Any) -> None:
        """Note which attributes went through the tokenizer."""
        super().__init_subclass__(*args, **kwargs)
        cls._settled = frozenset(cls.tokenizer_options())

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute, unless it cannot have this value, or the token ids beside it would stay what they were."""
        fits, what = self.checks.get(name, (None, ""))
        if fits is not None and not fits(value):
            raise ValueError(f"`{name}` must be {what}, got {value!r}")
        settled = name in self._settled and is_made(self)
        if settled and value != getattr(self, name, None):
            raise ValueError(
                f"`{name}` cannot change in a finished config, whose token ids would stay those of "
                f"{getattr(self, name, None)!r}: load the model again with "
                f"{type(self).__name__.removesuffix('Config')}.from_pretrained(..., {name}=...)"
            )
        super().__setattr__(name, value)

    def __post_init__(self, **kwargs: Any) -> None:
        """Take over what every config has a value for."""
        inner: Any = as_config(self.language_model_config, _DEFAULT_MODEL_TYPE)
        self.language_model_config = inner
        super().__post_init__(**kwargs)
        mark_made(self)
        self.is_encoder_decoder = inner.is_encoder_decoder
        self.chunk_size_feed_forward = inner.chunk_size_feed_forward

    def __getattr__(self, name: str) -> Any:
        """Answer as the language model's config, for libraries that read sizes at the top level."""
        if name.startswith("_") or not is_made(self):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(self.__dict__["language_model_config"], name)

    def to_dict(self) -> dict[str, Any]:
        """Return what is saved, as in every transformers config."""
        return without_mark(super().to_dict())

    def get_text_config(self, decoder: bool | None = None, encoder: bool | None = None) -> PreTrainedConfig:
        """Return the language model's config, which knows the vocabulary, the sizes and the padding id."""
        return self.language_model_config.get_text_config(decoder=decoder, encoder=encoder)  # type: ignore[union-attr]

    @classmethod
    def tokenizer_options(cls) -> set[str]:
        """Return the named arguments of `from_language_model_config`, which nobody can change in a finished config."""
        # all but the first two, config and tokenizer, and `**options`
        parameters = list(inspect.signature(cls.from_language_model_config).parameters.values())[2:]
        return {parameter.name for parameter in parameters if parameter.kind is not parameter.VAR_KEYWORD}

    @classmethod
    def own_attributes(cls) -> set[str]:
        """Return the further attributes of the config, which describe the task rather than the language model."""
        inherited = {known.name for known in fields(PreTrainedConfig)}
        return {known.name for known in fields(cls)} - inherited - cls.tokenizer_options() - cls.from_tokenizer

    @classmethod
    def from_language_model_config(
        cls, language_model_config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase | None, **options: Any
    ) -> Any:
        """Make the wrapper's config of the language model's, here without the tokenizer's help."""
        return cls(language_model_config=language_model_config, **options)

    @classmethod
    def expand_arguments(
        cls,
        arguments: dict[str, Any],
        path: str | os.PathLike[str],
        tokenizer: PreTrainedTokenizerBase | str | os.PathLike[str] | None,
    ) -> dict[str, Any]:
        """Replace arguments of `from_pretrained` that stand for others by these."""
        return arguments

    @classmethod
    def check_options(cls, options: dict[str, Any], path: str | os.PathLike[str]) -> None:
        """Raise a `ValueError` if the options do not tell the task of the plain language model at `path`."""

    def outdated_by(self, changed: set[str]) -> dict[str, Any]:
        """Return what of this config does not hold any more once the options and attributes in `changed` change.

        Returns:
            New values by name; `None` where there is none until it is derived again.

        Raises:
            ValueError: Something in `changed` cannot change.
        """
        return {"label2id": None} if "id2label" in changed else {}

    def differences_from(self, other: PretrainedHeadConfig, *, but: Collection[str] = ()) -> list[str]:
        """Return in words how this config's scores come about in another way than those of another wrapper's config.

        Lengths and what the language model itself is do not count, nor what changes the loss alone.

        Args:
            other: The other config.
            but: Options that do not count either.
        """
        if type(other) is not type(self):
            return [f"it was a {type(other).__name__.removesuffix('Config')}"]
        names = sorted((self.tokenizer_options() | {"score_function"}) & {known.name for known in fields(self)})
        pairs = {
            name: (getattr(other, name), getattr(self, name)) for name in names if name not in {"max_length", *but}
        }
        return [f"`{name}` was {then!r}, is {now!r}" for name, (then, now) in pairs.items() if then != now]

    def kept_options(self) -> dict[str, Any]:
        """Return the arguments of `from_language_model_config` that make this config again."""
        told_by_id2label = {"label2id", "num_labels"}
        names = {*self.tokenizer_options(), *self.own_attributes(), *_TASK_ATTRIBUTES} - told_by_id2label
        return {name: getattr(self, name) for name in names & {known.name for known in fields(self)}}

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike[str], **kwargs: Any) -> Any:
        """Read a config; that of a plain language model becomes the sub-config of one that has no task yet.

        PEFT does so with the base model of an adapter, to see whether the embeddings were resized.
        """
        where = hub_arguments(kwargs)
        found, _ = cls.get_config_dict(pretrained_model_name_or_path, **where)
        if found.get("model_type", cls.model_type) == cls.model_type:
            return super().from_pretrained(pretrained_model_name_or_path, **kwargs)
        made = cls(language_model_config=_inner(AutoConfig.from_pretrained(pretrained_model_name_or_path, **where)))
        return (made, kwargs) if kwargs.get("return_unused_kwargs") else made

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """Make a config from its dictionary, as in every transformers config.

        Auto classes, which ask for unused arguments, hand all of them on to the model's `from_pretrained`, which knows
        what follows from each: token ids, a calibration that does not hold any more, the language model's config.

        Raises:
            ValueError: Something that needs the tokenizer (label words, template, ...) is passed by somebody else.
        """
        if not kwargs.pop("return_unused_kwargs", False):
            if stand_for_others := kwargs.keys() & cls.tokenizer_options() - {known.name for known in fields(cls)}:
                raise ValueError(
                    f"`{min(stand_for_others)}` stands for arguments that need the tokenizer: pass it to "
                    f"{cls.__name__.removesuffix('Config')}.from_pretrained"
                )
            return super().from_dict(config_dict, **kwargs)
        own = {name: kwargs.pop(name) for name in [*kwargs] if name.startswith("_") or name == "name_or_path"}
        return super().from_dict(config_dict, **own), kwargs


class PretrainedHeadModel(PreTrainedModel):
    """Base of the wrappers: a language model with its pretrained head, and how to load it.

    Args:
        config: The wrapper's config. A subclass calls `post_init` when its own modules are made.

    Attributes:
        language_model: The discriminator or masked language model with its head, as its own class in transformers.
    """

    config_class = PretrainedHeadConfig
    base_model_prefix = "language_model"
    supports_gradient_checkpointing = True
    # What the language model inside cannot do, it refuses itself.
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    # Stands in the cards of models and adapters.
    model_tags = ["dpt_peft"]  # noqa: RUF012
    # Whether the loss is what Trainer's own label smoothing computes.
    _loss_is_softmax = False

    def __init__(self, config: PretrainedHeadConfig) -> None:
        if not isinstance(config, self.config_class):
            raise ValueError(
                f"`config` must be a {self.config_class.__name__}, got {type(config).__name__}: make the model with "
                f"{type(self).__name__}.from_pretrained(language_model, ...), which loads its weights too"
            )
        super().__init__(config)
        inner: Any = config.language_model_config
        self.language_model = config.head_kind.find_class(inner)(inner)

    @property
    def accepts_loss_kwargs(self) -> bool:
        """Whether the loss counts the rows of all accumulated batches; if not, Trainer divides by their number."""
        call_when_a_trainer_is_made(_refuse_label_smoothing)
        return False

    def save_pretrained(self, save_directory: str | os.PathLike[str], *args: Any, **kwargs: Any) -> None:
        """As in transformers; beside an adapter of `add_adapter`, the config is saved too."""
        super().save_pretrained(save_directory, *args, **kwargs)
        if getattr(self, "_hf_peft_config_loaded", False) and kwargs.get("is_main_process", True):
            self.config.save_pretrained(save_directory)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        """Copy as every module, and leave this one as it is, which may be in use."""
        made = memo[id(self)] = type(self).__new__(type(self))
        made.__setstate__(copy.deepcopy(super().__getstate__(), memo))
        return made

    def __getstate__(self) -> dict[str, Any]:
        """Return what is pickled; a model that has given hidden states could not be without this."""
        forget_capturing_hooks(self)
        state: dict[str, Any] = super().__getstate__()
        return state

    def _checked(self, loss: torch.Tensor) -> torch.Tensor:
        """Return the loss, or say at once that it is no number: Trainer's log would show 0 in its place.

        Raises:
            FloatingPointError: In training, but for mixed precision, whose scaler may get over a step.
        """
        if not torch.compiler.is_compiling() and not bool(loss.isfinite()):
            message = f"the loss of this batch is {loss.item()}: is the learning rate too high, or a weight broken?"
            if self.training and not torch.is_autocast_enabled(loss.device.type):
                raise FloatingPointError(message)
            _logger.warning(message)
        return loss

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        # Modules whose buffers come from the config fill them again after loading on the meta device.
        if (reset := getattr(module, "reset_buffers", None)) is not None:
            reset()

    def _with_wanted_outputs(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """Return arguments of the language model that say which outputs it gives; the config says what they do not."""
        wanted = {name: arguments.get(name) for name in ("output_attentions", "output_hidden_states")}
        wanted = {name: getattr(self.config, name) if value is None else value for name, value in wanted.items()}
        return {**arguments, **wanted, "return_dict": True}

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike[str],
        *model_args: Any,
        tokenizer: PreTrainedTokenizerBase | str | os.PathLike[str] | None = None,
        config: PreTrainedConfig | str | os.PathLike[str] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Load a plain language model and put the wrapper around it, or load a saved wrapper.

        Args:
            pretrained_model_name_or_path: Folder or Hub id of a plain language model, or of a saved wrapper; or folder
                of a PEFT adapter with the wrapper's config beside it, which is loaded onto the weights that the
                adapter names.
            *model_args: Passed on to `__init__`.
            tokenizer: Tokenizer of the language model, or where to read it; default: the same place as the weights. A
                saved wrapper needs none unless an option that goes through the tokenizer changes.
            config: Config in place of the one read from the folder.
            **kwargs: The wrapper's options (see the class and its config's `from_language_model_config`); everything
                that `from_pretrained` takes in transformers (`dtype`, `revision`, `attn_implementation`, ...); other
                config attributes (`hidden_dropout_prob`, ...) go to the language model's config. Without `dtype`,
                weights keep the precision that they are stored in, but for float16 where there is no accelerator,
                which a CPU is many times slower in: it becomes float32.

        Returns:
            The model, in evaluation mode; with `output_loading_info=True` the pair (model, loading info).

        Raises:
            TypeError, ValueError: The options cannot work, or the checkpoint does not have the pretrained head.
        """
        path = pretrained_model_name_or_path
        # PEFT executes no code from a folder, and refuses the argument for it
        where = hub_arguments(kwargs, without="trust_remote_code")
        adapter = _adapter_beside_config(path, where)
        from_elsewhere = adapter is not None or isinstance(config, PreTrainedConfig)
        config, kwargs = _prepare_config(cls.config_class, path, config=config, tokenizer=tokenizer, arguments=kwargs)
        output_loading_info = kwargs.pop("output_loading_info", False)
        weights = path
        if adapter is not None:
            weights = adapter.base_model_name_or_path
            # Revision and subfolder are the adapter's. Auto classes name the adapter too; it would be loaded twice.
            kwargs = {name: kwargs[name] for name in kwargs.keys() - {"revision", "subfolder", "adapter_kwargs"}}
            kwargs |= {} if adapter.revision is None else {"revision": adapter.revision}
        inner_config, vocabulary = config.get_text_config(), config.vocab_size
        if from_elsewhere:
            # Tokens may have been added since: load what is stored, and make room.
            stored = hub_arguments(kwargs)
            inner_config.vocab_size = AutoConfig.from_pretrained(weights, **stored).get_text_config().vocab_size
        model, info = super().from_pretrained(weights, *model_args, config=config, output_loading_info=True, **kwargs)
        if inner_config.vocab_size != vocabulary:
            model.resize_token_embeddings(vocabulary, mean_resizing=False)
        inner = model.language_model
        encoder = f"{cls.base_model_prefix}.{inner.base_model_prefix}."
        missing = [
            key
            for key in info["missing_keys"]
            if key.startswith(f"{cls.base_model_prefix}.") and not key.startswith(encoder)
        ]
        if missing:
            kind = config.head_kind
            raise ValueError(
                f"{path} has no pretrained {kind.name} ({', '.join(sorted(missing))} are not in the checkpoint): "
                f"{kind.advice}"
            )
        if "dtype" not in kwargs and "torch_dtype" not in kwargs and _is_slow_half(model, "device_map" in kwargs):
            model.float()
            model.config.dtype = inner.config.dtype = torch.float32
        if adapter is not None:
            model.load_adapter(path, adapter_kwargs=where)
        return (model, info) if output_loading_info else model


def _prepare_config(
    config_class: type[PretrainedHeadConfig],
    path: str | os.PathLike[str],
    *,
    config: PreTrainedConfig | str | os.PathLike[str] | None,
    tokenizer: PreTrainedTokenizerBase | str | os.PathLike[str] | None,
    arguments: dict[str, Any],
) -> tuple[PretrainedHeadConfig, dict[str, Any]]:
    """Make the wrapper's config for a plain language model, or complete that of a saved wrapper.

    Args:
        config_class: Config class of the wrapper.
        path: Folder or Hub id of a language model or of a saved wrapper.
        config: Config, or where to read it; default: `path`.
        tokenizer: Tokenizer, or where to read it; default: `path`. Read only if it is needed.
        arguments: The other arguments of `from_pretrained`; options that are `None` count as not given.

    Returns:
        The config, and the arguments left for loading the weights.
    """
    arguments = config_class.expand_arguments(dict(arguments), path, tokenizer)
    where = hub_arguments(arguments)
    known = (*_TASK_ATTRIBUTES, *config_class.own_attributes())
    attributes = {name: arguments.pop(name) for name in known if name in arguments}
    options = {name: arguments.pop(name) for name in config_class.tokenizer_options() if name in arguments}
    options = {name: value for name, value in options.items() if value is not None}
    attributes |= _names_of_classes(**{name: attributes.get(name) for name in ("id2label", "label2id")})
    if not isinstance(config, PreTrainedConfig):
        config = AutoConfig.from_pretrained(config or path, **where)
    else:
        # As everywhere in transformers, a config that was passed stays as it was.
        config = copy.deepcopy(config)
        if not isinstance(config, PretrainedHeadConfig):
            attributes = {**_task_of(config), **attributes}
    assert isinstance(config, PreTrainedConfig)

    saved = config if isinstance(config, config_class) else None
    # The wrappers of one language model can be turned into each other: only this is taken over.
    inner = _inner(config)
    config_class.head_kind.find_class(inner)
    if saved is None:
        config_class.check_options(options, path)
    architecture = {known.name for known in fields(inner)} - {known.name for known in fields(PreTrainedConfig)}
    for name in architecture & arguments.keys():
        setattr(inner, name, arguments.pop(name))

    if saved is not None:
        given = {**options, **attributes}
        outdated = saved.outdated_by({name for name, value in given.items() if value != getattr(saved, name, None)})
        if not options:
            changed = {**saved.to_dict(), **outdated, **attributes}
            return config_class.from_dict(changed) if attributes else saved, arguments
        kept = {**saved.kept_options(), **outdated}
        options = {**{name: value for name, value in kept.items() if value is not None}, **options}
    attributes.setdefault("dtype", config.dtype)
    loaded = load_tokenizer(tokenizer, path, where) if config_class.needs_tokenizer else None
    if saved is not None and loaded is not None:
        # saved with shorter texts than rows, which have the template besides: these were checked when it was made
        loaded = copy.copy(loaded)
        loaded.model_max_length = max(loaded.model_max_length, getattr(saved, "max_length", None) or 0)
    return config_class.from_language_model_config(inner, loaded, **{**options, **attributes}), arguments


_TASK_ATTRIBUTES = (
    "id2label",
    "label2id",
    "num_labels",
    "output_attentions",
    "output_hidden_states",
    "problem_type",
    "return_dict",
)


def _task_of(config: PreTrainedConfig) -> dict[str, Any]:
    """Return what a plain config says of the task that every config does not say by default."""
    default = PreTrainedConfig(num_labels=config.num_labels)
    said = {name: getattr(config, name) for name in _TASK_ATTRIBUTES if name != "num_labels"}
    said = {name: value for name, value in said.items() if value != getattr(default, name)}
    if "id2label" in said:
        said.pop("label2id", None)  # which stays behind where a config's `id2label` is set later
    return said if config.num_labels == PreTrainedConfig().num_labels else {**said, "num_labels": config.num_labels}


def _names_of_classes(id2label: Mapping[Any, str] | None, label2id: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return what `label2id` says besides: `id2label` where that is not given.

    Raises:
        ValueError: They contradict each other.
    """
    if not label2id:
        return {}
    by_index = {int(index): name for name, index in label2id.items()}
    if not id2label:
        return {"id2label": dict(sorted(by_index.items()))}
    names = {int(index): name for index, name in id2label.items()}
    if any(names.get(index) != name for index, name in by_index.items()):
        raise ValueError(f"`label2id` {dict(label2id)} is not the reverse of `id2label` {dict(id2label)}")
    return {}


def _inner(config: PreTrainedConfig) -> Any:
    """The config of the language model in a wrapper's, or itself."""
    return config.language_model_config if isinstance(config, PretrainedHeadConfig) else config


def _refuse_label_smoothing(arguments: Any, model: Any) -> None:
    base = model.get_base_model() if isinstance(model, PeftModel) else model
    factor = arguments.label_smoothing_factor
    if factor and isinstance(base, PretrainedHeadModel) and not base._loss_is_softmax:
        raise ValueError(
            f"`label_smoothing_factor` = {factor} makes Trainer put a softmax cross entropy in the place of the loss "
            f"of {type(base).__name__}. Leave it out and let the model smooth its own loss: "
            f"from_pretrained(..., label_smoothing={factor}), or model.config.label_smoothing = {factor}"
        )


def load_tokenizer(
    tokenizer: PreTrainedTokenizerBase | str | os.PathLike[str] | None,
    path: str | os.PathLike[str],
    hub_arguments: dict[str, Any],
) -> PreTrainedTokenizerBase:
    """Return a wrapper's tokenizer.

    Args:
        tokenizer: The tokenizer, or its folder or Hub id. Default: it lies beside the weights.
        path: Folder or Hub id of the weights.
        hub_arguments: Where they are read, such as `revision`.

    Raises:
        ValueError: There is no tokenizer.
    """
    if isinstance(tokenizer, PreTrainedTokenizerBase):
        return tokenizer
    place, where = path, hub_arguments
    if tokenizer is not None:
        # Revision and subfolder belong to the weights' place.
        of_weights = ("revision", "subfolder")
        place, where = tokenizer, {name: value for name, value in where.items() if name not in of_weights}
    loaded = AutoTokenizer.from_pretrained(place, **where)
    if len(loaded) <= len(set(loaded.all_special_ids)):
        # What transformers makes of a folder that holds no tokenizer.
        raise ValueError(f"there is no tokenizer in {place}: pass `tokenizer` (an object, a folder or a Hub id)")
    return loaded


def _adapter_beside_config(path: str | os.PathLike[str], where: Mapping[str, Any]) -> PeftConfig | None:
    """The config of a PEFT adapter in a folder or repository that holds no weights of a model, else `None`."""
    found = find_adapter_config_file(str(path), **where)
    quiet = {f"_raise_exceptions_for_{what}": False for what in ("missing_entries", "connection_errors", "gated_repo")}
    names = (SAFE_WEIGHTS_NAME, SAFE_WEIGHTS_INDEX_NAME)
    if found is None or any(cached_file(str(path), name, **where, **quiet) is not None for name in names):
        return None
    return PeftConfig.from_pretrained(str(Path(found).parent))


def _is_slow_half(model: PreTrainedModel, placed: bool) -> bool:
    """Whether a model is in float16 on a CPU and is to stay there: it was placed there, or there is nothing else."""
    on_cpu = all(parameter.device.type == "cpu" for parameter in model.parameters())
    stays = placed or not torch.accelerator.is_available()
    return model.dtype == torch.float16 and on_cpu and stays and getattr(model, "quantization_method", None) is None
