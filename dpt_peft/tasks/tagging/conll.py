"""Files in the columns of the CoNLL shared tasks: one word a line, a blank line between sentences.

Licensed corpora cannot be shipped or downloaded; who has them has them in this form.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from datasets import Dataset
from transformers.hf_argparser import HfArg

from dpt_peft.tasks.data import as_cell, decode, read_bytes
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

    conll_word_column: int = HfArg(default=0, help="CoNLL files: column of the words; CoNLL-2012: 3.")
    conll_tag_column: int = HfArg(
        default=-1, help="CoNLL files: column of the tags, 'B-PER' or in brackets '(ORG*'; CoNLL-2012: 10."
    )


@dataclass
class PropositionColumns:
    """Which columns of a CoNLL file hold words, predicates and roles. Columns count from 0."""

    conll_word_column: int = HfArg(default=0, help="CoNLL files: column of the words; CoNLL-2012: 3.")
    conll_predicate_column: int = HfArg(
        default=5, help="CoNLL files: column that is '-' in all rows but the predicates'; CoNLL-2012: 7."
    )
    conll_roles_column: int | None = HfArg(
        default=None,
        help="CoNLL files: the first of the roles' columns, one a predicate. Default: behind the predicates' "
        "column; CoNLL-2012: 11.",
    )


@dataclass(frozen=True)
class Sentence:
    """The lines of a sentence.

    Attributes:
        path: The file.
        numbers: Number of each line in the file, from 1.
        cells: Columns of each line.
    """

    path: str
    numbers: list[int]
    cells: list[list[str]]

    def column(self, column: int, argument: str) -> list[str]:
        """Return the cells of a column, which `argument` names.

        Raises:
            ValueError: If there is no such column, or a line has not as many columns as the first.
        """
        width = len(self.cells[0])
        for number, cells in zip(self.numbers, self.cells, strict=True):
            if len(cells) != width or not -width <= column < width:
                raise ValueError(
                    f"`{argument}` {column}: line {number} of {self.path!r} has {len(cells)} columns"
                    f"{f', line {self.numbers[0]} has {width}' if len(cells) != width else ''}: {' '.join(cells)!r}."
                )
        return [cells[column] for cells in self.cells]

    def tags(self, column: int, argument: str) -> list[str]:
        """Return the cells of a column that none may be empty in. Spaces around them do not count."""
        tags = [cell.strip(" ") for cell in self.column(column, argument)]
        if "" in tags:
            raise ValueError(
                f"`{argument}` {column}: line {self.numbers[tags.index('')]} of {self.path!r} has no tag."
            )
        return tags


def read_sentences(path: str | Path, argument: str, word_column: int) -> list[Sentence]:
    """Read the sentences of a CoNLL file.

    Columns are divided by tabs if every line of a word has one, so that a word may hold spaces or be empty; else by
    spaces and tabs. Byte-order marks at the beginning of lines and blanks at their end do not count. Between sentences
    stand blank lines, `-DOCSTART-` and CoNLL-2012's "#begin document". Comments before a sentence are passed over:
    lines like "# id ..." and "# text = ...", and those that begin with a "#" of its own and have fewer or more columns
    than the words have. So are the lines "1-2" and "1.1" of CoNLL-U, beside the words 1, 2, ...

    Args:
        path: The file, UTF-8.
        argument: Name of the argument the path came from, for messages.
        word_column: Column of the words.

    Raises:
        FileNotFoundError: If there is no such file; the message says where licensed data is to be had.
        ValueError: If it is not text in UTF-8, its first line names the columns, or the words are their own numbers.
    """
    lines = _read_lines(path, argument)
    known = [line for line in lines if line and not _BREAK.match(line)]
    words = [line for line in known if not _HASH.match(line)] or known
    tabs = all("\t" in line.rstrip(" \t") for line in words)
    widths = {len(_divide(line, tabs)) for line in words}
    sentences: list[Sentence] = []
    block: list[tuple[int, str]] = []
    for number, line in enumerate([*lines, ""], start=1):
        if line and not _BREAK.match(line):
            block.append((number, line))
        else:
            rows = list(_without_comments(block, tabs, widths))
            if word_column != 0 and _are_numbered(cells for _, cells in rows):
                rows = [(number, cells) for number, cells in rows if not _BETWEEN.fullmatch(cells[0])]
            if rows:
                numbers, columns = zip(*rows, strict=True)
                sentences.append(Sentence(str(path), list(numbers), list(columns)))
            block = []
    first = [cell.strip().lower() for cell in sentences[0].cells[0]] if sentences else []
    if len(first) > 1 and {*first} <= _NAMES_OF_COLUMNS:
        raise ValueError(
            f"`{argument}`: line {sentences[0].numbers[0]} of {str(path)!r} names the columns; delete it."
        )
    if (
        word_column == 0
        and any(len(sentence.cells) > 1 for sentence in sentences)
        and all(_are_numbered(sentence.cells) for sentence in sentences)
    ):
        raise ValueError(
            f"`conll_word_column` 0 of {str(path)!r} holds the words' numbers 1, 2, ...; say which column holds words."
        )
    return sentences


def _read_lines(path: str | Path, argument: str) -> list[str]:
    """Return the lines of a file; those of blanks only are empty."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"`{argument}`: there is no file {str(path)!r}. If you need the data: {SOURCES}")
    try:
        text = decode(read_bytes(Path(path)))
    except ValueError as error:
        raise ValueError(f"`{argument}`: {str(path)!r} is not a text file in UTF-8: {error}") from error
    # an older system's line ends, and those that were translated twice
    lines = re.sub(r"\r*\n|\r", "\n", text).split("\n")
    return [line.lstrip("\ufeff") if line.strip("\ufeff \t") else "" for line in lines]


def _divide(line: str, tabs: bool) -> list[str]:
    return line.rstrip(" \t").split("\t") if tabs else re.split("[ \t]+", line.strip(" \t"))


def _without_comments(block: list[tuple[int, str]], tabs: bool, widths: set[int]) -> Iterator[tuple[int, list[str]]]:
    rows = [(line, number, _divide(line, tabs)) for number, line in block]
    expected = {len(cells) for line, _, cells in rows if not _HASH.match(line)} or widths
    before = True
    for line, number, cells in rows:
        # "#" is also a word in news ("# 1"), with a tag beside it
        looks_so = not tabs and re.match(r"#\s+id\s|#\s.*\s=\s", line) is not None
        before = before and _HASH.match(line) is not None and (looks_so or len(cells) not in expected)
        if not before:
            yield number, cells


#: What stands between sentences, beside blank lines.
_BREAK = re.compile(r"-DOCSTART-|#(begin|end) document\b")
#: A comment, or the word "#".
_HASH = re.compile(r"#(\s|$)")
#: What a first line that names the columns says.
_NAMES_OF_COLUMNS = {
    *("word", "words", "token", "tokens", "text", "form", "pos", "chunk", "lemma"),
    *("tag", "tags", "label", "labels", "ner", "ner_tag", "ner_tags", "srl_tags", "predicate"),
    *("entity", "entities", "ne", "bio", "iob", "type", "class", "role", "roles"),
}
#: CoNLL-U's numbers of words that were written as one ("1-2") and of words that were not written ("1.1").
_BETWEEN = re.compile(r"\d+[-.]\d+")


def _are_numbered(rows: Iterable[list[str]]) -> bool:
    numbers = [cells[0] for cells in rows if not _BETWEEN.fullmatch(cells[0])]
    return bool(numbers) and numbers == [str(index + 1) for index in range(len(numbers))]


def _with_star(cell: str) -> str:
    """Write "(GPE)", as CoNLL-2012 has names of one word, as "(GPE*)"."""
    return re.sub(r"^\(([^()*]+)\)$", r"(\1*)", cell)


def brackets_to_iob2(column: list[str], where: str = "a column") -> list[str]:
    """Turn a column in brackets, "(A0*", "*", "*)", "(V*)" or "(V)", into IOB2 tags.

    Raises:
        ValueError: If a bracket is not closed, or stands within another.
    """
    spans, opened = [], None
    for index, cell in enumerate(map(_with_star, column)):
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
    """Read words and tags.

    Args:
        path: A file like those of CoNLL-2003 or CoNLL-2012.
        columns: Which columns.
        argument: Name of the argument the path came from, for messages.
        names: How the columns of the result are called: words, tags.

    Returns:
        One row a sentence; tags as they stand in the file, brackets as IOB2. A file of words alone, one a line, has no
        column of tags.

    Raises:
        FileNotFoundError, ValueError: See `read_sentences`; or a line has too few columns, too many, or no tag; or the
            words are their own tags.
    """
    sentences = read_sentences(path, argument, columns.conll_word_column)
    words = [sentence.column(columns.conll_word_column, "conll_word_column") for sentence in sentences]
    if columns.conll_tag_column == -1 and sentences and all(len(sentence.cells[0]) == 1 for sentence in sentences):
        return Dataset.from_dict({names[0]: words})
    tags = [sentence.tags(columns.conll_tag_column, "conll_tag_column") for sentence in sentences]
    for sentence in sentences:
        width = len(sentence.cells[0])
        if columns.conll_tag_column % width == columns.conll_word_column % width:
            raise ValueError(
                f"`conll_tag_column` {columns.conll_tag_column} is the column of the words in line "
                f"{sentence.numbers[0]} of {str(path)!r}, which has {width} columns."
            )
    quoted = [tag for row in tags for tag in row if len(tag) > 1 and tag[0] == tag[-1] == '"']
    if quoted and len(quoted) == sum(map(len, tags)):
        raise ValueError(
            f"`{argument}`: all tags of {str(path)!r} are in quotes, such as {quoted[0]}; write the file without."
        )
    if all("*" in _with_star(tag) for row in tags for tag in row):
        tags = [
            brackets_to_iob2(row, f"The sentence in line {sentence.numbers[0]} of {str(path)!r}")
            for sentence, row in zip(sentences, tags, strict=True)
        ]
    return Dataset.from_dict({names[0]: words, names[1]: tags})


def read_propositions(
    path: str | Path, columns: PropositionColumns, argument: str, names: tuple[str, str, str]
) -> Dataset:
    """Read predicates and their roles.

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
    for sentence in read_sentences(path, argument, columns.conll_word_column):
        words = sentence.column(columns.conll_word_column, "conll_word_column")
        lemmas = sentence.tags(predicate_column, "conll_predicate_column")
        predicates = [index for index, lemma in enumerate(lemmas) if lemma != "-"]
        where = f"The sentence in line {sentence.numbers[0]} of {str(path)!r}"
        roles = len(sentence.cells[0]) - first
        if columns.conll_roles_column is None and roles != len(predicates):
            raise ValueError(
                f"`conll_predicate_column` {predicate_column}: {where[0].lower()}{where[1:]} has {len(predicates)} "
                f"predicates, but {roles} columns of roles behind them."
            )
        for number, index in enumerate(predicates):
            column = sentence.tags(first + number, "conll_roles_column")
            tags = brackets_to_iob2(column, f"{where}, column {first + number}")
            for name, value in zip(names, (words, index, tags), strict=True):
                found[name].append(value)
    return Dataset.from_dict(found)


def write_tagged(path: Path, sentences: Iterable[Sequence[Sequence[str]]]) -> None:
    """Write words and tags, a line a word, with tabs between columns and a blank line behind every sentence.

    Args:
        path: The file.
        sentences: Columns of each sentence: its words, ..., its tags. A tab or line end in a word becomes a space.
    """
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for columns in sentences:
            for cells in zip(*columns, strict=True):
                file.write("\t".join(map(as_cell, cells)) + "\n")
            file.write("\n")
