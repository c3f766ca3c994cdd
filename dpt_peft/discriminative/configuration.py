"""Config of the DPT task wrapper: the discriminator's own config, the label words and the template in token ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from typing import Any

from transformers import AutoConfig, PreTrainedConfig, PreTrainedTokenizerBase
from transformers.configuration_utils import SubConfigSpec

from .template import DEFAULT_TEMPLATE, check_label_words, resolve_label_order, resolve_template

# What the token ids of a config are made from.
TEMPLATE_OPTIONS = ("label_words", "template", "label_order", "max_length")
SCORE_FUNCTIONS = ("one_minus_sigmoid", "sigmoid")


class DPTForSequenceClassificationConfig(PreTrainedConfig):
    """Configuration of `DPTForSequenceClassification`.

    Usually made by `DPTForSequenceClassification.from_pretrained` or `from_discriminator_config`. It holds the
    template in token ids, so that a saved model is loaded without a tokenizer.

    Attributes:
        discriminator_config: Config of the discriminator.
        label_words: One word (or short phrase) a class, in the order of the logits' columns.
        template: Template string with `{text}` and `{labels}` (paper, Eq. 1).
        label_order: Order in which the classes stand in the template, as indices into `label_words`.
        prefix_ids: Template ids before the text.
        suffix_ids: Template ids behind the text.
        label_spans: For every class the half-open range of its wordpieces in `prefix_ids + suffix_ids`.
        max_length: Longest row the discriminator sees, in tokens, template and special tokens included.
        cls_token_id: Id of the first token of every row.
        sep_token_id: Id of the last token of every row and between the texts of a pair.
        pad_token_id: Id that fills short rows.
        score_function: `"one_minus_sigmoid"` (paper, Eq. 2) or `"sigmoid"` (ablation, Table 3).
        problem_type: `None` (told from the labels at the first labelled batch), `"single_label_classification"` or
            `"multi_label_classification"`. `pipeline` applies softmax to single labels and sigmoid to multiple ones.
    """

    model_type = "dpt_sequence_classification"
    sub_configs_defaults = {"discriminator_config": SubConfigSpec(config_class=AutoConfig, model_type="electra")}  # noqa: RUF012

    discriminator_config: PreTrainedConfig | dict[str, Any] | None = None
    label_words: list[str] = field(default_factory=list)
    template: str = DEFAULT_TEMPLATE
    label_order: list[int] = field(default_factory=list)
    prefix_ids: list[int] = field(default_factory=list)
    suffix_ids: list[int] = field(default_factory=list)
    label_spans: list[list[int]] = field(default_factory=list)
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

    def get_text_config(self, decoder: bool | None = None, encoder: bool | None = None) -> PreTrainedConfig:
        """Return the discriminator's config, which knows the vocabulary, the sizes and the padding id."""
        return self.discriminator_config.get_text_config(decoder=decoder, encoder=encoder)  # type: ignore[union-attr]

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """Make a config from its dictionary, as in every transformers config.

        Label words, template, order and length cannot be changed here, because the token ids would stay what they
        were. Auto classes, which ask for unused arguments, hand them on to the `from_pretrained` of the model.

        Raises:
            ValueError: One of them is passed by somebody else.
        """
        choices = {name: kwargs.pop(name) for name in TEMPLATE_OPTIONS if name in kwargs}
        if choices and not kwargs.get("return_unused_kwargs"):
            raise ValueError(
                f"`{next(iter(choices))}` needs the tokenizer to take effect: pass it to "
                "DPTForSequenceClassification.from_pretrained, or make a config with from_discriminator_config"
            )
        made = super().from_dict(config_dict, **kwargs)
        return (made[0], {**made[1], **choices}) if kwargs.get("return_unused_kwargs") else made

    @classmethod
    def from_discriminator_config(
        cls,
        discriminator_config: PreTrainedConfig,
        tokenizer: PreTrainedTokenizerBase,
        label_words: Sequence[str],
        *,
        template: str = DEFAULT_TEMPLATE,
        label_order: Sequence[int] | int | None = None,
        max_length: int | None = None,
        **kwargs: Any,
    ) -> DPTForSequenceClassificationConfig:
        """Turn label words and template into token ids, and everything into a config.

        Args:
            discriminator_config: Config of the discriminator.
            tokenizer: Its tokenizer.
            label_words: One word a class, at least two (one for multi-label classification).
            template: Template string with `{text}` and `{labels}`.
            label_order: Order of the classes in the template: `None` (as in `label_words`), a seed, or a permutation.
            max_length: Longest row in tokens; default and upper bound: what model and tokenizer allow.
            **kwargs: Further attributes of the config, such as `problem_type` or `id2label`.

        Raises:
            TypeError, ValueError: Label words, template, order, length or tokenizer cannot work together. (Whether the
                template leaves room for the text is checked when the model is made.)
        """
        multi_label = kwargs.get("problem_type") == "multi_label_classification"
        words = check_label_words(label_words, minimum=1 if multi_label else 2)
        order = resolve_label_order(label_order, len(words))
        special_ids = {}
        for name in ("cls_token_id", "sep_token_id", "pad_token_id"):
            special_ids[name] = getattr(tokenizer, name)
            if special_ids[name] is None:
                raise ValueError(f"`tokenizer` has no `{name}`, which the rows of a discriminator need")
        resolved = resolve_template(template, words, tokenizer, order)
        highest = max(resolved.prefix_ids + resolved.suffix_ids)
        if highest >= discriminator_config.vocab_size:
            raise ValueError(
                f"`tokenizer` gives the id {highest}, but the discriminator knows {discriminator_config.vocab_size} "
                "tokens: it is not the tokenizer of this discriminator"
            )
        max_length = _check_max_length(max_length, discriminator_config, tokenizer)
        return cls(
            discriminator_config=discriminator_config,
            label_words=words,
            template=template,
            label_order=order,
            prefix_ids=list(resolved.prefix_ids),
            suffix_ids=list(resolved.suffix_ids),
            label_spans=[list(span) for span in resolved.label_spans],
            max_length=max_length,
            **special_ids,
            **kwargs,
        )


def _check_max_length(
    max_length: int | None, discriminator_config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase
) -> int:
    limit = int(
        min(getattr(discriminator_config, "max_position_embeddings", float("inf")), tokenizer.model_max_length)
    )
    if max_length is None:
        return limit
    if not 0 < max_length <= limit:
        raise ValueError(
            f"`max_length` must be between 1 and {limit}, the most that this discriminator reads, got {max_length}"
        )
    return max_length
