"""Config of DPT's text classifier: the discriminator's own config, the label words and the template in token ids."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import field
from typing import Any, ClassVar

from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from .template import (
    DEFAULT_SEPARATOR,
    DEFAULT_TEMPLATE,
    ResolvedTemplate,
    check_label_words,
    resolve_label_order,
    resolve_template,
)
from .wrapper import DiscriminatorWrapperConfig

SCORE_FUNCTIONS = ("one_minus_sigmoid", "sigmoid")


class DPTForSequenceClassificationConfig(DiscriminatorWrapperConfig):
    """Configuration of `DPTForSequenceClassification`.

    Usually made by `DPTForSequenceClassification.from_pretrained` or `from_discriminator_config`. It holds the
    template in token ids, so that a saved model is loaded without a tokenizer.

    Attributes:
        discriminator_config: Config of the discriminator.
        label_words: One word (or short phrase) a class, in the order of the logits' columns.
        template: Template string with `{labels}` and `{text}`, or `{text_a}` and `{text_b}` (paper, Eq. 1).
        label_order: Order in which the classes stand in the template, as indices into `label_words`.
        label_separator: What stands between two classes.
        templates: The template in token ids, as `ResolvedTemplate.to_dict` writes it.
        max_length: Longest row the discriminator sees, in tokens, template and special tokens included.
        cls_token_id: Id of the first token of every row.
        sep_token_id: Id of the last token of every row and between the texts of a pair.
        pad_token_id: Id that fills short rows.
        score_function: `"one_minus_sigmoid"` (paper, Eq. 2) or `"sigmoid"` (ablation, Table 3).
        problem_type: `None` (told from the labels at the first labelled batch), `"single_label_classification"` or
            `"multi_label_classification"`. `pipeline` applies softmax to single labels and sigmoid to multiple ones.
    """

    model_type = "dpt_sequence_classification"
    tokenizer_options: ClassVar[tuple[str, ...]] = (
        "label_words",
        "template",
        "label_order",
        "label_separator",
        "max_length",
    )
    task_attributes: ClassVar[tuple[str, ...]] = (*DiscriminatorWrapperConfig.task_attributes, "score_function")

    label_words: list[str] = field(default_factory=list)
    template: str = DEFAULT_TEMPLATE
    label_order: list[int] = field(default_factory=list)
    label_separator: str = DEFAULT_SEPARATOR
    templates: list[dict[str, Any]] = field(default_factory=list)
    # The numbers of the public ELECTRA checkpoints, as in transformers' ElectraConfig.
    max_length: int = 512
    cls_token_id: int = 101
    sep_token_id: int = 102
    pad_token_id: int = 0
    score_function: str = "one_minus_sigmoid"
    id2label: dict[int, str] | dict[str, str] | None = None
    label2id: dict[str, int] | dict[str, str] | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        """Derive the labels from the label words and check the choices."""
        if self.score_function not in SCORE_FUNCTIONS:
            raise ValueError(f"`score_function` must be one of {SCORE_FUNCTIONS}, got {self.score_function!r}")
        if self.problem_type == "regression":
            raise ValueError(
                "`problem_type` 'regression' makes no sense for DPT, whose classes are words of a template"
            )
        if self.label_words:
            id2label = self.id2label or dict(enumerate(self.label_words))
            for name, count in (("num_labels", kwargs.pop("num_labels", None)), ("id2label", len(id2label))):
                if count not in (None, len(self.label_words)):
                    raise ValueError(
                        f"`{name}` says {count} classes, but there are {len(self.label_words)} label words"
                    )
            self.id2label = id2label
            self.label2id = self.label2id or {label: int(index) for index, label in id2label.items()}
        super().__post_init__(**kwargs)

    @property
    def resolved_templates(self) -> list[ResolvedTemplate]:
        """`templates` as objects."""
        return [ResolvedTemplate.from_dict(template) for template in self.templates]

    @classmethod
    def check_options(cls, options: dict[str, Any], path: str | os.PathLike[str]) -> None:
        """Raise a `ValueError` if there are no label words."""
        if "label_words" not in options:
            raise ValueError(
                f"`label_words` is missing: {path} is a discriminator without a task. "
                "Pass one word a class, such as label_words=['negative', 'positive']"
            )

    def choices_to_keep(self, changed: set[str]) -> dict[str, Any]:
        """Arguments of `from_discriminator_config` that make this config again, but for those in `changed`."""
        names = {"label_words", "template", "label_separator", "max_length", "score_function", "problem_type"}
        if "label_words" not in changed:
            names |= {"label_order", "id2label"}
        return {name: getattr(self, name) for name in names - changed}

    @classmethod
    def from_discriminator_config(
        cls,
        discriminator_config: PreTrainedConfig,
        tokenizer: PreTrainedTokenizerBase | None,
        label_words: Sequence[str] = (),
        *,
        template: str = DEFAULT_TEMPLATE,
        label_order: Sequence[int] | int | None = None,
        label_separator: str = DEFAULT_SEPARATOR,
        max_length: int | None = None,
        **kwargs: Any,
    ) -> DPTForSequenceClassificationConfig:
        """Turn label words and template into token ids, and everything into a config.

        Args:
            discriminator_config: Config of the discriminator.
            tokenizer: Its tokenizer.
            label_words: One word a class, at least two (one for multi-label classification).
            template: Template string with `{labels}` and `{text}`, or with `{labels}`, `{text_a}` and `{text_b}`.
            label_order: Order of the classes in the template: `None` (as in `label_words`), a seed, or a permutation.
            label_separator: What stands between two classes.
            max_length: Longest row in tokens; default and upper bound: what model and tokenizer allow.
            **kwargs: Further attributes of the config, such as `problem_type` or `id2label`.

        Raises:
            TypeError, ValueError: Label words, template, order, length or tokenizer cannot work together. (Whether the
                template leaves room for the text is checked when the model is made.)
        """
        assert tokenizer is not None
        multi_label = kwargs.get("problem_type") == "multi_label_classification"
        words = check_label_words(label_words, minimum=1 if multi_label else 2)
        order = resolve_label_order(label_order, len(words))
        special_ids = cls.special_token_ids(tokenizer)
        resolved = resolve_template(template, words, tokenizer, order, label_separator=label_separator)
        highest = max(resolved.ids)
        if highest >= discriminator_config.vocab_size:
            raise ValueError(
                f"`tokenizer` gives the id {highest}, but the discriminator knows {discriminator_config.vocab_size} "
                "tokens: it is not the tokenizer of this discriminator"
            )
        return cls(
            discriminator_config=discriminator_config,
            label_words=words,
            template=template,
            label_order=order,
            label_separator=label_separator,
            templates=[resolved.to_dict()],
            max_length=cls.longest_row(max_length, discriminator_config, tokenizer),
            **special_ids,
            **kwargs,
        )
