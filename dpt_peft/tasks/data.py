"""Data by Hub id, folder or local files, one way for every task family."""

from __future__ import annotations

import bz2
import codecs
import csv
import gzip
import json
import logging
import lzma
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import StringIO
from itertools import chain
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa  # type: ignore[import-untyped]
from datasets import (
    ClassLabel,
    Dataset,
    DatasetDict,
    Features,
    Value,
    concatenate_datasets,
    load_dataset,
    load_dataset_builder,
)
from transformers import AutoTokenizer, PreTrainedTokenizerBase
from transformers.hf_argparser import HfArg

from dpt_peft._compatibility import (
    dataset_of,
    special_tokens_as_text as special_tokens_as_text,
    split_special_tokens,
)

logger = logging.getLogger(__name__)

#: What stands between the cells of a table, by file ending.
SEPARATORS = {".csv": ",", ".tsv": "\t"}
#: File endings that `load_file` reads.
FORMATS = (*SEPARATORS, ".json", ".jsonl")
#: File endings that a task family's own reader takes, beside tsv, in a folder.
COLUMN_FILES = (".txt", ".conll", ".conllu")
#: What opens compressed files, by a second file ending.
COMPRESSED: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
SPLITS = ("train", "validation", "test")


@dataclass
class DatasetArguments:
    """Where the data comes from: a Hub id (or a folder) or local files."""

    dataset_name: str | None = HfArg(
        default=None,
        help="Data set on the Hub, or a folder with files named train, validation, test (csv, tsv, json).",
    )
    dataset_config_name: str | None = HfArg(default=None, help="Configuration of the data set.")
    train_file: str | None = HfArg(default=None, help="Local csv, tsv, json or jsonl file.")
    validation_file: str | None = HfArg(default=None, help="Local csv, tsv, json or jsonl file.")
    test_file: str | None = HfArg(default=None, help="Local csv, tsv, json or jsonl file.")
    train_split_name: str = HfArg(default="train", help="Name of the training split of `dataset_name`.")
    validation_split_name: str = HfArg(default="validation", help="Name of the validation split of `dataset_name`.")
    test_split_name: str = HfArg(default="test", help="Name of the test split of `dataset_name`.")
    max_seq_length: int | None = HfArg(
        default=None, help="Longest text (or pair) in tokens. Default: what the model takes."
    )

    def describe(self) -> str:
        """Return a short name of the data for records and model cards, without local folders' parents."""
        if self.dataset_name is not None:
            name = Path(self.dataset_name).name if Path(self.dataset_name).is_dir() else self.dataset_name
            return f"{name}/{self.dataset_config_name}" if self.dataset_config_name else name
        files = (self.train_file, self.validation_file, self.test_file)
        return ", ".join(Path(file).name for file in files if file is not None)


#: Reads a file of a task family's own format: path, and the argument it came from -> its rows.
FileReader = Callable[[str, str], Dataset]


def load_file(path: str, argument: str, read_other: FileReader | None = None) -> Dataset:
    """Read one local file.

    Args:
        path: A csv (comma), tsv (tab), json or jsonl file, or one of these compressed (.gz, .bz2, .xz); the ending
            decides.
        argument: Name of the argument the path came from, for messages.
        read_other: Reads files with any ending but csv, json and jsonl.

    Returns:
        Its rows, as many as the file has. Cells of a csv or tsv are strings, spelled as in the file, see `read_table`;
        values of a json or jsonl keep their type, see `read_json`.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the ending is none of these, or the file cannot be read as what its ending says; the message
            names the line.
    """
    file, ending = Path(path), ending_of(path)
    if read_other is not None and ending not in (".csv", ".json", ".jsonl", ".parquet", ".arrow"):
        return read_other(path, argument)
    if ending not in FORMATS:
        raise ValueError(
            f"`{argument}` must end in {', '.join(FORMATS)}, got {path!r}. Put parquet files into a folder, under the "
            "names of the splits, and give the folder as `dataset_name`."
        )
    if not file.is_file():
        raise FileNotFoundError(f"`{argument}`: there is no file {path!r}.")
    try:
        text = decode(read_bytes(file))
        return read_table(text, SEPARATORS[ending]) if ending in SEPARATORS else read_json(text)
    except ValueError as error:
        raise ValueError(f"`{argument}`: {path!r} cannot be read as {ending[1:]}: {error}") from error


def ending_of(path: str | Path) -> str:
    """Return a file's ending, before that of a compression: ".csv" of "a.csv" and of "a.CSV.gz"."""
    file = Path(path)
    return Path(file.stem if file.suffix.lower() in COMPRESSED else file.name).suffix.lower()


def read_bytes(file: Path) -> bytes:
    """Read a file, compressed or not.

    Raises:
        ValueError: If it is not what its ending says.
    """
    open_file = COMPRESSED.get(file.suffix.lower(), open)
    try:
        with open_file(file, "rb") as stream:
            raw: bytes = stream.read()
        return raw
    except (EOFError, OSError, lzma.LZMAError) as error:
        if file.suffix.lower() not in COMPRESSED:
            raise
        raise ValueError(f"it is no {file.suffix} file: {error}.") from error


def decode(raw: bytes) -> str:
    """Decode a file's bytes, which must be UTF-8, with a byte-order mark or without.

    Raises:
        ValueError: If they are not; the message names the line.
    """
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise ValueError("it is in UTF-16 or UTF-32; save it as UTF-8.")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise ValueError(f"line {line} has the byte {raw[error.start]:#04x}; save it as UTF-8.") from error
    if "\0" in text:
        raise ValueError(f"line {text[: text.index(chr(0))].count(chr(10)) + 1} has a zero byte; save it as UTF-8.")
    return text


def read_table(text: str, separator: str) -> Dataset:
    """Read a table whose first line names the columns.

    In a csv, a cell in quotes may hold commas, line ends and doubled quotes. In a tsv quotes are part of the text,
    unless the first line is in quotes, or a cell is and has doubled quotes in it: then a program wrote the file with
    csv's quotes. Lines without any character are no rows.

    Args:
        text: The file's text.
        separator: What stands between cells.

    Returns:
        The rows, every cell a string spelled as in the file. Blanks around the names of columns are cut off; a column
        without a name is called by its number ("column 1").

    Raises:
        ValueError: If a line has more or fewer cells than the first; if a quote is not closed; if two columns have one
            name; if cells are separated by something else; if there is a blank before a cell's quotes in a csv; if a
            file of one column has an empty line within.
    """
    quoted = separator == "," or text.startswith('"')
    quoted = quoted or any(
        _has_csv_quotes(cell) for line in re.split("[\r\n]+", text) for cell in line.split(separator)
    )
    lines = _table_lines(text, separator, quoted)
    header = lines[0][1] if lines else []
    names = [name.strip() or f"column {number}" for number, name in enumerate(header, 1)]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(f"the first line names a column twice: {', '.join(twice)}.")
    others = {";": "semicolons", "\t": "tabs", ",": "commas", "|": "bars"}
    for other in [other for other in others if len(names) == 1 and other in names[0]]:
        raise ValueError(
            f"its first line, {names[0]!r}, is one cell, with {others[other]} in it; between cells must be "
            f"{others[separator]}."
        )
    if separator == "\t" and not quoted and len(names) == 1:
        _warn_of_open_quotes(lines)
    # csv takes quotes behind a blank for part of the cell
    unquoted = set(_BLANK_BEFORE_QUOTES.findall(text)) if separator == "," else set()
    rows: list[list[str]] = []
    for line, cells in lines[1:]:
        if not unquoted.isdisjoint(cells):
            raise ValueError(f"line {line} has a blank before the quotes of a cell: {cells}; delete it.")
        if len(cells) != len(names):
            way = "put a cell with commas in quotes" if separator == "," else "a cell cannot hold a tab or a line end"
            raise ValueError(
                f"line {line} has {len(cells)} cell{'s'[: len(cells) != 1]}, but the first line names {len(names)} "
                f"({', '.join(names)}); {way}."
            )
        rows.append(cells)
    columns = zip(*rows, strict=True) if rows else ([] for _ in names)
    return Dataset.from_dict(
        {name: list(cells) for name, cells in zip(names, columns, strict=True)},
        features=Features({name: Value("string") for name in names}),
    )


_BLANK_BEFORE_QUOTES = re.compile(r'(?:^|,)([ \t]+"[^",\n]*"[ \t]*)(?=,|$)', re.M)


def _warn_of_open_quotes(lines: Sequence[tuple[int, list[str]]]) -> None:
    """Warn of a column of texts with a quote that is open at a line's end and closed at another's: one text or two?"""
    odd = [(line, cell) for line, (cell,) in lines if cell.count('"') % 2]
    begins = next((line for line, cell in odd if cell.startswith('"')), None)
    if begins is not None and any(line > begins and cell.endswith('"') for line, cell in odd):
        logger.warning(
            "Every line of the tsv is a text, although the quote at the beginning of line %s is closed in a later "
            "one. If texts go on over lines, write csv or json lines.",
            begins,
        )


def _has_csv_quotes(cell: str) -> bool:
    """Return whether a cell looks like a text with quotes in csv's spelling: in quotes, and its own quotes doubled."""
    within = cell[1:-1]
    return cell[:1] == cell[-1:] == '"' and '""' in within and '"' not in within.replace('""', "")


def _table_lines(text: str, separator: str, quoted: bool) -> list[tuple[int, list[str]]]:
    """Return the lines of a table as cells, each with its number (that of its first line, if it has several)."""
    reader = csv.reader(
        StringIO(text, newline=""),
        delimiter=separator,
        quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE,
        strict=True,
    )
    lines: list[tuple[int, list[str]]] = []
    limit = csv.field_size_limit(max(len(text), 1))
    line = 1
    try:
        for cells in reader:
            lines.append((line, cells))
            line = reader.line_num + 1
    except csv.Error as error:
        raise ValueError(f"the quotes of the row that begins at line {line} do not fit: {error}.") from error
    finally:
        csv.field_size_limit(limit)
    while lines and not lines[-1][1]:
        lines.pop()
    blank = [line for line, cells in lines if not cells]
    full = [(line, cells) for line, cells in lines if cells]
    if full and len(full[0][1]) == 1 and blank and blank[-1] > full[0][0]:
        raise ValueError(f"line {blank[-1]} is empty: with one column that may be an empty text or no row.")
    return full


def read_json(text: str) -> Dataset:
    """Read a list of objects, or objects one behind the other (json lines).

    Args:
        text: The file's text.

    Returns:
        The rows. A key that a row lacks is a missing value there. Values keep their type, also where those of a column
        differ (from datasets 4.7 on; before, 1 beside 1.5 is 1.0); a text that looks like a date is a text.

    Raises:
        ValueError: If it is not json, a row is no object, or an object has a key twice; the message names the line or
            the row. If an older `datasets` cannot keep the values of a column, because their types differ.
    """
    decoder, values, text = json.JSONDecoder(object_pairs_hook=no_key_twice), [], text.rstrip()
    place = 0
    while place < len(text):
        blanks = _BLANKS.match(text, place)
        value, place = decoder.raw_decode(text, blanks.end() if blanks else place)
        values.append(value)
    rows = values[0] if len(values) == 1 and isinstance(values[0], list) else values
    for number, row in enumerate(rows):
        if not isinstance(row, dict):
            raise ValueError(f"row {number} is {str(row)[:60]!r}, but every row must be an object with the columns.")
    columns = {name: [row.get(name) for row in rows] for name in dict.fromkeys(chain.from_iterable(rows))}
    try:
        return json_dataset(columns)
    except (UnicodeError, OverflowError) as error:  # half a surrogate pair; a whole number of more than 64 bits
        raise ValueError(f"a value cannot be kept: {error}.") from error


class ExactJson(getattr(datasets, "Json", object)):  # type: ignore[misc]
    """Values of several types in one column, each kept as it is.

    The feature `Json` of `datasets` reads 0.7 back as 0.7000000000000001, as do its `to_dict` and `to_list` with this
    one; `rows[:]` and `rows[column]` do not. It also takes the text "1" for a number that is written as json already.
    """

    def encode_example(self, value: Any) -> Any:
        """Return a value that is written as json already."""
        return value

    def decode_example(self, value: str | None, token_per_repo_id: Any = None) -> Any:
        """Return the value that was written."""
        return None if value is None else json.loads(value)

    def cast_storage(self, storage: pa.Array) -> pa.Array:
        """Return texts of json as an array of json."""
        return storage if isinstance(storage, pa.JsonArray) else pa.ExtensionArray.from_storage(pa.json_(), storage)


def json_dataset(columns: dict[str, list[Any]]) -> Dataset:
    """Return columns of json's values as a data set, in which they keep their type."""
    dataset = _infer_features(columns)
    mixed = [
        name
        for name, feature in dataset.features.items()
        if "Json(" in repr(feature) or (hasattr(datasets, "Json") and {int, float} <= {*map(type, columns[name])})
    ]
    if not mixed:
        return dataset
    if long := [value for name in mixed for value in columns[name] if type(value) is int and value.bit_length() > 63]:
        raise OverflowError(f"{long[0]} is a whole number of more than 64 bits")
    written = {
        name: [None if is_missing(value) else json.dumps(value) for value in values] if name in mixed else values
        for name, values in columns.items()
    }
    kinds = dict.fromkeys(mixed, ExactJson())
    return Dataset.from_dict(written, features=Features({**dataset.features, **kinds}))


def _infer_features(columns: dict[str, list[Any]]) -> Dataset:
    """Return columns as a data set, with the feature `Json` where it has no other for their values."""
    try:
        return dataset_of(columns)
    except UnicodeError:
        raise
    except ValueError:  # pyarrow's, for lists beside objects within objects
        if not hasattr(datasets, "Json"):
            raise
        if len(columns) == 1:
            ((name, values),) = columns.items()
            return Dataset.from_dict({name: [None] * len(values)}, Features({name: datasets.Json()}))
        return concatenate_datasets([_infer_features({name: values}) for name, values in columns.items()], axis=1)


_BLANKS = re.compile(r"\s*")


def no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object of json, as `object_pairs_hook`; raise a `ValueError` if it has a key twice."""
    keys = [key for key, _ in pairs]
    if len(set(keys)) < len(keys):
        raise ValueError(f"an object has the key {next(key for key in keys if keys.count(key) > 1)!r} twice.")
    return dict(pairs)


def load_splits(args: DatasetArguments, read_other: FileReader | None = None) -> DatasetDict:
    """Load the splits that there are.

    Args:
        args: A Hub id or a folder, or local files.
        read_other: See `load_file`. In a folder it reads tsv, txt and conll files.

    Returns:
        A subset of the splits "train", "validation" and "test", whatever they are called at their source.

    Raises:
        ValueError: If neither or both of `dataset_name` and files are given, or an option of the one with the other;
            if a data set has none of the splits, or not one that is named; if a folder cannot be read, has files of a
            split that would be left out or taken for training data, or files that do not fit one another.
        FileNotFoundError: If a file is missing.
    """
    files = {name: getattr(args, f"{name}_file") for name in SPLITS}
    given = {name: path for name, path in files.items() if path is not None}
    if (args.dataset_name is None) == (not given):
        raise ValueError("Give either `dataset_name` or `train_file` / `validation_file` / `test_file`.")
    if args.dataset_name is None:
        idle = ("dataset_config_name", *(f"{split}_split_name" for split in SPLITS))
        refuse_given(args, idle, "is for a `dataset_name`, but the data is in files of its own")
        return DatasetDict({name: load_file(path, f"{name}_file", read_other) for name, path in given.items()})

    loaded = _load_folder(args, read_other) or load_dataset(args.dataset_name, args.dataset_config_name)
    names = {split: getattr(args, f"{split}_split_name") for split in SPLITS}
    there = ", ".join(map(str, loaded))
    for split, name in names.items():
        if name and name not in loaded:
            where = f"is no split of `dataset_name` {args.dataset_name!r}, which has {there}"
            refuse_given(args, [f"{split}_split_name"], where)
    found = DatasetDict({split: loaded[name] for split, name in names.items() if name in loaded})
    if not found:
        raise ValueError(
            f"`dataset_name` {args.dataset_name!r} has none of the splits {', '.join(names.values())}; "
            f"it has {there}. Name them with `train_split_name` and the like."
        )
    return found


def refuse_given(args: Any, names: Sequence[str], why: str) -> None:
    """Refuse arguments that are not what they are by default.

    Args:
        args: A dataclass whose fields all have defaults.
        names: Those that would do nothing.
        why: The rest of the sentence that begins with the argument's name and value.

    Raises:
        ValueError: If one is given.
    """
    for name in names:
        if (value := getattr(args, name)) != getattr(type(args)(), name):
            raise ValueError(f"`{name}` {value!r} {why}.")


#: Archives that `datasets` would open, and read tables in with values changed.
_ARCHIVES = {".zip", ".zst", ".lz4", ".tar", ".tgz", ".7z", ".rar"}
#: A part of a file's name by which one tells a split; `datasets` tells it in small letters only.
_SPLIT_IN_NAME = re.compile(
    r"(?:(?<![A-Za-z])|(?<=[a-z])(?=[A-Z]))(?i:(train|test|dev|val|valid|validation|eval)(ing|set|data)?)(?![a-z])"
)


def _load_folder(args: DatasetArguments, read_other: FileReader | None) -> DatasetDict | None:
    """Read a local folder: a saved `DatasetDict`, or files. None if it is no folder.

    Which file is of which split is left to `datasets` ("dev.csv" is validation data, say). Each file that is
    parquet, or that `load_file` reads, is read alone: `load_dataset` would give the first one's types to all.
    """
    folder = Path(args.dataset_name or "")
    if args.dataset_name is not None and folder.is_file():
        raise ValueError(f"`dataset_name`: {args.dataset_name!r} is a file; give it as `train_file` or `test_file`.")
    if args.dataset_name is None or not folder.is_dir():
        return None
    if (folder / "dataset_dict.json").is_file():
        refuse_given(args, ["dataset_config_name"], f"is no part of {args.dataset_name!r}, a saved `DatasetDict`")
        return DatasetDict.load_from_disk(args.dataset_name).with_format(None)
    if (folder / "state.json").is_file():
        raise ValueError(
            f"`dataset_name`: {args.dataset_name!r} is one saved `Dataset`. Save the splits together: "
            'DatasetDict({"train": ...}).save_to_disk(folder).'
        )
    with _refusing(args.dataset_name):
        builder = load_dataset_builder(args.dataset_name, args.dataset_config_name)
    files: Any = builder.config.data_files or {}
    readable = {*FORMATS, *([] if read_other is None else COLUMN_FILES)}
    _check_names(folder, files, readable | {".parquet"})
    endings = {ending_of(file) for paths in files.values() for file in paths}
    if archives := endings & _ARCHIVES:
        raise ValueError(f"`dataset_name`: unpack the {', '.join(sorted(archives))} files in {args.dataset_name!r}.")
    if endings == {".parquet"} or endings <= readable:
        declared = builder.info.features or {}
        return DatasetDict(
            {str(split): _joined(str(split), paths, read_other, declared) for split, paths in files.items()}
        )
    with _refusing(args.dataset_name):
        return load_dataset(args.dataset_name, args.dataset_config_name)


@contextmanager
def _refusing(folder: str) -> Iterator[None]:
    """Name the argument in what `datasets` says of a folder that it cannot read."""
    try:
        yield
    except (ValueError, FileNotFoundError) as error:
        raise ValueError(
            f"`dataset_name`: the folder {folder!r} cannot be read ({error}). It must hold files of one kind, named "
            "train, validation and test; or give them as `train_file` and so on."
        ) from error


def _check_names(folder: Path, files: Mapping[Any, Sequence[str]], readable: set[str]) -> None:
    """Refuse a folder in which `datasets` would leave files of a split out, or take them for training data.

    Where a README.md says which files are which, it counts.
    """
    card = folder / "README.md"
    if card.is_file() and re.search("^configs:", card.read_text(encoding="utf-8", errors="replace"), re.M):
        return
    root = folder.resolve()
    # not resolved themselves: in a snapshot of the Hub files are links to others
    chosen = {Path(path) for paths in files.values() for path in paths}
    left_out = [
        path.relative_to(root)
        for path in sorted(root.rglob("*"))
        if path not in chosen and ending_of(path) in readable and _SPLIT_IN_NAME.search(path.name)
    ]
    left_out = [path for path in left_out if not any(part.startswith(".") for part in path.parts)]
    if chosen and left_out:
        raise ValueError(
            f"`dataset_name`: of the files in {str(folder)!r} {', '.join(map(str, left_out))} would be left out, "
            f"beside {', '.join(sorted(path.name for path in chosen))}. Keep files of one kind there; or give "
            "`train_file` and so on."
        )
    for split, paths in files.items():
        names = sorted(str(Path(path).relative_to(root)) for path in paths)
        told = {name: {word.lower() for word, _ in _SPLIT_IN_NAME.findall(name)} for name in names}
        other = [name for name, words in told.items() if words and "train" not in words]
        if str(split) == "train" and len(names) > 1 and other:
            raise ValueError(
                f"`dataset_name`: {', '.join(names)} would all be training data. Call {', '.join(other)} test or "
                "validation, in small letters; or give `train_file` and so on."
            )


def _joined(split: str, paths: Sequence[str], read_other: FileReader | None, declared: Mapping[str, Any]) -> Dataset:
    """Read a split's files as one.

    Args:
        split: Its name.
        paths: Its files.
        read_other: See `load_file`.
        declared: The features that the folder's README.md declares. A `ClassLabel` among them names the classes of a
            column's numbers.
    """
    parts = [_read_piece(file, read_other) for file in paths]
    for path, part in zip(paths, parts, strict=True):
        # of json, a key that a row lacks is a missing value, in whatever file
        if ending_of(path) in (*SEPARATORS, ".parquet") and {*part.column_names} != {*parts[0].column_names}:
            raise ValueError(
                f"`dataset_name`: the {split} data is in {len(paths)} files of different columns: "
                f"{Path(paths[0]).name} has {', '.join(parts[0].column_names)}, {Path(path).name} has "
                f"{', '.join(part.column_names)}."
            )
    names = dict.fromkeys(chain.from_iterable(part.column_names for part in parts))
    alike = [name for name in names if all(part.features.get(name) == parts[0].features.get(name) for part in parts)]
    whole = concatenate_datasets([part.select_columns(alike) for part in parts])
    if len(alike) < len(names):
        # numbers may be whole in one file and not in another
        differ = {
            name: [value for part in parts for value in _plain(part, name)] for name in names if name not in alike
        }
        rest = json_dataset(differ)
        whole = concatenate_datasets([whole, rest], axis=1) if alike else rest
    for name, feature in declared.items():
        if ClassLabel in (type(feature), type(getattr(feature, "feature", None))) and name in whole.column_names:
            try:
                whole = _with_classes(whole, name, feature)
            except (ValueError, TypeError) as error:
                raise ValueError(
                    f"`dataset_name`: column {name!r} of the {split} data does not fit the classes that README.md "
                    f"declares: {error}."
                ) from error
    return whole


def _with_classes(rows: Dataset, column: str, feature: Any) -> Dataset:
    """Give a column the feature `ClassLabel`, or that of lists of them; an empty cell is a missing value."""
    values = [None if isinstance(value, str) and not value.strip() else value for value in rows[column][:]]
    if rows.features[column] == feature or not any(value is not None for value in values):
        return rows
    named = Dataset.from_dict({column: values}).cast_column(column, feature)
    others = rows.remove_columns(column)
    return concatenate_datasets([others, named], axis=1) if others.column_names else named


def _read_piece(path: str, read_other: FileReader | None) -> Dataset:
    if ending_of(path) == ".parquet":
        piece: Dataset = Dataset.from_parquet(path)
        return piece
    return load_file(path, "dataset_name", read_other)


def _plain(rows: Dataset, column: str) -> list[Any]:
    """Return a column's values, the names of a `ClassLabel`, and null for each row if there is no such column."""
    if column not in rows.column_names:
        return [None] * len(rows)
    feature, values = rows.features[column], rows[column][:]
    inner = getattr(feature, "feature", None)
    if isinstance(inner, ClassLabel):
        return [None if value is None else [_class_name(inner, each) for each in value] for value in values]
    return [_class_name(feature, value) for value in values] if isinstance(feature, ClassLabel) else list(values)


def _class_name(feature: ClassLabel, value: int | None) -> str | None:
    return None if value is None or value < 0 else feature.int2str(value)


def check_columns(dataset: Dataset, split: str, columns: dict[str, str], answers: dict[str, str]) -> None:
    """Check that a split has rows and the columns that a task needs.

    Args:
        dataset: The split.
        split: Its name.
        columns: Name of the argument -> name of the column that it asks for, in every split.
        answers: The same for columns that only training data must have.

    Raises:
        ValueError: If there is no row, or a column is missing; the message lists those that there are.
    """
    asked = columns | (answers if split == "train" else {})
    missing = [
        f"{column!r} (`{argument}`)" for argument, column in asked.items() if column not in dataset.column_names
    ]
    if missing and dataset.column_names:
        there = ", ".join(dataset.column_names)
        raise ValueError(f"The {split} data has no column {', '.join(missing)}. Columns there are: {there}.")
    if len(dataset) == 0:
        raise ValueError(f"The {split} data has no rows.")


def check_splits(
    splits: Mapping[str, Dataset], columns: dict[str, str], answers: dict[str, str], *, classes: str | None = None
) -> None:
    """Check every split as `check_columns` does, and that there is training data where it has to tell the classes.

    Args:
        splits: As loaded.
        columns: Name of an argument -> the column that it names.
        answers: The same for columns that only training data must have.
        classes: Name of the argument that could give the classes, where it does not. None: they are known, or there
            are none.

    Raises:
        ValueError: If not.
    """
    if classes is not None and "train" not in splits:
        raise ValueError(
            "There is no training data, whose labels are the classes: give `train_file`, or a `dataset_name` with a "
            f"training split; or, to use a trained model, its classes in their order as `{classes}`."
        )
    for split, dataset in splits.items():
        check_columns(dataset, split, columns, answers)


def as_texts(values: Sequence[object], where: str = "A column of texts") -> list[str]:
    """Turn a column into texts: a missing value is the empty text, a number its digits, true is "true".

    Args:
        values: The column's values.
        where: What the column is, for messages.

    Returns:
        One string per value.

    Raises:
        ValueError: If a value is a list, a tuple, a set, an object or bytes; the message names the row.
    """
    for row, value in enumerate(values):
        if isinstance(value, (list, tuple, set, frozenset, dict, bytes)):
            raise ValueError(f"{where} has, in row {row} counted from 0, {str(value)[:80]!r}, which is no text.")
    return [
        "" if is_missing(value) else str(value).lower() if isinstance(value, bool) else str(value) for value in values
    ]


def as_cell(value: object) -> str:
    """Return a value as a cell of a tsv without quotes: tabs and line ends become a space."""
    return re.sub(r"[\t\r\n]+", " ", str(value))


_MISSING = ("NAType", "NaTType")


def is_missing(value: object) -> bool:
    """Return whether a value is missing: null, the number NaN, or pandas' NA and NaT."""
    return value is None or (isinstance(value, float) and math.isnan(value)) or type(value).__name__ in _MISSING


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
