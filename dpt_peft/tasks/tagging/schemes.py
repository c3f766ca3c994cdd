"""Tags of words: how data sets write them, all turned into IOB2, and the spans that tags stand for."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import Literal

OUTSIDE = "O"
#: How data sets write "no tag", beside "O".
_OUTSIDES = (OUTSIDE, "o", "0", "_", "-")
#: First letter of a tag -> the letter of BIOES. L, U, M and W are how BILOU, BMES and BMEWO write E, S, I and S.
_LETTERS = {"B": "B", "I": "I", "E": "E", "S": "S", "L": "E", "U": "S", "M": "I", "W": "S"}
#: Scheme -> the letters of a span's first, middle and last word, and of a span of one word.
_SCHEMES = {"IOB2": "BIIB", "BIOES": "BIES", "BMES": "BMES", "BILOU": "BILU", "BMEWO": "BMEW", "BIOEW": "BIEW"}
#: The type of spans whose tags name none: "B", "I", "O".
UNNAMED = "SPAN"

#: How plain types ("PER" without a letter) are read: "joined", neighbours of the same type are one span (names), or
#: "single", every tagged word is a span of its own (heads of arguments).
Plain = Literal["joined", "single"]
#: A span of words: type, first word, last word (inclusive).
Span = tuple[str, int, int]


def split_tag(tag: str) -> tuple[str, str]:
    """Split a tag into its letter and its type: ("B", "ARGM-TMP") for "B-ARGM-TMP", ("O", "") for "O".

    Raises:
        ValueError: If the tag is neither "O" nor one of the letters B I E S L U M W, a hyphen and a type.
    """
    if tag == OUTSIDE:
        return OUTSIDE, ""
    letter, hyphen, type_name = tag.partition("-")
    if not hyphen or not type_name or letter not in _LETTERS:
        raise ValueError(f"{tag!r} is no tag of IOB1, IOB2 or BIOES: those are 'O' or like 'B-PER' and 'I-PER'.")
    return _LETTERS[letter], type_name


def read_spans(tags: Sequence[str]) -> list[Span]:
    """Read the spans that a sentence's tags stand for, by the rules of the official `conlleval` script.

    A span ends behind E and S, before B, S and O, and where the type changes. What follows it, or O, begins a new one,
    whatever its letter. So one rule reads IOB1, IOB2 and BIOES, and gives a sense to predictions that are none of them
    ("I-PER" behind "O"). seqeval's `get_entities` does the same, but data must load without the extra that brings it.

    Args:
        tags: One tag a word, see `split_tag`.

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
    """Write spans that do not overlap as IOB2 tags of `length` words."""
    tags = [OUTSIDE] * length
    for type_name, first, last in spans:
        tags[first] = f"B-{type_name}"
        tags[first + 1 : last + 1] = [f"I-{type_name}"] * (last - first)
    return tags


@dataclass(frozen=True)
class _Form:
    """Where a tag has its letter: "B-PER", "PER_B", "b:per", or "B" alone (no separator)."""

    separator: str = "-"
    letter_last: bool = False
    lower: bool = False

    def split(self, tag: str) -> tuple[str, str] | None:
        """Return the letter, in upper case, and the type; None for a tag of another form."""
        if not self.separator:
            letter, type_name = tag, UNNAMED
        elif self.letter_last:
            type_name, _, letter = tag.rpartition(self.separator)
        else:
            letter, _, type_name = tag.partition(self.separator)
        known = letter.upper() in _LETTERS and letter == (letter.lower() if self.lower else letter.upper())
        return (letter.upper(), type_name) if known and type_name else None

    def join(self, letter: str, type_name: str) -> str:
        """Undo `split`."""
        letter = letter.lower() if self.lower else letter
        if not self.separator:
            return letter
        parts = (type_name, letter) if self.letter_last else (letter, type_name)
        return self.separator.join(parts)


_USUAL = _Form()
_FORMS = [
    _Form(separator, letter_last, lower)
    for lower in (False, True)
    for letter_last in (False, True)
    for separator in "-_:/|."
] + [_Form("", lower=False), _Form("", lower=True)]


@dataclass(frozen=True)
class TagScheme:
    """How a data set writes its tags.

    Attributes:
        name: "IOB1", "IOB2", "BIOES", "BMES", "BILOU", "BMEWO", "BIOEW", or "plain": types without a letter.
        outside: How "no tag" is written.
        plain: How plain types are read; None for the other schemes.
        form: Where a tag has its letter.
    """

    name: str = "IOB2"
    outside: str = OUTSIDE
    plain: Plain | None = None
    form: _Form = _USUAL

    def split(self, tag: str) -> tuple[str, str] | None:
        """Return the letter of IOB2 or BIOES and the type; None for "no tag" and for what is no tag of this scheme."""
        if tag == self.outside or not tag:
            return None
        if self.plain is not None:
            return ("I" if self.plain == "joined" else "S"), tag
        parts = self.form.split(tag)
        return None if parts is None else (_LETTERS[parts[0]], parts[1])

    def read(self, tags: Sequence[str]) -> list[str]:
        """Return a sentence's tags as IOB2, with the same spans."""
        parts = [self.split(tag) for tag in tags]
        return write_iob2(read_spans([OUTSIDE if part is None else "-".join(part) for part in parts]), len(tags))

    def write(self, tags: Sequence[str]) -> list[str]:
        """Return IOB2 tags, predicted ones too, as the data set writes them.

        Plain types cannot say where one span ends and a neighbour of its type begins. IOB2 is written tag by tag, so
        that an "I" behind nothing stays one; the other schemes are written by spans.
        """
        if self.plain is not None:
            return [self.outside if tag == OUTSIDE else split_tag(tag)[1] for tag in tags]
        if self.name == "IOB2":
            parts = map(split_tag, tags)
            return [self.outside if letter == OUTSIDE else self.form.join(letter, name) for letter, name in parts]
        if self.name != "IOB1":
            begin, inside, end, single = list(_SCHEMES[self.name])
        written, before = [self.outside] * len(tags), ("", -1)
        for type_name, first, last in read_spans(tags):
            if self.name == "IOB1":
                letters = ["I"] * (last - first + 1)
                letters[0] = "B" if before == (type_name, first - 1) else "I"
            elif first == last:
                letters = [single]
            else:
                letters = [begin, *[inside] * (last - first - 1), end]
            written[first : last + 1] = [self.form.join(letter, type_name) for letter in letters]
            before = (type_name, last)
        return written


def recognise_scheme(
    splits: Mapping[str, Sequence[Sequence[str]]], plain: Plain, names: Sequence[str] = ()
) -> TagScheme:
    """Find the one scheme that all tags of a data set are written in.

    The letter may stand before or behind the type, in upper or lower case, with - _ : / | or . between, or alone ("B",
    "I"). "No tag" may be O, o, 0, _ or -. Tags without letters are plain types.

    Args:
        splits: Name of a split -> tags of its sentences.
        plain: How plain types are to be read.
        names: Further tags that the scheme must have.

    Raises:
        ValueError: If there is no such scheme; the message names the tags that do not fit, and where they stand.
    """
    every = set(chain.from_iterable(chain.from_iterable(splits.values()))).union(names)

    def at(tag: str) -> str:
        rows = ((split, row) for split, rows in splits.items() for row, tags in enumerate(rows) if tag in tags)
        split, row = next(rows, (None, 0))
        return repr(tag) if split is None else f"{tag!r} (row {row} of the {split} data)"

    for tag in sorted(every):
        if not tag or tag != tag.strip():
            raise ValueError(f"{at(tag)} is no tag: it is empty, or has blanks around it.")
        if "*" in tag:
            raise ValueError(f"{at(tag)} is in brackets; those are read from CoNLL files, where all tags are.")
    outsides = [tag for tag in _OUTSIDES if tag in every]
    if len(outsides) > 1:
        raise ValueError(f"{' and '.join(map(at, outsides))} both say that a word has no tag; write one of them.")
    outside = outsides[0] if outsides else OUTSIDE
    inside = sorted(every - {outside})
    if inside and all(tag.removeprefix("-").isdigit() for tag in inside):
        raise ValueError(f"{at(inside[0])} is a number; say with `tag_names` what the numbers stand for.")
    form = _form_of(inside, at)
    scheme = TagScheme("plain", outside, plain) if form is None else TagScheme("IOB2", outside, None, form)
    alike: dict[str, str] = {}
    for _, type_name in filter(None, map(scheme.split, inside)):
        key = unicodedata.normalize("NFKC", type_name).casefold().replace(" ", "")
        if alike.setdefault(key, type_name) != type_name:
            raise ValueError(f"The types {alike[key]!r} and {type_name!r} differ only in how they are written.")
    return scheme if form is None else TagScheme(_name_of(form, inside, splits, at), outside, None, form)


def _form_of(inside: Sequence[str], at: Callable[[str], str]) -> _Form | None:
    """Return where the tags have their letters; None if they have none."""
    fitting = {form: [tag for tag in inside if form.split(tag)] for form in _FORMS}

    def letters(form: _Form) -> set[str]:
        return {parts[0] for tag in inside if (parts := form.split(tag))}

    def believable(form: _Form) -> bool:
        # a span begins with one of these letters; "b_cell" and "VITAMIN-B" alone are no scheme yet
        if form == _USUAL:
            return not letters(form).isdisjoint("BISUW")
        whole = len(fitting[form]) == len(inside) and not form.letter_last
        return not letters(form).isdisjoint("BI") and len(letters(form)) > (0 if whole else 1)

    believed = [form for form in _FORMS if believable(form)]
    for form in believed:
        if len(fitting[form]) == len(inside):
            return form
    if not believed:
        return None
    form = max(believed, key=lambda form: len(fitting[form]))
    others = [tag for tag in inside if tag not in fitting[form]]
    raise ValueError(
        f"Some tags have a letter for the place of the word, like {at(fitting[form][0])}, others do not: "
        f"{', '.join(map(at, others[:5]))}{', ...' if len(others) > 5 else ''}."
    )


def _name_of(
    form: _Form, inside: Sequence[str], splits: Mapping[str, Sequence[Sequence[str]]], at: Callable[[str], str]
) -> str:
    examples = {parts[0]: tag for tag in reversed(inside) if (parts := form.split(tag))}
    name = next((name for name, letters in _SCHEMES.items() if examples.keys() <= set(letters)), None)
    if name is None:
        raise ValueError(
            f"Tags are of more than one scheme: {', '.join(at(examples[key]) for key in sorted(examples))}."
        )
    if name != "IOB2":
        return name
    # IOB1 has "I" at the beginning of a span, and "B" only where a span of the same type is before it
    begins = set()
    for tags in chain.from_iterable(splits.values()):
        before = None
        for parts in map(form.split, tags):
            follows = parts is not None and before is not None and parts[1] == before[1]
            if parts is not None and (parts[0] == "B" or not follows):
                begins.add((parts[0], follows))
            before = parts
    return "IOB1" if ("I", False) in begins and ("B", False) not in begins else "IOB2"


def label_names_of(tags: Iterable[str], types: Sequence[str] = (), *, one_word: bool = False) -> list[str]:
    """Return the labels of a classifier for IOB2 tags: O, then B- and I- of every type.

    Args:
        tags: IOB2 tags, all of the training data.
        types: Types whose order is given, such as those of a `ClassLabel`. The others follow by alphabet.
        one_word: Spans are of one word, so that there is no I- (heads of arguments).
    """
    letters = ["B"] if one_word else ["B", "I"]
    found = {split_tag(tag)[1] for tag in set(tags) if tag != OUTSIDE}
    ordered = [*dict.fromkeys(types), *sorted(found.difference(types))]
    return [OUTSIDE, *(f"{letter}-{type_name}" for type_name in ordered for letter in letters)]
