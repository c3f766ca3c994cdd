"""DPT: text classification with the pretrained head of a discriminator (Yao et al. 2022)."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any, ClassVar

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedTokenizerBase, initialization as init
from transformers.modeling_outputs import SequenceClassifierOutput

from .label_lists import OWN_LIST, LabelList, LabelListBank, resolve_label_list
from .loss import NO_CLASS, dpt_loss, told_problem_type
from .prototypes import PrototypeModel, mean_state
from .splice import class_scores
from .template import DEFAULT_SEPARATOR, DEFAULT_TEMPLATE
from .template_presets import preset_options
from .templated import TemplateConfig

SCORE_FUNCTIONS = ("one_minus_sigmoid", "sigmoid")
PROBLEM_TYPES = ("single_label_classification", "multi_label_classification")
# What the label list is made of.
_LIST_OPTIONS = ("label_words", "template", "label_order", "label_separator", "wordpieces", "classes_per_pass")


class DPTForSequenceClassificationConfig(TemplateConfig):
    """Configuration of `DPTForSequenceClassification`, usually made by its `from_pretrained`.

    Attributes:
        label_words: One word (or short phrase) a class, in the order of the logits' columns.
        template: Template string with `{labels}` and `{text}`, or `{text_a}` and `{text_b}` (paper, Eq. 1).
        label_order: Order in which the classes stand in the template, as indices into `label_words`.
        label_separator: What stands between two classes.
        wordpieces: Which logit stands for a class of several wordpieces: that of the `"first"` one (paper, footnote
            1), their `"mean"`, or their `"max"` (the wordpiece that looks most original).
        classes_per_pass: Most classes in one template; a longer list takes several passes over the text. `None`: all.
        label_lists: Further label lists (`add_label_list`): their `name`, and what stands above.
        untied_labels: Whether the wordpieces of the label list have trainable embeddings of their own, which start as
            copies (released code).
        label_bias: Whether a trainable bias per class, zero at the start, is added to the head's output (released
            code).
        calibration: For every class what is taken from its logit, or `None`.
        class_weights: Weight of every class in the loss, or `None`; see `dpt_loss`.
        score_function: `"one_minus_sigmoid"` (paper, Eq. 2) or `"sigmoid"` (ablation, Table 3).
        prototypes: Whether the mean state of a text is compared with a trainable prototype of every class as well
            (`DPTForSequenceClassification.set_prototypes`). It is part of neither paper.
        prototype_scale: With prototypes: factor of the cosine of text and prototype, 1 / temperature.
        template_weight: With prototypes: factor of the discriminator's own logits in the sum of both.
        problem_type: `None` (told from the labels at the first labelled batch), `"single_label_classification"` or
            `"multi_label_classification"`. `pipeline` applies softmax to single labels and sigmoid to multiple ones.
    """

    model_type = "dpt_sequence_classification"
    tokenizer_options: ClassVar[tuple[str, ...]] = (*_LIST_OPTIONS, "max_length", "preset")
    own_attributes: ClassVar[tuple[str, ...]] = (
        *TemplateConfig.own_attributes,
        "calibration",
        "class_weights",
        "label_bias",
        "prototype_scale",
        "prototypes",
        "score_function",
        "template_weight",
        "untied_labels",
    )

    label_words: list[str] = field(default_factory=list)
    label_order: list[int] = field(default_factory=list)
    label_separator: str = DEFAULT_SEPARATOR
    classes_per_pass: int | None = None
    # A list, because dictionaries are sorted when a config is written, and the order numbers the lists.
    label_lists: list[dict[str, Any]] = field(default_factory=list)
    untied_labels: bool = False
    label_bias: bool = False
    calibration: list[float] | None = None
    class_weights: list[float] | None = None
    prototypes: bool = False
    prototype_scale: float = 10.0
    template_weight: float = 0.2
    score_function: str = "one_minus_sigmoid"

    def __post_init__(self, **kwargs: Any) -> None:
        """Derive the labels from the label words and check the choices."""
        if self.score_function not in SCORE_FUNCTIONS:
            raise ValueError(f"`score_function` must be one of {SCORE_FUNCTIONS}, got {self.score_function!r}")
        self.calibration = None if self.calibration is None else [float(bias) for bias in self.calibration]
        self.class_weights = None if self.class_weights is None else [float(weight) for weight in self.class_weights]
        if self.class_weights is not None and not all(0 <= weight < float("inf") for weight in self.class_weights):
            raise ValueError(f"`class_weights` must be numbers that are not negative, got {self.class_weights}")
        if self.problem_type not in (None, *PROBLEM_TYPES):
            raise ValueError(
                f"`problem_type` must be None or one of {PROBLEM_TYPES}, got {self.problem_type!r}: the classes are "
                "words of a template, so there is no regression"
            )
        if self.prototypes and self.problem_type == "multi_label_classification":
            raise ValueError("`prototypes` are for one class a text: leave them out where a text has several labels")
        if self.label_words:
            lists = {"calibration": self.calibration, "class_weights": self.class_weights}
            counts = {name: None if values is None else len(values) for name, values in lists.items()}
            self._name_classes(self.label_words, "label words", num_labels=kwargs.pop("num_labels", None), **counts)
        super().__post_init__(**kwargs)

    @property
    def all_label_lists(self) -> dict[str, LabelList]:
        """The wrapper's own label list, named `"default"`, and those added to it."""
        own = {name: getattr(self, name) for name in ("label_words", "label_order", "classes_per_pass", "templates")}
        own |= {"name": OWN_LIST, "calibration": self.calibration}
        return {values["name"]: LabelList.from_config(values) for values in (own, *self.label_lists)}

    @classmethod
    def expand_arguments(cls, arguments: dict[str, Any], path: Any, tokenizer: Any) -> dict[str, Any]:
        """Replace `preset` by what it stands for, where that is not given."""
        preset = arguments.pop("preset", None)
        given = {name: value for name, value in arguments.items() if value is not None}
        return arguments if preset is None else {**arguments, **preset_options(preset), **given}

    @classmethod
    def check_options(cls, options: dict[str, Any], path: str | os.PathLike[str]) -> None:
        """Raise a `ValueError` if there are no label words."""
        if "label_words" not in options:
            raise ValueError(
                f"`label_words` is missing: {path} is a discriminator without a task. "
                "Pass one word a class, such as label_words=['negative', 'positive']"
            )

    def outdated_by(self, changed: set[str]) -> dict[str, Any]:
        """Return what does not hold any more: measured with other words or scores, or for other classes.

        Raises:
            ValueError: The label list would change under label tokens that were trained for it.
        """
        outdated = super().outdated_by(changed)
        of_list = changed & {*_LIST_OPTIONS}
        if self.untied_labels and of_list:
            raise ValueError(
                f"`{min(of_list)}` cannot change in a saved wrapper with `untied_labels`: its label tokens belong to "
                "the list they were trained in. Save the discriminator inside (model.language_model) and start from "
                "that"
            )
        if of_list or "score_function" in changed:
            outdated["calibration"] = None
        if changed & {"score_function", "wordpieces"}:
            outdated["label_lists"] = [{**own, "calibration": None} for own in self.label_lists]
        if "label_words" in changed:
            outdated |= dict.fromkeys(("label_order", "id2label", "label2id", "class_weights", "classes_per_pass"))
            # Chosen for the former words, unless it reads all pieces.
            outdated |= {"wordpieces": None} if self.wordpieces == "first" else {}
        return outdated

    def kept_options(self) -> dict[str, Any]:
        """Return the arguments that make this config again, with the further label lists."""
        return super().kept_options() | {"label_lists": self.label_lists}

    @classmethod
    def from_language_model_config(
        cls,
        language_model_config: PreTrainedConfig,
        tokenizer: PreTrainedTokenizerBase | None,
        label_words: Sequence[str] | None = None,
        *,
        template: str = DEFAULT_TEMPLATE,
        label_order: Sequence[int] | int | None = None,
        label_separator: str = DEFAULT_SEPARATOR,
        wordpieces: str | None = None,
        classes_per_pass: int | None = None,
        max_length: int | None = None,
        **kwargs: Any,
    ) -> DPTForSequenceClassificationConfig:
        """Turn label words and template into token ids, and everything into a config.

        Args:
            language_model_config: Config of the discriminator.
            tokenizer: Its tokenizer.
            label_words: One word a class, at least two (one for multi-label classification).
            template: Template string with `{labels}` and `{text}`, or with `{labels}`, `{text_a}` and `{text_b}`;
                `{sep}` is the separator token.
            label_order: Order of the classes in the template: `None` (as in `label_words`), a seed, or a permutation.
            label_separator: What stands between two classes.
            wordpieces: Which wordpieces of a class are read: `"first"`, `"mean"` or `"max"`. Default: `"first"` as in
                the paper, unless label words begin with the same token; then `"mean"`.
            classes_per_pass: Most classes in one template; a longer list takes several passes over the text.
            max_length: Longest row in tokens; default and upper bound: what model and tokenizer allow.
            **kwargs: Further attributes of the config, such as `problem_type` or `id2label`.

        Raises:
            TypeError, ValueError: Label words, template, order, length or tokenizer cannot work together. (Whether the
                template leaves room for the text is checked when the model is made.)
        """
        assert tokenizer is not None
        resolved = resolve_label_list(
            tokenizer,
            label_words,  # type: ignore[arg-type]
            template=template,
            label_order=label_order,
            label_separator=label_separator,
            wordpieces=wordpieces,
            classes_per_pass=classes_per_pass,
            minimum=1 if kwargs.get("problem_type") == "multi_label_classification" else 2,
        )
        return cls._make(language_model_config, tokenizer, max_length, **resolved, **kwargs)


class DPTForSequenceClassification(PrototypeModel):
    """Classifies texts by asking a discriminator which of the class words in a template look original.

    The model takes ordinary tokenizer output, splices the template in behind the text (Eq. 1), and reads the
    pretrained replaced-token head at the first wordpiece of every class. There is no new parameter, unless
    `preset="released"` asks for the released code's label tokens and biases (`label_tokens`, `label_bias`).

    `logits` (batch, classes) are -z, where z is the head's output (high = replaced): `sigmoid(logits)` is the score
    of Eq. 2, the highest logit is the class, with labels or without. `pipeline("text-classification")` shows their
    softmax; pass `function_to_apply="sigmoid"` for the score of Eq. 2 (the default where `problem_type` is
    `"multi_label_classification"`). Columns follow the label words, whatever the order in the template.

    With `prototypes=True` the same pass also gives the mean state of the text, which is compared with a prototype of
    every class: `logits` = `template_weight` * (-z) + `prototype_scale` * cosine, and the loss is Eq. 3 of -z plus the
    cross entropy of the scaled cosines. Start the prototypes from labelled texts with `set_prototypes`. Where the
    discriminator was made from a sentence encoder, this knows topics better than the template alone.

    `from_pretrained` takes the arguments of `DPTForSequenceClassificationConfig.from_language_model_config`, the
    config's attributes, and `preset`, a name from `template_presets.PRESETS` for what is not given.

    Example:
        >>> model = DPTForSequenceClassification.from_pretrained(
        ...     "google/electra-base-discriminator", label_words=["negative", "positive"]
        ... )
    """

    config_class = DPTForSequenceClassificationConfig
    # New in a discriminator's checkpoint, and no accident: no report that something is missing.
    _keys_to_ignore_on_load_missing = [r"^label_tokens\.", r"^label_bias\.", r"^class_prototypes\."]  # noqa: RUF012

    def __init__(self, config: DPTForSequenceClassificationConfig) -> None:
        super().__init__(config)
        if not config.label_words:
            raise ValueError(
                f"the config has no label words: make it with {type(config).__name__}.from_language_model_config, or "
                "the model with DPTForSequenceClassification.from_pretrained(discriminator, label_words=[...])"
            )
        self.num_labels = config.num_labels
        self._set_label_lists()
        if config.untied_labels:
            words: Any = self.get_input_embeddings()
            self.label_tokens = nn.Embedding(len(self.label_bank.label_token_ids), words.weight.shape[1])
        if config.label_bias:
            # An embedding of size 1, which PEFT can keep per adapter (`modules_to_save`) and choose per row.
            self.label_bias = nn.Embedding(self.label_bank.num_classes, 1)
        if config.prototypes:
            self._make_prototypes()
        self.post_init()

    def _set_label_lists(self) -> None:
        """Make template bank and splicer of the config's label lists."""
        bank = LabelListBank(self.config.all_label_lists)
        splicer = self._make_splicer(bank.templates, bank.label_token_index if self.config.untied_labels else None)
        self.label_bank, self.splicer = bank.to(self.device), splicer.to(self.device)

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if self.config.label_bias and module is self.label_bias:
            init.zeros_(module.weight)
        words: Any = self.get_input_embeddings()
        if self.config.untied_labels and module is self.label_tokens and not words.weight.is_meta:
            # They start as what the words in the text are (released code). Where a checkpoint has them, transformers
            # leaves what it has loaded.
            ids = torch.tensor(self.label_bank.label_token_ids, device=words.weight.device)
            init.copy_(module.weight, words.weight[ids])

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        list_names: Sequence[str] | torch.Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        **kwargs: Any,
    ) -> SequenceClassifierOutput:
        """Score the classes of a batch of texts.

        Args:
            input_ids: This and all that is not named here: see `TemplateModel.forward`.
            attention_mask: As there.
            token_type_ids: As there.
            position_ids: Refused.
            inputs_embeds: Refused.
            labels: (batch,) class indices, or (batch, classes) zeros and ones for multi-label classification.
            list_names: For every row the name of its label list (see `add_label_list`; `"default"` is the wrapper's
                own), or a tensor of indices into `model.list_names`. Default: all rows take the wrapper's own.
            output_attentions: As there.
            output_hidden_states: As there.
            **kwargs: Passed on to the discriminator.

        Returns:
            `loss` (Eq. 3: the binary cross entropy, summed over classes, mean over rows), `logits` (batch, classes),
            `hidden_states`, `attentions` (of the first pass, where there are several). With `list_names`, `logits` are
            as wide as the largest list in the batch, and `NO_CLASS` (-16384) where a row's own list has no such class.
        """
        return super().forward(
            input_ids,
            attention_mask,
            token_type_ids,
            position_ids,
            inputs_embeds,
            labels,
            output_attentions,
            output_hidden_states,
            list_names=list_names,
            **kwargs,
        )

    def _answer(
        self,
        rows: dict[str, Any],
        labels: torch.Tensor | None,
        list_names: Sequence[str] | torch.Tensor | None = None,
        **further: Any,
    ) -> SequenceClassifierOutput:
        batch, width = rows["input_ids"].shape[0], self.label_bank.width(list_names)
        if self.config.prototypes and list_names is not None:
            raise ValueError("`list_names` are for a model without `prototypes`, which belong to its own label list")
        outputs, logits, states = None, None, further.get("output_hidden_states")
        further["output_hidden_states"] = states or self.config.prototypes
        text_state = None
        for template_index in self.label_bank.passes(list_names, batch):
            pass_outputs, columns, text_mask = self._one_pass(rows, template_index, further)
            outputs = outputs or pass_outputs
            if self.config.prototypes and text_state is None:
                text_state = mean_state(pass_outputs.hidden_states[-1], text_mask)
            if template_index is None:
                logits = columns[:, :width]
            else:
                logits = columns.new_full((batch, width), NO_CLASS) if logits is None else logits
                logits = self.label_bank.place(columns, template_index, logits)
        assert outputs is not None
        assert logits is not None
        loss = None if labels is None else self._loss(logits, labels, own_list=list_names is None)
        if text_state is not None:
            similar = self.prototype_logits(text_state)
            if labels is not None and loss is not None:
                loss = self._checked(loss + self.prototype_loss(similar, labels))
            logits = self.config.template_weight * logits + similar
        return SequenceClassifierOutput(
            loss=loss,
            logits=logits,
            hidden_states=outputs.hidden_states if states else None,
            attentions=outputs.attentions,
        )

    def text_states(self, rows: Mapping[str, Any]) -> torch.Tensor:
        """Return the mean state of every text in its (first) template, (batch, width)."""
        rows = {name: rows.get(name) for name in ("input_ids", "attention_mask", "token_type_ids")}
        first = self.label_bank.passes(None, len(rows["input_ids"]))[0]
        outputs, spliced = self._read(rows, first, output_hidden_states=True, return_dict=True)
        return mean_state(outputs.hidden_states[-1], spliced.text_mask)

    def _one_pass(
        self, rows: dict[str, Any], template_index: torch.Tensor | None, kwargs: dict[str, Any]
    ) -> tuple[Any, torch.Tensor, torch.Tensor]:
        """Read one template a row.

        Returns:
            The discriminator's outputs, the logits (batch, columns of the templates), and where the texts stand.
        """
        outputs, spliced = self._read(rows, template_index, **kwargs)
        sign = 1 if self.config.score_function == "sigmoid" else -1
        logits = class_scores(sign * outputs.logits, spliced, self.config.wordpieces, self.splicer.longest_label)
        classes = self.label_bank.class_rows(template_index)
        if self.config.label_bias:
            logits = logits + sign * self.label_bias(classes.expand(logits.shape)).squeeze(-1)
        if self.label_bank.is_calibrated:
            logits = logits - self.label_bank.calibration.to(logits.dtype)[classes]
        return outputs, logits, spliced.text_mask

    def _loss(self, logits: torch.Tensor, labels: torch.Tensor, *, own_list: bool) -> torch.Tensor:
        kind, weights = told_problem_type(self.config.problem_type, labels), self.config.class_weights
        if weights is not None and not own_list:
            raise ValueError(
                "`class_weights` are those of the wrapper's own label list: train others without `list_names`"
            )
        loss = dpt_loss(
            logits,
            labels,
            multi_label=kind == "multi_label_classification",
            class_weights=None if weights is None else torch.tensor(weights, device=logits.device),
            label_smoothing=self.config.label_smoothing,
        )
        # The first labelled batch tells, and the config remembers. One that was refused tells nothing.
        self.config.problem_type = kind
        return self._checked(loss)

    @property
    def new_modules(self) -> list[str]:
        """Modules with parameters that are not pretrained: for PEFT's `modules_to_save`."""
        return [*super().new_modules, *(name for name in ("label_tokens", "label_bias") if hasattr(self, name))]

    @property
    def list_names(self) -> list[str]:
        """The label lists that `forward` knows, the wrapper's own (`"default"`) first."""
        return list(self.label_bank.names)

    def add_label_list(
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
        """Let the same discriminator serve another task, row by row (`list_names` of `forward`).

        The list is part of the config: it is saved and loaded with the wrapper. With adapters, name a row's adapter
        and its label list: `model(**rows, adapter_names=[...], list_names=[...])`.

        Args:
            name: Its name in `list_names`. An existing one is replaced.
            label_words: One word a class.
            tokenizer: Tokenizer of the discriminator.
            template: Default: the wrapper's own, as for all that follow.
            label_order: Order of the classes in the template: `None` (as in `label_words`), a seed, or a permutation.
            label_separator: What stands between two classes.
            classes_per_pass: Most classes in one template; default: all.

        Raises:
            TypeError, ValueError: The choices cannot work, the name is that of the wrapper's own list, or an adapter
                holds the trainable label tokens, which cannot grow any more.
        """
        config, new = self.config, self.new_modules
        if name == OWN_LIST:
            raise ValueError(f"`name` {OWN_LIST!r} is the wrapper's own list; load the wrapper with other label words")
        for part in new:
            if not isinstance(getattr(self, part), nn.Embedding) or name in self.list_names:
                raise ValueError(
                    f"a label list with trainable `{part}` must be new, and be added before get_peft_model, which "
                    "copies them"
                )
        resolved = resolve_label_list(
            tokenizer,
            label_words,
            template=template or config.template,
            label_order=label_order,
            label_separator=config.label_separator if label_separator is None else label_separator,
            wordpieces=config.wordpieces,
            classes_per_pass=classes_per_pass,
            minimum=1 if config.problem_type == "multi_label_classification" else 2,
        )
        # All lists are read in the same way, which stands once in the config.
        del resolved["wordpieces"]
        former, tokens = config.label_lists, len(self.label_bank.label_token_ids)
        config.label_lists = [other for other in former if other["name"] != name] + [{"name": name, **resolved}]
        try:
            config.check_vocabulary(LabelListBank(config.all_label_lists).templates)
            self._set_label_lists()
        except ValueError:
            config.label_lists = former
            raise
        if "label_bias" in new:
            self.label_bias = _grown(self.label_bias, self.label_bank.num_classes)
        if "label_tokens" in new:
            ids = self.label_bank.label_token_ids
            self.label_tokens = _grown(self.label_tokens, len(ids))
            words: Any = self.get_input_embeddings()
            with torch.no_grad():
                self.label_tokens.weight[tokens:] = words.weight[ids[tokens:]]

    def calibrate(
        self, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str] = ("", "N/A"), *, label_list: str = OWN_LIST
    ) -> torch.Tensor:
        """Take from every class what it gets without any content, for use without (or with little) training.

        A class word can look original because it is frequent, whatever the text. The mean logit of each class over
        content-free texts measures that, and is subtracted from then on (contextual calibration, Zhao et al. 2021, on
        the logits of Eq. 2): `sigmoid(logits) > 0.5` then says that the class looks more original behind this text
        than behind none. It is saved with the config.

        Args:
            tokenizer: Tokenizer of the discriminator.
            texts: Texts without content. None at all takes the calibration away.
            label_list: Which label list is calibrated.

        Returns:
            (classes,): what is subtracted.

        Raises:
            ValueError: There is no such label list.
        """
        if label_list not in self.list_names:
            known = ", ".join(map(repr, self.list_names))
            raise ValueError(f"`label_list` {label_list!r} does not exist; there are {known}")
        if isinstance(texts, str):
            raise TypeError(f"`texts` must be a list of texts, got the string {texts!r}")
        self._set_calibration(label_list, None)
        if not texts:
            return torch.zeros(self.config.all_label_lists[label_list].num_classes)
        rows = tokenizer(list(texts), padding=True, truncation=True, return_tensors="pt").to(self.device)
        training = self.training
        self.eval()
        with torch.no_grad():
            logits = self(**rows, list_names=[label_list] * len(texts)).logits
        self.train(training)
        means = logits.float().mean(0)
        self._set_calibration(label_list, means.tolist())
        return means

    def _set_calibration(self, label_list: str, values: list[float] | None) -> None:
        if label_list == OWN_LIST:
            self.config.calibration = values
        else:
            self.config.label_lists = [
                {**own, "calibration": values} if own["name"] == label_list else own for own in self.config.label_lists
            ]
        self._set_label_lists()


def _grown(table: nn.Embedding, rows: int) -> nn.Embedding:
    """The same table with further rows of zeros."""
    weight = table.weight
    grown = nn.Embedding(rows, table.embedding_dim, device=weight.device, dtype=weight.dtype)
    with torch.no_grad():
        grown.weight.zero_()
        grown.weight[: len(weight)] = weight
    grown.weight.requires_grad_(weight.requires_grad)
    return grown
