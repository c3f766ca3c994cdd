"""What the tuning methods need to know of a task family: its models under a new head and under a pretrained one."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any

from peft import TaskType
from transformers import (
    AutoModelForMultipleChoice,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
    PreTrainedModel,
)

from dpt_peft.pretrained_heads import VerbalizerForSequenceClassification
from dpt_peft.pretrained_heads.base import HUB_ARGUMENTS
from dpt_peft.pretrained_heads.dpt import DPTForSequenceClassification
from dpt_peft.pretrained_heads.dpt_multi_span import DPTForMultiSpanQuestionAnswering
from dpt_peft.pretrained_heads.template_presets import preset_options

#: Which pretrained part of a model answers: a new head, a discriminator's own, a masked language model's own.
NEW_HEAD, DISCRIMINATOR, LANGUAGE_MODEL = "new head", "discriminator", "language model"


@dataclass(frozen=True)
class TaskFamily:
    """A task family's models. A new family is one more instance.

    Attributes:
        name: As it stands in messages and model cards; the Hub's pipeline tag.
        task_type: PEFT's name for it; decides which modules are trained and saved as the head.
        loaders: For each kind of base model that the family has a function
            `(model_name_or_path, label_names, options, **kwargs) -> model`.
        prompts_as_tokens: Whether PEFT's prompt learning, whose prompts stand before the text as further tokens,
            works: with labels by position (tokens, answers) it would need those moved along.
    """

    name: str
    task_type: TaskType
    loaders: dict[str, Callable[..., PreTrainedModel]]
    prompts_as_tokens: bool = False


class _HoldBackLoadReport(logging.Filter):
    """Keeps the "newly initialized" report of one load, so that it can be shown if it says more than expected."""

    def __init__(self) -> None:
        super().__init__()
        self.held: list[logging.LogRecord] = []

    def filter(self, record: logging.LogRecord) -> bool:
        if "LOAD REPORT" not in str(record.msg):
            return True
        self.held.append(record)
        return False


@contextmanager
def _hold_back_load_report() -> Iterator[_HoldBackLoadReport]:
    hold = _HoldBackLoadReport()
    logger = logging.getLogger("transformers.modeling_utils")
    logger.addFilter(hold)
    try:
        yield hold
    finally:
        logger.removeFilter(hold)


def load_with_new_head(
    auto_class: Any, model_name_or_path: str, label_names: Sequence[str] = (), **kwargs: Any
) -> PreTrainedModel:
    """Loads a backbone under a new head, without the report that the head is new.

    A head that is not in the checkpoint is what fine-tuning means. If a backbone's weight is missing too, the report
    is shown as transformers wrote it.

    Args:
        auto_class: One of transformers' `AutoModelFor...`.
        model_name_or_path: Hub id or folder.
        label_names: Names of the classes by id; none for families without classes.
        **kwargs: For `from_pretrained`.
    """
    if label_names:
        kwargs["id2label"] = dict(enumerate(label_names))
        kwargs["label2id"] = {name: index for index, name in enumerate(label_names)}
    with _hold_back_load_report() as hold:
        model, loading = auto_class.from_pretrained(model_name_or_path, output_loading_info=True, **kwargs)
    if any(key.startswith(f"{model.base_model_prefix}.") for key in loading["missing_keys"]):
        for record in hold.held:
            logging.getLogger(record.name).handle(record)
    return model


def new_head(auto_class: Any, **fixed: Any) -> Callable[..., PreTrainedModel]:
    """Returns a loader for `TaskFamily.loaders` that puts the auto class's new head on a backbone.

    Args:
        auto_class: One of transformers' `AutoModelFor...`.
        **fixed: Config attributes that the family needs, whatever the checkpoint was tuned for before.
    """

    def load(path: str, label_names: Sequence[str], _options: Any, **kwargs: Any) -> PreTrainedModel:
        return load_with_new_head(auto_class, path, label_names, **{**fixed, **kwargs})

    return load


def words_of_classes(label_names: Sequence[str], label_words: Sequence[str] | None) -> list[str]:
    """Returns one word (or words) per class: those given, or else the classes' names.

    Raises:
        ValueError: If their number is not that of the classes, or they are one string.
    """
    if label_words is None:
        return list(label_names)
    if isinstance(label_words, str):
        raise ValueError(f"`label_words` must be a list with one entry per class, got the string {label_words!r}.")
    if len(label_words) != len(label_names):
        raise ValueError(
            f"`label_words` must give one entry per class: there are {len(label_names)} classes "
            f"({', '.join(label_names)}) but {len(label_words)} label words ({', '.join(label_words)})."
        )
    return list(label_words)


def _load_dpt_classifier(
    model_name_or_path: str, label_names: Sequence[str], options: Any, **kwargs: Any
) -> PreTrainedModel:
    preset = {} if options.template_preset is None else preset_options(options.template_preset)
    label_words = preset.get("label_words") if options.label_words is None else options.label_words
    model = DPTForSequenceClassification.from_pretrained(
        model_name_or_path,
        label_words=words_of_classes(label_names, label_words),
        preset=options.template_preset,
        template=options.template,
        wordpieces=options.wordpieces,
        classes_per_pass=options.classes_per_pass,
        score_function=options.score_function,
        # The data's own names, and not the label words, are what a user expects a prediction to say.
        id2label=dict(enumerate(label_names)),
        label2id={name: index for index, name in enumerate(label_names)},
        **kwargs,
    )
    if options.calibrate:
        where = {name: kwargs[name] for name in HUB_ARGUMENTS if name in kwargs}
        model.calibrate(AutoTokenizer.from_pretrained(model_name_or_path, **where))
    return model


def refuse_options(options: Any, names: Sequence[str], reason: str) -> None:
    """Raises where an option is set that a family's discriminators have no use for.

    Args:
        options: The `MethodOptions`.
        names: Its fields that would do nothing.
        reason: Why, for the message.

    Raises:
        ValueError: If one of them is not at its default.
    """
    defaults = {field.name: field.default for field in fields(options)}
    for name in names:
        if getattr(options, name) != defaults[name]:
            raise ValueError(f"`{name}` has no use here: {reason}.")


def _load_dpt_reader(path: str, _label_names: Sequence[str], options: Any, **kwargs: Any) -> PreTrainedModel:
    of_templates = ("label_words", "template", "template_preset", "wordpieces", "classes_per_pass", "calibrate")
    refuse_options(options, of_templates, "multi-span question answering has no template")
    return DPTForMultiSpanQuestionAnswering.from_pretrained(path, score_function=options.score_function, **kwargs)


def _load_verbalizer(path: str, label_names: Sequence[str], options: Any, **kwargs: Any) -> PreTrainedModel:
    return VerbalizerForSequenceClassification.from_pretrained(
        path,
        label_words=words_of_classes(label_names, options.label_words),
        template=options.mask_template,
        id2label=dict(enumerate(label_names)),
        label2id={name: index for index, name in enumerate(label_names)},
        **kwargs,
    )


TEXT_CLASSIFICATION = TaskFamily(
    "text-classification",
    TaskType.SEQ_CLS,
    {
        NEW_HEAD: new_head(AutoModelForSequenceClassification),
        DISCRIMINATOR: _load_dpt_classifier,
        LANGUAGE_MODEL: _load_verbalizer,
    },
    prompts_as_tokens=True,
)
TOKEN_CLASSIFICATION = TaskFamily(
    "token-classification", TaskType.TOKEN_CLS, {NEW_HEAD: new_head(AutoModelForTokenClassification)}
)
QUESTION_ANSWERING = TaskFamily(
    "question-answering",
    TaskType.QUESTION_ANS,
    # a start and an end
    {NEW_HEAD: new_head(AutoModelForQuestionAnswering, num_labels=2)},
)
#: PEFT has no type of its own for multiple choice; that of sequence classification finds its head, which is the same.
MULTIPLE_CHOICE = TaskFamily(
    "multiple-choice",
    TaskType.SEQ_CLS,
    {NEW_HEAD: new_head(AutoModelForMultipleChoice)},
)
#: The new head tags tokens as inside (I) or outside (O) of an answer.
MULTI_SPAN_QUESTION_ANSWERING = TaskFamily(
    "multi-span-question-answering",
    TaskType.TOKEN_CLS,
    {NEW_HEAD: new_head(AutoModelForTokenClassification), DISCRIMINATOR: _load_dpt_reader},
)
