"""Tags of words: the schemes that data sets come in, all turned into IOB2, and the spans that tags stand for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Literal

OUTSIDE = "O"
#: First letter of a tag -> the letter of IOB2 or BIOES. L, U and M are how BILOU and BMES write E, S and I.
_LETTERS = {"B": "B", "I": "I", "E": "E", "S": "S", "L": "E", "U": "S", "M": "I"}

#: How plain types are read, see `to_iob2`.
Plain = Literal["joined", "single"]
#: A span of words: type, first word, last word (inclusive).
Span = tuple[str, int, int]


def split_tag(tag: str) -> tuple[str, str]:
    """Splits a tag into its letter and its type: ("B", "ARGM-TMP") for "B-ARGM-TMP", ("O", "") for "O".

    Raises:
        ValueError: If the tag is neither "O" nor one of the letters B I E S L U M, a hyphen and a type.
    """
    if tag == OUTSIDE:
        return OUTSIDE, ""
    letter, hyphen, type_name = tag.partition("-")
    if not hyphen or not type_name or letter not in _LETTERS:
        raise ValueError(f"{tag!r} is no tag of IOB1, IOB2 or BIOES: those are 'O' or like 'B-PER' and 'I-PER'.")
    return _LETTERS[letter], type_name


def read_spans(tags: Sequence[str]) -> list[Span]:
    """Reads the spans that a sentence's tags stand for, by the rules of the official `conlleval` script.

    A span ends behind E and S, before B, S and O, and where the type changes. What follows it, or O, begins a new one,
    whatever its letter. So one rule reads IOB1, IOB2 and BIOES, and gives a sense to predictions that are none of them
    ("I-PER" behind "O").

    Args:
        tags: One tag a word.

    Returns:
        The spans in the order of the words.

    Raises:
        ValueError: See `split_tag`.
    """
    spans: list[Span] = []
    start, parts = 0, [*map(split_tag, tags), (OUTSIDE, "")]
    for index, ((letter, type_name), (next_letter, next_type)) in enumerate(pairwise(parts)):
        if letter == OUTSIDE:
            start = index + 1
        elif letter in "ES" or next_letter in "BSO" or next_type != type_name:
            spans.append((type_name, start, index))
            start = index + 1
        if next_letter in "BS":
            start = index + 1
    return spans


def write_iob2(spans: Iterable[Span], length: int) -> list[str]:
    """Writes spans that do not overlap as IOB2 tags of `length` words."""
    tags = [OUTSIDE] * length
    for type_name, first, last in spans:
        tags[first] = f"B-{type_name}"
        tags[first + 1 : last + 1] = [f"I-{type_name}"] * (last - first)
    return tags


def has_prefixes(tags: Iterable[str]) -> bool:
    """Says whether tags are of IOB1, IOB2 or BIOES ("B-PER"), or else plain types ("PER", "C-ARG1").

    Raises:
        ValueError: If some are and some are not.
    """

    def well_formed(tag: str) -> bool:
        letter, hyphen, type_name = tag.partition("-")
        return letter in _LETTERS and bool(hyphen and type_name)

    inside = sorted({tag for tag in tags if tag != OUTSIDE})
    with_prefix = [tag for tag in inside if well_formed(tag)]
    if with_prefix and len(with_prefix) < len(inside):
        plain = next(tag for tag in inside if not well_formed(tag))
        raise ValueError(f"Some tags are of IOB1, IOB2 or BIOES, like {with_prefix[0]!r}, others are not: {plain!r}.")
    return not inside or bool(with_prefix)


def to_iob2(tags: Sequence[str], *, plain: Plain | None = None) -> list[str]:
    """Turns a sentence's tags of any scheme into IOB2, with the same spans.

    Args:
        tags: One tag a word.
        plain: How plain types ("PER") are read, if the tags are such: "joined", neighbours of the same type are one
            span (names), or "single", every tagged word is a span of its own (heads of arguments).

    Raises:
        ValueError: If a tag is of no known scheme.
    """
    if plain is None:
        return write_iob2(read_spans(tags), len(tags))
    letter = "I" if plain == "joined" else "S"
    return to_iob2([tag if tag == OUTSIDE else f"{letter}-{tag}" for tag in tags])


def label_names_of(tags: Iterable[str], types: Sequence[str] = (), *, one_word: bool = False) -> list[str]:
    """Returns the labels of a classifier for IOB2 tags: O, then B- and I- of every type.

    Args:
        tags: IOB2 tags, all of the training data.
        types: Types whose order is given, such as those of a `ClassLabel`. The others follow by alphabet.

        one_word: Spans are of one word, so that there is no I- (heads of arguments).
    """
    letters = ["B"] if one_word else ["B", "I"]
    found = {split_tag(tag)[1] for tag in set(tags) if tag != OUTSIDE}
    ordered = [*dict.fromkeys(types), *sorted(found.difference(types))]
    return [OUTSIDE, *(f"{letter}-{type_name}" for type_name in ordered for letter in letters)]
