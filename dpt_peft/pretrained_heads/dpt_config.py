"""The configuration of DPT for text classification: class words and template, and how its scores are read."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import field
from typing import Any, ClassVar

from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from .base import Check, PretrainedHeadConfig, one_of
from .label_lists import OWN_LIST, LabelList, resolve_label_list
from .short_list import check_any_can_be_first
from .template import DEFAULT_SEPARATOR, DEFAULT_TEMPLATE, preset_options
from .templated import TemplateConfig

SCORE_FUNCTION = one_of("one_minus_sigmoid", "sigmoid")
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
        short_list: With prototypes: how many classes stand in the template of a text, those whose prototypes are
            nearest to it. `None`, or as many as there are: all.
        prototype_scale: With prototypes: factor of the cosine of text and prototype, 1 / temperature.
        pair_weight: With prototypes: weight, in the loss, of the pairs of texts in a batch (`prototypes.pair_loss`).
        template_weight: With prototypes: factor of the discriminator's own logits in the sum of both.
        problem_type: `None` (told from the labels at the first labelled batch), `"single_label_classification"` or
            `"multi_label_classification"`. `pipeline` applies softmax to single labels and sigmoid to multiple ones.
    """

    model_type = "dpt_sequence_classification"
    checks: ClassVar[Mapping[str, Check]] = {**TemplateConfig.checks, "score_function": SCORE_FUNCTION}
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
    short_list: int | None = None
    prototype_scale: float = 10.0
    pair_weight: float = 5.0
    template_weight: float = 0.1
    score_function: str = "one_minus_sigmoid"

    def __post_init__(self, **kwargs: Any) -> None:
        """Derive the labels from the label words and check the choices."""
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
        if self.prototypes and (self.label_lists or self.calibration):
            raise ValueError("`prototypes` are for the wrapper's own label list alone, and without `calibrate`")
        if self.short_list is not None:
            self._check_short_list()
        if self.label_words:
            lists = {"calibration": self.calibration, "class_weights": self.class_weights}
            counts = {name: None if values is None else len(values) for name, values in lists.items()}
            self._name_classes(self.label_words, "label words", num_labels=kwargs.pop("num_labels", None), **counts)
        super().__post_init__(**kwargs)

    def _check_short_list(self) -> None:
        if not isinstance(self.short_list, int) or self.short_list < 2:
            raise ValueError(
                f"`short_list` must be a number of classes from 2, or None for all, got {self.short_list!r}"
            )
        if not self.prototypes:
            raise ValueError("`short_list` needs `prototypes=True`: the nearest prototypes are the list")
        for name in ("classes_per_pass", "untied_labels", "label_bias", "class_weights"):
            if getattr(self, name):
                raise ValueError(f"`{name}` has no use with `short_list`, whose classes differ from text to text")
        if self.label_order not in ([], sorted(self.label_order)):
            raise ValueError("`label_order` has no use with `short_list`, where classes stand by number")

    @property
    def all_label_lists(self) -> dict[str, LabelList]:
        """The wrapper's own label list, named `"default"`, and those added to it."""
        own = {name: getattr(self, name) for name in ("label_words", "label_order", "classes_per_pass", "templates")}
        own |= {"name": OWN_LIST, "calibration": self.calibration}
        return {values["name"]: LabelList.from_config(values) for values in (own, *self.label_lists)}

    def differences_from(self, other: PretrainedHeadConfig, *, but: Collection[str] = ()) -> list[str]:
        """As for every wrapper, but the other's label list may also be one of those that were added to this."""
        if isinstance(other, type(self)) and other.label_words:
            its, ours = other.all_label_lists[OWN_LIST], self.all_label_lists.values()
            if (its.templates, its.classes) in [(own.templates, own.classes) for own in ours]:
                but = {*but, *_LIST_OPTIONS}
        return super().differences_from(other, but=but)

    @classmethod
    def tokenizer_options(cls) -> set[str]:
        """Return those of every wrapper, and `preset`, which stands for some of them."""
        return super().tokenizer_options() | {"preset"}

    @classmethod
    def expand_arguments(cls, arguments: dict[str, Any], path: Any, tokenizer: Any) -> dict[str, Any]:
        """Replace `preset` by what it stands for, where that is not given."""
        preset = arguments.pop("preset", None)
        given = {name: value for name, value in arguments.items() if value is not None}
        return arguments if preset is None else {**arguments, **preset_options(preset), **given}

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
        if self.prototypes and "label_words" in changed:
            raise ValueError(
                "`label_words` cannot change in a saved wrapper with `prototypes`, which belong to its classes. Save "
                "the discriminator inside (model.language_model) and start from that"
            )
        if of_list or "score_function" in changed:
            outdated["calibration"] = None
        if changed & {"score_function", "wordpieces"}:
            outdated["label_lists"] = [{**own, "calibration": None} for own in self.label_lists]
        if "label_words" in changed:
            outdated |= dict.fromkeys(("label_order", "class_weights", "classes_per_pass"))
        return outdated

    @classmethod
    def from_language_model_config(
        cls,
        language_model_config: PreTrainedConfig,
        tokenizer: PreTrainedTokenizerBase,
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
        made: DPTForSequenceClassificationConfig = cls._make(
            language_model_config, tokenizer, max_length, **resolved, **kwargs
        )
        if made.short_list is not None and made.short_list < len(made.label_words):
            check_any_can_be_first(template, made.label_words, tokenizer, label_separator, made.wordpieces)
        return made
