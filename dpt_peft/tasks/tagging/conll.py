"""Files in the columns of the CoNLL shared tasks: one word a line, a blank line between sentences.

Licensed corpora cannot be shipped or downloaded; who has them has them in this form.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from datasets import Dataset

from dpt_peft.tasks.tagging.schemes import write_iob2

#: Where the licensed corpora are to be had; shown when a file is missing.
SOURCES = (
    "CoNLL-2003: annotation from https://www.clips.uantwerpen.be/conll2003/ner/ on the Reuters corpus (NIST). "
    "CoNLL-2005: https://www.cs.upc.edu/~srlconll/ on the Penn Treebank (LDC99T42). "
    "OntoNotes 5: LDC2013T19, in CoNLL-2012 form with https://cemantix.org/data/ontonotes.html."
)


@dataclass
class TaggedColumns:
    """Which columns of a CoNLL file hold words and tags. Columns count from 0, from the end if negative."""

    conll_word_column: int = field(default=0, metadata={"help": "CoNLL files: column of the words; CoNLL-2012: 3."})
    conll_tag_column: int = field(
        default=-1,
        metadata={"help": "CoNLL files: column of the tags, 'B-PER' or in brackets '(ORG*'; CoNLL-2012: 10."},
    )


@dataclass
class PropositionColumns:
    """Which columns of a CoNLL file hold words, predicates and roles. Columns count from 0."""

    conll_word_column: int = field(default=0, metadata={"help": "CoNLL files: column of the words; CoNLL-2012: 3."})
    conll_predicate_column: int = field(
        default=5,
        metadata={"help": "CoNLL files: column that is '-' in all rows but the predicates'; CoNLL-2012: 7."},
    )
    conll_roles_column: int | None = field(
        default=None,
        metadata={
            "help": "CoNLL files: the first of the roles' columns, one a predicate. Default: behind the predicates' "
            "column; CoNLL-2012: 11."
        },
    )


def read_sentences(path: str | Path, argument: str) -> Iterator[tuple[int, list[list[str]]]]:
    """Goes through the sentences of a CoNLL file.

    Lines are split at spaces and tabs. `-DOCSTART-` lines, comments ("# ..." and CoNLL-2012's "#begin document") stand
    between sentences and are passed over.

    Args:
        path: The file, UTF-8.
        argument: Name of the argument the path came from, for messages.

    Yields:
        Number of the sentence's first line, counted from 1, and its lines as lists of columns.

    Raises:
        FileNotFoundError: If there is no such file; the message says where licensed data is to be had.
        ValueError: If it is not text.
    """
    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"`{argument}`: there is no file {str(path)!r}. If you need the data: {SOURCES}")
    rows: list[list[str]] = []
    try:
        lines = file.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"`{argument}`: {str(path)!r} is not a text file in UTF-8: {error}") from error
    for number, line in enumerate([*lines, ""], start=1):
        columns = line.split()
        between = not columns or columns[0] == "-DOCSTART-" or (columns[0].startswith("#") and _is_comment(columns))
        if not between:
            rows.append(columns)
        elif rows:
            yield number - len(rows), rows
            rows = []


def _is_comment(columns: list[str]) -> bool:
    # "#" is also a word of its own in news ("# 1"), which always has its tags beside it
    return columns[0] in ("#begin", "#end") or (columns[0] == "#" and "=" in columns)


def _column(rows: list[list[str]], column: int, first_line: int, argument: str, path: str | Path) -> list[str]:
    for offset, columns in enumerate(rows):
        if not -len(columns) <= column < len(columns):
            raise ValueError(
                f"`{argument}` {column}: line {first_line + offset} of {str(path)!r} has {len(columns)} columns: "
                f"{' '.join(columns)!r}."
            )
    return [columns[column] for columns in rows]


def brackets_to_iob2(column: list[str], where: str = "a column") -> list[str]:
    """Turns a column in brackets, "(A0*", "*", "*)", "(V*)", into IOB2 tags.

    Raises:
        ValueError: If a bracket is not closed, or stands within another.
    """
    spans, opened = [], None
    for index, cell in enumerate(column):
        before, star, after = cell.partition("*")
        if not star or before.count("(") > 1 or after.count(")") > 1 or (before and not before.startswith("(")):
            raise ValueError(f"{where} must hold cells like '(A0*', '*', '*)' or '(V*)', got {cell!r}.")
        if before:
            if opened is not None:
                raise ValueError(f"{where}: {cell!r} opens within another span, which tags cannot say.")
            opened = (before[1:], index)
        if after:
            if opened is None:
                raise ValueError(f"{where}: {cell!r} closes what was not opened.")
            spans.append((*opened, index))
            opened = None
    if opened is not None:
        raise ValueError(f"{where}: {opened[0]!r} is not closed by the end of the sentence.")
    return write_iob2(spans, len(column))


def read_tagged(path: str | Path, columns: TaggedColumns, argument: str, names: tuple[str, str]) -> Dataset:
    """Reads words and tags.

    Args:
        path: A file like those of CoNLL-2003 or CoNLL-2012.
        columns: Which columns.
        argument: Name of the argument the path came from, for messages.
        names: How the columns of the result are called: words, tags.

    Returns:
        One row a sentence; tags as they stand in the file, brackets as IOB2.

    Raises:
        FileNotFoundError, ValueError: See `read_sentences`; or a line has too few columns.
    """
    sentences: list[list[str]] = []
    tags: list[list[str]] = []
    for line, rows in read_sentences(path, argument):
        sentences.append(_column(rows, columns.conll_word_column, line, "conll_word_column", path))
        column = _column(rows, columns.conll_tag_column, line, "conll_tag_column", path)
        in_brackets = all("*" in cell for cell in column)
        tags.append(brackets_to_iob2(column, f"line {line} of {str(path)!r}") if in_brackets else column)
    return Dataset.from_dict({names[0]: sentences, names[1]: tags})


def read_propositions(
    path: str | Path, columns: PropositionColumns, argument: str, names: tuple[str, str, str]
) -> Dataset:
    """Reads predicates and their roles.

    Args:
        path: A file like those of CoNLL-2005 (words, ..., predicates, one column of roles for each) or CoNLL-2012.
        columns: Which columns.
        argument: Name of the argument the path came from, for messages.
        names: How the columns of the result are called: words, position of the predicate, roles.

    Returns:
        One row a predicate. Sentences without a predicate have none.

    Raises:
        FileNotFoundError, ValueError: See `read_sentences`; or there are fewer columns than predicates.
    """
    found: dict[str, list] = {name: [] for name in names}
    predicate_column = columns.conll_predicate_column
    first = predicate_column + 1 if columns.conll_roles_column is None else columns.conll_roles_column
    if predicate_column < 0 or first < 0:
        raise ValueError("`conll_predicate_column` and `conll_roles_column` must count from 0.")
    for line, rows in read_sentences(path, argument):
        words = _column(rows, columns.conll_word_column, line, "conll_word_column", path)
        lemmas = _column(rows, predicate_column, line, "conll_predicate_column", path)
        predicates = [index for index, lemma in enumerate(lemmas) if lemma != "-"]
        for number, index in enumerate(predicates):
            column = _column(rows, first + number, line, "conll_roles_column", path)
            where = f"line {line} of {str(path)!r}, column {first + number}"
            for name, value in zip(names, (words, index, brackets_to_iob2(column, where)), strict=True):
                found[name].append(value)
    return Dataset.from_dict(found)
