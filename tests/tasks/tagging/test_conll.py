import re

import pytest
from hypothesis import given, settings, strategies as st

from dpt_peft.tasks import TASKS
from dpt_peft.tasks.tagging.conll import (
    PropositionColumns,
    TaggedColumns,
    brackets_to_iob2,
    read_propositions,
    read_tagged,
    write_tagged,
)

CONLL_2003 = """-DOCSTART- -X- O O

EU NNP I-NP I-ORG
rejects VBZ I-VP O
# NN I-NP O
call NN I-NP O


Peter\tNNP\tI-NP\tI-PER
Blackburn\tNNP\tI-NP\tI-PER"""
# word, part of speech, parse, name, sense, predicate, roles of "said", roles of "runs"
CONLL_2005 = """He PRP * * - - (A0*) *
said VBD * * - say (V*) *
she PRP * * - - (A1* (A0*)
runs VBZ * * - run *) (V*)

Yes UH * * - -
"""
CONLL_2012 = """#begin document (bn/abc); part 000
bn 0 0 Bush NNP (TOP* bush - - - (PERSON) (ARG0*) (12)
bn 0 1 went VBD * go 01 1 - * (V*) -
bn 0 2 home NN * home - 1 - * (ARG1*) -

#end document
"""


def write(tmp_path, text):
    path = tmp_path / "data.conll"
    path.write_text(text)
    return path


def test_conll_2003(tmp_path):
    rows = read_tagged(write(tmp_path, CONLL_2003), TaggedColumns(), "train_file", ("tokens", "ner_tags"))
    assert rows["tokens"][:] == [["EU", "rejects", "#", "call"], ["Peter", "Blackburn"]]
    assert rows["ner_tags"][:] == [["I-ORG", "O", "O", "O"], ["I-PER", "I-PER"]]


@pytest.mark.parametrize("name", ["(PERSON)", "(PERSON*)"])
def test_conll_2012_names_stand_in_brackets(tmp_path, name):
    columns = TaggedColumns(conll_word_column=3, conll_tag_column=10)
    text = CONLL_2012.replace("(PERSON)", name)
    rows = read_tagged(write(tmp_path, text), columns, "train_file", ("words", "tags"))
    assert rows[:] == {"words": [["Bush", "went", "home"]], "tags": [["B-PERSON", "O", "O"]]}


def test_conll_2005_has_one_row_a_predicate(tmp_path):
    names = ("tokens", "predicate_index", "srl_tags")
    rows = read_propositions(write(tmp_path, CONLL_2005), PropositionColumns(), "train_file", names)
    words = ["He", "said", "she", "runs"]
    assert rows[:] == {
        "tokens": [words, words],
        "predicate_index": [1, 3],
        "srl_tags": [["B-A0", "B-V", "B-A1", "I-A1"], ["O", "O", "B-A0", "B-V"]],
    }


def test_conll_2012_roles(tmp_path):
    columns = PropositionColumns(conll_word_column=3, conll_predicate_column=7, conll_roles_column=11)
    rows = read_propositions(write(tmp_path, CONLL_2012), columns, "f", ("words", "at", "roles"))
    assert rows[:] == {"words": [["Bush", "went", "home"]], "at": [1], "roles": [["B-ARG0", "B-V", "B-ARG1"]]}


def test_a_missing_file_says_where_the_data_is_to_be_had(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"`train_file`: there is no file .*LDC2013T19"):
        read_tagged(tmp_path / "eng.train", TaggedColumns(), "train_file", ("tokens", "tags"))


def test_a_line_with_too_few_columns_is_named(tmp_path):
    with pytest.raises(ValueError, match="`conll_tag_column` 3: line 1 of .* has 2 columns: 'a O'"):
        read_tagged(write(tmp_path, "a O\nb O\n"), TaggedColumns(conll_tag_column=3), "f", ("w", "t"))
    with pytest.raises(ValueError, match="line 3 of .* has 1 columns, line 2 has 4: 'b'"):
        read_tagged(write(tmp_path, "\na X X O\nb\n"), TaggedColumns(conll_tag_column=3), "f", ("w", "t"))
    with pytest.raises(ValueError, match="must count from 0"):
        read_propositions(
            write(tmp_path, "a O\n"), PropositionColumns(conll_predicate_column=-1), "f", ("w", "p", "r")
        )


def test_what_is_no_text_is_named(tmp_path):
    (tmp_path / "data.bin").write_bytes(b"\xff\xfe\x00 O\n")
    with pytest.raises(ValueError, match="not a text file in UTF-8"):
        read_tagged(tmp_path / "data.bin", TaggedColumns(), "f", ("w", "t"))


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ("(A0* *", "'A0' is not closed"),
        ("* *)", "'\\*\\)' closes what was not opened"),
        ("(A0* (A1*) *)", "opens within another"),
        ("A0 *", "must hold cells like"),
    ],
)
def test_brackets_that_do_not_fit(column, message):
    with pytest.raises(ValueError, match=message):
        brackets_to_iob2(column.split())


def read(tmp_path, text, **columns):
    """Words and tags of a file with exactly these characters."""
    path = tmp_path / "data.conll"
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8"))
    rows = read_tagged(path, TaggedColumns(**columns), "train_file", ("tokens", "tags"))
    return [list(zip(*row, strict=True)) for row in zip(rows["tokens"][:], rows["tags"][:], strict=True)]


ROME = [[("In", "O"), ("Rome", "B-LOC")], [("Yes", "O")]]


@pytest.mark.parametrize(
    "text",
    [
        "In O\nRome B-LOC\n\nYes O",  # no last line end
        "In O\r\nRome B-LOC\r\n\r\nYes O\r\n",
        "In O\rRome B-LOC\r\rYes O\r",
        "In O\r\r\nRome B-LOC\r\r\n\r\r\nYes O\r\r\n",  # translated twice
        "\ufeffIn O\nRome B-LOC\n\nYes O\n",
        "In O\nRome B-LOC\n\n\ufeffYes O\n",  # two files put together
        "In O\nRome B-LOC\n\ufeff\nYes O\n",
        "\n\n In \t O \nRome\t B-LOC\t\n \t \n\n\nYes O\n\n",
        "-DOCSTART- O\n\nIn O\nRome B-LOC\n-DOCSTART- O\nYes O\n",
        "# a comment\nIn O\nRome B-LOC\n\n# another one\n# and more\n\nYes O\n\n# only a comment",
        "#begin document (x); part 0\nIn O\nRome B-LOC\n\nYes O\n#end document\n",
        "# id 5239d808 domain=en\nIn O\nRome B-LOC\n\n# id 77 domain=en\nYes O\n",  # MultiCoNER
    ],
)
def test_the_same_sentences_however_they_are_written(tmp_path, text):
    assert read(tmp_path, text) == ROME


def test_comments_with_as_many_columns_as_the_words(tmp_path):
    text = "# id 52-39 domain=en\nIn _ _ O\nRome _ _ B-LOC\n\n# id = 7\nYes _ _ O\n"
    assert read(tmp_path, text) == ROME


def test_germeval(tmp_path):
    text = (
        "#\tn-tv.de vom 26.02.2005\t[2005-02-26]\n1\tIn\tO\tO\n2\tRome\tB-LOC\tO\n\n#\thttp://a.de\n1\tYes\tO\tO\n\n"
    )
    assert read(tmp_path, text, conll_word_column=1, conll_tag_column=2) == ROME
    with pytest.raises(ValueError, match="`conll_word_column` 0 of .* holds the words' numbers 1, 2"):
        read(tmp_path, text)


def test_conll_u(tmp_path):
    text = (
        "# global.columns = ID FORM NE\n# newdoc id = 1\n# sent_id = 1\n# text = Zum Rom\n1-2\tZum\t_\n1\tZu\tO\n"
        "2\tdem\tO\n3\tRom\tB-LOC\n3.1\tda\tO\n\n# sent_id = 2\n1\t1-2\tO\n\n"
    )
    assert read(tmp_path, text, conll_word_column=1) == [[("Zu", "O"), ("dem", "O"), ("Rom", "B-LOC")], [("1-2", "O")]]


def test_scores_are_words(tmp_path):
    assert read(tmp_path, "1 O\n2-0 O\n\n3-1 O\n") == [[("1", "O"), ("2-0", "O")], [("3-1", "O")]]


def test_words_that_begin_with_a_number_sign(tmp_path):
    assert read(tmp_path, "#rome B-X\n\n# O\n1 O\n#begin O\n\n#end O\n") == [
        [("#rome", "B-X")],
        [("#", "O"), ("1", "O"), ("#begin", "O")],
        [("#end", "O")],
    ]
    assert read(tmp_path, "#rome\tB-X\n#\tO\n") == [[("#rome", "B-X"), ("#", "O")]]


def test_words_hold_what_is_no_tab(tmp_path):
    text = "New York\tB-LOC\n10\u00a0000\tO\n\tO\n \tO\n\u2003\tO\na\u2028b\x0b\x85\tO \n"
    words = ["New York", "10\u00a0000", "", " ", "\u2003", "a\u2028b\x0b\x85"]
    assert read(tmp_path, text) == [list(zip(words, ["B-LOC", *"OOOOO"], strict=True))]
    # one line without a tab: spaces divide, and only they and tabs do
    assert read(tmp_path, "10\u00a0000\tO\n\u00a0 O\n") == [[("10\u00a0000", "O"), ("\u00a0", "O")]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a O\nNew York B-LOC\n", "line 2 of .*data.conll' has 3 columns, line 1 has 2: 'New York B-LOC'"),
        ("a\tO\n\nb\tO\nc\t\n", "line 4 of .* has 1 columns, line 3 has 2: 'c'"),
        ("a O\n O\n", "line 2 of .* has 1 columns"),
        ("a O\n# what is this\n", "line 2 of .* has 4 columns"),
        ("New York\tB-X\nc\t\n", "line 2 of .* has 1 columns, line 1 has 3: 'c'"),
        ("a\t \tO\nb\tO\tO\n", "`conll_tag_column` 1: line 1 of .* has no tag"),
        (
            "caf\u00e9 O\n".encode("latin-1"),
            "`train_file`: .* is not a text file in UTF-8: line 1 has the byte 0xe9; save it",
        ),
        ("a O\n\nb O\nna\u00efve O\n".encode("cp1252"), "line 4 has the byte 0xef"),
        ("a O\n".encode("utf-16"), "`train_file`: .* is not a text file in UTF-8: .*UTF-16"),
        ("a O\n".encode("utf-16-le"), "is not a text file in UTF-8: line 1 has a zero byte"),
        ('"a"\t"B-X"\n"b"\t"O"\n', 'all tags of .* are in quotes, such as "B-X"; write the file without'),
        ("a (A*\n\nb *)\n", "The sentence in line 1 of .*data.conll'.* 'A' is not closed"),
    ],
)
def test_what_cannot_be_read_is_named_with_file_and_line(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        read(tmp_path, text, conll_tag_column=1)


def test_brackets_are_recognised_over_the_file(tmp_path):
    # "*" alone is a word's tag only where other tags have none
    with pytest.raises(ValueError, match=r"must hold cells like"):
        brackets_to_iob2(["B-X"])
    assert read(tmp_path, "a *\n\nb B-X\n") == [[("a", "*")], [("b", "B-X")]]


def test_roles_without_a_predicate_and_predicates_without_roles(tmp_path):
    columns = PropositionColumns(conll_predicate_column=1)
    with pytest.raises(ValueError, match="the sentence in line 1 of .* has 1 predicates, but 2 columns of roles"):
        read_propositions(write(tmp_path, "a run (V*) *\nb - * *\n"), columns, "f", ("w", "p", "r"))
    with pytest.raises(ValueError, match="has 2 predicates, but 1 columns of roles"):
        read_propositions(write(tmp_path, "a run (V*)\nb go *\n"), columns, "f", ("w", "p", "r"))


def is_word(word):
    return not re.search(r"[\t\r\n]", word) and not word.startswith(("\ufeff", "-DOCSTART-")) and word.isprintable()


WORDS = st.one_of(
    st.sampled_from(["", " ", "#", "#a", "# id 7", "\u00a0", "New York", "e\u0301", "\U0001f469\u200d\U0001f52c"]),
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=6).filter(is_word),
)


@settings(deadline=None)
@given(st.lists(st.lists(st.tuples(WORDS, st.sampled_from(["O", "B-X", "I-X"])), min_size=1, max_size=5), max_size=5))
def test_what_is_written_is_read(tmp_path_factory, sentences):
    path = tmp_path_factory.mktemp("round") / "predictions.tsv"
    columns = [list(zip(*sentence, strict=True)) for sentence in sentences]
    write_tagged(path, columns)
    rows = read_tagged(path, TaggedColumns(), "f", ("words", "tags"))
    found = zip(rows["words"][:], rows["tags"][:], strict=True)
    assert [list(zip(*row, strict=True)) for row in found] == sentences


def test_tabs_and_line_ends_in_words_are_written_as_spaces(tmp_path):
    write_tagged(tmp_path / "p.tsv", [[["a\tb", "c\r\nd"], ["O", "O"]], [[], []]])
    assert (tmp_path / "p.tsv").read_bytes() == b"a b\tO\nc d\tO\n\n\n"


@pytest.mark.parametrize("text", ["In\nRome\n\nYes\n", "In\t\nRome\t\n\nYes\t\n"])
def test_a_file_of_words_alone_has_no_tags(tmp_path, text):
    rows = read_tagged(write(tmp_path, text), TaggedColumns(), "test_file", ("tokens", "tags"))
    assert rows[:] == {"tokens": [["In", "Rome"], ["Yes"]]}


def test_words_are_not_their_own_tags(tmp_path):
    with pytest.raises(ValueError, match="the column of the words in line 3 of .*, which has 1 columns"):
        read(tmp_path, "a\tO\n\nb\n")
    for columns in ({"conll_tag_column": 0}, {"conll_word_column": -1}, {"conll_word_column": 1}):
        with pytest.raises(ValueError, match="`conll_tag_column` .* is the column of the words"):
            read(tmp_path, "a O\n", **columns)


def test_an_empty_file_has_no_sentences(tmp_path):
    for text in ("", "\n \n", "\ufeff", "-DOCSTART-\n"):
        assert read(tmp_path, text) == []


@st.composite
def files(draw):
    """A file with all that stands around words, and the sentences that are in it."""
    tabs, end = draw(st.booleans()), draw(st.sampled_from(["\n", "\r\n", "\r", "\r\r\n"]))
    word = WORDS if tabs else st.sampled_from(["Rome", "#", "#tag", "\u00a0", "e\u0301", "1-2", "10\u00a0000", "="])
    tagged = st.tuples(word, st.sampled_from(["NN", "=", "id"]), st.sampled_from(["O", "B-X", "I-X"]))
    sentences = draw(st.lists(st.lists(tagged, min_size=1, max_size=4), min_size=1, max_size=4))
    sentences[0].append(("Rome", "NN", "O"))  # a file in which "#" is in all lines could be all comments
    comment = st.sampled_from(["# newdoc", "# text = a b", "#", "# id 7-b domain=en split=dev", "#\ta source [2005]"])
    lines = [""] * draw(st.integers(0, 2))
    for sentence in sentences:
        lines += draw(st.sampled_from([[], ["-DOCSTART- X O", ""], ["#begin document (a/b); part 000"]]))
        lines += draw(st.lists(comment, max_size=2))
        for number, cells in enumerate(sentence):
            # a line of "# id x y" in spaces could be a comment as MultiCoNER has them, if it comes first
            cells = ("Rome", *cells[1:]) if number == 0 and not tabs and cells[0] == "#" else cells
            sentence[number] = cells
            # where the separators differ, that of the first line is a space
            lines.append(("\t" if tabs else draw(st.sampled_from([" ", "\t"])) if number else " ").join(cells))
            lines[-1] += draw(st.sampled_from(["", " ", "\t" if tabs else " \t"]))
        lines += draw(st.sampled_from([[""], ["", ""], [" \t"], ["\ufeff"]]))
    marks = draw(st.lists(st.sampled_from(["", "", "\ufeff"]), min_size=len(lines), max_size=len(lines)))
    text = end.join(mark + line for mark, line in zip(marks, lines, strict=True))
    return text, [[(cells[0], cells[-1]) for cells in sentence] for sentence in sentences]


@settings(deadline=None, max_examples=100)
@given(files())
def test_sentences_and_words_are_those_of_the_file(tmp_path_factory, file):
    text, sentences = file
    assert read(tmp_path_factory.mktemp("file"), text) == sentences


NAMES = TASKS["token-classification"]


@pytest.mark.parametrize("line", ["word\ttag", "Token NER", "tokens\tpos\tner_tags"])
def test_a_line_that_names_the_columns_is_refused(tmp_path, line):
    path = tmp_path / "x.tsv"
    path.write_text(f"{line}\n" + "\t".join(["Ann", "PER", "PER"][: len(line.split())]) + "\n")
    with pytest.raises(ValueError, match="`train_file`: line 1 of .* names the columns; delete it"):
        NAMES.load(NAMES.arguments(train_file=str(path)))
