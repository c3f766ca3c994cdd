import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from seqeval.metrics.sequence_labeling import get_entities

from dpt_peft.tasks.tagging.schemes import has_prefixes, label_names_of, read_spans, split_tag, to_iob2, write_iob2

# The same three entities, a two-word and a one-word PER side by side and a LOC, in every scheme.
IOB2 = ["B-PER", "I-PER", "B-PER", "O", "B-LOC"]
SCHEMES = {
    "IOB1": "I-PER I-PER B-PER O I-LOC",
    "IOB2": "B-PER I-PER B-PER O B-LOC",
    "BIOES": "B-PER E-PER S-PER O S-LOC",
    "BILOU": "B-PER L-PER U-PER O U-LOC",
}


@pytest.mark.parametrize("tags", SCHEMES.values(), ids=SCHEMES)
def test_every_scheme_becomes_iob2(tags):
    assert to_iob2(tags.split()) == IOB2


def test_three_words_in_bioes_and_bmes():
    assert to_iob2(["B-X", "I-X", "E-X"]) == to_iob2(["B-X", "M-X", "E-X"]) == ["B-X", "I-X", "I-X"]


@pytest.mark.parametrize(
    ("tags", "spans"),
    [
        ("O I-PER I-PER", [("PER", 1, 2)]),  # no B-
        ("B-PER I-LOC", [("PER", 0, 0), ("LOC", 1, 1)]),  # the type changes within
        ("I-LOC E-LOC E-LOC", [("LOC", 0, 1), ("LOC", 2, 2)]),  # an end behind an end
        ("S-LOC I-LOC", [("LOC", 0, 0), ("LOC", 1, 1)]),
        ("O O", []),
        ("", []),
    ],
)
def test_what_is_no_scheme_is_read_as_conlleval_does(tags, spans):
    assert read_spans(tags.split()) == spans


def test_plain_types():
    tags = ["PER", "PER", "O", "ARGM-TMP", "C-ARG1", "C-ARG1"]
    assert to_iob2(tags, plain="joined") == ["B-PER", "I-PER", "O", "B-ARGM-TMP", "B-C-ARG1", "I-C-ARG1"]
    assert to_iob2(tags, plain="single") == ["B-PER", "B-PER", "O", "B-ARGM-TMP", "B-C-ARG1", "B-C-ARG1"]


def test_prefixes_or_not():
    assert has_prefixes(["O", "B-PER", "I-ARGM-TMP"])
    assert has_prefixes(["O"])
    assert not has_prefixes(["O", "V", "C-ARG1", "ARGM-TMP"])
    with pytest.raises(ValueError, match="like 'B-PER', others are not: 'LOC'"):
        has_prefixes(["B-PER", "LOC"])


@pytest.mark.parametrize("tag", ["PER", "X-PER", "B-", "", "o"])
def test_tags_of_no_scheme_are_named(tag):
    with pytest.raises(ValueError, match=re.escape(repr(tag))):
        split_tag(tag)


def test_types_may_have_hyphens():
    assert split_tag("B-ARGM-TMP") == ("B", "ARGM-TMP")


def test_label_names():
    assert label_names_of(["B-LOC", "O", "I-PER"]) == ["O", "B-LOC", "I-LOC", "B-PER", "I-PER"]
    assert label_names_of(["B-LOC", "I-LOC"], types=["PER", "PER", "LOC"]) == ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
    assert label_names_of(["B-V", "O", "B-ARG0"], one_word=True) == ["O", "B-ARG0", "B-V"]


@settings(deadline=None)
@given(st.lists(st.sampled_from(["O", *(f"{letter}-{kind}" for letter in "BIES" for kind in "XY")]), max_size=8))
def test_spans_cover_the_tagged_words_once_and_iob2_keeps_them(tags):
    spans = read_spans(tags)
    covered = [word for _, first, last in spans for word in range(first, last + 1)]
    assert covered == [index for index, tag in enumerate(tags) if tag != "O"]
    assert read_spans(write_iob2(spans, len(tags))) == spans
    assert spans == get_entities(tags)
