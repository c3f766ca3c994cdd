"""Named entities: a tag for every word."""

from __future__ import annotations

from dataclasses import dataclass

from dpt_peft.tasks.data import load_splits
from dpt_peft.tasks.tagging.conll import TaggedColumns, read_tagged
from dpt_peft.tasks.tagging.words import WordTaggingArguments, WordTaggingData, shape_word_tagging


@dataclass
class TokenClassificationArguments(TaggedColumns, WordTaggingArguments):
    """Data of named entities: a Hub id, or json files with the same columns, or CoNLL files (any other ending)."""


def load_token_classification(args: TokenClassificationArguments) -> WordTaggingData:
    """Loads and checks a data set of named entities.

    Tags may be of IOB1, IOB2 or BIOES, strings or `ClassLabel`; what comes out is IOB2 with the entities that the
    official `conlleval` script reads. Plain types ("PER PER O") are read with neighbours of one type as one entity.

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
