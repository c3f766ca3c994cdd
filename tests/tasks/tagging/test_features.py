import numpy as np
import pytest
from transformers import BertTokenizer, RobertaTokenizer

from dpt_peft.tasks.tagging.features import IGNORED, load_word_tokenizer, make_word_features

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "c", "d", "run", "##ning", "##ly", "said"]
LABELS = ["O", "B-X", "I-X"]


@pytest.fixture(scope="module")
def tokenizer():
    return BertTokenizer(vocab={word: index for index, word in enumerate(PIECES)}, model_max_length=64)


def tokens(tokenizer, row):
    return tokenizer.convert_ids_to_tokens(row["input_ids"])


def test_the_first_piece_of_a_word_is_labelled_and_nothing_else(tokenizer):
    features = make_word_features(
        [["a", "running", "b"]], tokenizer, tags=[["O", "B-X", "I-X"]], label_names=LABELS, max_length=10
    )
    row = features.dataset[0]
    assert tokens(tokenizer, row) == ["[CLS]", "a", "run", "##ning", "b", "[SEP]"]
    assert row["labels"] == [IGNORED, 0, 1, IGNORED, 2, IGNORED]
    assert row["token_type_ids"] == [0] * 6
    assert features.decode([[9, 0, 1, 9, 2, 9]], LABELS) == features.tags == [["O", "B-X", "I-X"]]


def test_a_tag_that_the_classifier_does_not_have_is_not_trained_on(tokenizer):
    features = make_word_features([["a", "b"]], tokenizer, tags=[["B-NEW", "O"]], label_names=LABELS)
    assert features.dataset["labels"][0] == [IGNORED, IGNORED, 0, IGNORED]


def test_the_predicate_stands_behind_the_sentence_as_a_second_text(tokenizer):
    features = make_word_features([["a", "running", "b"]], tokenizer, appended=["running"], tags=[["O", "B-X", "O"]])
    row = features.dataset[0]
    assert tokens(tokenizer, row) == ["[CLS]", "a", "run", "##ning", "b", "[SEP]", "run", "##ning", "[SEP]"]
    assert row["token_type_ids"] == [0] * 6 + [1] * 3
    assert row["labels"][6:] == [IGNORED] * 3
    assert features.rows[0].positions == [1, 2, 4]


@pytest.mark.parametrize("appended", [None, "said"])
def test_a_long_sentence_becomes_rows_and_every_word_is_predicted_once(tokenizer, appended):
    sentences = [["a"], ["running", "b", "c", "runningly"] * 5, ["d", "d"]]
    tags = [[LABELS[(number + word) % 3] for word in range(len(s))] for number, s in enumerate(sentences)]
    features = make_word_features(
        sentences,
        tokenizer,
        appended=None if appended is None else [appended] * 3,
        tags=tags,
        label_names=LABELS,
        max_length=12,
    )
    rows = list(features.dataset)
    assert len(rows) > 4
    assert max(len(row["input_ids"]) for row in rows) <= 12
    assert [len(row["input_ids"]) for row in rows] == sorted(len(row["input_ids"]) for row in rows)
    # the words of a sentence, piece by piece, are all of its words once and in order
    for number, sentence in enumerate(sentences):
        pieces = sorted((row for row in features.rows if row.sentence == number), key=lambda row: row.words)
        assert [word for row in pieces for word in row.words] == list(range(len(sentence)))
    ids = [tokenizer.encode(" ".join(s), add_special_tokens=False) for s in sentences]
    special = 2 if appended is None else 4
    assert sum(len(row["input_ids"]) - special for row in rows) == sum(map(len, ids))
    # the labels as predictions give the tags back
    width = max(len(row["labels"]) for row in rows)
    padded = np.array([row["labels"] + [IGNORED] * (width - len(row["labels"])) for row in rows])
    assert features.decode(padded, LABELS) == tags


def test_pieces_are_even(tokenizer):
    features = make_word_features([["a"] * 21], tokenizer, max_length=22)
    assert [len(row.words) for row in features.rows] == [10, 11]


def test_a_word_that_is_longer_than_a_row_keeps_its_beginning(tokenizer):
    features = make_word_features([["a", "run" + "ly" * 20, "b"]], tokenizer, max_length=8)
    assert sorted((row.words, row.positions) for row in features.rows) == [([0], [1]), ([1], [1]), ([2], [1])]
    assert max(len(row["input_ids"]) for row in features.dataset) == 8


def test_words_that_the_tokenizer_makes_nothing_of_get_a_prediction(tokenizer):
    features = make_word_features([["a", "\u200b", " ", "b"]], tokenizer)
    assert tokens(tokenizer, features.dataset[0]) == ["[CLS]", "a", "[UNK]", "[UNK]", "b", "[SEP]"]
    assert features.rows[0].words == [0, 1, 2, 3]


def test_sentences_without_words_have_no_row(tokenizer):
    features = make_word_features([[], ["a"], []], tokenizer, tags=[[], ["B-X"], []], label_names=LABELS)
    assert features.decode([[0, 1, 0]], LABELS) == [[], ["B-X"], []]
    assert len(make_word_features([], tokenizer).rows) == 0


def test_no_room_for_a_word(tokenizer):
    with pytest.raises(ValueError, match=r"`max_seq_length` 5 leaves no room .* the appended 'running' take 5"):
        make_word_features([["a", "b"]], tokenizer, appended=["running"], max_length=5)


def test_predictions_must_fit(tokenizer):
    with pytest.raises(ValueError, match="zip"):
        make_word_features([["a"]], tokenizer).decode([], LABELS)


def test_byte_level_tokenizers_put_a_space_before_every_word(tmp_path):
    vocabulary = {
        piece: index for index, piece in enumerate(["<s>", "<pad>", "</s>", "<unk>", "<mask>", "a", "Ġ", "Ġa"])
    }
    RobertaTokenizer(vocab=vocabulary, merges=[("Ġ", "a")]).save_pretrained(tmp_path)
    tokenizer = load_word_tokenizer(str(tmp_path))
    row = make_word_features([["a", "a"]], tokenizer, appended=["a"]).dataset[0]
    assert tokens(tokenizer, row) == ["<s>", "Ġa", "Ġa", "</s>", "</s>", "Ġa", "</s>"]
