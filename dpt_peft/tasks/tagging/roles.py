"""Semantic roles: which words are the arguments of a predicate. One row a predicate."""

from __future__ import annotations

from dataclasses import dataclass, field

from dpt_peft.tasks.data import load_splits
from dpt_peft.tasks.tagging.conll import PropositionColumns, read_propositions
from dpt_peft.tasks.tagging.words import WordTaggingArguments, WordTaggingData, shape_word_tagging


@dataclass
class SemanticRoleArguments(PropositionColumns, WordTaggingArguments):
    """Data of semantic roles: a Hub id, or json files with the same columns, or CoNLL files (any other ending)."""

    tags_column_name: str = field(default="srl_tags", metadata={"help": "Column of the roles, a list."})
    predicate_column_name: str = field(
        default="predicate_index", metadata={"help": "Column of the predicate's position among the words, from 0."}
    )


def load_semantic_roles(args: SemanticRoleArguments) -> WordTaggingData:
    """Loads and checks a data set of semantic roles.

    Roles may mark whole arguments (IOB1, IOB2, BIOES, or the brackets of CoNLL files) or their heads only, as in
    Universal Propositions ("ARG0 O V"). Each head is an argument of its own, of one word.

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
