"""PEFT's auto classes, for adapters over the task wrappers too: drop-in replacements that fall back to PEFT's own.

PEFT's `AutoPeftModelFor...` sees nothing but the name of the base model in the adapter's config. For an adapter over a
wrapper (DPT, verbalizer) that was made of a plain checkpoint this is the plain checkpoint, so PEFT builds an ordinary
classifier of it and ends in a `KeyError`. The classes here read the wrapper's config, which lies beside the adapter.
"""

from __future__ import annotations

import inspect
import json
import os
import re
import warnings
from pathlib import Path
from typing import Any, ClassVar

import peft
from huggingface_hub import ModelCard
from peft import PeftConfig, PeftModel, load_peft_weights
from peft.utils import CONFIG_NAME as ADAPTER_CONFIG, SAFETENSORS_WEIGHTS_NAME, WEIGHTS_NAME
from transformers import AutoConfig, PreTrainedConfig
from transformers.utils import CONFIG_NAME, cached_file

from ._compatibility import (
    call_before_an_adapter_is_loaded,
    call_before_an_adapter_is_put_on,
    call_when_an_adapters_card_is_written,
    no_report_of,
)
from .deep_prompt import DeepPromptConfig
from .deep_prompt.model import warn_of_what_is_left_out
from .deep_prompt.task_head import modules_left_out
from .pretrained_heads import (
    DPTForMultiSpanQuestionAnswering,
    DPTForSequenceClassification,
    VerbalizerForSequenceClassification,
    supported_model_types,
)
from .pretrained_heads.base import PretrainedHeadConfig, PretrainedHeadModel, hub_arguments
from .pretrained_heads.registration import WRAPPERS

#: Beside an adapter over a plain model: what the model's config says of the task, which PEFT does not save.
TASK_FILE = "task.json"
THRESHOLDS = ("null_score_diff_threshold", "logit_threshold")
# What the base model must not get: PEFT's own options, and the adapter's subfolder.
_FOR_THE_ADAPTER = {*inspect.signature(PeftModel.from_pretrained).parameters, "subfolder"}

# The weight of a task head, which PEFT saves whole; its LoRA factors have other names.
_HEAD = re.compile(
    r"(.*\.)?(classifier|score|classification_head|logits_proj|qa_outputs)(\.(dense|out_proj|linear|\d+))?\.weight"
)


def _folder_of(path: str, subfolder: str, where: dict[str, Any]) -> str | None:
    """Fetch an adapter out of a subfolder and return where it lies, or `None` if there is none.

    PEFT 0.21 would look for its weights on the Hub, or in the cache, under `subfolder/subfolder`.
    """
    folder = None
    for name in ("adapter_config.json", SAFETENSORS_WEIGHTS_NAME, WEIGHTS_NAME, "config.json", TASK_FILE):
        try:
            file = cached_file(path, name, subfolder=subfolder, **where)
        except OSError:  # not every adapter has every file
            continue
        folder = folder or str(Path(str(file)).parent)
    return folder


def _wrapper_config(path: str, where: dict[str, Any]) -> PreTrainedConfig | None:
    """The config of a wrapper in a folder or repository, else `None`."""
    try:
        config = AutoConfig.from_pretrained(path, **where)
    except (OSError, ValueError):  # there is none, or one of something else
        return None
    return config if isinstance(config, PretrainedHeadConfig) else None


def _refuse_lost_wrapper(path: str, adapter: PeftConfig, weights: dict[str, Any]) -> None:
    """Raise if the adapter's weights are those of a wrapper although neither it nor its base says of which task."""
    trained = {name.partition(".")[0] for name in weights}
    base, revision = str(adapter.base_model_name_or_path), {"revision": adapter.revision or "main"}
    if "language_model" not in trained or _wrapper_config(base, revision) is not None:
        return
    config = AutoConfig.from_pretrained(base, **revision)
    is_discriminator = config.model_type in supported_model_types() and "MaskedLM" not in str(config.architectures)
    reader = DPTForMultiSpanQuestionAnswering
    wrapper: Any = DPTForSequenceClassification if is_discriminator else VerbalizerForSequenceClassification
    wrapper = reader if adapter.task_type == "TOKEN_CLS" else wrapper
    task = "" if wrapper is reader else ", label_words=[...]"
    raise ValueError(
        f"{path} holds an adapter over a {wrapper.__name__}, and its config.json, which has the task, does not lie "
        f'beside it. Put it there where the model was trained: `model.config.save_pretrained("{path}")`. Or make the '
        "base model as it was and load the adapter onto it: "
        f'`base = dpt_peft.{wrapper.__name__}.from_pretrained("{base}"{task})`, '
        f'`model = PeftModel.from_pretrained(base, "{path}")`.'
    )


def check_folder(model: Any, folder: str | os.PathLike[str]) -> None:
    """Refuse a folder in which the files of a model of another kind lie: what is loaded from both is neither.

    Args:
        model: What is to be saved there: a whole model, or an adapter (whose folder holds a config only over a
            pretrained head).
        folder: Where to.

    Raises:
        ValueError: If files lie there that saving `model` would leave as they are.
    """
    there, stale = Path(folder), [ADAPTER_CONFIG]
    if isinstance(model, PeftModel):
        own_config = isinstance(model.config, PretrainedHeadConfig)
        stale = ["model*.safetensors", "pytorch_model*.bin", *([] if own_config else [CONFIG_NAME])]
    if found := sorted(path.name for pattern in stale for path in there.glob(pattern)):
        kind = "an adapter" if isinstance(model, PeftModel) else "a whole model"
        raise ValueError(
            f"`output_dir`: {str(folder)!r} holds a model of another kind ({', '.join(found)}), and {kind} saved "
            "beside it could not be told from it. Take another folder, or empty it."
        )


def save_task(model: Any, folder: str | os.PathLike[str]) -> None:
    """Write what a config says of the task beside an adapter over a plain model, whose config PEFT does not save.

    Args:
        model: A model; nothing is written unless it is such an adapter, with names of classes of its own, a
            `problem_type` (without which a pipeline takes several labels for one) or a threshold of answers.
        folder: Where the adapter was saved. What an earlier adapter left there is taken away.
    """
    (Path(folder) / TASK_FILE).unlink(missing_ok=True)
    if not isinstance(model, PeftModel) or isinstance(model.config, PretrainedHeadConfig):
        return
    found = {name: getattr(model.config, name, None) for name in ("problem_type", *THRESHOLDS)}
    names = dict(sorted((model.config.id2label or {}).items()))
    if any(name != f"LABEL_{index}" for index, name in names.items()):
        found["id2label"] = names
    found = {name: value for name, value in found.items() if value is not None}
    if found:
        (Path(folder) / TASK_FILE).write_text(json.dumps(found), encoding="utf-8")


def _saved_task(path: str, adapter: PeftConfig, where: dict[str, Any]) -> dict[str, Any]:
    """What lies beside an adapter, or in its config, about the task, as attributes of the base model's config."""
    kept = {name: getattr(adapter, name, None) for name in ("id2label", "problem_type")}
    found = {name: value for name, value in kept.items() if value}
    try:
        file = Path(str(cached_file(path, TASK_FILE, **where)))
    except OSError:  # there is none
        return found
    found |= json.loads(file.read_text(encoding="utf-8"))
    if "id2label" in found:
        found["id2label"] = {int(index): name for index, name in found["id2label"].items()}
    return found


def config_of_adapter(path: str, adapter: PeftConfig, **where: Any) -> PreTrainedConfig:
    """Return the config of the model that an adapter is for, with what was saved of its task.

    Args:
        path: Folder or Hub id of the adapter.
        adapter: Its own config.
        **where: Further arguments for fetching files, such as `revision`.
    """
    wrapper = _wrapper_config(path, where)
    if wrapper is not None:
        return wrapper
    base = AutoConfig.from_pretrained(adapter.base_model_name_or_path, revision=adapter.revision or "main")
    for name, value in _saved_task(path, adapter, where).items():
        setattr(base, name, value)
    return base


def _classes_of_the_head(weights: dict[str, Any]) -> dict[str, int]:
    """How many classes the head saved in an adapter has, as an argument of the base model; nothing without a head."""
    sizes = [len(weight) for name, weight in weights.items() if _HEAD.fullmatch(name) and weight.dim() == 2]
    # Of a head of several layers, the last one is the smallest.
    return {"num_labels": min(sizes)} if sizes else {}


class _AutoPeftModel:
    """What the auto classes here do before they leave the rest to PEFT's."""

    _task_type: ClassVar[str | None] = None

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike[str],
        adapter_name: str = "default",
        is_trainable: bool = False,
        config: PeftConfig | None = None,
        revision: str | None = None,
        **kwargs: Any,
    ) -> PeftModel:
        """Load an adapter with the base model that it was trained on.

        Args:
            pretrained_model_name_or_path: Folder or Hub id of the adapter. If a task wrapper's config lies beside it,
                as it does where it was saved, the base model is that wrapper, around the weights that the adapter's
                own config names. Over a plain model, the head gets as many classes as the adapter was saved with, and
                their names and the threshold of answers where they were saved (`TASK_FILE`; deep prompts have the
                names in their config).
            adapter_name: Its name in the model.
            is_trainable: Whether it is to be trained on.
            config: The adapter's config in place of the one in the folder.
            revision: Of the adapter.
            **kwargs: As in PEFT: for the base model's `from_pretrained` and for `PeftModel.from_pretrained`.

        Returns:
            The model, in evaluation mode unless `is_trainable`.

        Raises:
            ValueError: The adapter is over a task wrapper whose config is not beside it, or for another task type; or
                PEFT refuses it.
        """
        path = str(pretrained_model_name_or_path)
        where = hub_arguments(kwargs, without="revision")
        if where.get("subfolder") and not Path(path).is_dir():
            among = {name: value for name, value in where.items() if name != "subfolder"}
            folder = _folder_of(path, where["subfolder"], {**among, "revision": revision or "main"})
            if folder is not None:
                path, revision, where = folder, None, among
                kwargs.pop("subfolder")
        adapter = PeftConfig.from_pretrained(path, revision=revision, **kwargs)
        wrapper_config = _wrapper_config(path, {**where, "revision": revision or "main"})
        if wrapper_config is None:
            found = load_peft_weights(path, **{"device": "cpu", "revision": revision, **where})
            # PEFT names the modules that prompt learning trains along without the wrapper around the model
            before = "base_model." if adapter.is_prompt_learning else "base_model.model."
            weights = {name.removeprefix(before): weight for name, weight in found.items()}
            _refuse_lost_wrapper(path, adapter, weights)
            saved = _saved_task(path, adapter, {**where, "revision": revision or "main"})
            thresholds = {name: saved.pop(name) for name in THRESHOLDS if name in saved}
            if kwargs.keys() & {"num_labels", "id2label"}:
                saved.pop("id2label", None)
            elif "id2label" not in saved:
                saved |= _classes_of_the_head(weights)
            with no_report_of(weights):
                loaded: PeftModel = super().from_pretrained(  # type: ignore[misc]
                    path,
                    adapter_name,
                    is_trainable=is_trainable,
                    config=config,
                    revision=revision,
                    **{**saved, **kwargs},
                )
            for name, value in thresholds.items():
                setattr(loaded.config, name, value)
            return loaded
        if cls._task_type is not None and adapter.task_type not in (None, cls._task_type):
            raise ValueError(
                f"`{cls.__name__}` is for adapters with the task type {cls._task_type}, this one has "
                f"{adapter.task_type}: use dpt_peft.AutoPeftModel, which takes all of them"
            )
        for_base = {name: value for name, value in kwargs.items() if name not in _FOR_THE_ADAPTER}
        if adapter.revision is not None:
            for_base["revision"] = adapter.revision
        (wrapper_class,) = (model for model in WRAPPERS if isinstance(wrapper_config, model.config_class))
        wrapper = wrapper_class.from_pretrained(adapter.base_model_name_or_path, config=wrapper_config, **for_base)
        return PeftModel.from_pretrained(
            wrapper, path, adapter_name, is_trainable=is_trainable, config=config, revision=revision, **kwargs
        )


class AutoPeftModel(_AutoPeftModel, peft.AutoPeftModel):
    """`peft.AutoPeftModel` that knows the task wrappers: over one of them, an adapter may have any task type.

    Example:
        >>> model.save_pretrained("sentiment")  # an adapter over a DPTForSequenceClassification
        >>> model = dpt_peft.AutoPeftModel.from_pretrained("sentiment")
    """


class AutoPeftModelForSequenceClassification(_AutoPeftModel, peft.AutoPeftModelForSequenceClassification):
    """`peft.AutoPeftModelForSequenceClassification` that knows the classifiers among the task wrappers.

    Example:
        >>> model = dpt_peft.AutoPeftModelForSequenceClassification.from_pretrained("sentiment")
    """

    _task_type = "SEQ_CLS"


class AutoPeftModelForTokenClassification(_AutoPeftModel, peft.AutoPeftModelForTokenClassification):
    """`peft.AutoPeftModelForTokenClassification` that knows the reader of several spans, which scores tokens.

    Example:
        >>> model = dpt_peft.AutoPeftModelForTokenClassification.from_pretrained("reader")
    """

    _task_type = "TOKEN_CLS"


class AutoPeftModelForQuestionAnswering(_AutoPeftModel, peft.AutoPeftModelForQuestionAnswering):
    """`peft.AutoPeftModelForQuestionAnswering` that sets the saved threshold of having no answer.

    Example:
        >>> model = dpt_peft.AutoPeftModelForQuestionAnswering.from_pretrained("reader")
    """

    _task_type = "QUESTION_ANS"


def _say_how_to_load(model: PeftModel, card: ModelCard) -> None:
    """Let the card of an adapter that PEFT alone cannot load begin with the lines that do, and tag it."""
    is_wrapper = isinstance(getattr(model.get_base_model(), "config", None), PretrainedHeadConfig)
    if not is_wrapper and not any(isinstance(config, DeepPromptConfig) for config in model.peft_config.values()):
        return
    data: Any = card.data
    data.tags = sorted({*(data.tags or []), "dpt_peft"})
    if "import dpt_peft" in card.text:
        return
    adapter = model.peft_config[model.active_adapter]
    classes = (
        AutoPeftModelForSequenceClassification,
        AutoPeftModelForTokenClassification,
        AutoPeftModelForQuestionAnswering,
    )
    auto: dict[Any, str] = {cls._task_type: cls.__name__ for cls in classes}
    lines = ["import dpt_peft"]
    if is_wrapper or adapter.task_type in auto:
        name = auto.get(adapter.task_type, AutoPeftModel.__name__)
        lines += ["", f'model = dpt_peft.{name}.from_pretrained("folder or Hub id of this adapter")']
    else:
        lines += ["from peft import PeftModel", ""]
        lines += ['model = PeftModel.from_pretrained(base_model, "folder or Hub id of this adapter")']
    card.text = "\n".join(["", "```python", *lines, "```", "", card.text.lstrip("\n")])


def _keep_problem_type(model: PeftModel) -> None:
    """Let deep prompts over a plain model keep its `problem_type`, which transformers sets at the first labels."""
    found = getattr(getattr(model.get_base_model(), "config", None), "problem_type", None)
    for config in model.peft_config.values():
        if isinstance(config, DeepPromptConfig) and config.problem_type is None:
            config.problem_type = found


def _when_saved(model: PeftModel, card: ModelCard) -> None:
    _keep_problem_type(model)  # PEFT writes the config after the card
    _say_how_to_load(model, card)


def _warn_of_a_wrappers_new_modules(_: Any, model: Any, adapter: PeftConfig) -> None:
    """Warn of what an adapter of any method leaves out of a wrapper; deep prompts to be trained do so themselves."""
    if not isinstance(model, PretrainedHeadModel):
        return
    if not adapter.inference_mode:
        if not isinstance(adapter, DeepPromptConfig):
            warn_of_what_is_left_out(model, adapter)
        return
    if "class_prototypes" in modules_left_out(model, adapter):
        weight: Any = model.class_prototypes.weight
        if not weight.is_meta and not weight.any():
            warnings.warn(
                "the adapter was saved without the prototypes of the classes, which are all zero in this model: set "
                "them again (`set_prototypes`), or train with `modules_to_save=model.new_modules`",
                stacklevel=2,
            )


def _refuse_another_order(tuner: Any, model: Any, adapter: PeftConfig) -> None:
    """Refuse a plain model whose classes are those of the first prompts loaded for use, in another order.

    Further adapters may name their classes as they like: the model's config has room for one set of names.
    """
    config: Any = getattr(model, "config", None)
    if not isinstance(adapter, DeepPromptConfig) or not adapter.inference_mode or len(tuner.peft_config) > 1:
        return
    if adapter.id2label is None or config is None or isinstance(config, PretrainedHeadConfig):
        return
    names = {int(index): name for index, name in (config.id2label or {}).items()}
    if names != adapter.id2label and sorted(names.values()) == sorted(adapter.id2label.values()):
        raise ValueError(
            f"`id2label`: the adapter's classes are {adapter.id2label}, and the base model has the same in another "
            f"order, {names}, under which scores would get each other's names. Load the base model with "
            f"id2label={adapter.id2label}."
        )


def _warn_of_another_reading(model: PeftModel, path: str, kwargs: dict[str, Any]) -> None:
    """Warn if a wrapper has other words, templates or scores than the one that an adapter was trained over."""
    own: Any = getattr(model.get_base_model(), "config", None)
    saved = _wrapper_config(path, hub_arguments(kwargs)) if isinstance(own, PretrainedHeadConfig) else None
    if saved is None:
        return
    if differences := own.differences_from(saved):
        warnings.warn(
            f"the adapter in {path} was trained over a wrapper with other options: {'; '.join(differences)}. Make "
            "the model as it was, which dpt_peft.AutoPeftModel... do by themselves.",
            stacklevel=3,
        )


call_when_an_adapters_card_is_written(_when_saved)
call_before_an_adapter_is_loaded(_warn_of_another_reading)
call_before_an_adapter_is_put_on(_warn_of_a_wrappers_new_modules)
call_before_an_adapter_is_put_on(_refuse_another_order)
