"""Text classification by a masked language model's own head: the word at a gap (Table 5 of P-tuning v2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from typing import Any, ClassVar

import torch
from torch import nn
from transformers import MODEL_FOR_MASKED_LM_MAPPING, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.modeling_outputs import SequenceClassifierOutput

from .base import HeadKind
from .loss import check_class_indices, multi_label_targets, told_problem_type
from .splice import Tables
from .template import DEFAULT_TEMPLATES, check_label_words, resolve_template
from .templated import TemplateConfig, TemplateModel


def _masked_language_model(config: PreTrainedConfig) -> type[PreTrainedModel]:
    try:
        return MODEL_FOR_MASKED_LM_MAPPING[type(config)]
    except KeyError:
        raise ValueError(
            f"a verbalizer needs a masked language model; {config.model_type!r} models have no class in "
            "transformers' AutoModelForMaskedLM"
        ) from None


class VerbalizerForSequenceClassificationConfig(TemplateConfig):
    """Configuration of `VerbalizerForSequenceClassification`, usually made by its `from_pretrained`.

    Attributes:
        label_words: One word a class, in the order of the logits' columns.
        label_token_ids: The token of every class: the first one of its word, as it stands in the template.
        template: Template string with `{mask}` and `{text}`, or `{text_a}` and `{text_b}`; the one label of the
            template in token ids is the mask.
        problem_type: `None` (told from the labels at the first labelled batch), `"single_label_classification"` or
            `"multi_label_classification"`.
    """

    model_type = "verbalizer_sequence_classification"
    head_kind: ClassVar[HeadKind] = HeadKind(
        "language-model head",
        _masked_language_model,
        "it was saved as an encoder, a discriminator or a task model. Use the checkpoint of a masked language model "
        "(AutoModelForMaskedLM)",
    )

    #: `wordpieces` too, which has no use here: a class has one token.
    from_tokenizer: ClassVar[frozenset[str]] = TemplateConfig.from_tokenizer | {"wordpieces"}

    label_words: list[str] = field(default_factory=list)
    label_token_ids: list[int] = field(default_factory=list)
    template: str = DEFAULT_TEMPLATES["mask"]

    def __post_init__(self, **kwargs: Any) -> None:
        """Derive the labels from the label words and check the choices."""
        if self.problem_type == "regression":
            raise ValueError("`problem_type` 'regression' makes no sense for a verbalizer, whose classes are words")
        if self.label_words:
            self._name_classes(self.label_words, "label words", num_labels=kwargs.pop("num_labels", None))
        super().__post_init__(**kwargs)

    @classmethod
    def from_language_model_config(
        cls,
        language_model_config: PreTrainedConfig,
        tokenizer: PreTrainedTokenizerBase,
        label_words: Sequence[str] | None = None,
        *,
        template: str = DEFAULT_TEMPLATES["mask"],
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
        words = check_label_words(label_words, tokenizer=tokenizer)  # type: ignore[arg-type]
        resolved = resolve_template(template, [tokenizer.mask_token], tokenizer, asked="mask")
        token_ids: list[int] = []
        for word in words:
            # The word's tokens are those that it has in the place of the mask.
            filled = resolve_template(template, [word], tokenizer, asked="mask")
            token_id = filled.ids[filled.label_spans[0][0]]
            if token_id in token_ids:
                raise ValueError(
                    f"`label_words`: {words[token_ids.index(token_id)]!r} and {word!r} begin with the same token "
                    f"{tokenizer.convert_ids_to_tokens(token_id)!r}, and a gap is filled by one token; "
                    "choose words that differ there, such as `label_words=` other than the names of the classes, "
                    "which `id2label` can keep"
                )
            token_ids.append(token_id)
        kwargs |= {"label_words": words, "label_token_ids": token_ids, "template": template}
        return cls._make(language_model_config, tokenizer, max_length, templates=[resolved.to_dict()], **kwargs)


class VerbalizerForSequenceClassification(TemplateModel):
    """Classifies texts by asking a masked language model which of the label words fits a gap.

    The model takes ordinary tokenizer output, splices a template with the mask token in (`"{text} It was {mask}."`),
    and reads the pretrained language-model head at the mask. There is no new parameter.

    `logits` (batch, classes) are the head's logits at the mask, those of the label words' first tokens, in the order
    of the label words. The loss is their cross entropy, mean over rows; for several labels a text the binary one.

    `from_pretrained` takes the arguments of `VerbalizerForSequenceClassificationConfig.from_language_model_config`
    and the config's attributes.

    Example:
        >>> model = VerbalizerForSequenceClassification.from_pretrained(
        ...     "FacebookAI/roberta-base", label_words=["terrible", "great"]
        ... )
    """

    config_class = VerbalizerForSequenceClassificationConfig
    _loss_is_softmax = True

    def __init__(self, config: VerbalizerForSequenceClassificationConfig) -> None:
        super().__init__(config)
        self.splicer = self._make_splicer(config.resolved_templates)
        self.words = Tables(token_ids=config.label_token_ids)
        self.post_init()

    def _answer(self, rows: dict[str, Any], labels: torch.Tensor | None, **further: Any) -> SequenceClassifierOutput:
        outputs, spliced = self._read(rows, None, **further)
        # A model spread over devices gives its output on another one than it takes its input.
        device = outputs.logits.device
        row = torch.arange(outputs.logits.shape[0], device=device)
        at_mask = outputs.logits[row, spliced.label_positions[:, 0].to(device)]
        logits = at_mask.index_select(1, self.words.token_ids.to(device))
        return SequenceClassifierOutput(
            loss=None if labels is None else self._loss(logits, labels),
            logits=logits,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )

    def _loss(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        kind, smoothing = told_problem_type(self.config.problem_type, labels), self.config.label_smoothing
        if kind == "multi_label_classification":
            targets = multi_label_targets(labels, logits) * (1 - smoothing) + smoothing / 2
            loss = nn.functional.binary_cross_entropy_with_logits(logits, targets)
        else:
            labels = check_class_indices(labels, len(logits), self.num_labels)
            loss = nn.functional.cross_entropy(logits, labels, label_smoothing=smoothing)
        self.config.problem_type = kind
        return self._checked(loss)
