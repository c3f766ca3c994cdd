"""DPT as a task wrapper: text classification with the pretrained head of a discriminator (Yao et al. 2022)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedTokenizerBase, initialization as init
from transformers.modeling_outputs import SequenceClassifierOutput
from transformers.utils import can_return_tuple

from .base import DiscriminatorWrapper
from .discriminators import ReplacedTokenOutput
from .dpt_config import DPTForSequenceClassificationConfig
from .label_list_changes import add_task, calibrate
from .label_lists import OWN_TASK, TaskBank
from .loss import dpt_loss
from .scoring import class_scores
from .splice import TemplateSplicer
from .template_presets import preset_options


class DPTForSequenceClassification(DiscriminatorWrapper):
    """Classifies texts by asking a discriminator which of the class words in a template look original.

    The model takes ordinary tokenizer output, splices the template in behind the text (Eq. 1), and reads the
    pretrained replaced-token head at the first wordpiece of every class. There is no new parameter, unless
    `preset="released"` asks for the released code's label tokens and biases (`label_tokens`, `label_bias`).

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
    # New in a discriminator's checkpoint, and no accident: no report that something is missing.
    _keys_to_ignore_on_load_missing = [r"^label_tokens\.", r"^label_bias\."]  # noqa: RUF012

    def __init__(self, config: DPTForSequenceClassificationConfig) -> None:
        super().__init__(config)
        if not config.label_words:
            raise ValueError(
                f"the config has no label words: make it with {type(config).__name__}.from_discriminator_config, or "
                " the model with DPTForSequenceClassification.from_pretrained(discriminator, label_words=[...])"
            )
        self.num_labels = config.num_labels
        self._set_tasks()
        if config.untied_labels:
            words: Any = self.get_input_embeddings()
            self.label_tokens = nn.Embedding(len(self.task_bank.label_token_ids), words.weight.shape[1])
        if config.label_bias:
            # An embedding of size 1, which PEFT can keep per adapter (`modules_to_save`) and choose per row.
            self.label_bias = nn.Embedding(self.task_bank.num_classes, 1)
        self.post_init()

    def _set_tasks(self) -> None:
        """Make template bank and splicer of the config's tasks."""
        config = self.config
        bank = TaskBank(config.all_tasks)
        self.splicer = TemplateSplicer(
            bank.templates,
            max_length=config.max_length,
            cls_token_id=config.cls_token_id,
            sep_token_id=config.sep_token_id,
            pad_token_id=config.pad_token_id,
            label_tokens=bank.label_tokens if config.untied_labels else None,
        )
        self.task_bank = bank

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if self.config.label_bias and module is self.label_bias:
            init.zeros_(module.weight)
        words: Any = self.get_input_embeddings()
        if self.config.untied_labels and module is self.label_tokens and not words.weight.is_meta:
            # They start as what the words in the text are (released code). Where a checkpoint has them, transformers
            # leaves what it has loaded.
            ids = torch.tensor(self.task_bank.label_token_ids, device=words.weight.device)
            init.copy_(module.weight, words.weight[ids])

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
        wordpieces: str | None = None,
        classes_per_pass: int | None = None,
        preset: str | None = None,
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
                `{text_a}` and `{text_b}`; `{sep}` is the separator token.
            tokenizer: Tokenizer of the discriminator, or where to read it; default: the same place as the weights. A
                saved wrapper needs none unless label words, template, order or length change.
            label_order: Order of the classes in the template: `None` (as in `label_words`), a seed, or a permutation.
            label_separator: What stands between two classes, default `", "`.
            wordpieces: Which logit stands for a class of several wordpieces: that of the `"first"` one (the paper's,
                and the default), their `"mean"`, or their `"max"`.
            classes_per_pass: Most classes in one template; a list with more of them is split, and the text is read
                once for each part. Default: all in one.
            preset: A name from `template_presets.PRESETS` for what is not given: `"paper"` (default),
                `"released"` (with label tokens and a bias per class to train), or a data set's.
            max_length: Longest row in tokens, template included; default: what model and tokenizer allow.
            config: Config in place of the one read from the folder.
            **kwargs: As everywhere in transformers (`dtype`, `revision`, `cache_dir`, `attn_implementation`, ...);
                `problem_type`, `id2label`, `label2id`, `score_function`, `class_weights`, `label_smoothing`,
                `untied_labels`, `label_bias` go to the wrapper's config, other config attributes
                (`hidden_dropout_prob`, ...) to the discriminator's.

        Returns:
            The model, in evaluation mode; with `output_loading_info=True` the pair (model, loading info).

        Raises:
            TypeError, ValueError: Label words or template cannot work, or the checkpoint has no pretrained
                replaced-token head.
        """
        chosen = {
            "label_words": label_words,
            "template": template,
            "label_separator": label_separator,
            **{name: kwargs.pop(name, None) for name in ("untied_labels", "label_bias")},
        }
        defaults = {} if preset is None else preset_options(preset)
        chosen = {**defaults, **{name: value for name, value in chosen.items() if value is not None}}
        return super().from_pretrained(
            pretrained_model_name_or_path,
            *model_args,
            tokenizer=tokenizer,
            config=config,
            label_order=label_order,
            wordpieces=wordpieces,
            classes_per_pass=classes_per_pass,
            max_length=max_length,
            **chosen,
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
        task_names: Sequence[str] | torch.Tensor | None = None,
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
            task_names: For every row the name of its task (see `add_task`; `"default"` is the wrapper's own), or a
                tensor of indices into `model.task_names`. Default: all rows take the wrapper's own task.
            output_attentions: Whether to return the attentions over the spliced rows.
            output_hidden_states: Whether to return the hidden states of the spliced rows.
            **kwargs: Passed on to the discriminator.

        Returns:
            `loss` (Eq. 3: the binary cross entropy, summed over classes, mean over rows), `logits` (batch, classes),
            `hidden_states`, `attentions` (of the first pass, where there are several). With `return_dict=False` a
            tuple of those that exist. With `task_names`, `logits` are as wide as the largest task in the batch, and
            `-inf` where a row's own task has no such class.

        Raises:
            ValueError: An argument is refused, or labels have the wrong shape, type or range.
        """
        if input_ids is None or inputs_embeds is not None or position_ids is not None:
            raise ValueError(
                "DPT splices its template into `input_ids`: pass these, and neither `inputs_embeds` nor `position_ids`"
            )
        kwargs["output_attentions"] = self.config.output_attentions if output_attentions is None else output_attentions
        kwargs["output_hidden_states"] = (
            self.config.output_hidden_states if output_hidden_states is None else output_hidden_states
        )
        batch, width = input_ids.shape[0], self.task_bank.width(task_names)
        outputs, logits = None, None
        for template_index in self.task_bank.passes(task_names, batch):
            pass_outputs, columns = self._one_pass(input_ids, attention_mask, token_type_ids, template_index, kwargs)
            outputs = outputs or pass_outputs
            if template_index is None:
                logits = columns[:, :width]
            else:
                logits = columns.new_full((batch, width), -torch.inf) if logits is None else logits
                logits = self.task_bank.place(columns, template_index, logits)
        assert outputs is not None
        assert logits is not None
        return SequenceClassifierOutput(
            loss=None if labels is None else self._loss(logits, labels, own_task=task_names is None),
            logits=logits,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )

    def _one_pass(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None,
        token_type_ids: torch.Tensor | None,
        template_index: torch.Tensor | None,
        kwargs: dict[str, Any],
    ) -> tuple[ReplacedTokenOutput, torch.Tensor]:
        """The discriminator's outputs for one template a row, and the logits (batch, columns of the templates)."""
        spliced = self.splicer(input_ids, attention_mask, token_type_ids, template_index)
        if spliced.token_type_ids is not None:
            kwargs = {**kwargs, "token_type_ids": spliced.token_type_ids}
        if spliced.label_tokens is None:
            kwargs = {**kwargs, "input_ids": spliced.input_ids}
        else:
            own = self.label_tokens(spliced.label_tokens.clamp(min=0))
            words = self.get_input_embeddings()(spliced.input_ids)
            embeddings = torch.where((spliced.label_tokens >= 0).unsqueeze(-1), own.to(words.dtype), words)
            kwargs = {**kwargs, "inputs_embeds": embeddings}
        outputs = self.discriminator(attention_mask=spliced.attention_mask, return_dict=True, **kwargs)
        sign = 1 if self.config.score_function == "sigmoid" else -1
        logits = class_scores(sign * outputs.logits, spliced, self.config.wordpieces, self.splicer.num_wordpieces)
        if self.config.label_bias:
            rows = self.task_bank.class_rows(template_index).expand(logits.shape)
            logits = logits + sign * self.label_bias(rows).squeeze(-1)
        if self.task_bank.is_calibrated:
            logits = self.task_bank.calibrated(logits, template_index)
        return outputs, logits

    def _loss(self, logits: torch.Tensor, labels: torch.Tensor, *, own_task: bool) -> torch.Tensor:
        kind = self.config.problem_type
        if kind is None:
            kind = "multi_label_classification" if labels.is_floating_point() else "single_label_classification"
        weights = self.config.class_weights
        if weights is not None and not own_task:
            raise ValueError("`class_weights` are those of the wrapper's own task: train others without `task_names`")
        loss = dpt_loss(
            logits,
            labels,
            multi_label=kind == "multi_label_classification",
            class_weights=None if weights is None else torch.tensor(weights, device=logits.device),
            label_smoothing=self.config.label_smoothing,
        )
        # As transformers' own classifiers do: the first labelled batch tells, and the config remembers. One that was
        # refused tells nothing.
        self.config.problem_type = kind
        return loss

    @property
    def new_modules(self) -> list[str]:
        """Modules with parameters that are not pretrained: for PEFT's `modules_to_save`."""
        return [name for name in ("label_tokens", "label_bias") if hasattr(self, name)]

    @property
    def task_names(self) -> list[str]:
        """The tasks that `forward` knows, the wrapper's own (`"default"`) first."""
        return list(self.task_bank.names)

    def add_task(
        self,
        name: str,
        label_words: Sequence[str],
        tokenizer: PreTrainedTokenizerBase,
        *,
        template: str | None = None,
        label_order: Sequence[int] | int | None = None,
        label_separator: str | None = None,
        classes_per_pass: int | None = None,
    ) -> None:
        """Let the same backbone serve another task, row by row (`task_names` of `forward`).

        The task is part of the config: it is saved and loaded with the wrapper. With adapters, name a row's adapter
        and its task: `model(**rows, adapter_names=[...], task_names=[...])`.

        Args:
            name: Its name in `task_names`. An existing one is replaced.
            label_words: One word a class.
            tokenizer: Tokenizer of the discriminator.
            template: Default: the wrapper's own, as for all that follow.
            label_order: Order of the classes in the template: `None` (as in `label_words`), a seed, or a permutation.
            label_separator: What stands between two classes.
            classes_per_pass: Most classes in one template; default: all.

        Raises:
            TypeError, ValueError: The choices cannot work, the name is taken by the wrapper's own task, or an adapter
                holds the trainable label tokens, which cannot grow any more.
        """
        add_task(
            self,
            name,
            label_words,
            tokenizer,
            template=template or self.config.template,
            label_order=label_order,
            label_separator=self.config.label_separator if label_separator is None else label_separator,
            classes_per_pass=classes_per_pass,
        )

    def calibrate(
        self, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str] = ("", "N/A"), *, task: str = OWN_TASK
    ) -> torch.Tensor:
        """Take from every class what it gets without any content, for use without (or with little) training.

        A class word can look original because it is frequent, whatever the text. The mean logit of each class over
        content-free texts measures that, and is subtracted from then on (contextual calibration, Zhao et al. 2021, on
        the logits of Eq. 2): `sigmoid(logits) > 0.5` then says that the class looks more original behind this text
        than behind none. It is saved with the config.

        Args:
            tokenizer: Tokenizer of the discriminator.
            texts: Texts without content. None at all takes the calibration away.
            task: Which task is calibrated.

        Returns:
            (classes,): what is subtracted.

        Raises:
            ValueError: There is no such task.
        """
        return calibrate(self, tokenizer, texts, task)
