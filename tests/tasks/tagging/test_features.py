import numpy as np
import pytest
import torch
from tokenizers import pre_tokenizers
from transformers import (
    BertTokenizer,
    PreTrainedConfig,
    RobertaConfig,
    RobertaForTokenClassification,
    RobertaTokenizer,
)
from transformers.modeling_outputs import TokenClassifierOutput

from dpt_peft.tasks.tagging.features import IGNORED, load_word_tokenizer, make_word_features, tag_words, words_of

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
    assert [row.sentence for row in features.rows] == sorted(row.sentence for row in features.rows)
    # the words of a sentence, piece by piece, are all of its words once and in order
    for number, sentence in enumerate(sentences):
        pieces = [row for row in features.rows if row.sentence == number]
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
    assert [len(row.words) for row in features.rows] == [11, 10]


def test_a_word_that_is_longer_than_a_row_keeps_its_beginning(tokenizer):
    features = make_word_features([["a", "run" + "ly" * 20, "b"]], tokenizer, max_length=8)
    assert [(row.words, row.positions) for row in features.rows] == [([0], [1]), ([1], [1]), ([2], [1])]
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


@pytest.fixture(scope="module")
def byte_level(tmp_path_factory):
    folder = tmp_path_factory.mktemp("byte_level")
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *alphabet, "Ġa"]
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    RobertaTokenizer(vocab=vocabulary, merges=[("Ġ", "a")]).save_pretrained(folder)
    return load_word_tokenizer(str(folder))


def test_byte_level_tokenizers_put_a_space_before_every_word(byte_level):
    row = make_word_features([["a", "a"]], byte_level, appended=["a"]).dataset[0]
    assert tokens(byte_level, row) == ["<s>", "Ġa", "Ġa", "</s>", "</s>", "Ġa", "</s>"]


@pytest.mark.parametrize("typed", ["[SEP]", "[CLS]", "[MASK]", "[PAD]", "[UNK]"])
def test_special_tokens_that_users_type_are_text(tokenizer, typed):
    features = make_word_features([["a", typed, "\u200b", "b"]], tokenizer, appended=[typed])
    row = features.dataset[0]
    assert [row["input_ids"].count(tokenizer.convert_tokens_to_ids(name)) for name in ("[CLS]", "[SEP]")] == [1, 2]
    assert row["input_ids"][0] == tokenizer.cls_token_id
    assert not {tokenizer.pad_token_id, tokenizer.mask_token_id} & set(row["input_ids"])
    # three pieces, which the small vocabulary does not have: "[", a word, "]"
    assert features.rows[0].positions == [1, 2, 5, 6]
    assert tokens(tokenizer, row)[1:8] == ["a", "[UNK]", "[UNK]", "[UNK]", "[UNK]", "b", "[SEP]"]
    # behind the call the tokenizer is what it was
    assert tokenizer.encode(typed, add_special_tokens=False) == [tokenizer.convert_tokens_to_ids(typed)]


COMPOSED = [
    "e\u0301",
    "\U0001f469\u200d\U0001f469\u200d\U0001f467",
    "\u0e33",
    "a\u0308\u0323",
    "\ufe0f",
    "\u200d",
    "\U0001f1e9\U0001f1ea",
]


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_combining_characters_and_emoji_do_not_shift_tags(family, tokenizer, byte_level):
    tokenizer = tokenizer if family == "bert" else byte_level
    words = ["a", *(word for piece in COMPOSED for word in (piece, "a"))]
    tags = ["B-X" if word == "a" else "O" for word in words]
    features = make_word_features([words], tokenizer, tags=[tags], label_names=LABELS, max_length=None)
    assert features.rows[0].words == list(range(len(words)))
    row = features.dataset[0]
    of_a = [position for position, label in enumerate(row["labels"]) if label == 1]
    assert [tokens(tokenizer, row)[position].lstrip("Ġ") for position in of_a] == ["a"] * (len(COMPOSED) + 1)
    assert features.decode([row["labels"]], LABELS) == [tags]


def test_sentences_may_be_tuples_and_arrays(tokenizer):
    words = [("a", "b"), np.array(["c", "d"])]
    assert words_of(words, "`sentences`") == [["a", "b"], ["c", "d"]]
    features = make_word_features(words, tokenizer, tags=[("O", "B-X"), np.array(["O", "O"])], label_names=LABELS)
    assert features.tags == [["O", "B-X"], ["O", "O"]]


class Echo(torch.nn.Module):
    """Labels a token by its id; notes what it has seen."""

    def __init__(self, **config):
        super().__init__()
        self.config = PreTrainedConfig(**config)
        self.config.id2label = {index: f"B-{piece}" for index, piece in enumerate(PIECES)}
        self.device, self.longest = torch.device("cpu"), 0

    def forward(self, input_ids, attention_mask, token_type_ids):
        self.longest = max(self.longest, int(attention_mask.sum(-1).max()))
        return TokenClassifierOutput(logits=torch.nn.functional.one_hot(input_ids, len(PIECES)).float())


def test_words_are_tagged_in_their_order(tokenizer):
    model = Echo().train()
    sentences = [["b", "a", "running"], [], ["c"]]
    expected = [["B-b", "B-a", "B-run"], [], ["B-c"]]
    assert tag_words(model, tokenizer, sentences, batch_size=1) == expected
    assert tag_words(model, tokenizer, [tuple(row) for row in sentences], predicates=None) == expected
    assert tag_words(model, tokenizer, np.array([["a", "b"]])) == [["B-a", "B-b"]]
    assert tag_words(model, tokenizer, sentences[::2], predicates=np.array([1, 0])) == expected[::2]
    assert tag_words(model, tokenizer, []) == []
    assert model.training


@pytest.mark.parametrize(("limit", "rows"), [({"max_position_embeddings": 12}, 12), ({}, 64)])
def test_tagging_splits_sentences_at_what_the_model_takes(tokenizer, limit, rows):
    model = Echo(**limit)
    words = ["a", "b"] * 50
    assert tag_words(model, tokenizer, [words]) == [[f"B-{word}" for word in words]]
    assert rows // 2 < model.longest <= rows
    model.longest = 0
    tag_words(model, tokenizer, [words], max_length=10)
    assert 5 < model.longest <= 10
    with pytest.raises(ValueError, match=f"`max_length` must be between 1 and {rows}"):
        tag_words(model, tokenizer, [words], max_length=rows + 1)


def test_roberta_has_fewer_positions_than_its_table(byte_level):
    config = RobertaConfig(
        vocab_size=len(byte_level),
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
        max_position_embeddings=20,
        pad_token_id=byte_level.pad_token_id,
        id2label={0: "O", 1: "B-X"},
    )
    model = RobertaForTokenClassification(config)
    assert byte_level.model_max_length > 1_000_000  # it knows no limit
    assert [len(tags) for tags in tag_words(model, byte_level, [["a"] * 50, ["a"]])] == [50, 1]


@pytest.mark.parametrize(
    ("sentences", "predicates", "message"),
    [
        (["a b"], None, "`sentences` must hold lists of words, which are strings, but row 0 is 'a b'"),
        ([["a"], ["b", None]], None, r"row 1 is \['b', None\]"),
        ([["a"], None], None, "row 1 is None"),
        ([["a"]], [0, 0], "one per sentence: 2 for 1 sentences"),
        ([["a"], ["a", "b"]], [0, 2], "`predicates`: sentence 1 has 2 words, but 2 is asked for"),
        ([["a"]], [-1], "but -1 is asked for"),
        ([[]], [0], "sentence 0 has 0 words"),
    ],
)
def test_what_cannot_be_tagged(tokenizer, sentences, predicates, message):
    with pytest.raises(ValueError, match=message):
        tag_words(Echo(), tokenizer, sentences, predicates=predicates)


@pytest.mark.parametrize("typed", ["</s>", "<mask>", "<pad>"])
def test_special_tokens_are_text_to_byte_level_tokenizers_too(byte_level, typed):
    features = make_word_features([["a", typed, "a"]], byte_level)
    row = features.dataset[0]
    assert "".join(tokens(byte_level, row)) == f"<s>ĠaĠ{typed}Ġa</s>"
    assert len(row["input_ids"]) == 5 + len(typed)
    assert features.rows[0].positions == [1, 2, 3 + len(typed)]


@pytest.mark.parametrize("side", ["left", "right"])
def test_the_sides_of_padding_and_truncation_do_not_matter(side):
    vocabulary = {word: index for index, word in enumerate(PIECES)}
    sided = BertTokenizer(vocab=vocabulary, model_max_length=8, padding_side=side, truncation_side=side)
    sentences = [["a", "b", "c", "d", "running"], ["b"], ["c"] * 20]
    expected = [[f"B-{word.removesuffix('ning')}" for word in sentence] for sentence in sentences]
    assert tag_words(Echo(), sided, sentences) == expected
    assert [tag_words(Echo(), sided, [sentence])[0] for sentence in sentences] == expected
