"""A classifier from texts and labels in one call, and back from its folder in another."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, KeysView, Mapping, Sequence, Set, ValuesView
from dataclasses import fields
from numbers import Number
from pathlib import Path
from types import GeneratorType
from typing import Any, get_args, get_type_hints

import numpy as np
from datasets import ClassLabel, Dataset, DatasetDict, Features, IterableDataset, IterableDatasetDict
from peft import PeftConfig, TaskType
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    Pipeline,
    PreTrainedConfig,
    PreTrainedTokenizerBase,
    TextClassificationPipeline,
)
from transformers.utils import find_adapter_config_file

from dpt_peft._compatibility import no_progress_bars
from dpt_peft.auto import AutoPeftModelForSequenceClassification, check_folder, save_task
from dpt_peft.tasks.base import TaskData
from dpt_peft.tasks.data import as_texts, is_missing
from dpt_peft.tasks.heads import has_prototypes
from dpt_peft.tasks.text_classification import TextClassification, TextClassificationArguments, check_scikit_learn
from dpt_peft.training.given_model import ModelArguments
from dpt_peft.training.run import RunArguments, run
from dpt_peft.training.trainer import ScriptTrainingArguments

_TRAINING = {"report_to": "none", "save_strategy": "no", "logging_strategy": "no"}


class Classifier(TextClassificationPipeline):
    """A text classification pipeline that knows what was measured, and saves adapters with the names of classes.

    Beside what transformers' pipeline takes, it can be called with a data frame or data set (its columns `text` and,
    for pairs, `text_pair`), one column of such, an array of texts, and tuples of two texts for pairs, also as `zip`
    gives them; in these a missing text is an empty one, as in training.

    Attributes:
        metrics: What was measured after training; None for a pipeline that was loaded.
    """

    metrics: dict[str, Any] | None = None

    def __call__(self, inputs: Any, **kwargs: Any) -> list[Any]:
        """Classify a text, a pair, or a list of either; see transformers' pipeline for the arguments.

        As in transformers, one text gets a list of one answer, and one pair the answer itself.

        Raises:
            ValueError: If a tuple is no pair, or a table has no column `text`.
        """
        found: list[Any]
        if isinstance(inputs, GeneratorType):  # which transformers reads, and answers, one by one
            found = super().__call__((_input(each) for each in inputs), **kwargs)
            return found
        if _is_table(inputs):
            inputs = _texts(inputs)
        if hasattr(inputs, "tolist"):
            inputs = inputs.tolist()
        if isinstance(inputs, Sequence | ValuesView | Iterator) and not isinstance(inputs, str | tuple):
            inputs = list(inputs)
        if isinstance(inputs, list):
            return super().__call__([_input(each) for each in inputs], **kwargs) if inputs else []
        found = super().__call__(_input(inputs), **kwargs)
        return found

    def save_pretrained(self, save_directory: Any, **kwargs: Any) -> None:
        """Save model or adapter and tokenizer; `dpt_peft.load` loads them."""
        check_folder(self.model, save_directory)
        super().save_pretrained(save_directory, **kwargs)
        save_task(self.model, save_directory)

    def check_model_type(self, supported_models: Any) -> None:
        """Accept what `fit` and `load` made; transformers' check knows no `PeftModel` and would log an error."""


def _is_table(value: Any) -> bool:
    return isinstance(value, Dataset) or hasattr(value, "columns")


def _texts(table: Any) -> list[Any]:
    """Return the texts of a table, or its pairs."""
    there = table.column_names if isinstance(table, Dataset) else list(table.columns)
    if "text" not in there:
        raise ValueError(f"the table has no column 'text'; there are {', '.join(map(str, there))}.")
    names = [name for name in ("text", "text_pair") if name in there]
    columns = [as_texts(_values(table[name][:], name), f"column {name!r}") for name in names]
    return list(zip(*columns, strict=True)) if len(columns) == 2 else columns[0]


def _input(value: Any) -> Any:
    """Return a pair of texts as transformers' pipeline takes it, a missing text as "", a number as its digits."""
    if isinstance(value, tuple):
        if len(value) != 2:
            raise ValueError(f"a tuple is a pair of texts, got {len(value)}: give a list of texts.")
        first, second = as_texts(value, "the pair")
        return {"text": first, "text_pair": second}
    return as_texts([value])[0] if is_missing(value) or isinstance(value, Number) else value


def fit(
    texts: Any,
    labels: Any = None,
    *,
    model: str | Path | None = None,
    method: str | None = None,
    text_pairs: Any = None,
    eval_texts: Any = None,
    eval_labels: Any = None,
    eval_text_pairs: Any = None,
    class_names: Sequence[str] | None = None,
    seed: int = 42,
    max_length: int | None = None,
    progress_bar: bool = True,
    training: dict[str, Any] | None = None,
    **options: Any,
) -> Pipeline:
    """Train a text classifier and return it as a pipeline.

    Args:
        texts: The texts: a list of strings, a column of a data frame, or a whole `datasets.Dataset` or data frame with
            the columns `text`, `label` and perhaps `text_pair` (then without `labels`).
        labels: The class of every text, a name or a number; or a list of classes for every text. A `ClassLabel` column
            of a `datasets.Dataset` keeps its names.
        model: Hub id or folder; for `dpt*` a discriminator. Default: the small one that comes with dpt_peft.
        method: One of `dpt_peft.training.METHODS`. Default: `"dpt_prototypes"` with the discriminator that comes with
            dpt_peft, which still knows sentences, unless a text has several labels, and with a classifier that has
            prototypes; else `"dpt"`.
        text_pairs: The second text of every row, for pairs.
        eval_texts: Texts to measure on after training, as `texts`; metrics are in the `metrics` of what is returned.
        eval_labels: Their classes.
        eval_text_pairs: Their second texts.
        class_names: Names of the classes: for labels 0, 1, ... and rows of zeros and ones in that order, for other
            whole numbers by value, for named labels their order.
        seed: Of new parameters and of the order of training.
        max_length: Longest text in tokens, special tokens counted; DPT's template comes on top. Default: what the
            model takes.
        progress_bar: Whether a bar is shown.
        training: Arguments of the Trainer by name (`num_train_epochs`, `learning_rate`, `bf16`, ...). Default: the
            method's learning rates and number of updates, see `dpt_peft.training.METHODS`.
        **options: The method's options: `label_words` (in the order of the classes, or by name), `template`,
            `num_virtual_tokens`, ...

    Returns:
        `pipeline("text-classification")`; `save_pretrained(folder)` saves it, `dpt_peft.load(folder)` loads it.
        `metrics` holds what was measured.

    Raises:
        ValueError: If texts and labels do not fit, or the method has no such option; the message names the argument.
        ImportError: If `eval_texts` are given without scikit-learn.

    Example:
        >>> classify = dpt_peft.fit(["a graceful movie", "a dull one"], ["positive", "negative"])
        >>> classify("graceful")
        [{'label': 'positive', 'score': 0.98}]
    """
    splits = {"train": _rows(texts, labels, text_pairs, "")}
    if eval_texts is None and (eval_labels is not None or eval_text_pairs is not None):
        raise ValueError("`eval_labels` and `eval_text_pairs` are for `eval_texts`, which are missing.")
    if eval_texts is not None:
        check_scikit_learn()
        splits["validation"] = _rows(eval_texts, eval_labels, eval_text_pairs, "eval_")
        if "text_pair" in set(splits["validation"].column_names) - set(splits["train"].column_names):
            given = (
                "`eval_texts` has a column 'text_pair'" if eval_text_pairs is None else "`eval_text_pairs` are given"
            )
            raise ValueError(f"{given}, but there are no second texts to train on (`text_pairs`).")
    if class_names is not None:
        class_names = _names(class_names)
    if model is not None and not isinstance(model, str | Path):
        raise ValueError(
            f"`model` must be a Hub id or a folder, got a {type(model).__name__}: a model that is there already is "
            "trained by transformers' Trainer, or saved first."
        )
    for name, number in {"seed": seed, "max_length": max_length}.items():
        if not isinstance(number, int | np.integer) and not (number is None and name == "max_length"):
            raise ValueError(f"`{name}` must be a whole number, got {number!r}.")
    task = TextClassification()
    # A file's name stands for the source in the card; these rows have none.
    source = TextClassificationArguments(
        train_file="rows in memory",
        max_seq_length=max_length,
        class_names=class_names,
        text_pair_column_name="text_pair" if "text_pair" in splits["train"].column_names else None,
    )
    data: TaskData = task.shape(splits, source)
    named = ModelArguments(None if model is None else str(model))
    if method is None:
        with_prototypes = not data.several_labels if model is None else has_prototypes(named.saved_config())
        method = "dpt_prototypes" if with_prototypes else "dpt"
    of_trainer = {field.name for field in fields(ScriptTrainingArguments)}
    _check_training(training or {}, of_trainer)
    if misplaced := sorted(options.keys() & of_trainer):
        raise ValueError(f"`{misplaced[0]}` is the Trainer's: give it as training={{'{misplaced[0]}': ...}}.")
    with tempfile.TemporaryDirectory() as scratch:
        asked = {**_TRAINING, "seed": int(seed), "disable_tqdm": not progress_bar, **(training or {})}
        arguments = RunArguments(
            data=source,
            method=method,
            training=ScriptTrainingArguments(
                output_dir=asked.pop("output_dir", scratch), do_train=True, do_eval="validation" in splits, **asked
            ),
            options=options,
            model=named,
        )
        with no_progress_bars():
            outcome = run(task, arguments, data=data, write_files=False)
    return _as_pipeline(outcome.model, outcome.tokenizer, max_length, outcome.results)


def _check_training(training: Any, known: set[str]) -> None:
    """Raise a `ValueError` unless `training` holds arguments of the Trainer that are for the caller to choose."""
    if not isinstance(training, Mapping):
        raise ValueError(
            f"`training` must be a dictionary such as {{'num_train_epochs': 3}}, got {type(training).__name__}."
        )
    if unknown := sorted(map(str, training.keys() - known)):
        raise ValueError(
            f"`training`: the Trainer has no argument {', '.join(unknown)}. Names are those of TrainingArguments, "
            "such as num_train_epochs."
        )
    if told := sorted(training.keys() & {"do_train", "do_eval", "do_predict"}):
        raise ValueError(f"`training`: leave `{told[0]}` out. `fit` trains, and measures on `eval_texts`.")
    kinds = get_type_hints(ScriptTrainingArguments)
    for name, value in training.items():
        kind = set(get_args(kinds[name]) or (kinds[name],)) - {type(None)}
        if isinstance(value, str) and kind <= {int, float, bool}:
            raise ValueError(f"`training`: `{name}` must be a number, or True or False, got the string {value!r}.")


def load(folder: str | Path, **kwargs: Any) -> Pipeline:
    """Load a classifier that `fit`, a script or the Trainer saved: a whole model, or an adapter with its base.

    Args:
        folder: Folder or Hub id.
        **kwargs: For the model's `from_pretrained`.

    Returns:
        `pipeline("text-classification")`.

    Raises:
        ValueError: If it is no classifier of texts.
        FileNotFoundError: If there is no such folder, and it cannot be an id.
    """
    path = str(folder)
    if not Path(path).is_dir() and (path.count("/") > 1 or path.startswith((".", "/", "~"))):
        raise FileNotFoundError(f"`folder`: there is no folder {path!r}, and no id on the Hub looks like this.")
    of_hub = {name: kwargs[name] for name in ("revision", "token", "subfolder") if name in kwargs}
    found = find_adapter_config_file(path, **of_hub)
    if found is None:
        described, _ = PreTrainedConfig.get_config_dict(path, **of_hub)
        kind = next(iter(described.get("architectures") or ()), None)
    else:
        task_type = PeftConfig.from_pretrained(str(Path(found).parent)).task_type
        kind = None if task_type in (None, TaskType.SEQ_CLS) else f"an adapter of task type {task_type}"
    if kind is not None and not kind.endswith(("ForSequenceClassification", "ForHierarchicalClassification")):
        raise ValueError(
            f"dpt_peft.load is for classifiers of texts, and {path!r} holds {kind}. Load it with its own auto "
            "class; if a script here wrote the folder, its README.md has the lines."
        )
    auto: Any = AutoModelForSequenceClassification if found is None else AutoPeftModelForSequenceClassification
    model = auto.from_pretrained(path, **kwargs)
    if found is not None and model.config.num_labels == 1 and model.config.problem_type != "regression":
        raise ValueError(
            f"dpt_peft.load is for classifiers of texts, and the head in {path!r} gives one number. If it is for "
            'regression, pass problem_type="regression"; if for multiple choice, its README.md may have the lines.'
        )
    return _as_pipeline(model, AutoTokenizer.from_pretrained(path, **of_hub))


def _as_pipeline(
    model: Any, tokenizer: PreTrainedTokenizerBase, max_length: int | None = None, metrics: Any = None
) -> Pipeline:
    if max_length is not None:
        tokenizer.model_max_length = max_length  # saved with the tokenizer
    made = Classifier(model=model.eval(), tokenizer=tokenizer, truncation=True)
    made.metrics = metrics
    return made


def _rows(texts: Any, labels: Any, text_pairs: Any, prefix: str) -> Dataset:
    """Return rows with the columns `text`, `label` and, of pairs, `text_pair`."""
    if isinstance(texts, DatasetDict | IterableDatasetDict | IterableDataset):
        way = f"give one split, such as {prefix}texts=splits['train']"
        if isinstance(texts, IterableDataset):
            way = "load it without streaming, or make it one, Dataset.from_list(list(rows))"
        raise ValueError(f"`{prefix}texts` must be a Dataset, got {type(texts).__name__}: {way}.")
    is_table = _is_table(texts)
    if labels is None:
        if text_pairs is not None:
            raise ValueError(f"`{prefix}text_pairs` are for lists: put them into the column 'text_pair' of the rows.")
        if not is_table:
            raise ValueError(
                f"`{prefix}labels` is missing: give a label for every text, or a datasets.Dataset or data frame with "
                "the columns 'text' and 'label'."
            )
        if not isinstance(texts, Dataset) and not hasattr(texts, "index"):
            raise ValueError(f"`{prefix}texts` is a {type(texts).__name__}: give its `to_pandas()`.")
        there = list(map(str, texts.column_names if isinstance(texts, Dataset) else texts.columns))
        if missing := {"text", "label"} - set(there):
            raise ValueError(
                f"`{prefix}texts` has no column {' and no column '.join(map(repr, sorted(missing)))}; there are "
                f"{', '.join(there)}. Give {prefix}texts=table[...] and {prefix}labels=table[...]."
            )
        if isinstance(texts, Dataset):
            return texts.with_format(None)
        return _table(texts[[name for name in ("text", "label", "text_pair") if name in there]], prefix)
    if is_table or isinstance(texts, Mapping):
        raise ValueError(
            f"`{prefix}texts` is a whole table, but `{prefix}labels` is given: give the column of the texts, or leave "
            "the labels out."
        )
    columns = {"text": texts, "label": labels, "text_pair": text_pairs}
    values = {name: _values(value, f"{prefix}{name}s") for name, value in columns.items() if value is not None}
    lengths = {name: len(value) for name, value in values.items()}
    if len(set(lengths.values())) > 1:
        counts = ", ".join(f"{count} {prefix}{name}s" for name, count in lengths.items())
        raise ValueError(f"`{prefix}texts` and `{prefix}labels` must be equally many, got {counts}.")
    lists = [isinstance(label, list | tuple | set) for label in values["label"]]
    if any(lists) and not all(lists):
        raise ValueError(
            f"`{prefix}labels` must be one class for every text, or a list of classes for every text, but row "
            f"{lists.index(not lists[0])} differs from those before."
        )
    if pairs := [row for row, text in enumerate(values["text"]) if isinstance(text, list | tuple) and len(text) == 2]:
        raise ValueError(
            f"`{prefix}texts` must be strings, but row {pairs[0]} is {str(values['text'][pairs[0]])[:80]}: give the "
            f"second texts of pairs as `{prefix}text_pairs`."
        )
    texts_of = {name: as_texts(values[name], f"`{prefix}{name}s`") for name in ("text", "text_pair") if name in values}
    rows = _table({**values, **texts_of}, prefix)
    kind = getattr(labels, "features", None)  # a column of a Dataset knows what its numbers are called
    if isinstance(kind, ClassLabel) or isinstance(getattr(kind, "feature", None), ClassLabel):
        return Dataset.from_dict(rows[:], Features({**rows.features, "label": kind}))
    return rows


def _table(columns: Any, prefix: str) -> Dataset:
    """Return lists by name, or a data frame, as rows.

    Raises:
        ValueError: If a column's values are of several types, or two columns have one name.
    """
    if not isinstance(columns, dict) and not columns.columns.is_unique:
        twice = columns.columns[columns.columns.duplicated()][0]
        raise ValueError(f"`{prefix}texts` has more than one column {twice!r}.")
    try:
        if isinstance(columns, dict):
            return Dataset.from_dict(columns)
        return Dataset.from_pandas(columns, preserve_index=False)
    except (ValueError, TypeError) as error:  # pyarrow's
        raise ValueError(f"`{prefix}texts` or `{prefix}labels` mix values of several types: {error}.") from error


def _values(values: Any, argument: str) -> list[Any]:
    """Return a column as a list, None where a value is missing.

    Raises:
        ValueError: If it is no list, or has no order.
    """
    unordered = isinstance(values, Set) and not isinstance(values, KeysView)
    whole = isinstance(values, str | bytes | Mapping) or hasattr(values, "columns")
    if unordered or whole or not isinstance(values, Iterable):
        raise ValueError(f"`{argument}` must be a list, or one column of a table, got {type(values).__name__}.")
    shape: tuple[int, ...] = getattr(values, "shape", ())
    if len(shape) == 2 and shape[1] == 1:
        raise ValueError(f"`{argument}` is an array of shape {shape}, a list in every row: give one dimension.")
    found = values.tolist() if hasattr(values, "tolist") else list(values)
    return [None if is_missing(value) else value for value in found]


def _names(class_names: Any) -> list[str]:
    class_names = class_names.tolist() if hasattr(class_names, "tolist") else class_names
    if not isinstance(class_names, list | tuple) or not all(isinstance(name, str) for name in class_names):
        raise ValueError(f"`class_names` must be a list of strings, in the order of the classes, got {class_names!r}.")
    return list(class_names)
