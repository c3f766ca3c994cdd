"""Special tokens that users typed into texts, through the door to tokenizers' internals."""

import json
import string
from pathlib import Path

import pytest
from transformers import (
    AutoTokenizer,
    BertTokenizer,
    DebertaV2Tokenizer,
    PreTrainedTokenizerBase,
    RobertaTokenizer,
    XLMRobertaTokenizer,
)
from transformers.models.bert.tokenization_bert_legacy import BertTokenizerLegacy

from dpt_peft import _compatibility
from dpt_peft._compatibility import split_special_tokens
from dpt_peft.tasks.data import load_tokenizer, special_tokens_as_text

LETTERS = [(f"{piece}", -5.0 - number / 100) for number, piece in enumerate("▁" + string.ascii_letters + "<>/[]")]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDPIECES = [*SPECIAL, "a", "b", *"[]<>/", "sep", "cls", "mask", "s", "pad", "unk"]
KINDS = ("wordpiece", "byte-level", "unigram with [SEP]", "unigram with </s>", "python")


def make(kind: str, folder: Path) -> PreTrainedTokenizerBase:
    if kind == "wordpiece":
        return BertTokenizer(vocab={piece: number for number, piece in enumerate(WORDPIECES)})
    if kind == "python":
        (folder / "vocab.txt").write_text("\n".join(WORDPIECES) + "\n", encoding="utf-8")
        return BertTokenizerLegacy(str(folder / "vocab.txt"))
    if kind == "byte-level":
        pieces = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "Ġ", *string.printable]
        return RobertaTokenizer(vocab={piece: number for number, piece in enumerate(pieces)}, merges=[])
    if kind == "unigram with [SEP]":
        vocab = [(piece, 0.0) for piece in ("[PAD]", "[CLS]", "[SEP]", "[UNK]")] + LETTERS + [("[MASK]", 0.0)]
        return DebertaV2Tokenizer(vocab=vocab)
    vocab = [(piece, 0.0) for piece in ("<s>", "<pad>", "</s>", "<unk>")] + LETTERS + [("<mask>", 0.0)]
    return XLMRobertaTokenizer(vocab=vocab)


def typed(tokenizer: PreTrainedTokenizerBase) -> str:
    """A text with every special token of a tokenizer, with and without blanks around them."""
    return "a " + "".join(f"{token} b{token}a " for token in tokenizer.all_special_tokens)


def special(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> list[str]:
    return [token for token in tokenizer.convert_ids_to_tokens(ids) if token in tokenizer.all_special_tokens]


@pytest.mark.parametrize("kind", KINDS)
def test_special_tokens_in_a_text_are_text_and_the_tokenizers_own_stay(kind, tmp_path):
    tokenizer = make(kind, tmp_path)
    own = special(tokenizer, tokenizer("a b")["input_ids"])
    text, plain = typed(tokenizer), tokenizer("a b ab")["input_ids"]
    before = tokenizer(text)["input_ids"]
    assert len(special(tokenizer, before)) > len(own)  # what a text does today
    with special_tokens_as_text(tokenizer):
        assert special(tokenizer, tokenizer(text)["input_ids"]) == own
        pair = tokenizer([text], [text])["input_ids"][0]
        assert special(tokenizer, pair) == special(tokenizer, tokenizer("a", "b")["input_ids"])
        assert tokenizer("a b ab")["input_ids"] == plain
        sep = tokenizer.sep_token
        ids = tokenizer(f"a {sep}", add_special_tokens=False, split_special_tokens=False)["input_ids"]
        assert special(tokenizer, ids) == [sep]  # a call may still ask for special tokens
    assert tokenizer(text)["input_ids"] == before


@pytest.mark.parametrize("kind", KINDS)
def test_the_tokenizer_is_as_before_also_behind_an_error(kind, tmp_path):
    tokenizer = make(kind, tmp_path)
    before, saved = tokenizer(typed(tokenizer))["input_ids"], dict(tokenizer.init_kwargs)
    with pytest.raises(RuntimeError, match="in between"), special_tokens_as_text(tokenizer):
        raise RuntimeError("in between")
    assert tokenizer(typed(tokenizer))["input_ids"] == before
    assert tokenizer.init_kwargs == saved
    with special_tokens_as_text(tokenizer):
        with special_tokens_as_text(tokenizer):
            pass
        assert tokenizer(typed(tokenizer))["input_ids"] != before
    assert tokenizer(typed(tokenizer))["input_ids"] == before


@pytest.mark.parametrize(
    ("kind", "model_type"),
    [
        ("wordpiece", "bert"),
        ("byte-level", "roberta"),
        ("unigram with [SEP]", "deberta-v2"),
        ("unigram with </s>", "xlm-roberta"),
    ],
)
def test_a_loaded_tokenizer_reads_texts_so_also_when_it_is_saved_and_loaded_by_others(kind, model_type, tmp_path):
    make(kind, tmp_path).save_pretrained(tmp_path / "given")
    (tmp_path / "given" / "config.json").write_text(json.dumps({"model_type": model_type}))
    tokenizer = load_tokenizer(str(tmp_path / "given"), model_max_length=99)
    assert tokenizer.model_max_length == 99
    ids = tokenizer(typed(tokenizer))["input_ids"]
    assert special(tokenizer, ids) == special(tokenizer, tokenizer("a")["input_ids"])
    tokenizer.save_pretrained(tmp_path / "saved")
    (tmp_path / "saved" / "config.json").write_text(json.dumps({"model_type": model_type}))
    assert AutoTokenizer.from_pretrained(tmp_path / "saved")(typed(tokenizer))["input_ids"] == ids


def test_other_pieces_of_a_unigram_model_are_chosen_as_before(tmp_path):
    vocab = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *LETTERS]
    vocab += [("▁ab", -3.0), ("ba", -4.0), ("abab", -14.0), ("<mask>", 0.0)]
    texts = ["ab abab babab", "ab ü abü<b", "a<b >c</d"]
    tokenizer = XLMRobertaTokenizer(vocab=vocab)
    before = tokenizer(texts)["input_ids"]
    split_special_tokens(tokenizer)
    assert tokenizer(texts)["input_ids"] == before


def test_a_rebuilt_model_is_kept_for_the_next_time(tmp_path, monkeypatch):
    """Pipelines ask text by text, and to rebuild a vocabulary of 250,000 pieces takes a third of a second."""
    tokenizer = make("unigram with </s>", tmp_path)
    built = []
    original = _compatibility._without_pieces
    monkeypatch.setattr(_compatibility, "_without_pieces", lambda *a: built.append(1) or original(*a))
    for _ in range(3):
        with special_tokens_as_text(tokenizer):
            assert special(tokenizer, tokenizer("a </s>")["input_ids"]) == ["<s>", "</s>"]
    assert len(built) == 1
    tokenizer.add_special_tokens({"additional_special_tokens": ["<b>"]})
    with special_tokens_as_text(tokenizer):
        assert special(tokenizer, tokenizer("a </s> <b>")["input_ids"]) == ["<s>", "</s>"]
