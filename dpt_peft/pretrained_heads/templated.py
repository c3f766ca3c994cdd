"""What the wrappers share that put templates around texts: the templates in the config, and the forward pass."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any, ClassVar

import torch
from transformers import PreTrainedConfig, PreTrainedTokenizerBase
from transformers.modeling_outputs import SequenceClassifierOutput
from transformers.utils import can_return_tuple

from .base import Check, PretrainedHeadConfig, PretrainedHeadModel, longest_row, one_of
from .splice import RowLayout, SplicedInputs, TemplateSplicer
from .template import DEFAULT_TEMPLATE, WORDPIECES, ResolvedTemplate


class TemplateConfig(PretrainedHeadConfig):
    """Base of the configs of wrappers that put templates around texts. It keeps them in token ids.

    So a saved model is loaded without a tokenizer.

    Attributes:
        template: Template string.
        templates: The templates in token ids, as `ResolvedTemplate.to_dict` writes them.
        max_length: Longest row that the language model sees, in tokens, template and special tokens included.
        cls_token_id: Id of the first token of every row.
        sep_token_id: Id of the last token of every row and between the texts of a pair.
        pad_token_id: Id that fills short rows.
        pair_separators: Separators that the tokenizer puts between the texts of a pair.
        truncation_side: Which end of a text that is too long is cut, as the tokenizer has it: `"right"` or `"left"`.
    """

    from_tokenizer: ClassVar[frozenset[str]] = PretrainedHeadConfig.from_tokenizer | {
        *("templates", "label_token_ids"),
        *("cls_token_id", "sep_token_id", "pad_token_id", "pair_separators"),
    }
    checks: ClassVar[Mapping[str, Check]] = {
        **PretrainedHeadConfig.checks,
        "truncation_side": one_of("left", "right"),
        "wordpieces": one_of(*WORDPIECES),
    }
    #: The argument that says what the classes are, and what it looks like.
    classes_option: ClassVar[str] = "label_words"
    classes_example: ClassVar[str] = "one word a class, such as label_words=['negative', 'positive']"

    template: str = DEFAULT_TEMPLATE
    templates: list[dict[str, Any]] = field(default_factory=list)
    # The numbers of the public ELECTRA checkpoints, as in transformers' ElectraConfig.
    max_length: int = 512
    cls_token_id: int = 101
    sep_token_id: int = 102
    pad_token_id: int = 0
    pair_separators: int = 1
    truncation_side: str = "right"
    wordpieces: str = "first"
    id2label: dict[int, str] | dict[str, str] | None = None
    label2id: dict[str, int] | dict[str, str] | None = None

    def _name_classes(self, names: Sequence[str], what: str, **counts: int | None) -> None:
        """Derive `id2label` and `label2id` from the classes' names unless they are given.

        Args:
            names: One name a class.
            what: What the names are, for the message.
            **counts: Numbers of classes that other options say.

        Raises:
            ValueError: One of them, or `id2label`, says another number of classes.
        """
        id2label = {int(index): name for index, name in (self.id2label or dict(enumerate(names))).items()}
        for option, count in {**counts, "id2label": len(id2label)}.items():
            if count not in (None, len(names)):
                raise ValueError(f"`{option}` says {count} classes, but there are {len(names)} {what}")
        if sorted(id2label) != list(range(len(names))):
            raise ValueError(f"`id2label` must name the classes 0 to {len(names) - 1}, got {self.id2label!r}")
        self.id2label = id2label
        self.label2id = self.label2id or {name: index for index, name in id2label.items()}

    @classmethod
    def check_options(cls, options: dict[str, Any], path: str | os.PathLike[str]) -> None:
        """Raise a `ValueError` if nothing says what the classes are."""
        if cls.classes_option not in options:
            raise ValueError(
                f"`{cls.classes_option}` is missing: {path} is a model without a task. Pass {cls.classes_example}"
            )

    def outdated_by(self, changed: set[str]) -> dict[str, Any]:
        """Return what does not hold any more for other classes."""
        outdated = super().outdated_by(changed)
        if self.classes_option in changed:
            outdated |= {"id2label": None, "label2id": None}
            if self.wordpieces == "first" and "wordpieces" in self.tokenizer_options():
                # Chosen for the former words, unless it reads all pieces.
                outdated["wordpieces"] = None
        return outdated

    @property
    def resolved_templates(self) -> list[ResolvedTemplate]:
        """`templates` as objects."""
        return [ResolvedTemplate.from_dict(template) for template in self.templates]

    @classmethod
    def _make(
        cls,
        language_model_config: PreTrainedConfig,
        tokenizer: PreTrainedTokenizerBase,
        max_length: int | None,
        **attributes: Any,
    ) -> Any:
        """Make a config with what it keeps of the tokenizer's rows: their length, special tokens and cut.

        Raises:
            ValueError: The tokenizer lacks a special token or is that of another model, or `max_length` is too long.
        """
        ids = {name: getattr(tokenizer, name) for name in ("cls_token_id", "sep_token_id", "pad_token_id")}
        for name, value in ids.items():
            if value is None:
                raise ValueError(f"`tokenizer` has no `{name}`, which the rows of this model need")
        # [CLS] a [SEP] b [SEP]: all but the last separator stand between the texts.
        separators = list(tokenizer("", "")["input_ids"]).count(ids["sep_token_id"]) - 1
        rows = {
            **ids,
            "max_length": longest_row(max_length, tokenizer, language_model_config),
            "pair_separators": max(separators, 1),
            "truncation_side": tokenizer.truncation_side,
        }
        made = cls(language_model_config=language_model_config, **{**rows, **attributes})
        made.check_vocabulary(made.resolved_templates)
        return made

    def check_vocabulary(self, templates: Sequence[ResolvedTemplate]) -> None:
        """Raise a `ValueError` if templates hold ids that the language model does not know."""
        highest = max(max(template.ids) for template in templates)
        if highest >= self.vocab_size:
            raise ValueError(
                f"`tokenizer` gives the id {highest}, but the language model knows {self.vocab_size} tokens: it is "
                "not the tokenizer of this discriminator or model"
            )


class TemplateModel(PretrainedHeadModel):
    """Base of the wrappers that put templates around texts.

    Attributes:
        splicer: The templates.
    """

    splicer: TemplateSplicer

    def __init__(self, config: TemplateConfig) -> None:
        super().__init__(config)
        if not getattr(config, config.classes_option):
            raise ValueError(
                f"the config has no {config.classes_option.replace('_', ' ')}: make it with "
                f"{type(config).__name__}.from_language_model_config, or the model with {type(self).__name__}."
                f"from_pretrained(language_model, {config.classes_option}=...)"
            )
        self.num_labels = config.num_labels

    def _make_splicer(
        self, templates: Sequence[ResolvedTemplate], label_token_index: Sequence[Sequence[int]] | None = None
    ) -> TemplateSplicer:
        return TemplateSplicer(templates, self._row_layout, label_token_index)

    @property
    def _row_layout(self) -> RowLayout:
        return RowLayout(*(getattr(self.config, name) for name in RowLayout._fields))

    def _read(
        self, rows: Mapping[str, Any], template_index: torch.Tensor | None, **further: Any
    ) -> tuple[Any, SplicedInputs]:
        """Splice the templates in and run the language model.

        Args:
            rows: What the tokenizer gave: `input_ids`, `attention_mask`, `token_type_ids`, which may be `None`.
            template_index: (batch,), see `TemplateSplicer`.
            **further: Arguments of the language model.

        Returns:
            Its outputs, and the batch that it has read.
        """
        spliced = self.splicer(**rows, template_index=template_index)
        if spliced.token_type_ids is not None:
            further["token_type_ids"] = spliced.token_type_ids
        if spliced.label_token_index is None:
            further["input_ids"] = spliced.input_ids
        else:
            own = self.label_tokens(spliced.label_token_index.clamp(min=0))
            words = self.get_input_embeddings()(spliced.input_ids)
            in_list = (spliced.label_token_index >= 0).unsqueeze(-1)
            further["inputs_embeds"] = torch.where(in_list, own.to(words.dtype), words)
        outputs = self.language_model(attention_mask=spliced.attention_mask, **further)
        return outputs, spliced

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> SequenceClassifierOutput:
        """Score the classes of a batch of texts.

        Args:
            input_ids: (batch, length), ordinary tokenizer output: single texts or pairs, padded on either side, with
                or without special tokens. Texts too long are cut here, as `TemplateSplicer` says.
            attention_mask: (batch, length), zero = padding. Default: see `TemplateSplicer.forward`.
            token_type_ids: (batch, length). Template words take the type of their neighbour in the text.
            position_ids: Refused: the splice moves tokens, so positions are counted inside.
            inputs_embeds: Refused: the splice needs token ids.
            labels: (batch,) class indices; where the class takes several labels a text, also (batch, classes) zeros
                and ones.
            **kwargs: Passed on to the language model. `output_attentions` and `output_hidden_states`, of the spliced
                rows, are the config's unless they are given.

        Returns:
            `loss` as described for the class, `logits` (batch, classes), `hidden_states`, `attentions`. With
            `return_dict=False` a tuple of those that exist.

        Raises:
            ValueError: An argument is refused, or labels have the wrong shape, type or range.
        """
        if input_ids is None or inputs_embeds is not None or position_ids is not None:
            raise ValueError(
                "the model splices its template into `input_ids`: pass these, and neither `inputs_embeds` nor "
                "`position_ids`"
            )
        if input_ids.dim() != 2 or input_ids.shape[0] == 0:
            raise ValueError(f"`input_ids` must be (batch, length) with a row or more, got {tuple(input_ids.shape)}")
        rows = {"input_ids": input_ids, "attention_mask": attention_mask, "token_type_ids": token_type_ids}
        return self._answer(rows, labels, **self._with_wanted_outputs(kwargs))

    def _answer(self, rows: dict[str, Any], labels: torch.Tensor | None, **further: Any) -> SequenceClassifierOutput:
        """Answer for what the tokenizer gave (see `_read`); every wrapper says how."""
        raise NotImplementedError
