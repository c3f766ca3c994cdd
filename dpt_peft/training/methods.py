"""The tuning methods, each as one call that gives a task's model ready for the Trainer.

A method is a part of the model that answers (`dpt_peft.tasks.heads`) and a PEFT config, or none: every parameter is
trained. Its options are the fields of the head's options and of the PEFT config, by their own names.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from types import MappingProxyType
from typing import Any

import torch
from peft import (
    LoraConfig,
    PeftConfig,
    PrefixTuningConfig,
    PromptEncoderConfig,
    PromptTuningConfig,
    get_peft_model,
)
from transformers.utils import find_adapter_config_file

from dpt_peft._compatibility import quiet_peft
from dpt_peft.deep_prompt import DeepPromptConfig
from dpt_peft.deep_prompt.task_head import modules_left_out
from dpt_peft.pretrained_heads.base import hub_arguments
from dpt_peft.tasks.base import Task, TaskData
from dpt_peft.tasks.heads import DISCRIMINATOR, LANGUAGE_MODEL, NEW_HEAD

_OF_DEEP_PROMPTS = (
    "num_virtual_tokens",
    "layers_to_transform",
    "prompt_dropout",
    "encoder_reparameterization",
    "encoder_hidden_size",
    "use_gate",
    "init_weights",
    "init_std",
    "init_from",
)


@dataclass(frozen=True)
class Method:
    """A tuning method.

    Attributes:
        title: Its name in tables and pictures.
        head: Which part of the model answers: `NEW_HEAD`, `DISCRIMINATOR` or `LANGUAGE_MODEL`.
        adapter: PEFT config of what is trained in a frozen backbone. None: every parameter is trained.
        learning_rate: Where to start from when none is given, for small models and few examples. Search it for your
            own data and model: the DPT paper uses 2e-5 for ELECTRA-base and -large, the released P-tuning v2 scripts
            5e-3 to 6e-2.
        head_learning_rate: Of a new head, where it cannot bear that of the prompts; taken with `learning_rate`.
        updates: Least number of updates when neither epochs nor updates are given, see `default_epochs`.
        passes: Most passes over the rows where `updates` would ask for more. None: no limit.
        options: Fields of `adapter` that command lines offer; in Python all of them can be set.
        settings: Fields of `adapter` that make it this method.
        head_settings: Fields of the head's options that do.
    """

    title: str
    head: str
    adapter: type[PeftConfig] | None
    learning_rate: float
    head_learning_rate: float | None = None
    updates: int = 120
    passes: int | None = None
    options: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    head_settings: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def prompts_as_tokens(self) -> bool:
        """Whether the prompts stand before the text as tokens (PEFT's prompt learning)."""
        return self.adapter is not None and self.adapter(**self.settings).is_prompt_learning


METHODS = {
    "fine_tuning": Method("Fine-tuning, new head", NEW_HEAD, None, 2e-4),
    "dpt": Method("DPT", DISCRIMINATOR, None, 1e-4, updates=96, passes=32),
    "dpt_prototypes": Method(
        "DPT + class prototypes", DISCRIMINATOR, None, 1e-4, passes=32, head_settings={"prototypes": True}
    ),
    "deep_prompt": Method("Deep prompts, new head", NEW_HEAD, DeepPromptConfig, 6e-2, 1e-3, options=_OF_DEEP_PROMPTS),
    "dpt_deep_prompt": Method(
        "DPT + deep prompts, frozen", DISCRIMINATOR, DeepPromptConfig, 6e-2, options=_OF_DEEP_PROMPTS
    ),
    "dpt_prototypes_deep_prompt": Method(
        "DPT + prototypes + deep prompts, frozen",
        DISCRIMINATOR,
        DeepPromptConfig,
        3e-2,
        1e-3,
        options=_OF_DEEP_PROMPTS,
        settings={"num_virtual_tokens": 8},
        head_settings={"prototypes": True},
    ),
    "verbalizer": Method("Deep prompts, verbalizer", LANGUAGE_MODEL, DeepPromptConfig, 6e-2, options=_OF_DEEP_PROMPTS),
    "lora": Method(
        "LoRA, new head",
        NEW_HEAD,
        LoraConfig,
        2e-3,
        options=("r", "lora_alpha", "lora_dropout", "target_modules"),
        settings={"lora_alpha": 16},
    ),
    "shallow_prompt": Method(
        "Shallow prompts, new head",
        NEW_HEAD,
        PromptTuningConfig,
        3e-2,
        1e-3,
        options=("num_virtual_tokens",),
        # Lester et al. start from the vocabulary's own vectors.
        settings={"num_virtual_tokens": 20, "prompt_tuning_init": "SAMPLE_VOCAB"},
    ),
    "prefix_tuning": Method(
        "Prefix tuning (PEFT), new head",
        NEW_HEAD,
        PrefixTuningConfig,
        6e-2,
        1e-3,
        options=("num_virtual_tokens",),
        settings={"num_virtual_tokens": 20},
    ),
    "p_tuning": Method(
        "P-tuning, new head",
        NEW_HEAD,
        PromptEncoderConfig,
        1e-3,
        options=("num_virtual_tokens", "encoder_hidden_size"),
        settings={"num_virtual_tokens": 20, "encoder_hidden_size": 512},
    ),
}
"""The methods by name.

| method | model | what is trained |
|--|--|--|
| `fine_tuning` | backbone under a new head | everything |
| `dpt` | discriminator under its own head | everything, no new parameter (DPT, section 3) |
| `dpt_prototypes` | the same, and prototypes of the classes | everything, one vector a class is new |
| `deep_prompt` | backbone under a new head | prompts in every layer and the head (P-tuning v2) |
| `dpt_deep_prompt` | discriminator under its own head | prompts in every layer alone |
| `dpt_prototypes_deep_prompt` | the same, and prototypes of the classes | prompts in every layer, the prototypes |
| `verbalizer` | masked language model under its own head | prompts in every layer alone (P-tuning v2, Table 5) |
| `lora` | backbone under a new head | low-rank matrices and the head |
| `shallow_prompt` | backbone under a new head | prompts at the input and the head (Lester et al. 2021) |
| `prefix_tuning` | backbone under a new head | prefixes in every layer and the head (Li and Liang 2021, by PEFT) |
| `p_tuning` | backbone under a new head | prompts at the input, their MLP, and the head (Liu et al. 2021) |

Learning rates are customary, or from searches with earlier discriminators. With 8 labels a class a search of three or
four rates for each of `fine_tuning`, `dpt`, both with prototypes, `lora` and `prefix_tuning` found each within 1.5
points of its best ("Their learning rates" in docs/results.md; validation rows, one draw). `deep_prompt` and
`verbalizer` have the rate of `dpt_deep_prompt`, which is of an earlier discriminator, as are the numbers of updates
(`examples/experiments/quickstart_tuning.py`). `passes` and the length of the frozen method's prompts:
docs/results/few_labels_tried.jsonl, docs/how_to/few_labels.md.
"""


def methods_of(task: Task) -> tuple[str, ...]:
    """Return the names of the methods that a task family has."""
    return tuple(
        name
        for name, method in METHODS.items()
        if method.head in task.heads
        and (task.prompts_as_tokens or not method.prompts_as_tokens)
        and method.head_settings.keys() <= {option.name for option in fields(task.heads[method.head].options)}
    )


def default_epochs(method: str, rows: int, batch_size: int) -> int:
    """Return how many passes over the training rows a method takes when nobody says.

    Args:
        method: One of `METHODS`.
        rows: Training rows.
        batch_size: Rows of an update.

    Returns:
        The least number that makes at least `Method.updates` updates; not above `Method.passes`, and at least 3.
    """
    chosen = METHODS[method]
    enough = -(-chosen.updates // max(1, -(-rows // batch_size)))
    return max(3, enough if chosen.passes is None else min(enough, chosen.passes))


def option_names(task: Task, method: str) -> tuple[str, ...]:
    """Return the options that a method's command line offers for a task: those of its head, then of its adapter."""
    chosen = METHODS[method]
    return (*(option.name for option in fields(task.heads[chosen.head].options)), *chosen.options)


def users_of_options(task: Task) -> dict[str, list[str]]:
    """Return for every option of a task's methods the methods that have it."""
    found: dict[str, list[str]] = {}
    for method in methods_of(task):
        for name in option_names(task, method):
            found.setdefault(name, []).append(method)
    return found


def split_options(task: Task, method: str, options: Mapping[str, Any]) -> tuple[Any, PeftConfig | None]:
    """Turn a method's options into what its head and its adapter take.

    Args:
        task: The task family.
        method: One of `methods_of(task)`.
        options: Fields of the head's options and of the adapter's PEFT config; the others have their defaults.

    Returns:
        An instance of the head's options, and the PEFT config or None.

    Raises:
        ValueError: If the family has no such method, or the method no such option.
    """
    if method not in methods_of(task):
        raise ValueError(f"`method` must be one of {', '.join(methods_of(task))} for {task.name}, got {method!r}.")
    chosen = METHODS[method]
    of_head = {option.name for option in fields(task.heads[chosen.head].options)}
    of_adapter = set() if chosen.adapter is None else {option.name for option in fields(chosen.adapter)}
    for name in options.keys() - of_head - of_adapter:
        users = users_of_options(task).get(name, [])
        raise ValueError(f"`{name}` has no use with method {method!r}: {_for_whom(users, task)}.")
    for_head = {name: value for name, value in options.items() if name in of_head}
    for name, value in chosen.head_settings.items():
        if for_head.get(name, value) != value:
            raise ValueError(f"`{name}` = {for_head[name]!r} is not method {method!r}, which has {value!r}.")
    head = task.heads[chosen.head].options(**{**chosen.head_settings, **for_head})
    if chosen.adapter is None:
        return head, None
    given = {name: _plain(value) for name, value in options.items() if name in of_adapter}
    return head, chosen.adapter(**{"task_type": task.task_type, **chosen.settings, **given})


def _for_whom(methods: Iterable[str], task: Task) -> str:
    names = ", ".join(methods)
    return f"it is for {names}" if names else f"no method of {task.name} has it"


def _plain(value: Any) -> Any:
    """Turn `--layers_to_transform 4 5` or `--layers_to_transform last 2` into what `DeepPromptConfig` takes."""
    if not isinstance(value, list) or not value or not all(isinstance(word, str) for word in value):
        return value
    if all(word.isdecimal() for word in value):
        return [int(word) for word in value]
    return " ".join(value) if value[0] in ("first", "last") else value


def describe_options(task: Task, method: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that a method's command line offers, defaults included, for records.

    None is where the checkpoint decides.
    """
    head, adapter = split_options(task, method, options)
    values = asdict(head) | {name: getattr(adapter, name) for name in METHODS[method].options}
    return {name: options.get(name, value) for name, value in values.items()}


def build_model(
    task: Task,
    method: str,
    model_name_or_path: str,
    data: TaskData | Sequence[str] = (),
    *,
    dtype: torch.dtype | str = torch.float32,
    model_kwargs: Mapping[str, Any] | None = None,
    **options: Any,
) -> torch.nn.Module:
    """Build a task's model to be trained with one of `METHODS`.

    Call `transformers.set_seed` before: new heads, prompts and LoRA matrices are drawn here.

    Args:
        task: One of `dpt_peft.tasks.TASKS`.
        method: One of `methods_of(task)`.
        model_name_or_path: Hub id or folder; for `dpt*` a discriminator, for `verbalizer` a masked language model,
            with its tokenizer.
        data: What `task.load` returned; or the names of the classes in the order of their ids, which become
            `config.id2label`. None for families without classes.
        dtype: Type of the weights. Default float32 (for training; use `bf16=True` of the Trainer for speed).
        model_kwargs: Further arguments for `from_pretrained`, such as `revision`, `token` or `attn_implementation`.
        **options: Of the method: fields of its head's options (`label_words`, `template`, ...) and of its PEFT config
            (`num_virtual_tokens`, `r`, ...).

    Returns:
        The model (a `PreTrainedModel` or a `PeftModel`), in training mode as the Trainer sets it.

    Raises:
        ValueError: If the family has no such method or the method no such option, there is only one label, the number
            of label words differs, or the folder holds an adapter.
    """
    if not isinstance(data, TaskData):
        if isinstance(data, str):
            raise ValueError(f"`data` must be a list of class names, got the string {data!r}.")
        data = TaskData({}, list(data))
    if len(data.label_names) == 1:
        raise ValueError(f"There must be at least two classes, got {data.label_names!r}.")
    head, adapter = split_options(task, method, options)
    _check_no_adapter(model_name_or_path, hub_arguments(model_kwargs or {}, without="trust_remote_code"))
    load = task.heads[METHODS[method].head].load
    model = load(model_name_or_path, data, head, dtype=dtype, **(model_kwargs or {}))
    if adapter is None:
        return model
    if new := getattr(model, "new_modules", None):
        # Beside the pretrained head stands something new (the released code's label tokens): frozen it would be idle.
        adapter.modules_to_save = [*(adapter.modules_to_save or []), *new]
    if left_out := modules_left_out(model, adapter):
        # PEFT knows the names of most heads, and not of what stands before them in some models.
        adapter.modules_to_save = [*(adapter.modules_to_save or []), *left_out]
    if isinstance(adapter, PromptTuningConfig | PromptEncoderConfig):
        # the prompts stand among the embeddings, which may be narrower than the states that PEFT measures
        adapter.token_dim = model.get_input_embeddings().weight.shape[1]
    with quiet_peft():
        return get_peft_model(model, adapter)


def _check_no_adapter(path: str, where: Mapping[str, Any]) -> None:
    """Raise a `ValueError` if a folder holds an adapter: one more around it would be saved without the first."""
    if find_adapter_config_file(path, **where) is None:
        return
    raise ValueError(
        f"`model_name_or_path`: {path!r} has an adapter already. To predict with it in a script, leave out "
        "`do_train`; elsewhere, take the lines in its README.md. To train on, name the model that it was trained "
        f"on; with deep prompts, `init_from` = {path!r} starts from its prompts, and what was trained with LoRA "
        "can be merged first (PeftModel.from_pretrained(...).merge_and_unload().save_pretrained(folder))."
    )


def count_parameters(model: torch.nn.Module) -> tuple[int, int]:
    """Return the number of trained parameters, and of all."""
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return trained, sum(p.numel() for p in model.parameters())
