import pytest

from dpt_peft.tasks.tagging.conll import (
    PropositionColumns,
    TaggedColumns,
    brackets_to_iob2,
    read_propositions,
    read_tagged,
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
# the bracket column of CoNLL-2012 has an asterisk in every cell
CONLL_2012 = CONLL_2012.replace("(PERSON)", "(PERSON*)")


def write(tmp_path, text):
    path = tmp_path / "data.conll"
    path.write_text(text)
    return path


def test_conll_2003(tmp_path):
    rows = read_tagged(write(tmp_path, CONLL_2003), TaggedColumns(), "train_file", ("tokens", "ner_tags"))
    assert rows["tokens"][:] == [["EU", "rejects", "#", "call"], ["Peter", "Blackburn"]]
    assert rows["ner_tags"][:] == [["I-ORG", "O", "O", "O"], ["I-PER", "I-PER"]]


def test_conll_2012_names_stand_in_brackets(tmp_path):
    columns = TaggedColumns(conll_word_column=3, conll_tag_column=10)
    rows = read_tagged(write(tmp_path, CONLL_2012), columns, "train_file", ("words", "tags"))
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
    with pytest.raises(ValueError, match="`conll_tag_column` 3: line 2 of .* has 1 columns: 'b'"):
        read_tagged(write(tmp_path, "a X X O\nb\n"), TaggedColumns(conll_tag_column=3), "f", ("w", "t"))
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
