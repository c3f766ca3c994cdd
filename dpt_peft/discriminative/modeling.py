"""DPT as a task wrapper: text classification with the pretrained head of a discriminator (Yao et al. 2022)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import torch
from transformers import PreTrainedConfig, PreTrainedTokenizerBase
from transformers.modeling_outputs import SequenceClassifierOutput
from transformers.utils import can_return_tuple

from .configuration import DPTForSequenceClassificationConfig
from .loss import dpt_loss
from .splice import TemplateSplicer
from .wrapper import DiscriminatorWrapper


class DPTForSequenceClassification(DiscriminatorWrapper):
    """Classifies texts by asking a discriminator which of the class words in a template look original.

    The model takes ordinary tokenizer output, splices the template in behind the text (Eq. 1), and reads the
    pretrained replaced-token head at the first wordpiece of every class. There is no new parameter.

    `logits` (batch, classes) are -z, where z is the head's output (high = replaced): `sigmoid(logits)` is the score
    of Eq. 2, the highest logit is the class, with labels or without. `pipeline("text-classification")` shows their
    softmax; pass `function_to_apply="sigmoid"` for the score of Eq. 2 (the default where `problem_type` is
    `"multi_label_classification"`). Columns follow the label words, whatever the order in the template.

    Example:
        >>> model = DPTForSequenceClassification.from_pretrained(
        ...     "google/electra-base-discriminator", label_words=["negative", "positive"]
        ... )
    """

    config_class = DPTForSequenceClassificationConfig

    def __init__(self, config: DPTForSequenceClassificationConfig) -> None:
        super().__init__(config)
        if not config.label_words:
            raise ValueError(
                f"the config has no label words: make it with {type(config).__name__}.from_discriminator_config, or "
                " the model with DPTForSequenceClassification.from_pretrained(discriminator, label_words=[...])"
            )
        self.num_labels = config.num_labels
        self.splicer = TemplateSplicer(
            config.resolved_templates,
            max_length=config.max_length,
            cls_token_id=config.cls_token_id,
            sep_token_id=config.sep_token_id,
            pad_token_id=config.pad_token_id,
        )
        self.post_init()

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike[str],
        *model_args: Any,
        label_words: Sequence[str] | None = None,
        template: str | None = None,
        tokenizer: PreTrainedTokenizerBase | str | os.PathLike[str] | None = None,
        label_order: Sequence[int] | int | None = None,
        label_separator: str | None = None,
        max_length: int | None = None,
        config: PreTrainedConfig | str | os.PathLike[str] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Load a plain discriminator and put the wrapper around it, or load a saved wrapper.

        Args:
            pretrained_model_name_or_path: Folder or Hub id of a discriminator, or of a saved wrapper.
            *model_args: Passed on to `__init__`.
            label_words: One word a class. Needed for a discriminator; given for a saved wrapper, they replace its own.
            template: Template string, default `"{text} Class: {labels}."`. It may name the texts of a pair apart, as
                `{text_a}` and `{text_b}`.
            tokenizer: Tokenizer of the discriminator, or where to read it; default: the same place as the weights. A
                saved wrapper needs none unless label words, template, order or length change.
            label_order: Order of the classes in the template: `None` (as in `label_words`), a seed, or a permutation.
            label_separator: What stands between two classes, default `", "`.
            max_length: Longest row in tokens, template included; default: what model and tokenizer allow.
            config: Config in place of the one read from the folder.
            **kwargs: As everywhere in transformers (`dtype`, `revision`, `cache_dir`, `attn_implementation`, ...);
                `problem_type`, `id2label`, `label2id`, `score_function` go to the wrapper's config, other config
                attributes (`hidden_dropout_prob`, ...) to the discriminator's.

        Returns:
            The model, in evaluation mode; with `output_loading_info=True` the pair (model, loading info).

        Raises:
            TypeError, ValueError: Label words or template cannot work, or the checkpoint has no pretrained
                replaced-token head.
        """
        return super().from_pretrained(
            pretrained_model_name_or_path,
            *model_args,
            tokenizer=tokenizer,
            config=config,
            label_words=label_words,
            template=template,
            label_order=label_order,
            label_separator=label_separator,
            max_length=max_length,
            **kwargs,
        )

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        **kwargs: Any,
    ) -> SequenceClassifierOutput:
        """Score the classes of a batch of texts.

        Args:
            input_ids: (batch, length), ordinary tokenizer output: single texts or pairs, padded on either side, with
                or without special tokens. Texts too long are cut here, as `TemplateSplicer` says.
            attention_mask: (batch, length), zero = padding. Default: all but the padding id is visible.
            token_type_ids: (batch, length). Template words take the type of their neighbour in the text.
            position_ids: Refused: the splice moves tokens, so positions are counted inside.
            inputs_embeds: Refused: the splice needs token ids.
            labels: (batch,) class indices, or (batch, classes) zeros and ones for multi-label classification.
            output_attentions: Whether to return the attentions over the spliced rows.
            output_hidden_states: Whether to return the hidden states of the spliced rows.
            **kwargs: Passed on to the discriminator.

        Returns:
            `loss` (Eq. 3: the binary cross entropy, summed over classes, mean over rows), `logits` (batch, classes),
            `hidden_states`, `attentions`. With `return_dict=False` a tuple of those that exist.

        Raises:
            ValueError: An argument is refused, or labels have the wrong shape, type or range.
        """
        if input_ids is None or inputs_embeds is not None or position_ids is not None:
            raise ValueError(
                "DPT splices its template into `input_ids`: pass these, and neither `inputs_embeds` nor `position_ids`"
            )
        spliced = self.splicer(input_ids, attention_mask, token_type_ids)
        if spliced.token_type_ids is not None:
            kwargs["token_type_ids"] = spliced.token_type_ids
        outputs = self.discriminator(
            input_ids=spliced.input_ids,
            attention_mask=spliced.attention_mask,
            output_attentions=self.config.output_attentions if output_attentions is None else output_attentions,
            output_hidden_states=(
                self.config.output_hidden_states if output_hidden_states is None else output_hidden_states
            ),
            return_dict=True,
            **kwargs,
        )
        replaced = outputs.logits.gather(1, spliced.label_positions)
        logits = replaced if self.config.score_function == "sigmoid" else -replaced
        return SequenceClassifierOutput(
            loss=None if labels is None else self._loss(logits, labels),
            logits=logits,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )

    def _loss(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        if self.config.problem_type is None:
            # As transformers' own classifiers do: the first labelled batch tells, and the config remembers.
            kind = "multi_label_classification" if labels.is_floating_point() else "single_label_classification"
            self.config.problem_type = kind
        return dpt_loss(logits, labels, multi_label=self.config.problem_type == "multi_label_classification")
