"""DPT for multi-span question answering: the pretrained head reads every token of the paragraph (section 3)."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import nn
from transformers import AutoModelForTokenClassification, PreTrainedConfig, PreTrainedTokenizerBase
from transformers.modeling_outputs import TokenClassifierOutput
from transformers.utils import can_return_tuple

from .base import Check, PretrainedHeadConfig, PretrainedHeadModel, one_of
from .dpt_config import SCORE_FUNCTION

#: Label of tokens without a loss: question, special tokens, padding.
IGNORED = -100


class DPTForMultiSpanQuestionAnsweringConfig(PretrainedHeadConfig):
    """Configuration of `DPTForMultiSpanQuestionAnswering`.

    Attributes:
        threshold: Between 0 and 1, on the score sigmoid(z) that a token was replaced (paper, appendix A: 0.6). With
            `score_function="one_minus_sigmoid"` a token is part of the answer if its score is below, with "sigmoid"
            if it is above.
        score_function: `"one_minus_sigmoid"`: answers look original (paper). `"sigmoid"`: answers look replaced (the
            released code, and the ablation of Table 3).
        loss_reduction: `"mean"`: mean over all paragraph tokens of the batch. `"sum"`: sum over the paragraph tokens
            of a row, mean over rows (Eq. 3 with tokens in the place of classes).
    """

    model_type = "dpt_multi_span_question_answering"

    needs_tokenizer: ClassVar[bool] = False

    checks: ClassVar[Mapping[str, Check]] = {
        **PretrainedHeadConfig.checks,
        "threshold": (lambda value: 0 < value < 1, "between 0 and 1"),
        "score_function": SCORE_FUNCTION,
        "loss_reduction": one_of("mean", "sum"),
    }
    # a score and a label a token; transformers' models for questions point at one start and one end
    auto_class: ClassVar[Any] = AutoModelForTokenClassification

    threshold: float = 0.6
    score_function: str = "one_minus_sigmoid"
    loss_reduction: str = "mean"

    @classmethod
    def from_language_model_config(
        cls, language_model_config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase | None = None, **options: Any
    ) -> Any:
        """Make the config of the discriminator's; a tokenizer is not needed."""
        return super().from_language_model_config(language_model_config, tokenizer, **options)

    @property
    def logit_threshold(self) -> float:
        """`threshold` on the scale of the model's `logits`: a token whose logit is above is part of the answer."""
        replaced = math.log(self.threshold / (1 - self.threshold))
        return -replaced if self.score_function == "one_minus_sigmoid" else replaced

    @logit_threshold.setter
    def logit_threshold(self, value: float) -> None:
        replaced = -value if self.score_function == "one_minus_sigmoid" else value
        # the sigmoid, without an overflow
        threshold = 1 / (1 + math.exp(-replaced)) if replaced > 0 else math.exp(replaced) / (1 + math.exp(replaced))
        if not 0 < threshold < 1:
            raise ValueError(f"`logit_threshold` {value} is too far from 0 for a `threshold` between 0 and 1")
        self.threshold = threshold

    def outdated_by(self, changed: set[str]) -> dict[str, Any]:
        """Return the threshold where the score turns around, else what every config does."""
        turned = {"threshold": type(self).threshold} if "score_function" in changed else {}
        return super().outdated_by(changed) | turned


class DPTForMultiSpanQuestionAnswering(PretrainedHeadModel):
    """Finds the spans of a paragraph that answer a question by asking a discriminator which tokens look original.

    The model takes ordinary tokenizer output, `[CLS] question [SEP] paragraph [SEP]`, without a template, and reads
    the pretrained replaced-token head at every token (paper, section 3). There is no new parameter.

    `logits` (batch, length) are -z, where z is the head's output (high = replaced): a high logit says that the token
    is part of the answer. Only those of paragraph tokens mean anything. `config.logit_threshold` is the logit above
    which a token counts. `pipeline("multi-span-question-answering")` turns logits into spans, also for paragraphs
    longer than the model.

    Example:
        >>> model = DPTForMultiSpanQuestionAnswering.from_pretrained("google/electra-base-discriminator")
    """

    config_class = DPTForMultiSpanQuestionAnsweringConfig

    def __init__(self, config: DPTForMultiSpanQuestionAnsweringConfig) -> None:
        super().__init__(config)
        # Those without (Funnel) count positions relative to each other.
        self._takes_positions = "position_ids" in inspect.signature(self.language_model.forward).parameters
        self.post_init()

    @property
    def accepts_loss_kwargs(self) -> bool:
        """Whether the loss counts the labelled tokens of all accumulated batches; a mean over rows does not."""
        return super().accepts_loss_kwargs or self.config.loss_reduction == "mean"

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
        **kwargs: Any,
    ) -> TokenClassifierOutput:
        """Score the tokens of a batch of questions with their paragraphs.

        Args:
            input_ids: (batch, length), pairs of question and paragraph.
            attention_mask: (batch, length), zero = padding.
            token_type_ids: (batch, length).
            position_ids: (batch, length). Default: counted from each row's first visible token, so that padding on the
                left moves nothing.
            inputs_embeds: (batch, length, embedding size), in the place of `input_ids`.
            labels: (batch, length), integers: 1 = part of the answer, 0 = another token of the paragraph, -100 = not
                of the paragraph (`DataCollatorForTokenClassification` pads with it).
            num_items_in_batch: Number of labelled tokens in all batches of one optimizer step, as Trainer passes it;
                the mean is taken over as many. Default: those of this batch.
            **kwargs: Passed on to the discriminator. `output_attentions` and `output_hidden_states` are the config's
                unless they are given.

        Returns:
            `loss` (binary cross entropy over the labelled tokens, see `loss_reduction`), `logits` (batch, length),
            `hidden_states`, `attentions`. With `return_dict=False` a tuple of those that exist.

        Raises:
            ValueError: Labels have the wrong shape or other values.
        """
        config: Any = self.config
        if self._takes_positions and position_ids is None and attention_mask is not None and attention_mask.dim() == 2:
            columns = torch.arange(attention_mask.shape[1], device=attention_mask.device)
            position_ids = (columns - attention_mask.ne(0).long().argmax(1, keepdim=True)).clamp(min=0)
        if position_ids is not None:
            kwargs["position_ids"] = position_ids
        outputs = self.language_model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            inputs_embeds=inputs_embeds,
            **self._with_wanted_outputs(kwargs),
        )
        logits = outputs.logits if config.score_function == "sigmoid" else -outputs.logits
        loss = None
        if labels is not None:
            loss = span_loss(
                logits,
                labels,
                reduction=config.loss_reduction,
                num_items_in_batch=num_items_in_batch,
                label_smoothing=config.label_smoothing,
            )
            loss = self._checked(loss)
        return TokenClassifierOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )


def span_loss(
    logits: torch.Tensor,
    labels: torch.Tensor,
    *,
    reduction: str,
    num_items_in_batch: torch.Tensor | int | None = None,
    label_smoothing: float = 0.0,
) -> torch.Tensor:
    """Binary cross entropy of every paragraph token's score (Eq. 3, tokens in the place of classes).

    Args:
        logits: (batch, length), high = part of the answer.
        labels: (batch, length): 1, 0, or -100 for tokens without a loss.
        reduction: "mean" over the labelled tokens of the batch, or "sum" over a row's tokens and mean over rows.
        num_items_in_batch: The number to divide the sum by in the place of the labelled tokens; for "mean" only.
        label_smoothing: How far targets are drawn from 0 and 1 towards 1/2.

    Returns:
        A scalar, in single precision at least; zero without labelled tokens.

    Raises:
        ValueError: Labels have another shape than the logits, or other values. (Values are not checked inside
            `torch.compile`.)
    """
    if labels.shape != logits.shape:
        raise ValueError(
            f"`labels` must have one number a token, shape {tuple(logits.shape)}, got {tuple(labels.shape)}"
        )
    labelled = labels.ne(IGNORED)
    if not torch.compiler.is_compiling() and not bool((labels.eq(0) | labels.eq(1) | ~labelled).all()):
        raise ValueError("`labels` must be 1 (part of the answer), 0 (paragraph) or -100 (anything else)")
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    targets = labels.eq(1).to(logits.dtype) * (1 - label_smoothing) + label_smoothing / 2
    total = nn.functional.binary_cross_entropy_with_logits(
        logits, targets, weight=labelled.to(logits.dtype), reduction="sum"
    )
    if reduction == "sum":
        return total / logits.shape[0]
    count = labelled.sum().clamp(min=1) if num_items_in_batch is None else num_items_in_batch
    return total / count
