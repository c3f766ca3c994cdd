"""Data by Hub id, folder or local files, one way for every task family."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datasets import Dataset, DatasetDict, load_dataset
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from dpt_peft._compatibility import split_special_tokens

#: File ending -> builder of `datasets.load_dataset` and its arguments. Without `keep_default_na=False` pandas would
#: turn the texts "NA", "null" and "" into missing values.
FORMATS: dict[str, tuple[str, dict[str, object]]] = {
    ".csv": ("csv", {"keep_default_na": False}),
    ".tsv": ("csv", {"keep_default_na": False, "sep": "\t"}),
    ".json": ("json", {}),
    ".jsonl": ("json", {}),
}
SPLITS = ("train", "validation", "test")


@dataclass
class DatasetArguments:
    """Where the data comes from: a Hub id (or a folder) or local files."""

    dataset_name: str | None = field(
        default=None,
        metadata={
            "help": "Data set on the Hub, or a folder with files named train, validation, test (csv, tsv, json)."
        },
    )
    dataset_config_name: str | None = field(default=None, metadata={"help": "Configuration of the data set."})
    train_file: str | None = field(default=None, metadata={"help": "Local csv, tsv, json or jsonl file."})
    validation_file: str | None = field(default=None, metadata={"help": "Local csv, tsv, json or jsonl file."})
    test_file: str | None = field(default=None, metadata={"help": "Local csv, tsv, json or jsonl file."})
    train_split_name: str = field(default="train", metadata={"help": "Name of the training split of `dataset_name`."})
    validation_split_name: str = field(
        default="validation", metadata={"help": "Name of the validation split of `dataset_name`."}
    )
    test_split_name: str = field(default="test", metadata={"help": "Name of the test split of `dataset_name`."})

    def describe(self) -> str:
        """Returns a short name of the data for records and model cards, without local folders' parents."""
        if self.dataset_name is not None:
            name = Path(self.dataset_name).name if Path(self.dataset_name).is_dir() else self.dataset_name
            return f"{name}/{self.dataset_config_name}" if self.dataset_config_name else name
        files = (self.train_file, self.validation_file, self.test_file)
        return ", ".join(Path(file).name for file in files if file is not None)


#: Reads a file of a task family's own format: path, and the argument it came from -> its rows.
FileReader = Callable[[str, str], Dataset]


def load_file(path: str, argument: str, read_other: FileReader | None = None) -> Dataset:
    """Reads one local file.

    Args:
        path: A csv (comma), tsv (tab), json or jsonl file; the ending decides.
        argument: Name of the argument the path came from, for messages.
        read_other: Reads files with any other ending.

    Returns:
        Its rows. Empty cells of a csv or tsv are empty strings.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the ending is none of these, or the file cannot be read as what its ending says.
    """
    file = Path(path)
    if read_other is not None and file.suffix.lower() not in FORMATS:
        return read_other(path, argument)
    if not file.is_file():
        raise FileNotFoundError(f"`{argument}`: there is no file {path!r}.")
    if file.suffix.lower() not in FORMATS:
        raise ValueError(f"`{argument}` must end in {', '.join(FORMATS)}, got {path!r}.")
    if file.stat().st_size == 0:
        return Dataset.from_dict({})
    builder, kwargs = FORMATS[file.suffix.lower()]
    try:
        return load_dataset(builder, data_files={"train": str(file)}, split="train", **kwargs)
    except Exception as error:
        if "corresponds to no data" in str(error):  # a header and nothing below it, or an empty list
            return Dataset.from_dict({})
        raise ValueError(f"`{argument}`: {path!r} cannot be read as {builder}: {error.__cause__ or error}") from error


def load_splits(args: DatasetArguments, read_other: FileReader | None = None) -> DatasetDict:
    """Loads the splits that there are.

    Args:
        args: A Hub id or a folder, or local files.
        read_other: See `load_file`.

    Returns:
        A subset of the splits "train", "validation" and "test", whatever they are called at their source.

    Raises:
        ValueError: If neither or both of `dataset_name` and files are given, or if a data set has none of the splits.
        FileNotFoundError: If a file is missing.
    """
    files = {name: getattr(args, f"{name}_file") for name in SPLITS}
    given = {name: path for name, path in files.items() if path is not None}
    if (args.dataset_name is None) == (not given):
        raise ValueError("Give either `dataset_name` or `train_file` / `validation_file` / `test_file`.")
    if args.dataset_name is None:
        return DatasetDict({name: load_file(path, f"{name}_file", read_other) for name, path in given.items()})

    loaded = load_dataset(args.dataset_name, args.dataset_config_name)
    names = {split: getattr(args, f"{split}_split_name") for split in SPLITS}
    found = DatasetDict({split: loaded[name] for split, name in names.items() if name in loaded})
    if not found:
        raise ValueError(
            f"`dataset_name` {args.dataset_name!r} has none of the splits {', '.join(names.values())}; "
            f"it has {', '.join(loaded)}. Name them with `train_split_name` and the like."
        )
    return found


def require_columns(dataset: Dataset, split: str, columns: dict[str, str]) -> None:
    """Checks that a split has the named columns.

    Args:
        dataset: The split.
        split: Its name, for the message.
        columns: Name of the argument -> name of the column that it asks for.

    Raises:
        ValueError: If a column is missing; the message lists those that there are.
    """
    missing = {argument: column for argument, column in columns.items() if column not in dataset.column_names}
    if missing:
        asked = ", ".join(f"{column!r} (`{argument}`)" for argument, column in missing.items())
        there = ", ".join(dataset.column_names) or "none"
        raise ValueError(f"The {split} data has no column {asked}. Columns there are: {there}.")


def require_rows(dataset: Dataset, split: str) -> None:
    """Checks that a split is not empty.

    Args:
        dataset: The split.
        split: Its name, for the message.

    Raises:
        ValueError: If the split has no row.
    """
    if len(dataset) == 0:
        raise ValueError(f"The {split} data has no rows.")


def as_texts(values: Sequence[object]) -> list[str]:
    """Turns a column into texts: a missing value is the empty text, a number its digits.

    Args:
        values: The column's values.

    Returns:
        One string per value.
    """
    return ["" if value is None else str(value) for value in values]


@contextmanager
def special_tokens_as_text(tokenizer: PreTrainedTokenizerBase) -> Iterator[None]:
    """Read `[SEP]`, `</s>`, `<mask>` and their kin in texts as what they are there: text.

    The tokenizer still puts its own special tokens around texts. What must hold special tokens (a template) is written
    outside of this block, or with `split_special_tokens=False` in the call.

    Args:
        tokenizer: Any tokenizer. Inside of the block it reads that way, behind it as before.
    """
    take_back = split_special_tokens(tokenizer)
    try:
        yield
    finally:
        take_back()


def load_tokenizer(path: str, **kwargs: Any) -> PreTrainedTokenizerBase:
    """Load a tokenizer that reads special tokens in texts as text, see `special_tokens_as_text`.

    It still does so when it is saved and loaded again, so that a saved model gives a text the same answer in a
    `pipeline` as in training.

    Args:
        path: A folder or a Hub id.
        kwargs: Further arguments of `AutoTokenizer.from_pretrained`.
    """
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(path, **kwargs)
    split_special_tokens(tokenizer)
    return tokenizer
