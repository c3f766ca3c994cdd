"""Named entities and semantic roles: a tag for every word. Their arguments, and data in one shape."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from datasets import ClassLabel, Dataset, DatasetDict

from dpt_peft.tasks.data import DatasetArguments, load_splits, require_columns, require_rows
from dpt_peft.tasks.tagging.conll import PropositionColumns, TaggedColumns, read_propositions, read_tagged
from dpt_peft.tasks.tagging.features import words_of
from dpt_peft.tasks.tagging.schemes import Plain, TagScheme, label_names_of, recognise_scheme

logger = logging.getLogger(__name__)


@dataclass
class WordTaggingArguments(DatasetArguments):
    """Data of a task with a tag for every word."""

    tokens_column_name: str = field(default="tokens", metadata={"help": "Column of the words, a list."})
    tags_column_name: str = field(default="ner_tags", metadata={"help": "Column of the tags, a list."})
    tag_names: list[str] | None = field(
        default=None,
        metadata={"help": "All tags: those that the numbers 0, 1, ... stand for, or, of tags in words, their order."},
    )
    max_seq_length: int | None = field(
        default=None,
        metadata={"help": "Longest row in tokens; a longer sentence becomes several. Default: what the model takes."},
    )


@dataclass
class TokenClassificationArguments(TaggedColumns, WordTaggingArguments):
    """Data of named entities: a Hub id, or json files with the same columns, or CoNLL files (any other ending)."""


@dataclass
class SemanticRoleArguments(PropositionColumns, WordTaggingArguments):
    """Data of semantic roles: a Hub id, or json files with the same columns, or CoNLL files (any other ending)."""

    tags_column_name: str = field(default="srl_tags", metadata={"help": "Column of the roles, a list."})
    predicate_column_name: str = field(
        default="predicate_index", metadata={"help": "Column of the predicate's position among the words, from 0."}
    )


@dataclass(frozen=True)
class WordTaggingData:
    """A data set of tagged words in one shape, whatever its source.

    Attributes:
        splits: Subset of "train", "validation", "test", with the columns `words`, `tags` (IOB2; missing where a split
            has no tags) and, for semantic roles, `predicate_index`.
        label_names: Classes by id, see `label_names_of`.
        scheme: How the data writes tags, and predictions are to be written.
    """

    splits: DatasetDict
    label_names: list[str]
    scheme: TagScheme


def load_token_classification(args: TokenClassificationArguments) -> WordTaggingData:
    """Load and check a data set of named entities.

    Tags may be strings or `ClassLabel`, in any scheme that `recognise_scheme` knows; what comes out is IOB2 with the
    entities that the official `conlleval` script reads. Plain types ("PER PER O") are read with neighbours of one type
    as one entity.

    Args:
        args: Source and columns.

    Returns:
        The data, see `WordTaggingData`.

    Raises:
        ValueError: See `shape_word_tagging`.
        FileNotFoundError: If a file is missing; for CoNLL files the message says where licensed data is to be had.
    """
    names = (args.tokens_column_name, args.tags_column_name)
    splits = load_splits(args, lambda path, argument: read_tagged(path, args, argument, names))
    return shape_word_tagging(splits, args, "joined")


def load_semantic_roles(args: SemanticRoleArguments) -> WordTaggingData:
    """Load and check a data set of semantic roles.

    Roles may mark whole arguments (any scheme of `recognise_scheme`, or the brackets of CoNLL files) or their heads
    only, as in Universal Propositions ("ARG0 O V"). Each head is an argument of its own, of one word.

    Args:
        args: Source and columns.

    Returns:
        The data, see `WordTaggingData`; the predicate's position is in the column `predicate_index`.

    Raises:
        ValueError: See `shape_word_tagging`; or a predicate's position is not one of the sentence.
        FileNotFoundError: If a file is missing; for CoNLL files the message says where licensed data is to be had.
    """
    names = (args.tokens_column_name, args.predicate_column_name, args.tags_column_name)
    splits = load_splits(args, lambda path, argument: read_propositions(path, args, argument, names))
    data = shape_word_tagging(
        splits, args, "single", {"predicate_column_name": (args.predicate_column_name, "predicate_index")}
    )
    for split, dataset in data.splits.items():
        sentences, predicates = dataset["words"][:], dataset["predicate_index"][:]
        for row, (words, predicate) in enumerate(zip(sentences, predicates, strict=True)):
            if not isinstance(predicate, int) or not 0 <= predicate < len(words):
                raise ValueError(
                    f"`predicate_column_name`: row {row} of the {split} data has {len(words)} words, but the "
                    f"predicate is at {predicate!r}."
                )
    return data


def shape_word_tagging(
    splits: DatasetDict, args: WordTaggingArguments, plain: Plain, keep: dict[str, tuple[str, str]] | None = None
) -> WordTaggingData:
    """Check splits of words and tags, and turn the tags into IOB2.

    Args:
        splits: As loaded.
        args: Names of the columns.
        plain: How plain types are read, if the data has such.
        keep: Further columns that every split must have: argument that names it -> its name, its name in the result.

    Returns:
        The data, see `WordTaggingData`. Validation and test data may have types that the training data does not have
        (they count as missed; one warning names them), or no tags at all: no column of them, or nulls only.

    Raises:
        ValueError: If there is no training data or a split is empty; a column is missing; words or tags are no list of
            strings; words and tags differ in number; `tag_names` does not have a tag; the tags are of no one scheme,
            or there is only one.
    """
    if "train" not in splits:
        raise ValueError("There is no training data: give `train_file`, or a `dataset_name` with a training split.")
    kept = keep or {}
    words: dict[str, list[list[str]]] = {}
    tags: dict[str, list[list[str | int]]] = {}
    for split, dataset in splits.items():
        require_rows(dataset, split)
        columns = {"tokens_column_name": args.tokens_column_name, **{name: old for name, (old, _) in kept.items()}}
        if split == "train":
            columns["tags_column_name"] = args.tags_column_name
        require_columns(dataset, split, columns)
        words[split] = words_of(
            dataset[args.tokens_column_name][:], f"`tokens_column_name`: column {args.tokens_column_name!r}", split
        )
        column = dataset[args.tags_column_name][:] if args.tags_column_name in dataset.column_names else []
        if split == "train" or any(row is not None for row in column):
            tags[split] = _checked_tags(column, words[split], f"`tags_column_name` {args.tags_column_name!r}", split)
    inner = getattr(splits["train"].features[args.tags_column_name], "feature", None)
    given = args.tag_names or (inner.names if isinstance(inner, ClassLabel) else [])
    named = _named_tags(splits, tags, args)
    try:
        scheme = recognise_scheme(named, plain, args.tag_names or ())
    except ValueError as error:
        raise ValueError(f"`tags_column_name` {args.tags_column_name!r}: {error}") from error
    iob2 = {split: [scheme.read(row) for row in rows] for split, rows in named.items()}
    label_names = label_names_of(
        chain.from_iterable(iob2["train"]),
        [parts[1] for parts in map(scheme.split, given) if parts is not None],
        one_word=scheme.plain == "single",
    )
    if len(label_names) < 2:
        raise ValueError(f"The train data has only one tag: {scheme.outside}.")
    for split, rows in iob2.items():
        unknown = sorted(set(chain.from_iterable(rows)) - set(label_names))
        if unknown:
            logger.warning(
                "The %s data has tags that the train data does not have; they count as missed: %s",
                split,
                ", ".join(unknown),
            )
    shaped = {}
    for split, dataset in splits.items():
        out: dict[str, list[Any]] = {"words": words[split]} | {new: dataset[old][:] for old, new in kept.values()}
        if split in iob2:
            out["tags"] = iob2[split]
        shaped[split] = Dataset.from_dict(out)
    return WordTaggingData(DatasetDict(shaped), label_names, scheme)


def _checked_tags(
    rows: Sequence[Any], sentences: Sequence[Sequence[str]], column: str, split: str
) -> list[list[str | int]]:
    """Check that every word has a tag: a string, or a number."""
    checked = []
    for number, (tags, words) in enumerate(zip(rows, sentences, strict=True)):
        where = f"row {number} of the {split} data"
        if not isinstance(tags, list):
            raise ValueError(f"{column} must hold lists of tags, but {where} is {tags!r}.")
        if len(words) != len(tags):
            raise ValueError(f"R{where[1:]} has {len(words)} words, but {len(tags)} tags.")
        for index, tag in enumerate(tags):
            whole = isinstance(tag, float) and tag.is_integer()  # as pandas has whole numbers beside missing ones
            if isinstance(tag, bool) or not (whole or isinstance(tag, (str, int))):
                raise ValueError(f"{column}: {where} has no tag for its word {words[index]!r}, but {tag!r}.")
        checked.append([int(tag) if isinstance(tag, float) else tag for tag in tags])
    return checked


def _named_tags(
    splits: DatasetDict, tags: dict[str, list[list[str | int]]], args: WordTaggingArguments
) -> dict[str, list[list[str]]]:
    """Put names in the place of numbers, and hold names against `tag_names`."""
    if args.tag_names is not None:
        known = set(args.tag_names)
        if len(known) < len(args.tag_names):
            raise ValueError(f"`tag_names` has a tag twice: {', '.join(args.tag_names)}.")
        strings = {tag for rows in tags.values() for row in rows for tag in row if isinstance(tag, str)}
        if strings - known and all(tag.isascii() and tag.isdigit() and tag == str(int(tag)) for tag in strings):
            tags = {split: [[int(tag) for tag in row] for row in rows] for split, rows in tags.items()}
        elif strings - known:
            raise ValueError(f"`tag_names` does not have tags of the data: {', '.join(sorted(strings - known))}.")
    named = {}
    for split, rows in tags.items():
        inner = getattr(splits[split].features[args.tags_column_name], "feature", None)
        names = args.tag_names or (inner.names if isinstance(inner, ClassLabel) else [])
        for number, row in enumerate(rows):
            wrong = next((tag for tag in row if not isinstance(tag, str) and not 0 <= tag < len(names)), None)
            if wrong is not None and not names:
                raise ValueError(
                    f"`tags_column_name`: row {number} of the {split} data has tags that are no strings, {row[:5]!r}; "
                    "say with `tag_names` what the numbers stand for."
                )
            if wrong is not None:
                raise ValueError(
                    f"`tag_names` has {len(names)} tags, but row {number} of the {split} data has the tag {wrong!r}."
                )
        named[split] = [[tag if isinstance(tag, str) else names[tag] for tag in row] for row in rows]
    return named
