"""Candidate lists: whole words of the right document, with the right label, in DPT's form."""

from __future__ import annotations

import json

import pytest
import torch
from tokenizers import ByteLevelBPETokenizer
from transformers import BertTokenizer, PreTrainedTokenizerBase, RobertaTokenizer

from dpt_peft.pretraining.candidate_lists import DocumentCollator, WholeWords
from dpt_peft.pretraining.replaced_tokens import IGNORED

LETTERS = "abcdefgh"
# Document d speaks only of words that begin with its letter, so that every listed word tells where it is from.
TOPICS = {letter: [f"{letter}{second}x" for second in "abcdefghijklmnopqrst"] for letter in LETTERS}
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", ",", ":", "class", "the", "##x", "an"] + [
    w for ws in TOPICS.values() for w in ws
]


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return BertTokenizer(vocab={word: index for index, word in enumerate(WORDS)})


@pytest.fixture(scope="module")
def documents(tokenizer) -> list[dict[str, list[int]]]:
    torch.manual_seed(1)
    texts = [" the ".join(ws[i] for i in torch.randint(len(ws), (60,)).tolist()) for ws in TOPICS.values()]
    return [{"input_ids": tokenizer(text, add_special_tokens=False)["input_ids"]} for text in texts]


@pytest.fixture(scope="module")
def words(tokenizer, documents) -> WholeWords:
    return WholeWords(tokenizer, [document["input_ids"] for document in documents])


def test_the_text_mask_ends_before_the_list(tokenizer, documents, words):
    for share in (0.0, 1.0):
        batch = DocumentCollator(tokenizer, 48, words, candidate_list_share=share)(documents)
        for ids, visible, text in zip(batch["input_ids"], batch["attention_mask"], batch["text_mask"], strict=True):
            tokens = tokenizer.convert_ids_to_tokens(ids[visible.bool()].tolist())
            expected = tokens.index("class") if share else len(tokens)
            assert text.sum() == expected
            assert text[:expected].all()


def test_candidate_lists_have_the_form_and_the_truth(tokenizer, documents, words):
    collator = DocumentCollator(tokenizer, 48, words, candidate_list_share=1.0)
    for _ in range(10):
        batch = collator(documents)
        assert not batch["replaceable"].any()
        for row, letter in enumerate(LETTERS):
            tokens = tokenizer.convert_ids_to_tokens(
                batch["input_ids"][row][batch["attention_mask"][row].bool()].tolist()
            )
            labels = batch["labels"][row].tolist()
            colon = tokens.index(":")
            text, listed = tokens[1 : colon - 1], tokens[colon + 1 : -1]
            assert (tokens[0], tokens[colon - 1], tokens[-1]) == ("[CLS]", "class", "[SEP]")
            assert len(tokens) <= 48
            assert listed[1::2] == [","] * (len(listed) // 2 - 1) + ["."]
            candidates = listed[::2]
            assert 2 <= len(candidates) <= 6
            assert len(set(candidates)) == len(candidates)
            assert not set(candidates) & set(text)
            expected = [int(not word.startswith(letter)) for word in candidates]
            assert labels[colon + 1 : colon + 1 + len(listed) : 2] == expected
            assert 1 <= expected.count(0) <= 3
            assert expected.count(1) >= 1
            assert sum(label != IGNORED for label in labels) == len(candidates)
            assert "the" not in candidates  # in every document: it tells nothing


def test_a_list_follows_the_template(tokenizer, documents, words):
    collator = DocumentCollator(
        tokenizer, 48, words, candidate_list_share=1.0, template="{text} the class {labels} the", label_separator=" :"
    )
    batch = collator(documents)
    for row, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True):
        tokens = tokenizer.convert_ids_to_tokens(row[mask.bool()].tolist())
        start = tokens.index("class") + 1
        assert tokens[start - 2] == "the"
        listed = tokens[start:-2]
        assert listed[1::2] == [":"] * (len(listed) // 2)
        assert tokens[-2:] == ["the", "[SEP]"]
        assert len(tokens) <= 48
    for template in ("{labels} {text}", "{text_a} {text_b} {labels}", "so {text} {labels}"):
        with pytest.raises(ValueError, match="template"):
            DocumentCollator(tokenizer, 48, words, candidate_list_share=1.0, template=template)


def test_text_rows_are_windows_between_special_tokens(tokenizer, documents, words):
    collator = DocumentCollator(tokenizer, 32, words)
    batch = collator(documents)
    assert batch["input_ids"].shape == (8, 32)
    assert (batch["labels"] == IGNORED).all()
    for row, document in enumerate(documents):
        window = batch["input_ids"][row, 1:-1].tolist()
        text = document["input_ids"]
        assert any(text[start : start + 30] == window for start in range(len(text) - 29))
    assert not batch["replaceable"][:, [0, -1]].any()
    assert batch["replaceable"][:, 1:-1].all()


def test_unknown_tokens_are_never_replaceable(tokenizer):
    unknown = tokenizer.unk_token_id
    batch = DocumentCollator(tokenizer, 32)([{"input_ids": [12, unknown, 13]}])
    assert batch["replaceable"].tolist() == [[False, True, False, True, False]]


def test_the_share_of_candidate_lists(tokenizer, documents, words):
    collator = DocumentCollator(tokenizer, 48, words, candidate_list_share=0.25)
    listed = torch.stack([~collator(documents)["replaceable"].any(1) for _ in range(60)])
    assert listed.float().mean().item() == pytest.approx(0.25, abs=0.06)


def test_without_another_document_a_row_stays_text(tokenizer, documents, words):
    collator = DocumentCollator(tokenizer, 48, words, candidate_list_share=1.0)
    assert collator(documents[:1])["replaceable"].any()
    short = {"input_ids": documents[0]["input_ids"][:4]}  # nothing of it is left unseen
    assert collator([short, *documents[1:]])["replaceable"].any(1).tolist() == [True] + [False] * 7


def test_finished_rows_are_only_padded(tokenizer):
    rows = [{"input_ids": [2, 12, 3], "labels": [IGNORED, 1, IGNORED]}, {"input_ids": [2, 3], "labels": [IGNORED] * 2}]
    batch = DocumentCollator(tokenizer, 32)(rows)
    assert batch["input_ids"].tolist() == [[2, 12, 3], [2, 3, 0]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0]]
    assert batch["labels"].tolist() == [[IGNORED, 1, IGNORED], [IGNORED] * 3]
    assert "replaceable" not in batch


def test_seeded_by_torch(tokenizer, documents, words):
    collator = DocumentCollator(tokenizer, 48, words, candidate_list_share=0.5)
    torch.manual_seed(7)
    first = collator(documents)["input_ids"]
    torch.manual_seed(7)
    assert torch.equal(first, collator(documents)["input_ids"])


def test_whole_words_only(tokenizer):
    ids = tokenizer.convert_tokens_to_ids(["aax", "##x", "aax", "an", ".", "abx"])
    found = WholeWords(tokenizer, [ids]).at(torch.tensor(ids).numpy())
    # a word that goes on, a piece, a word, two letters, a mark, a word
    assert found.tolist() == [False, False, True, False, False, True]


def test_whole_words_of_a_byte_level_tokenizer():
    trainer = ByteLevelBPETokenizer()
    trainer.train_from_iterator(
        ["the film was films good"] * 20,
        vocab_size=320,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
        show_progress=False,
    )
    learned = json.loads(trainer._tokenizer.to_str())["model"]
    merges = [tuple(merge) for merge in learned["merges"]]
    tokenizer = RobertaTokenizer(vocab=learned["vocab"], merges=merges)
    ids = tokenizer(" film good filmgood good,", add_special_tokens=False)["input_ids"]
    names = tokenizer.convert_ids_to_tokens(ids)
    found = WholeWords(tokenizer, [ids]).at(torch.tensor(ids).numpy())
    whole = [name for name, is_whole in zip(names, found.tolist(), strict=True) if is_whole]
    assert whole == ["Ġfilm", "Ġgood", "Ġgood"]


def test_frequency_does_not_tell_true_from_false(tokenizer):
    """Words of another document are refused where this one has them too; the true ones must be as rare for it."""
    topics = [w for ws in TOPICS.values() for w in ws]
    weights = torch.linspace(3.0, 0.05, len(topics))
    torch.manual_seed(2)
    ids = torch.tensor(tokenizer.convert_tokens_to_ids(topics))
    documents = [{"input_ids": ids[torch.multinomial(weights, 80, replacement=True)].tolist()} for _ in range(200)]
    words = WholeWords(tokenizer, [document["input_ids"] for document in documents])
    collator = DocumentCollator(tokenizer, 32, words, candidate_list_share=1.0)
    ranks: dict[int, list[int]] = {0: [], 1: []}
    for start in range(0, 200, 40):
        for _ in range(4):
            batch = collator(documents[start : start + 40])
            for label in ranks:
                ranks[label] += (batch["input_ids"][batch["labels"] == label] - ids[0]).tolist()
    means = {label: sum(values) / len(values) for label, values in ranks.items()}
    # standard error of each mean is about 1.5 ranks of 160
    assert abs(means[0] - means[1]) < 8
    assert min(len(values) for values in ranks.values()) > 800


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"candidate_list_share": 1.5}, "candidate_list_share"),
        ({"candidate_list_share": 0.5}, "words"),
        ({"min_candidates": 1}, "min_candidates"),
        ({"min_candidates": 5, "max_candidates": 4}, "max_candidates"),
        ({"max_length": 9}, "max_length"),
    ],
)
def test_bad_options(tokenizer, options, message):
    with pytest.raises(ValueError, match=message):
        DocumentCollator(tokenizer, **options)
