"""Config of the verbalizer: the language model's own config, and label words and template in token ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from typing import Any

from transformers import AutoConfig, PreTrainedConfig, PreTrainedTokenizerBase
from transformers.configuration_utils import SubConfigSpec

from dpt_peft.pretrained_heads.base import DiscriminatorWrapperConfig
from dpt_peft.pretrained_heads.template import (
    DEFAULT_TEMPLATES,
    ResolvedTemplate,
    check_label_words,
    resolve_template,
)


class VerbalizerForSequenceClassificationConfig(PreTrainedConfig):
    """Configuration of `VerbalizerForSequenceClassification`.

    Usually made by `VerbalizerForSequenceClassification.from_pretrained`. It holds label words and template in token
    ids, so that a saved model is loaded without a tokenizer.

    Attributes:
        language_model_config: Config of the masked language model.
        label_words: One word a class, in the order of the logits' columns.
        label_token_ids: The token of every class: the first one of its word, as it stands in the template.
        template: Template string with `{mask}` and `{text}`, or `{text_a}` and `{text_b}`.
        templates: The template in token ids, as `ResolvedTemplate.to_dict` writes it; its one label is the mask.
        max_length: Longest row the language model sees, in tokens, template and special tokens included.
        cls_token_id: Id of the first token of every row.
        sep_token_id: Id of the last token of every row and between the texts of a pair.
        pad_token_id: Id that fills short rows.
        problem_type: `None` (told from the labels at the first labelled batch), `"single_label_classification"` or
            `"multi_label_classification"`.
    """

    model_type = "verbalizer_sequence_classification"
    sub_configs_defaults = {"language_model_config": SubConfigSpec(config_class=AutoConfig, model_type="bert")}  # noqa: RUF012

    language_model_config: PreTrainedConfig | dict[str, Any] | None = None
    label_words: list[str] = field(default_factory=list)
    label_token_ids: list[int] = field(default_factory=list)
    template: str = DEFAULT_TEMPLATES["mask"]
    templates: list[dict[str, Any]] = field(default_factory=list)
    # The numbers of the public BERT checkpoints, as in transformers' BertConfig.
    max_length: int = 512
    cls_token_id: int = 101
    sep_token_id: int = 102
    pad_token_id: int = 0
    id2label: dict[int, str] | dict[str, str] | None = None
    label2id: dict[str, int] | dict[str, str] | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        """Derive the labels from the label words and check the choices."""
        if self.problem_type == "regression":
            raise ValueError("`problem_type` 'regression' makes no sense for a verbalizer, whose classes are words")
        if self.label_words:
            names = self.id2label or dict(enumerate(self.label_words))
            id2label = {int(index): name for index, name in names.items()}
            if sorted(id2label) != list(range(len(self.label_words))):
                raise ValueError(
                    f"`id2label` must name the classes 0 to {len(self.label_words) - 1}, one for every label word, "
                    f"got {self.id2label!r}"
                )
            self.id2label = id2label
            self.label2id = self.label2id or {name: index for index, name in id2label.items()}
        super().__post_init__(**kwargs)

    def get_text_config(self, decoder: bool | None = None, encoder: bool | None = None) -> PreTrainedConfig:
        """Return the language model's config, which knows the vocabulary, the sizes and the padding id."""
        return self.language_model_config.get_text_config(decoder=decoder, encoder=encoder)  # type: ignore[union-attr]

    @property
    def resolved_template(self) -> ResolvedTemplate:
        """The template as an object."""
        return ResolvedTemplate.from_dict(self.templates[0])

    @classmethod
    def from_language_model_config(
        cls,
        language_model_config: PreTrainedConfig,
        tokenizer: PreTrainedTokenizerBase,
        label_words: Sequence[str],
        *,
        template: str | None = None,
        max_length: int | None = None,
        **kwargs: Any,
    ) -> VerbalizerForSequenceClassificationConfig:
        """Turn label words and template into token ids, and everything into a config.

        Args:
            language_model_config: Config of the masked language model.
            tokenizer: Its tokenizer.
            label_words: One word a class, at least two.
            template: Template string with `{mask}` and `{text}`, or with `{mask}`, `{text_a}` and `{text_b}`.
            max_length: Longest row in tokens; default and upper bound: what model and tokenizer allow.
            **kwargs: Further attributes of the config, such as `id2label`.

        Raises:
            TypeError, ValueError: Label words, template, length or tokenizer cannot work together; the first tokens
                of two label words are the same.
        """
        if tokenizer.mask_token is None:
            raise ValueError("`tokenizer` has no mask token, which a verbalizer is read at")
        template = DEFAULT_TEMPLATES["mask"] if template is None else template
        words = check_label_words(label_words)
        resolved = resolve_template(template, [tokenizer.mask_token], tokenizer, asked="mask")
        token_ids: list[int] = []
        for word in words:
            # The word's tokens are those that it has in the place of the mask.
            filled = resolve_template(template, [word], tokenizer, asked="mask")
            token_id = filled.ids[filled.label_spans[0][0]]
            if token_id in token_ids:
                raise ValueError(
                    f"`label_words`: {words[token_ids.index(token_id)]!r} and {word!r} begin with the same token "
                    f"{tokenizer.convert_ids_to_tokens(token_id)!r}, and a class is read at its first token; "
                    "choose words that differ there"
                )
            token_ids.append(token_id)
        return cls(
            language_model_config=language_model_config,
            label_words=words,
            label_token_ids=token_ids,
            template=template,
            templates=[resolved.to_dict()],
            max_length=DiscriminatorWrapperConfig.longest_row(max_length, language_model_config, tokenizer),
            **DiscriminatorWrapperConfig.special_token_ids(tokenizer),
            **kwargs,
        )
