import re

import pytest
from hypothesis import given, settings, strategies as st
from seqeval.metrics.sequence_labeling import get_entities

from dpt_peft.tasks.tagging.schemes import label_names_of, read_spans, recognise_scheme, split_tag, write_iob2

# The same three entities, a two-word and a one-word PER side by side and a LOC, in every scheme.
IOB2 = ["B-PER", "I-PER", "B-PER", "O", "B-LOC"]
SCHEMES = {
    "IOB1": "I-PER I-PER B-PER O I-LOC",
    "IOB2": "B-PER I-PER B-PER O B-LOC",
    "BIOES": "B-PER E-PER S-PER O S-LOC",
    "BILOU": "B-PER L-PER U-PER O U-LOC",
    "BMEWO": "B-PER E-PER W-PER O W-LOC",
}


def scheme_of(*sentences, plain="joined", names=()):
    return recognise_scheme({"train": [tags.split(" ") for tags in sentences]}, plain, names)


@pytest.mark.parametrize(("name", "tags"), SCHEMES.items(), ids=SCHEMES)
def test_every_scheme_becomes_iob2_and_is_written_back(name, tags):
    scheme = scheme_of(tags)
    assert scheme.name == name
    assert scheme.read(tags.split()) == IOB2
    assert scheme.write(IOB2) == tags.split()


@pytest.mark.parametrize(
    ("name", "tags"),
    [("BIOES", "B-X I-X E-X"), ("BMES", "B-X M-X E-X"), ("BILOU", "B-X I-X L-X"), ("BIOEW", "B-X I-X E-X W-X")],
)
def test_spans_of_three_words(name, tags):
    scheme = scheme_of(tags)
    assert scheme.name == name
    assert scheme.read(tags.split())[:3] == ["B-X", "I-X", "I-X"]
    assert scheme.write(["B-X", "I-X", "I-X"]) == tags.split()[:3]


@pytest.mark.parametrize(
    ("tags", "iob2"),
    [
        ("O B_LOC I_LOC B_PER", "O B-LOC I-LOC B-PER"),
        ("O LOC-B LOC-I PER-B", "O B-LOC I-LOC B-PER"),
        ("O ARGM-TMP_S V_B V_E", "O B-ARGM-TMP B-V I-V"),
        ("o b-loc i-loc b-per", "O B-loc I-loc B-per"),
        ("O B:LOC I:LOC B:PER", "O B-LOC I-LOC B-PER"),
        ("o loc/b loc/i loc/b", "O B-loc I-loc B-loc"),
        ("0 B-LOC I-LOC B-PER", "O B-LOC I-LOC B-PER"),
        ("0 LOC LOC PER", "O B-LOC I-LOC B-PER"),
        ("_ LOC LOC PER", "O B-LOC I-LOC B-PER"),
        ("o u|loc b|loc l|loc", "O B-loc B-loc I-loc"),
        ("O B I B", "O B-SPAN I-SPAN B-SPAN"),
        ("o b i b", "O B-SPAN I-SPAN B-SPAN"),
        ("O B-GENE_or_protein I-GENE_or_protein", "O B-GENE_or_protein I-GENE_or_protein"),
        ("O E-mail VITAMIN-B b_cell", "O B-E-mail B-VITAMIN-B B-b_cell"),  # no scheme: types
        ("O O", "O O"),
    ],
)
def test_other_spellings_become_iob2_and_are_written_back(tags, iob2):
    scheme = scheme_of(tags)
    assert scheme.read(tags.split()) == iob2.split()
    assert scheme.write(iob2.split()) == tags.split()


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ("B-PER LOC", r"like 'B-PER' \(row 0 of the train data\), others do not: 'LOC' \(row 0"),
        ("B-PER B- B-", "others do not: 'B-'"),
        ("B-PER X-PER", "others do not: 'X-PER'"),
        ("B-PER I_PER", "others do not: 'I_PER'"),
        ("B_PER I_PER LOC", "others do not: 'LOC'"),
        ("B-PER i-PER", "others do not: 'i-PER'"),
        ("B-PER B", "others do not: 'B'"),
        ("O 0 B-PER", r"'O' .* and '0' .* both say that a word has no tag"),
        ("O o PER", r"'O' .* and 'o' "),
        ("B-PER S-PER L-PER", "more than one scheme: 'B-PER' .*, 'L-PER' .*, 'S-PER'"),
        ("0 1 2", r"'1' \(row 0 of the train data\) is a number; say with `tag_names`"),
        ("O ²", "is a number"),
        ("B-LOC I-Loc", "'LOC' and 'Loc' differ only in how they are written"),
        ("B-Caf\u00e9 B-Cafe\u0301", "differ only in how they are written"),
        ("(A0* *) (V*)", "is in brackets"),
        ("B-X  O", "'' .* is no tag: it is empty, or has blanks around it"),
        ("B-X B-X\t", "it is empty, or has blanks around it"),
    ],
)
def test_tags_of_no_one_scheme_are_named(tags, message):
    with pytest.raises(ValueError, match=message):
        scheme_of(tags)


def test_a_scheme_is_that_of_all_the_data():
    # no sentence of these says alone that "B" is a beginning, or that E and S may occur
    splits = {"train": [["LOC_B"], ["O"]], "test": [["LOC_B", "LOC_E"], ["PER_S"]]}
    scheme = recognise_scheme(splits, "joined")
    assert (scheme.name, scheme.read(["LOC_B"])) == ("BIOES", ["B-LOC"])
    # IOB1 in one sentence, IOB2 in the other: IOB2 whose "I" may begin
    assert scheme_of("I-X", "O B-X").name == "IOB2"
    with pytest.raises(ValueError, match=r"'PER' \(row 1 of the test data\)"):
        recognise_scheme({"train": [["B-LOC"]], "test": [["O"], ["PER"]]}, "joined")


def test_names_belong_to_the_scheme():
    assert scheme_of("LOC_B", names=["O", "LOC_B", "LOC_I"]).read(["LOC_B"]) == ["B-LOC"]
    with pytest.raises(ValueError, match="others do not: 'PER'"):
        scheme_of("B-LOC", names=["PER"])


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
    tags = "PER PER O ARGM-TMP C-ARG1 C-ARG1"
    joined = ["B-PER", "I-PER", "O", "B-ARGM-TMP", "B-C-ARG1", "I-C-ARG1"]
    single = ["B-PER", "B-PER", "O", "B-ARGM-TMP", "B-C-ARG1", "B-C-ARG1"]
    for plain, iob2 in (("joined", joined), ("single", single)):
        scheme = scheme_of(tags, plain=plain)
        assert scheme.read(tags.split()) == iob2
        assert scheme.write(iob2) == tags.split()
        assert scheme.write(["B-PER", "I-ARGM-TMP"]) == ["PER", "ARGM-TMP"]


def test_predictions_that_are_no_scheme_are_written():
    predicted = ["O", "I-X", "I-Y", "B-Y"]
    assert scheme_of("B-X O").write(predicted) == predicted
    assert scheme_of("I-X O").write(predicted) == ["O", "I-X", "I-Y", "B-Y"]
    assert scheme_of("B-X L-X U-X").write(predicted) == ["O", "U-X", "U-Y", "U-Y"]


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


def respelled(spans, length, letters, write):
    """Tags of spans, word by word from the definition of the scheme."""
    tags, before = ["O"] * length, None
    for kind, first, last in spans:
        for word in range(first, last + 1):
            alone, begins, ends = first == last, word == first, word == last
            if letters == "IOB1":
                letter = "B" if begins and before == (kind, first - 1) else "I"
            else:
                letter = letters[3] if alone else letters[0] if begins else letters[2] if ends else letters[1]
            tags[word] = write(letter, kind)
        before = (kind, last)
    return tags


SPELLINGS = [
    lambda letter, kind: f"{letter}-{kind}",
    lambda letter, kind: f"{letter}_{kind}",
    lambda letter, kind: f"{kind}-{letter}",
    lambda letter, kind: f"{letter.lower()}:{kind}",
]


@st.composite
def sentences(draw):
    spans, at = [], 0
    for _ in range(draw(st.integers(0, 4))):
        first = at + draw(st.integers(0, 2))
        last = first + draw(st.integers(0, 3))
        spans.append((draw(st.sampled_from(["X", "Y-Z", "W_1"])), first, last))
        at = last + 1
    return spans, at + draw(st.integers(0, 2))


@settings(deadline=None)
@given(
    st.lists(sentences(), min_size=1, max_size=4),
    st.sampled_from(["BIIB", "IOB1", "BIES", "BMES", "BILU", "BMEW"]),
    st.sampled_from(SPELLINGS),
)
def test_any_spelling_of_any_scheme_is_read_and_written_back(data, letters, write):
    # a sentence with all letters of the scheme is in the data; without them no scheme could be known
    data = [([("X", 0, 2), ("X", 3, 3), ("Y-Z", 4, 5)], 6), *data]
    tags = [respelled(spans, length, letters, write) for spans, length in data]
    scheme = recognise_scheme({"train": tags[:1], "validation": tags[1:]}, "joined")
    for (spans, length), row in zip(data, tags, strict=True):
        assert scheme.read(row) == write_iob2(spans, length)
        assert scheme.write(scheme.read(row)) == row
