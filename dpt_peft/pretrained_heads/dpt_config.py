"""Config of DPT's text classifier: the discriminator's own config, the label words and the template in token ids."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any, ClassVar

from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from .base import DiscriminatorWrapperConfig
from .label_lists import OWN_TASK, Task, resolve_task
from .template import DEFAULT_SEPARATOR, DEFAULT_TEMPLATE, WORDPIECES
from .template_presets import preset_options

SCORE_FUNCTIONS = ("one_minus_sigmoid", "sigmoid")
PROBLEM_TYPES = ("single_label_classification", "multi_label_classification")


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
        wordpieces: Which logit stands for a class of several wordpieces: that of the `"first"` one (paper, footnote
            1), their `"mean"`, or their `"max"` (the wordpiece that looks most original).
        classes_per_pass: Most classes in one template; a longer list takes several passes over the text. `None`: all.
        templates: The template of every pass in token ids, as `ResolvedTemplate.to_dict` writes it.
        tasks: Further tasks (`add_task`): their `name`, and what stands above but for `wordpieces`.
        untied_labels: Whether the wordpieces of the label list have trainable embeddings of their own, which start as
            copies (released code).
        label_bias: Whether a trainable bias per class, zero at the start, is added to the head's output (released
            code).
        calibration: For every class what is taken from its logit, or `None`.
        class_weights: Weight of every class in the loss, or `None`; see `dpt_loss`.
        label_smoothing: How far the loss draws its targets from 0 and 1 towards 1/2, at least 0 and less than 1.
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
        "wordpieces",
        "classes_per_pass",
        "max_length",
        "preset",
    )
    task_attributes: ClassVar[tuple[str, ...]] = (
        *DiscriminatorWrapperConfig.task_attributes,
        "calibration",
        "class_weights",
        "label_bias",
        "label_smoothing",
        "score_function",
        "untied_labels",
    )

    label_words: list[str] = field(default_factory=list)
    template: str = DEFAULT_TEMPLATE
    label_order: list[int] = field(default_factory=list)
    label_separator: str = DEFAULT_SEPARATOR
    wordpieces: str = "first"
    classes_per_pass: int | None = None
    templates: list[dict[str, Any]] = field(default_factory=list)
    # A list, because dictionaries are sorted when a config is written, and the order numbers the tasks.
    tasks: list[dict[str, Any]] = field(default_factory=list)
    untied_labels: bool = False
    label_bias: bool = False
    calibration: list[float] | None = None
    class_weights: list[float] | None = None
    label_smoothing: float = 0.0
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
        if self.wordpieces not in WORDPIECES:
            raise ValueError(f"`wordpieces` must be one of {WORDPIECES}, got {self.wordpieces!r}")
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"`label_smoothing` must be at least 0 and less than 1, got {self.label_smoothing}")
        self.calibration = None if self.calibration is None else [float(bias) for bias in self.calibration]
        self.class_weights = None if self.class_weights is None else [float(weight) for weight in self.class_weights]
        if self.class_weights is not None and not all(0 <= weight < float("inf") for weight in self.class_weights):
            raise ValueError(f"`class_weights` must be numbers that are not negative, got {self.class_weights}")
        if self.problem_type == "regression":
            raise ValueError(
                "`problem_type` 'regression' makes no sense for DPT, whose classes are words of a template"
            )
        if self.problem_type not in (None, *PROBLEM_TYPES):
            raise ValueError(f"`problem_type` must be None or one of {PROBLEM_TYPES}, got {self.problem_type!r}")
        if self.label_words:
            id2label = self.id2label or dict(enumerate(self.label_words))
            counts = {"num_labels": kwargs.pop("num_labels", None), "id2label": len(id2label)}
            for name in ("calibration", "class_weights"):
                counts[name] = None if getattr(self, name) is None else len(getattr(self, name))
            for name, count in counts.items():
                if count not in (None, len(self.label_words)):
                    raise ValueError(
                        f"`{name}` says {count} classes, but there are {len(self.label_words)} label words"
                    )
            self.id2label = id2label
            self.label2id = self.label2id or {label: int(index) for index, label in id2label.items()}
        super().__post_init__(**kwargs)

    @property
    def all_tasks(self) -> dict[str, Task]:
        """The wrapper's own task, named `"default"`, and those added to it."""
        own = {name: getattr(self, name) for name in ("label_words", "label_order", "classes_per_pass", "templates")}
        own |= {"name": OWN_TASK, "calibration": self.calibration}
        return {values["name"]: Task.from_config(values) for values in (own, *self.tasks)}

    @classmethod
    def check_options(cls, options: dict[str, Any], path: str | os.PathLike[str]) -> None:
        """Raise a `ValueError` if there are no label words."""
        if "label_words" not in options and "label_words" not in preset_options(options.get("preset", "paper")):
            raise ValueError(
                f"`label_words` is missing: {path} is a discriminator without a task. "
                "Pass one word a class, such as label_words=['negative', 'positive']"
            )

    def choices_to_keep(self, changed: set[str]) -> dict[str, Any]:
        """Arguments of `from_discriminator_config` that make this config again, but for those in `changed`.

        Raises:
            ValueError: The label list would change under label tokens that were trained for it.
        """
        template = {"label_words", "template", "label_order", "label_separator", "classes_per_pass", "wordpieces"}
        if self.untied_labels and changed & template:
            raise ValueError(
                f"`{min(changed & template)}` cannot change in a saved wrapper with `untied_labels`: its label tokens "
                "belong to the list they were trained in. Save the discriminator inside (model.discriminator) and "
                "start from that"
            )
        names = {*self.tokenizer_options, *self.task_attributes} - {"label_order", "preset"}
        names -= {"num_labels", "id2label", "label2id", "return_dict", "output_attentions", "output_hidden_states"}
        measured = self.tasks
        if changed & template:
            # What was measured with the former list.
            names -= {"calibration"}
        if changed & {"score_function", "wordpieces"}:
            names -= {"calibration"}
            measured = self.uncalibrated_tasks
        if "label_words" in changed:
            names -= {"class_weights", "classes_per_pass"}
        else:
            names |= {"label_order", "id2label"}
        return {name: getattr(self, name) for name in names - changed} | {"tasks": measured}

    @property
    def uncalibrated_tasks(self) -> list[dict[str, Any]]:
        """The further tasks without their calibration, which holds for one way to read the scores only."""
        return [{**task, "calibration": None} for task in self.tasks]

    def consequences(self, attributes: Mapping[str, Any]) -> dict[str, Any]:
        """A calibration was measured with one score function, and has another sign in the other."""
        if attributes.get("score_function", self.score_function) == self.score_function:
            return super().consequences(attributes)
        return super().consequences(attributes) | {"calibration": None, "tasks": self.uncalibrated_tasks}

    @classmethod
    def from_discriminator_config(
        cls,
        discriminator_config: PreTrainedConfig,
        tokenizer: PreTrainedTokenizerBase | None,
        label_words: Sequence[str] | None = None,
        *,
        preset: str = "paper",
        template: str | None = None,
        label_order: Sequence[int] | int | None = None,
        label_separator: str | None = None,
        wordpieces: str = "first",
        classes_per_pass: int | None = None,
        max_length: int | None = None,
        **kwargs: Any,
    ) -> DPTForSequenceClassificationConfig:
        """Turn label words and template into token ids, and everything into a config.

        Args:
            discriminator_config: Config of the discriminator.
            tokenizer: Its tokenizer.
            label_words: One word a class, at least two (one for multi-label classification).
            preset: A name from `dpt_peft.pretrained_heads.template_presets.PRESETS`, for what is not given.
            template: Template string with `{labels}` and `{text}`, or with `{labels}`, `{text_a}` and `{text_b}`;
                `{sep}` is the separator token.
            label_order: Order of the classes in the template: `None` (as in `label_words`), a seed, or a permutation.
            label_separator: What stands between two classes.
            wordpieces: Which wordpieces of a class are read: `"first"`, `"mean"` or `"max"`.
            classes_per_pass: Most classes in one template; a longer list takes several passes over the text.
            max_length: Longest row in tokens; default and upper bound: what model and tokenizer allow.
            **kwargs: Further attributes of the config, such as `problem_type` or `id2label`.

        Raises:
            TypeError, ValueError: Label words, template, order, length or tokenizer cannot work together. (Whether the
                template leaves room for the text is checked when the model is made.)
        """
        assert tokenizer is not None
        defaults = preset_options(preset)
        given = {"label_words": label_words, "template": template, "label_separator": label_separator}
        given = {**defaults, **{name: value for name, value in given.items() if value is not None}}
        attributes = {name: given.pop(name) for name in ("untied_labels", "label_bias") if name in given} | kwargs
        task = resolve_task(
            tokenizer,
            given.pop("label_words", None),  # type: ignore[arg-type]
            **given,  # type: ignore[arg-type]
            label_order=label_order,
            wordpieces=wordpieces,
            classes_per_pass=classes_per_pass,
            vocab_size=discriminator_config.vocab_size,
            minimum=1 if kwargs.get("problem_type") == "multi_label_classification" else 2,
        )
        return cls(
            discriminator_config=discriminator_config,
            wordpieces=wordpieces,
            max_length=cls.longest_row(max_length, discriminator_config, tokenizer),
            **task,
            **cls.special_token_ids(tokenizer),
            **attributes,
        )
