import gzip
import json
import logging

import datasets
import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Sequence, Value
from transformers import BertTokenizer

from dpt_peft.tasks import (
    SemanticRoleArguments,
    SemanticRoleLabeling,
    TokenClassification,
    TokenClassificationArguments,
)


@pytest.fixture(scope="module")
def tokenizer():
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "c"]
    return BertTokenizer(vocab={piece: index for index, piece in enumerate(pieces)})


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def names(tmp_path, rows, test=None, **more):
    files = {"train_file": write(tmp_path / "train.jsonl", rows)}
    if test is not None:
        files["test_file"] = write(tmp_path / "test.jsonl", test)
    return TokenClassification().load(TokenClassificationArguments(**files, **more))


def roles(tmp_path, rows, **more):
    return SemanticRoleLabeling().load(SemanticRoleArguments(train_file=write(tmp_path / "train.jsonl", rows), **more))


def test_strings_of_any_scheme(tmp_path):
    data = names(tmp_path, [{"tokens": ["a", "b", "c"], "ner_tags": ["I-PER", "I-PER", "B-PER"]}])
    assert data.splits["train"][:] == {"words": [["a", "b", "c"]], "tags": [["B-PER", "I-PER", "B-PER"]]}
    assert data.label_names == ["O", "B-PER", "I-PER"]
    assert data.scheme.write(["B-PER", "I-PER", "B-PER"]) == ["I-PER", "I-PER", "B-PER"]


def test_class_labels_keep_their_order(tmp_path):
    tags = ClassLabel(names=["O", "B-X", "I-X", "B-A"])
    features = Features({"tokens": Sequence(Value("string")), "ner_tags": Sequence(tags)})
    rows = Dataset.from_dict({"tokens": [["a", "b"]], "ner_tags": [[0, 3]]}, features=features)
    rows.to_parquet(tmp_path / "data" / "train.parquet")
    data = TokenClassification().load(TokenClassificationArguments(dataset_name=str(tmp_path / "data")))
    assert data.label_names == ["O", "B-X", "I-X", "B-A", "I-A"]
    assert data.splits["train"]["tags"][:] == [["O", "B-A"]]


def test_bare_numbers_need_names(tmp_path):
    rows = [{"tokens": ["a", "b"], "ner_tags": [0, 2]}]
    with pytest.raises(ValueError, match=r"row 0 of the train data has tags that are no strings.*`tag_names`"):
        names(tmp_path, rows)
    data = names(tmp_path, rows, tag_names=["O", "B-X", "I-X"])
    assert data.splits["train"]["tags"][:] == [["O", "B-X"]]
    with pytest.raises(ValueError, match="`tag_names` has 2 tags, but row 0 of the train data has the tag 2"):
        names(tmp_path, rows, tag_names=["O", "B-X"])


def test_plain_types_of_names_are_joined_and_written_back_plain(tmp_path):
    data = names(tmp_path, [{"tokens": ["a", "b", "c"], "ner_tags": ["PER", "PER", "O"]}])
    assert data.splits["train"]["tags"][:] == [["B-PER", "I-PER", "O"]]
    assert data.scheme.write(data.label_names) == ["O", "PER", "PER"]


def test_conll_files(tmp_path):
    (tmp_path / "eng.train").write_text("-DOCSTART- O\n\nEU I-ORG\nrejects O\n")
    data = TokenClassification().load(TokenClassificationArguments(train_file=str(tmp_path / "eng.train")))
    assert data.splits["train"][:] == {"words": [["EU", "rejects"]], "tags": [["B-ORG", "O"]]}
    with pytest.raises(FileNotFoundError, match=r"`train_file`: there is no file .*CoNLL-2003"):
        TokenClassification().load(TokenClassificationArguments(train_file=str(tmp_path / "eng.testa")))


def test_a_test_split_may_have_no_tags_or_new_ones(tmp_path, caplog):
    train = [{"tokens": ["a"], "ner_tags": ["B-X"]}]
    assert "tags" not in names(tmp_path, train, [{"tokens": ["b"]}]).splits["test"].column_names
    with caplog.at_level(logging.WARNING):
        data = names(tmp_path, train, [{"tokens": ["b"], "ner_tags": ["B-NEW"]}])
    assert data.label_names == ["O", "B-X", "I-X"]
    assert data.splits["test"]["tags"][:] == [["B-NEW"]]
    assert [record.getMessage() for record in caplog.records] == [
        "The test data has tags that the train data does not have; they count as missed: B-NEW"
    ]


def test_heads_of_arguments(tmp_path):
    row = {"tokens": ["a", "b", "c"], "predicate_index": 1, "srl_tags": ["ARG1", "V", "ARG1"]}
    data = roles(tmp_path, [row])
    assert data.splits["train"][:] == {
        "words": [["a", "b", "c"]],
        "predicate_index": [1],
        "tags": [["B-ARG1", "B-V", "B-ARG1"]],
    }
    assert data.label_names == ["O", "B-ARG1", "B-V"]
    assert data.scheme.write(["B-ARG1"]) == ["ARG1"]


def test_whole_arguments_and_other_columns(tmp_path):
    row = {"words": ["a", "b"], "at": 0, "roles": ["B-V", "B-A1"]}
    columns = {"tokens_column_name": "words", "predicate_column_name": "at", "tags_column_name": "roles"}
    assert roles(tmp_path, [row], **columns).splits["train"].column_names == ["words", "predicate_index", "tags"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"tokens": ["a", "b"], "ner_tags": ["O"]}], "Row 0 of the train data has 2 words, but 1 tags"),
        ([{"tokens": "a b", "ner_tags": ["O"]}], "column 'tokens' must hold lists of words"),
        ([{"tokens": ["a"], "ner_tags": ["O"]}], "only one tag"),
        ([{"tokens": ["a", "b"], "ner_tags": ["B-X", "Y"]}], "`tags_column_name` 'ner_tags': Some tags.*'Y'"),
        (
            [{"tokens": ["a"], "tags": ["O"]}],
            r"no column 'ner_tags' \(`tags_column_name`\)",
        ),
        ([], "no rows"),
    ],
)
def test_data_that_does_not_fit(tmp_path, rows, message):
    with pytest.raises(ValueError, match=message):
        names(tmp_path, rows)


def test_a_predicate_outside_of_its_sentence(tmp_path):
    with pytest.raises(ValueError, match="row 0 of the train data has 1 words, but the predicate is at 1"):
        roles(tmp_path, [{"tokens": ["a"], "predicate_index": 1, "srl_tags": ["V"]}])


def test_test_data_alone_is_not_enough(tmp_path):
    path = write(tmp_path / "test.jsonl", [{"tokens": ["a"]}])
    with pytest.raises(ValueError, match="no training data"):
        TokenClassification().load(TokenClassificationArguments(test_file=path))


def test_real_data(shared):
    def load(task, arguments, folder, train):
        return task.load(arguments(train_file=str(shared / "data" / folder / train)))

    data = load(TokenClassification(), TokenClassificationArguments, "conll04", "train.jsonl")
    assert len(data.label_names) == 9
    data = load(SemanticRoleLabeling(), SemanticRoleArguments, "up_ewt_srl", "train_is_up_dev.jsonl")
    assert data.scheme.plain == "single"
    assert not any(label.startswith("I-") for label in data.label_names)


def tags_of(data, split="train"):
    return data.splits[split]["tags"][:]


def test_conll_files_end_in_anything_tsv_too(tmp_path):
    (tmp_path / "train.tsv").write_text("New York\tLOC_B\nis\tO\nhere\tO\n\nHere\tO\n\n\tO\nYork\tLOC_I\n")
    data = TokenClassification().load(TokenClassificationArguments(train_file=str(tmp_path / "train.tsv")))
    assert data.splits["train"]["words"][:] == [["New York", "is", "here"], ["Here"], ["", "York"]]
    assert tags_of(data) == [["B-LOC", "O", "O"], ["O"], ["O", "B-LOC"]]
    assert data.label_names == ["O", "B-LOC", "I-LOC"]
    assert data.scheme.write(["B-LOC", "I-LOC", "O"]) == ["LOC_B", "LOC_I", "O"]


def test_columns_that_a_file_does_not_have_are_refused(tmp_path):
    conll, rows = tmp_path / "train.conll", tmp_path / "test.json"
    conll.write_text("EU NNP I-ORG\nrejects V O\n")
    rows.write_text(json.dumps({"words": ["EU"], "pos_tags": ["I-ORG"]}))
    task, arguments = TokenClassification(), TokenClassificationArguments
    with pytest.raises(ValueError, match="`tags_column_name` 'pos_tags' is for rows with names; .*`conll_tag_column`"):
        task.load(arguments(train_file=str(conll), tags_column_name="pos_tags"))
    named = {"tags_column_name": "pos_tags", "tokens_column_name": "words"}
    with pytest.raises(ValueError, match="`conll_tag_column` 1 is for CoNLL files, and this data has none"):
        task.load(arguments(train_file=str(rows), conll_tag_column=1, **named))
    data = task.load(arguments(train_file=str(conll), test_file=str(rows), conll_tag_column=2, **named))
    assert (tags_of(data), tags_of(data, "test")) == ([["B-ORG", "O"]], [["B-ORG"]])


def test_lists_are_not_read_from_csv(tmp_path):
    (tmp_path / "train.csv").write_text("tokens,ner_tags\na b,O O\n")
    with pytest.raises(ValueError, match="must hold lists of words"):
        TokenClassification().load(TokenClassificationArguments(train_file=str(tmp_path / "train.csv")))


@pytest.mark.parametrize("tags", [["0", "1", "2"], [0, 1, 2], [0.0, 1.0, 2.0], ["O", "LOC-B", "LOC-I"]])
def test_tag_names_are_used_whatever_the_tags_are(tmp_path, tags):
    rows = [{"tokens": ["in", "New", "York"], "ner_tags": tags}, {"tokens": ["x"], "ner_tags": tags[:1]}]
    data = names(tmp_path, rows, tag_names=["O", "LOC-B", "LOC-I", "PER-B", "PER-I"])
    assert tags_of(data) == [["O", "B-LOC", "I-LOC"], ["O"]]
    assert data.label_names == ["O", "B-LOC", "I-LOC", "B-PER", "I-PER"]


def test_tag_names_give_the_order_of_tags_in_words(tmp_path):
    row = {"tokens": ["a", "b"], "ner_tags": ["B-A", "B-X"]}
    assert names(tmp_path, [row], tag_names=["B-X", "B-A", "O"]).label_names == ["O", "B-X", "I-X", "B-A", "I-A"]


@pytest.mark.parametrize(
    ("tags", "tag_names", "message"),
    [
        (["0", "3"], ["O", "B-X"], "`tag_names` has 2 tags, but row 0 of the train data has the tag 3"),
        (["0", "01"], ["O", "B-X"], "`tag_names` does not have tags of the data: 0, 01"),
        (["0", "B-Y"], ["O", "B-X"], "`tag_names` does not have tags of the data: 0, B-Y"),
        (["O", "B-Y"], ["O", "B-X"], "`tag_names` does not have tags of the data: B-Y"),
        (["0", "1"], ["O", "B-X", "O"], "`tag_names` has a tag twice"),
        (["0", "1"], ["O", "B-X", "Y"], "others do not: 'Y'"),
        ([0, -1], ["O", "B-X"], "row 0 of the train data has the tag -1"),
        (["0", "1"], None, "'1' .* is a number; say with `tag_names`"),
        ([0, 1.5], ["O", "B-X"], "row 0 of the train data has no tag for its word 'b', but 1.5"),
        ([True, False], ["O", "B-X"], "row 0 of the train data has no tag for its word 'a', but True"),
        (["O", None], None, "row 0 of the train data has no tag for its word 'b', but None"),
        ("O B-X", None, "must hold lists of tags, but row 0 of the train data is 'O B-X'"),
        (None, None, "must hold lists of tags, but row 0 of the train data is None"),
    ],
)
def test_tags_that_are_no_tags_are_refused(tmp_path, tags, tag_names, message):
    with pytest.raises(ValueError, match=message):
        names(tmp_path, [{"tokens": ["a", "b"], "ner_tags": tags}], tag_names=tag_names)


def test_names_of_classes_may_be_overruled(tmp_path):
    tags = ClassLabel(names=["0", "1", "2"])
    features = Features({"tokens": Sequence(Value("string")), "ner_tags": Sequence(tags)})
    rows = Dataset.from_dict({"tokens": [["a", "b"]], "ner_tags": [[0, 1]]}, features=features)
    rows.to_parquet(tmp_path / "data" / "train.parquet")
    arguments = {"dataset_name": str(tmp_path / "data")}
    with pytest.raises(ValueError, match="'1' .* is a number; say with `tag_names`"):
        TokenClassification().load(TokenClassificationArguments(**arguments))
    data = TokenClassification().load(TokenClassificationArguments(**arguments, tag_names=["O", "X-B", "X-I"]))
    assert tags_of(data) == [["O", "B-X"]]


def test_names_of_classes_that_no_row_has_need_not_fit(tmp_path):
    tags = ClassLabel(names=["<pad>", "O", "B-X", "I-X", "B-Y"])
    features = Features({"tokens": Sequence(Value("string")), "ner_tags": Sequence(tags)})
    rows = Dataset.from_dict({"tokens": [["a", "b"]], "ner_tags": [[1, 2]]}, features=features)
    rows.to_parquet(tmp_path / "data" / "train.parquet")
    data = TokenClassification().load(TokenClassificationArguments(dataset_name=str(tmp_path / "data")))
    assert data.label_names == ["O", "B-X", "I-X", "B-Y", "I-Y"]


def test_null_tags(tmp_path):
    train = [{"tokens": ["a"], "ner_tags": ["B-X"]}]
    some = [*train, {"tokens": ["b"], "ner_tags": None}]
    with pytest.raises(ValueError, match="row 1 of the train data is None"):
        names(tmp_path, some)
    with pytest.raises(ValueError, match="row 1 of the test data is None"):
        names(tmp_path, train, some)
    # a split whose tags nobody knows
    for unknown in ([None], [None, None], [None, []]):
        test = [{"tokens": ["b"] if tags is None else [], "ner_tags": tags} for tags in unknown]
        assert "tags" not in names(tmp_path, train, test).splits["test"].column_names


def test_minus_one_is_no_tag(tmp_path):
    train = [{"tokens": ["a"], "ner_tags": [1]}]
    more = {"tag_names": ["O", "B-X"]}
    assert "tags" not in names(tmp_path, train, [{"tokens": ["b"], "ner_tags": [-1]}], **more).splits["test"].features
    with pytest.raises(ValueError, match="row 0 of the test data has the tag -1"):
        names(tmp_path, train, [{"tokens": ["b", "c"], "ner_tags": [-1, 0]}], **more)


@pytest.mark.parametrize("words", ["a b", None, ["a", None], ["a", 2], [1, 2]])
def test_words_that_are_no_words_are_refused(tmp_path, words):
    rows = [{"tokens": ["a", "b"], "ner_tags": ["O", "B-X"]}, {"tokens": words, "ner_tags": ["O", "B-X"]}]
    refused = r"column 'tokens' must hold lists of words, .* row \d of the train data is"
    if not hasattr(datasets, "Json"):  # the file is refused before
        refused += "|the values of 'tokens' are not all of one type"
    with pytest.raises(ValueError, match=refused):
        names(tmp_path, rows)


def test_sentences_without_words_are_rows(tmp_path):
    rows = [{"tokens": [], "ner_tags": []}, {"tokens": ["a"], "ner_tags": ["B-X"]}, {"tokens": [], "ner_tags": []}]
    data = names(tmp_path, rows)
    assert data.splits["train"][:] == {"words": [[], ["a"], []], "tags": [[], ["B-X"], []]}


def test_one_scheme_for_all_splits(tmp_path):
    train = [{"tokens": ["a", "b"], "ner_tags": ["B_X", "I_X"]}]
    with pytest.raises(ValueError, match=r"`tags_column_name` 'ner_tags': .* 'B-X' \(row 0 of the test data\)"):
        names(tmp_path, train, [{"tokens": ["a"], "ner_tags": ["B-X"]}])


def features_of(task, data, rows, tokenizer, max_length=None):
    return task.features(data.splits[rows], tokenizer, data, None, max_length)


def test_features_measure_and_write_in_the_order_of_the_data(tmp_path, tokenizer):
    rows = [
        {"tokens": ["a", "b", "c"] * 5, "ner_tags": ["X_U", "O", "O"] * 5},
        {"tokens": [], "ner_tags": []},
        {"tokens": ["b\tb", "a"], "ner_tags": ["O", "Y_U"]},
        {"tokens": ["a", "b"], "ner_tags": ["X_B", "X_L"]},
    ]
    task, data = TokenClassification(), names(tmp_path, rows)
    features = features_of(task, data, "train", tokenizer, max_length=8)
    assert len(features.dataset) == 5
    labels = features.dataset["labels"][:]
    right = np.array([row + [-100] * (8 - len(row)) for row in labels])
    assert features.metrics(right, None)["f1"] == 1
    features.write(right, None, tmp_path)
    written = [block.split("\n") for block in (tmp_path / "predictions.tsv").read_text().split("\n\n")]
    assert written[0] == ["a\tX_U", "b\tO", "c\tO"] * 5
    # a sentence without words is a blank line
    assert written[1:] == [["", "b b\tO", "a\tY_U"], ["a\tX_B", "b\tX_L"], [""]]
    wrong = np.where(right == data.label_names.index("B-Y"), 0, right)
    scores = features.metrics(wrong, None)
    assert (scores["precision"], scores["recall"]) == (1, pytest.approx(6 / 7))


def test_features_without_tags_have_no_metrics(tmp_path, tokenizer):
    data = names(tmp_path, [{"tokens": ["a"], "ner_tags": ["B-X"]}], [{"tokens": ["b"]}])
    features = features_of(TokenClassification(), data, "test", tokenizer)
    assert features.metrics(np.zeros((1, 3), int), None) == {}
    features.write(np.ones((1, 3), int), None, tmp_path)
    assert (tmp_path / "predictions.tsv").read_text() == "b\tB-X\n\n"


def test_predicates_are_written_beside_roles(tmp_path, tokenizer):
    row = {"tokens": ["a", "b", "c"], "predicate_index": 1, "srl_tags": ["ARG1", "V", "_"]}
    task, data = SemanticRoleLabeling(), roles(tmp_path, [row])
    features = features_of(task, data, "train", tokenizer)
    assert tokenizer.convert_ids_to_tokens(features.dataset[0]["input_ids"])[4:] == ["[SEP]", "b", "[SEP]"]
    right = np.array(features.dataset["labels"][:])
    assert features.metrics(right, None)["f1"] == 1
    features.write(right, None, tmp_path)
    assert (tmp_path / "predictions.tsv").read_text() == "a\t-\tARG1\nb\tV\tV\nc\t-\t_\n\n"
    assert task.groups(data.splits["train"]) == [("a", "b", "c")]


def test_logits_are_reduced_to_classes():
    logits = torch.tensor([[[0.0, 2.0], [3.0, 1.0]]])
    for given in (logits, (logits, "hidden states")):
        assert TokenClassification().reduce(given, torch.zeros(1)).tolist() == [[1, 0]]


def test_data_in_memory_in_any_format():
    rows = Dataset.from_dict({"tokens": [["a", "b"], []], "ner_tags": [[0, 1], []]})
    for kind in (None, "numpy", "torch"):
        args = TokenClassificationArguments(tag_names=["O", "B-X"])
        data = TokenClassification().shape({"train": rows.with_format(kind)}, args)
        assert data.splits["train"][:] == {"words": [["a", "b"], []], "tags": [["O", "B-X"], []]}


@pytest.mark.parametrize("at", [None, True, 1.0, "0", -1])
def test_a_predicate_is_a_position(tmp_path, at):
    with pytest.raises(ValueError, match="row 0 of the train data has 2 words, but the predicate is at"):
        roles(tmp_path, [{"tokens": ["a", "b"], "predicate_index": at, "srl_tags": ["V", "A0"]}])


@pytest.mark.skipif(not hasattr(datasets, "Json"), reason=f"datasets {datasets.__version__} finds no conll files")
def test_a_folder_of_conll_files(tmp_path):
    (tmp_path / "train.conll").write_text("Rome NNP B-LOC\nis VB O\n")
    (tmp_path / "test.conll").write_text("Paris NNP B-LOC\n")
    args = TokenClassificationArguments(dataset_name=str(tmp_path), conll_word_column=0, conll_tag_column=2)
    data = TokenClassification().load(args)
    assert data.splits["train"]["tags"][:] == [["B-LOC", "O"]]
    assert data.splits["test"]["words"][:] == [["Paris"]]


def test_test_files_of_words_alone_and_files_without_sentences(tmp_path):
    (tmp_path / "train.txt").write_text("Rome B-LOC\n")
    (tmp_path / "new.txt").write_text("Rome\n\nParis\n")
    (tmp_path / "empty.txt").write_text("\n")
    train = {"train_file": str(tmp_path / "train.txt")}
    data = TokenClassification().load(TokenClassificationArguments(**train, test_file=str(tmp_path / "new.txt")))
    assert data.splits["test"][:] == {"words": [["Rome"], ["Paris"]]}
    with pytest.raises(ValueError, match="The test data has no rows"):
        TokenClassification().load(TokenClassificationArguments(**train, test_file=str(tmp_path / "empty.txt")))
    with pytest.raises(ValueError, match="The train data has no column 'ner_tags'"):
        TokenClassification().load(TokenClassificationArguments(train_file=str(tmp_path / "new.txt")))


@pytest.mark.parametrize("ending", ["tsv", "txt", "tsv.gz"])
def test_the_files_of_a_folder_are_read_as_one_file_is(tmp_path, ending):
    for split, words in (("train", "Rome\tB-LOC\n\nParis\tB-LOC\n"), ("test", "Bonn\tB-LOC\n")):
        packed = gzip.compress(words.encode()) if ending.endswith("gz") else words.encode()
        (tmp_path / f"{split}.{ending}").write_bytes(packed)
    files = {f"{split}_file": str(tmp_path / f"{split}.{ending}") for split in ("train", "test")}
    for where in (files, {"dataset_name": str(tmp_path)}):
        data = TokenClassification().load(TokenClassificationArguments(**where))
        assert data.splits["train"][:] == {"words": [["Rome"], ["Paris"]], "tags": [["B-LOC"], ["B-LOC"]]}
        assert data.splits["test"]["words"][:] == [["Bonn"]]


def test_names_of_class_labels_in_another_order_are_an_order(tmp_path):
    features = Features(
        {
            "tokens": Sequence(Value("string")),
            "ner_tags": Sequence(ClassLabel(names=["O", "B-X", "I-X", "B-A", "I-A"])),
        }
    )
    rows = Dataset.from_dict({"tokens": [["a", "b"]], "ner_tags": [[0, 3]]}, features=features)
    rows.to_parquet(tmp_path / "data" / "train.parquet")

    def load(*tags):
        given = TokenClassificationArguments(dataset_name=str(tmp_path / "data"), tag_names=list(tags))
        return TokenClassification().load(given)

    data = load("O", "B-A", "I-A", "B-X", "I-X")
    assert data.label_names == ["O", "B-A", "I-A", "B-X", "I-X"]
    assert data.splits["train"]["tags"][:] == [["O", "B-A"]]
    assert load("O", "B-P", "I-P", "B-Q", "I-Q").splits["train"]["tags"][:] == [["O", "B-Q"]]
    with pytest.raises(ValueError, match="`tag_names` would give to other classes names.*B-A, I-A"):
        load("O", "B-A", "I-A", "B-Q", "I-Q")


def test_a_predicate_that_is_another_word_than_the_one_with_the_role_v(tmp_path):
    row = {"tokens": ["She", "left"], "srl_tags": ["B-ARG0", "B-V"], "predicate_index": 1}
    roles = SemanticRoleLabeling()
    path = tmp_path / "train.jsonl"
    path.write_text(json.dumps([row, row]))
    assert roles.load(roles.arguments(train_file=str(path))).splits["train"]["predicate_index"][:] == [1, 1]
    path = path.with_suffix(".json")
    wrong = {**row, "predicate_index": 0}
    path.write_text(json.dumps([row, wrong]))  # a light verb
    assert roles.load(roles.arguments(train_file=str(path))).splits["train"]["predicate_index"][:] == [1, 0]
    path.write_text(json.dumps([wrong, wrong]))
    with pytest.raises(ValueError, match="row 0 of the train data has the predicate at 0, 'She', but the role V at 1"):
        roles.load(roles.arguments(train_file=str(path)))


def test_without_training_data_the_tags_are_those_named(tmp_path):
    rows = [{"tokens": ["a", "b"], "ner_tags": ["O", "B-X"]}, {"tokens": ["c"], "ner_tags": ["B-Z"]}]
    path = tmp_path / "test.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(ValueError, match="no training data, whose labels are the classes.*`tag_names`"):
        TokenClassification().load(TokenClassificationArguments(test_file=str(path)))
    tags = ["O", "B-Z", "I-Z", "B-X", "I-X"]
    data = TokenClassification().load(TokenClassificationArguments(test_file=str(path), tag_names=tags))
    assert data.label_names == tags
    assert data.splits["test"]["tags"][:] == [["O", "B-X"], ["B-Z"]]
