"""Configuration of deep prompts (P-tuning v2)."""

from __future__ import annotations

import copy
import enum
import math
import re
from dataclasses import dataclass, replace
from typing import Any

from peft import PeftConfig
from transformers.hf_argparser import HfArg

CHOICES = {"encoder_reparameterization": ("none", "mlp"), "init_weights": ("normal", "text", "sample_vocab")}


class DeepPromptType(str, enum.Enum):
    """The `peft_type` of deep prompts.

    PEFT's own `PeftType` is closed to plugins; its registries compare by string, so an enum of our own does. The
    member's name has to equal its value because `enum` hashes names and the registries are also asked with strings.
    """

    DEEP_PROMPT = "DEEP_PROMPT"


@dataclass
class DeepPromptConfig(PeftConfig):
    """Configuration of a [`DeepPromptModel`]: trainable keys and values in every layer of a frozen backbone.

    The method is deep prompt tuning, P-tuning v2 (ACL 2022, section 3.2).

    Args:
        num_virtual_tokens (`int`, defaults to 20):
            Prompt length: keys and values per prompted layer. About 20 for classification, above 100 for hard tagging
            tasks (section 4.4, Figure 3).
        layers_to_transform (`int`, `list[int]`, `range` or `str`, *optional*):
            Prompt depth (Figure 4): the layers that get prompts, counted from 0, or `"last 8"` / `"first 8"`. Default:
            every layer. In an encoder-decoder the choice applies to both stacks, "last" in each by its own count.
        prompt_dropout (`float`, defaults to 0.0):
            Dropout probability on the prompts' keys and values while training.
        encoder_reparameterization (`"none"` or `"mlp"`, defaults to `"none"`):
            `"none"` trains keys and values themselves. `"mlp"` computes them from a table and a first linear layer
            that all layers share: Linear(H, encoder_hidden_size) -> tanh -> Linear per layer (section 3.3).
        encoder_hidden_size (`int`, defaults to 512):
            Width of the hidden layer of the `"mlp"` encoder; refused without one.
        use_gate (`bool`, defaults to `False`):
            Attend to the prompts apart from the tokens, and add gate * softmax(q K_p^T / sqrt(d)) V_p to the tokens'
            context: zero-initialised attention of LLaMA-Adapter (equation 6), with one number per layer and without
            tanh, as in PEFT's adaption prompts. The gate starts at 0: training starts at the base model, exactly.
            Without a gate, prompts and tokens share one softmax.
        init_weights (`"normal"`, `"text"` or `"sample_vocab"`, defaults to `"normal"`):
            What new prompts are: drawn from a normal distribution, or the keys and values that the backbone itself
            makes, layer by layer, of `init_text` or of tokens drawn from its vocabulary. Not saved.
        init_text (`str`, *optional*):
            The text for `init_weights="text"`: repeated if it has fewer than `num_virtual_tokens` tokens, else cut.
            The tokenizer's special tokens around it count, as in PEFT's prompt tuning.
        tokenizer_name_or_path (`str`, *optional*):
            The tokenizer for `init_text`, as in PEFT's prompt tuning.
        tokenizer_kwargs (`dict`, *optional*):
            Arguments of `AutoTokenizer.from_pretrained` for it; `{"add_special_tokens": False}` leaves its special
            tokens out.
        init_std (`float`, defaults to 0.02):
            Standard deviation of the normal distribution that new prompts are drawn from; refused where they are not.
        init_from (`str`, *optional*):
            Start from the prompts of another adapter: its name if it is on the same model, or folder or Hub id of a
            saved one. Lengths, layers and encoder have to be the same. Not saved.
        shift_positions (`bool`, defaults to `False`):
            Count token positions from `num_virtual_tokens`, as the released P-tuning v2 code and PEFT's prefix tuning
            do, so that outputs equal theirs. Takes room in the backbone's position table.
        target_modules (`list[str]` or `str`, *optional*):
            Names (or a regular expression) of the attention modules to prompt. Default: every self-attention module;
            cross-attention has to be asked for here.
        exclude_modules (`list[str]` or `str`, *optional*):
            Names (or a regular expression) of attention modules to leave alone.
        id2label (`dict[int, str]`, *optional*):
            Names of the classes. Default: those of the model's config, so that `dpt_peft.AutoPeftModel...` finds them.
        problem_type (`str`, *optional*):
            The kind of task of a head with classes, such as `"multi_label_classification"`. Default: what the model's
            config says when the adapter is saved, for the same purpose.
        modules_to_save (`list[str]`, *optional*):
            Further modules to train and save with the prompts. The head of a classification or tagging model is added
            by PEFT, as for its other methods.

    Raises:
        ValueError: if a value is out of its range; the message names the argument.
    """

    num_virtual_tokens: int = HfArg(default=20, help="Prompt length: trainable keys and values per prompted layer.")
    layers_to_transform: list[int] | int | str | None = HfArg(
        default=None, help="Layers that get prompts: indices from 0, or 'last 8' / 'first 8'. Default: all layers."
    )
    prompt_dropout: float = HfArg(
        default=0.0, help="Dropout probability on the prompts' keys and values while training."
    )
    encoder_reparameterization: str = HfArg(
        default="none", help="'none': keys and values are trained themselves. 'mlp': a shared table and MLP make them."
    )
    encoder_hidden_size: int = HfArg(default=512, help="Width of the hidden layer of the 'mlp' encoder.")
    use_gate: bool = HfArg(
        default=False, help="Attend to prompts apart from tokens, times a gate per layer that starts at 0"
    )
    init_weights: str = HfArg(
        default="normal", help="'normal', or keys and values of 'text' (`init_text`) or of a 'sample_vocab'."
    )
    init_text: str | None = HfArg(default=None, help="Text that new prompts are initialised from.")
    tokenizer_name_or_path: str | None = HfArg(default=None, help="Tokenizer for `init_text`.")
    tokenizer_kwargs: dict[str, Any] | None = HfArg(
        default=None, help="Arguments of `AutoTokenizer.from_pretrained` for that tokenizer."
    )
    init_std: float = HfArg(default=0.02, help="Standard deviation of the normal distribution of new prompts.")
    init_from: str | None = HfArg(
        default=None, help="Adapter (name, folder or Hub id) whose prompts the new ones start from."
    )
    shift_positions: bool = HfArg(
        default=False, help="Count token positions from num_virtual_tokens, as the released P-tuning v2 code and PEFT."
    )
    target_modules: list[str] | str | None = HfArg(
        default=None, help="Attention modules to prompt (names or a regular expression). Default: all self-attention."
    )
    exclude_modules: list[str] | str | None = HfArg(
        default=None, help="Attention modules to leave alone (names or a regular expression)."
    )
    id2label: dict[int, str] | None = HfArg(default=None, help="Names of the classes. Default: those of the model.")
    problem_type: str | None = HfArg(
        default=None, help="As in the model's config, such as 'multi_label_classification'. Default: what that says."
    )
    modules_to_save: list[str] | None = HfArg(
        default=None, help="Further modules to train and save with the prompts, for instance a head."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = DeepPromptType.DEEP_PROMPT
        # PEFT matches names in sets faster, and writes them back to JSON as lists
        if isinstance(self.target_modules, list):
            self.target_modules = set(self.target_modules)  # type: ignore[assignment]
        if isinstance(self.exclude_modules, list):
            self.exclude_modules = set(self.exclude_modules)  # type: ignore[assignment]
        if self.id2label is not None:
            self.id2label = {int(index): name for index, name in self.id2label.items()}
        if isinstance(self.layers_to_transform, range | tuple):
            self.layers_to_transform = list(self.layers_to_transform)
        self._check()

    def _check(self) -> None:
        for name in ("num_virtual_tokens", "encoder_hidden_size"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"`{name}` must be a whole number of at least 1, got {value!r}.")
        if not _is_number(self.prompt_dropout) or not 0.0 <= self.prompt_dropout < 1.0:
            raise ValueError(f"`prompt_dropout` must be at least 0 and below 1, got {self.prompt_dropout!r}.")
        if not _is_number(self.init_std) or not 0.0 <= self.init_std < math.inf:
            raise ValueError(f"`init_std` must be a number that is not negative, got {self.init_std!r}.")
        for name in ("use_gate", "shift_positions"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"`{name}` must be True or False, got {getattr(self, name)!r}.")
        self._check_initialisation()
        select_layers(self.layers_to_transform, num_layers=None)

    def _check_initialisation(self) -> None:
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(
                    f"`{name}` must be one of {', '.join(map(repr, choices))}, got {getattr(self, name)!r}."
                )
        for name in ("init_text", "tokenizer_name_or_path"):
            if (getattr(self, name) is not None) is not (self.init_weights == "text"):
                raise ValueError(
                    f"`{name}` must be given with init_weights='text', and only then; "
                    f"it is {getattr(self, name)!r}, with init_weights={self.init_weights!r}."
                )
        if self.tokenizer_kwargs is not None and self.init_weights != "text":
            raise ValueError("`tokenizer_kwargs` can only be given with init_weights='text'.")
        if self.init_weights != "normal" and self.encoder_reparameterization != "none":
            raise ValueError(
                "`init_weights`: an 'mlp' encoder cannot be made to give the keys and values of tokens. Use "
                "encoder_reparameterization='none'."
            )
        if self.init_weights != "normal" and self.init_from is not None:
            raise ValueError("`init_from` and `init_weights` cannot both say what new prompts are.")
        if self.encoder_reparameterization == "none" and self.encoder_hidden_size != type(self).encoder_hidden_size:
            raise ValueError(
                f"`encoder_hidden_size` {self.encoder_hidden_size} needs encoder_reparameterization='mlp': without it "
                "there is no hidden layer."
            )
        drawn = self.init_weights == "normal" and self.init_from is None
        if not drawn and self.init_std != type(self).init_std:
            raise ValueError(
                f"`init_std` {self.init_std} is for prompts that are drawn, not for `init_weights` "
                f"{self.init_weights!r} or `init_from` {self.init_from!r}."
            )

    def save_pretrained(self, save_directory: str, **kwargs: Any) -> None:
        """Save as PEFT does, without what the prompts were made of: loading must not make them anew."""
        PeftConfig.save_pretrained(self.without_initialisation(), save_directory, **kwargs)

    def without_initialisation(self) -> DeepPromptConfig:
        """Return a copy for prompts that exist: it does not say what they are made of."""
        made = copy.deepcopy(self)
        made.init_weights, made.init_text, made.init_from = "normal", None, None
        made.tokenizer_name_or_path, made.tokenizer_kwargs = None, None
        return made

    def without_encoder(self) -> DeepPromptConfig:
        """Return a copy for the same prompts as keys and values, when no encoder makes them."""
        width = type(self).encoder_hidden_size
        return replace(self, encoder_reparameterization="none", encoder_hidden_size=width)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def select_layers(choice: list[int] | int | str | None, num_layers: int | None) -> list[int]:
    """Return the layers that `layers_to_transform` names, in ascending order.

    Args:
        choice: the value of [`DeepPromptConfig.layers_to_transform`].
        num_layers: how many layers the backbone has; `None` checks the form only and returns an empty list.

    Raises:
        ValueError: if the value has none of the documented forms, names no layer, or a layer that does not exist.
    """
    form = "a layer index, a list of indices, 'first N' or 'last N' (N at least 1), or None for all layers"
    if choice is None:
        return list(range(num_layers or 0))
    if isinstance(choice, str):
        match = re.fullmatch(r"(first|last) ([1-9]\d*)", choice.strip())
        if match is None:
            raise ValueError(f"`layers_to_transform` must be {form}, got {choice!r}.")
        count = int(match[2])
        if num_layers is None:
            return []
        if count > num_layers:
            raise ValueError(f"`layers_to_transform={choice!r}`: the backbone has only {num_layers} layers.")
        return list(range(count)) if match[1] == "first" else list(range(num_layers - count, num_layers))
    indices = [choice] if isinstance(choice, int) else choice
    if (
        not isinstance(indices, list)
        or not indices
        or not all(isinstance(i, int) and not isinstance(i, bool) and i >= 0 for i in indices)
    ):
        raise ValueError(f"`layers_to_transform` must be {form}, got {choice!r}.")
    if num_layers is None:
        return []
    outside = sorted({i for i in indices if i >= num_layers})
    if outside:
        raise ValueError(
            f"`layers_to_transform` names layers {outside}, but the backbone has {num_layers} layers: "
            f"0 to {num_layers - 1}."
        )
    return sorted(set(indices))


def shorten(names: list[str], limit: int = 4) -> str:
    """Return the first few of many names, and how many there are more."""
    listed = ", ".join(names[:limit])
    return listed if len(names) <= limit else f"{listed}, and {len(names) - limit} more"
