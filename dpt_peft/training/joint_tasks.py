"""Which tasks are trained together, and what a task family brings for that."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import (
    AutoTokenizer,
    DataCollatorForTokenClassification,
    DataCollatorWithPadding,
    PreTrainedTokenizerBase,
)

from dpt_peft.tasks.data import DatasetArguments
from dpt_peft.tasks.data_sets import DATA_SETS, data_arguments
from dpt_peft.tasks.tagging.features import load_word_tokenizer
from dpt_peft.tasks.tagging.names import TokenClassificationArguments
from dpt_peft.tasks.tagging.roles import SemanticRoleArguments
from dpt_peft.tasks.tagging.words import word_tagging_metrics
from dpt_peft.tasks.text_classification import (
    TextClassificationArguments,
    classification_metrics,
    load_text_classification,
    tokenize_texts,
)
from dpt_peft.training import text_classification, word_tagging
from dpt_peft.training.families import TEXT_CLASSIFICATION, TOKEN_CLASSIFICATION, TaskFamily
from dpt_peft.training.shared_prompts import ComputeMetrics
from dpt_peft.training.text_classification import SamplingArguments, select_rows


@dataclass
class MultiTaskArguments:
    """Which tasks are trained together."""

    tasks: list[str] = field(
        default_factory=list,
        metadata={"help": f"Data sets by name: {', '.join(DATA_SETS)}.", "choices": list(DATA_SETS)},
    )
    data_dir: str | None = field(
        default=None, metadata={"help": "Folder with one folder for each of `tasks`. Default: the Hub."}
    )
    tasks_file: str | None = field(
        default=None,
        metadata={
            "help": "Json file of further tasks: name -> {'family': 'token-classification', 'train_file': ..., and "
            "what else the single-task script takes of data and sampling arguments}."
        },
    )
    temperature: float = field(
        default=2.0,
        metadata={
            "help": "A batch's task is drawn with (rows)^(1/temperature): 1 as the data is, larger: small tasks more."
        },
    )
    max_seq_length: int | None = field(
        default=None, metadata={"help": "Longest row in tokens. Default: what the model takes."}
    )


@dataclass(frozen=True)
class PreparedTask:
    """A task, ready to be trained on.

    Attributes:
        label_names: Classes by id.
        rows: The splits before they were tokenized.
        features: Makes the rows of a split ready for the model: tokens, and the metric of predictions on them.
        usage: Makes the lines that load the task's model, from folder and model.
    """

    label_names: list[str]
    rows: dict[str, Dataset]
    features: Callable[[Dataset, PreTrainedTokenizerBase, int | None], tuple[Dataset, ComputeMetrics | None]]
    usage: Callable[[str, Any], str]


def _prepare_texts(data_args: TextClassificationArguments, sampling: SamplingArguments) -> PreparedTask:
    data = load_text_classification(data_args)

    def features(
        rows: Dataset, tokenizer: PreTrainedTokenizerBase, max_length: int | None
    ) -> tuple[Dataset, ComputeMetrics | None]:
        return tokenize_texts(rows, tokenizer, max_length), classification_metrics()

    return PreparedTask(
        data.label_names,
        select_rows(data, sampling),
        features,
        lambda folder, model: text_classification.loading_code("deep_prompt", folder, model),
    )


def _prepare_words(task: word_tagging.WordTask) -> Callable[..., PreparedTask]:
    def prepare(data_args: Any, sampling: SamplingArguments) -> PreparedTask:
        data = task.load(data_args)

        def features(
            rows: Dataset, tokenizer: PreTrainedTokenizerBase, max_length: int | None
        ) -> tuple[Dataset, ComputeMetrics | None]:
            made = word_tagging.tokenize_split(rows, tokenizer, data.label_names, max_length)
            if made.tags is None:
                return made.dataset, None
            return made.dataset, word_tagging_metrics(task.metric(keep_in_memory=True), made, data.label_names)

        return PreparedTask(
            data.label_names,
            word_tagging.select_sentences(data, sampling),
            features,
            lambda folder, model: word_tagging.loading_code("deep_prompt", folder, model, task.example),
        )

    return prepare


@dataclass(frozen=True)
class Kind:
    """Tasks of a family, as they are trained together.

    Attributes:
        arguments: The family's data arguments.
        prepare: From these and the sampling arguments to a task.
        family: Its models. Tasks of one run share it.
        collator: Makes a batch, given the tokenizer.
        tokenizer: Loads the tokenizer of a model.
        reduce: From logits and labels of a batch to what metrics are computed of.
    """

    arguments: type[DatasetArguments]
    prepare: Callable[[Any, SamplingArguments], PreparedTask]
    family: TaskFamily
    collator: Callable[[PreTrainedTokenizerBase], Any]
    tokenizer: Callable[..., PreTrainedTokenizerBase] = load_word_tokenizer
    reduce: Callable[..., torch.Tensor] | None = None


#: Family -> how its tasks are trained together. A new family is one row.
KINDS = {
    "text-classification": Kind(
        TextClassificationArguments,
        _prepare_texts,
        TEXT_CLASSIFICATION,
        DataCollatorWithPadding,
        AutoTokenizer.from_pretrained,
    ),
    "token-classification": Kind(
        TokenClassificationArguments,
        _prepare_words(word_tagging.NAMED_ENTITIES),
        TOKEN_CLASSIFICATION,
        DataCollatorForTokenClassification,
        reduce=word_tagging.likeliest,
    ),
    "semantic-role-labeling": Kind(
        SemanticRoleArguments,
        _prepare_words(word_tagging.SEMANTIC_ROLES),
        TOKEN_CLASSIFICATION,
        DataCollatorForTokenClassification,
        reduce=word_tagging.likeliest,
    ),
}


@dataclass(frozen=True)
class TaskSource:
    """Where a task's data comes from: its kind, data arguments and sampling arguments."""

    kind: Kind
    data: Any
    sampling: SamplingArguments


def read_tasks(args: MultiTaskArguments, sampling: SamplingArguments) -> dict[str, TaskSource]:
    """Reads which tasks there are.

    Args:
        args: Their names, and the file that describes others.
        sampling: How much of the data; what the file says of a task goes before it.

    Returns:
        The tasks by name.

    Raises:
        ValueError: If there are fewer than two, two have one name, the file is not as it should be, or the tasks'
            families have different heads.
        FileNotFoundError: If a file is missing.
    """
    found: dict[str, TaskSource] = {}
    described: dict[str, dict[str, Any]] = {}
    if args.tasks_file is not None:
        path = Path(args.tasks_file)
        if not path.is_file():
            raise FileNotFoundError(f"`tasks_file`: there is no file {args.tasks_file!r}.")
        described = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(described, dict) or not all(isinstance(entry, dict) for entry in described.values()):
            raise ValueError("`tasks_file` must map names of tasks to their arguments.")
    named = {name: {"family": DATA_SETS[name].family, **data_arguments(name, args.data_dir)} for name in args.tasks}
    both = sorted(named.keys() & described.keys())
    if both or len(args.tasks) != len(named):
        raise ValueError(f"`tasks` and `tasks_file` must name a task once, got {', '.join(both or args.tasks)}.")
    for name, entry in {**named, **described}.items():
        found[name] = _source(name, dict(entry), args.max_seq_length, sampling)
    if len(found) < 2:
        raise ValueError(f"There must be at least two tasks in `tasks` and `tasks_file`, got {len(found)}.")
    families = {source.kind.family.name for source in found.values()}
    if len(families) > 1:
        raise ValueError(f"Tasks of different heads cannot share prompts: {', '.join(sorted(families))}.")
    return found


def _source(name: str, entry: dict[str, Any], max_length: int | None, sampling: SamplingArguments) -> TaskSource:
    if not name.replace("-", "_").isidentifier():
        raise ValueError(f"`tasks_file`: a task's name must be of letters, digits, _ and -, got {name!r}.")
    family = entry.pop("family", None)
    if family not in KINDS:
        raise ValueError(f"`tasks_file`: the `family` of {name!r} must be one of {', '.join(KINDS)}, got {family!r}.")
    kind = KINDS[family]
    amount = {f.name: getattr(sampling, f.name) for f in fields(SamplingArguments)}
    amount |= {key: entry.pop(key) for key in list(entry) if key in amount}
    unknown = sorted(entry.keys() - {f.name for f in fields(kind.arguments)})
    if unknown:
        raise ValueError(f"`tasks_file`: {name!r} has arguments that {family} does not have: {', '.join(unknown)}.")
    return TaskSource(kind, kind.arguments(**{"max_seq_length": max_length, **entry}), SamplingArguments(**amount))
