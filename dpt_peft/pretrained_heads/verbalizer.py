"""Text classification by a masked language model's own head: the word at a gap (Table 5 of P-tuning v2)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForMaskedLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    initialization as init,
)
from transformers.modeling_outputs import SequenceClassifierOutput
from transformers.utils import can_return_tuple

from dpt_peft.pretrained_heads.loading import HUB_ARGUMENTS
from dpt_peft.pretrained_heads.splice import TemplateSplicer

from .verbalizer_config import VerbalizerForSequenceClassificationConfig

_LABELS = ("id2label", "label2id", "problem_type")


class VerbalizerForSequenceClassification(PreTrainedModel):
    """Classifies texts by asking a masked language model which of the label words fits a gap.

    The model takes ordinary tokenizer output, splices a template with the mask token in (`"{text} It was {mask}."`),
    and reads the pretrained language-model head at the mask. There is no new parameter.

    `logits` (batch, classes) are the head's logits at the mask, those of the label words' first tokens, in the order
    of the label words.

    Example:
        >>> model = VerbalizerForSequenceClassification.from_pretrained(
        ...     "FacebookAI/roberta-base", label_words=["terrible", "great"]
        ... )

    Attributes:
        language_model: The masked language model, as its own class in transformers.
    """

    config_class = VerbalizerForSequenceClassificationConfig
    base_model_prefix = "language_model"
    supports_gradient_checkpointing = True
    # What the language model inside cannot do, it refuses itself.
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    # The loss is a mean over the rows of one batch: Trainer divides by the accumulation steps.
    accepts_loss_kwargs = False

    def __init__(
        self,
        config: VerbalizerForSequenceClassificationConfig,
        language_model: PreTrainedModel | None = None,
    ) -> None:
        super().__init__(config)
        if not config.label_words:
            raise ValueError(
                "the config has no label words: make the model with "
                f"{type(self).__name__}.from_pretrained(language_model, label_words=[...])"
            )
        self.num_labels = config.num_labels
        if language_model is None:
            language_model = AutoModelForMaskedLM.from_config(config.language_model_config)
        self.language_model = language_model
        self.splicer = TemplateSplicer(
            [config.resolved_template],
            max_length=config.max_length,
            cls_token_id=config.cls_token_id,
            sep_token_id=config.sep_token_id,
            pad_token_id=config.pad_token_id,
        )
        self.label_token_ids = nn.Buffer(torch.tensor(config.label_token_ids), persistent=False)
        self.post_init()

    def reset_buffers(self) -> None:
        """Fill the buffer again after transformers has made the model on the meta device."""
        init.copy_(self.label_token_ids, torch.tensor(self.config.label_token_ids))

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if (reset := getattr(module, "reset_buffers", None)) is not None:
            reset()

    def get_input_embeddings(self) -> nn.Module:
        """Return the language model's word embeddings."""
        return self.language_model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the language model's word embeddings."""
        self.language_model.set_input_embeddings(value)

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike[str],
        *model_args: Any,
        label_words: Sequence[str] | None = None,
        template: str | None = None,
        tokenizer: PreTrainedTokenizerBase | str | os.PathLike[str] | None = None,
        max_length: int | None = None,
        config: PreTrainedConfig | str | os.PathLike[str] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Load a masked language model and put the wrapper around it, or load a saved wrapper.

        Args:
            pretrained_model_name_or_path: Folder or Hub id of a masked language model, or of a saved wrapper.
            *model_args: Passed on to `__init__` (saved wrappers).
            label_words: One word a class. Needed for a language model; given for a saved wrapper, they replace its
                own.
            template: Template string with `{mask}` and `{text}`, or with `{mask}`, `{text_a}` and `{text_b}`; default
                `"{text} It was {mask}."`.
            tokenizer: Tokenizer of the language model, or where to read it; default: the same place as the weights. A
                saved wrapper needs none unless label words, template or length change.
            max_length: Longest row in tokens, template included; default: what model and tokenizer allow.
            config: Config in place of the one read from the folder.
            **kwargs: As everywhere in transformers (`dtype`, `revision`, `attn_implementation`, ...); `id2label`,
                `label2id` and `problem_type` go to the wrapper's config, the rest to the language model.

        Returns:
            The model, in evaluation mode; with `output_loading_info=True` the pair (model, loading info).

        Raises:
            TypeError, ValueError: Label words or template cannot work, or the checkpoint has no weights of a
                language-model head.
        """
        hub = {name: kwargs[name] for name in HUB_ARGUMENTS if name in kwargs}
        if not isinstance(config, PreTrainedConfig):
            config = AutoConfig.from_pretrained(config or pretrained_model_name_or_path, **hub)
        saved = config if isinstance(config, cls.config_class) else None
        changes = {"label_words": label_words, "template": template, "max_length": max_length}
        changes = {name: value for name, value in changes.items() if value is not None}
        labels = {name: kwargs.pop(name) for name in _LABELS if name in kwargs}
        if saved is None and label_words is None:
            raise ValueError(
                f"`label_words` is missing: {pretrained_model_name_or_path} is a model without a task. "
                "Pass one word a class, such as label_words=['terrible', 'great']"
            )

        def complete(language_model_config: Any) -> VerbalizerForSequenceClassificationConfig:
            kept: dict[str, Any] = {}
            if saved is not None:
                names = ["label_words", "template", "max_length", "problem_type"]
                names += [] if "label_words" in changes else ["id2label", "label2id"]
                kept = {name: getattr(saved, name) for name in names}
            place: Any = pretrained_model_name_or_path if tokenizer is None else tokenizer
            where = hub if tokenizer is None else {}
            if not isinstance(place, PreTrainedTokenizerBase):
                place = AutoTokenizer.from_pretrained(place, **where)
            return cls.config_class.from_language_model_config(
                language_model_config, place, **{**kept, **changes, **labels}
            )

        if saved is not None:
            if changes:
                saved = complete(saved.language_model_config)
            elif labels:
                if "id2label" in labels:
                    labels.setdefault("label2id", None)
                saved = type(saved).from_dict({**saved.to_dict(), **labels})
            return super().from_pretrained(pretrained_model_name_or_path, *model_args, config=saved, **kwargs)
        output_loading_info = kwargs.pop("output_loading_info", False)
        language_model, info = AutoModelForMaskedLM.from_pretrained(
            pretrained_model_name_or_path, config=config, output_loading_info=True, **kwargs
        )
        backbone = f"{language_model.base_model_prefix}."
        missing = sorted(key for key in info["missing_keys"] if not key.startswith(backbone))
        if missing:
            raise ValueError(
                f"{pretrained_model_name_or_path} has no pretrained language-model head ({', '.join(missing)} are not "
                "in the checkpoint): it was saved as an encoder, a discriminator or a task model. Use the checkpoint "
                "of a masked language model (AutoModelForMaskedLM)"
            )
        # A copy: a config sets its sub-configs' attention kernel, and the language model has chosen its own already.
        made = complete(deepcopy(language_model.config))
        made.dtype = language_model.dtype
        model = cls(made, language_model).eval()
        made.name_or_path = model.name_or_path = str(pretrained_model_name_or_path)
        # The language model may have been loaded onto an accelerator.
        model.splicer.to(language_model.device)
        model.label_token_ids = model.label_token_ids.to(language_model.device)
        return (model, info) if output_loading_info else model

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
            **kwargs: Passed on to the language model.

        Returns:
            `loss` (cross entropy over the classes, mean over rows; for several labels binary cross entropy), `logits`
            (batch, classes), `hidden_states`, `attentions`. With `return_dict=False` a tuple of those that exist.

        Raises:
            ValueError: An argument is refused.
        """
        if input_ids is None or inputs_embeds is not None or position_ids is not None:
            raise ValueError(
                "a verbalizer splices its template into `input_ids`: pass these, and neither `inputs_embeds` nor "
                "`position_ids`"
            )
        spliced = self.splicer(input_ids, attention_mask, token_type_ids)
        if spliced.token_type_ids is not None:
            kwargs["token_type_ids"] = spliced.token_type_ids
        outputs = self.language_model(
            input_ids=spliced.input_ids,
            attention_mask=spliced.attention_mask,
            output_attentions=self.config.output_attentions if output_attentions is None else output_attentions,
            output_hidden_states=(
                self.config.output_hidden_states if output_hidden_states is None else output_hidden_states
            ),
            return_dict=True,
            **kwargs,
        )
        # A model spread over devices gives its output on another one than it takes its input.
        device = outputs.logits.device
        rows = torch.arange(input_ids.shape[0], device=device)
        at_mask = outputs.logits[rows, spliced.label_positions[:, 0].to(device)]
        logits = at_mask.index_select(1, self.label_token_ids.to(device))
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
        if self.config.problem_type == "multi_label_classification":
            return nn.functional.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype))
        return nn.functional.cross_entropy(logits, labels)
