"""Sentences of words as rows of tokens, and a label for every word back from the rows' predictions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from dpt_peft.pretrained_heads.base import longest_row
from dpt_peft.tasks.base import predict_rows
from dpt_peft.tasks.data import load_tokenizer, special_tokens_as_text
from dpt_peft.tasks.tagging.schemes import OUTSIDE

#: Label of tokens that no loss is computed on.
IGNORED = -100
_BATCH = 1000


def load_word_tokenizer(model_name_or_path: str, **kwargs: Any) -> PreTrainedTokenizerBase:
    """Load a tokenizer that takes sentences which are split into words already.

    Byte-level tokenizers (RoBERTa, GPT-2) are told to treat every word as one that follows a space; otherwise words
    would be glued to each other.

    Args:
        model_name_or_path: Hub id or folder.
        **kwargs: For `from_pretrained`, such as `revision`.

    Raises:
        TypeError: If the model has no fast tokenizer, which alone knows which token is of which word.
    """
    kwargs.setdefault("padding_side", "right")
    tokenizer = load_tokenizer(model_name_or_path, **kwargs)
    if not tokenizer.is_fast:
        raise TypeError(f"{model_name_or_path} has no fast tokenizer: {type(tokenizer).__name__} is none.")
    as_text = tokenizer("a a", add_special_tokens=False)["input_ids"]
    if tokenizer(["a", "a"], is_split_into_words=True, add_special_tokens=False)["input_ids"][1:] != as_text[1:]:
        tokenizer = load_tokenizer(model_name_or_path, add_prefix_space=True, **kwargs)
    return tokenizer


def words_of(sentences: Iterable[Any], source: str, split: str = "") -> list[list[str]]:
    """Return sentences as lists of words.

    Args:
        sentences: Each a list, a tuple or an array of strings.
        source: Where they come from, for messages.
        split: Name of their split, for messages.

    Raises:
        ValueError: If one is something else.
    """
    found = []
    for row, words in enumerate(sentences):
        several = isinstance(words, (list, tuple, np.ndarray))
        if not several or not all(isinstance(word, str) for word in words):
            of = f" of the {split} data" if split else ""
            raise ValueError(f"{source} must hold lists of words, which are strings, but row {row}{of} is {words!r}.")
        found.append([str(word) for word in words])
    return found


@dataclass(frozen=True)
class WordRow:
    """Which words of which sentence a row of tokens holds.

    Attributes:
        sentence: Index of the sentence.
        words: Indices of those words that have a token, ascending.
        positions: The first token of each.
    """

    sentence: int
    words: list[int]
    positions: list[int]


@dataclass(frozen=True)
class WordFeatures:
    """A split, ready for a token classifier, and the way back.

    Attributes:
        dataset: One row a sentence or, if it is too long, a piece of it, in the order of the sentences. The
            tokenizer's columns (not padded) and, if there are tags, `labels`: the class of a word at its first token,
            -100 elsewhere.
        rows: What words a row has, in the order of `dataset`.
        lengths: Number of words of every sentence.
        tags: Tags of every sentence, if known.
    """

    dataset: Dataset
    rows: list[WordRow]
    lengths: list[int]
    tags: list[list[str]] | None

    def decode(
        self, predictions: Sequence[Sequence[int] | np.ndarray] | np.ndarray, label_names: Sequence[str]
    ) -> list[list[str]]:
        """Put a label on every word of every sentence.

        Args:
            predictions: Class ids by row of `dataset` and token, (rows, at least the tokens of the row).
            label_names: Names of the classes by id.

        Returns:
            Labels of every sentence. A word that has no token, and could get none, is "O".

        Raises:
            ValueError: If there are not as many predictions as rows.
        """
        tags = [[OUTSIDE] * length for length in self.lengths]
        for row, predicted in zip(self.rows, predictions, strict=True):
            for word, position in zip(row.words, row.positions, strict=True):
                tags[row.sentence][word] = label_names[int(predicted[position])]
        return tags


def make_word_features(
    words: Sequence[Sequence[str]],
    tokenizer: PreTrainedTokenizerBase,
    *,
    appended: Sequence[str] | None = None,
    tags: Sequence[Sequence[str]] | None = None,
    label_names: Sequence[str] = (),
    max_length: int | None = None,
) -> WordFeatures:
    """Tokenize sentences word by word; labels stand at the first token of a word (P-tuning v2's released code).

    A sentence that is too long becomes several rows, split between words, as few and as even as can be; nothing is
    cut. (Of a single word that is too long for a row, the first tokens stay.) A word that the tokenizer makes nothing
    of is read as its unknown token.

    Args:
        words: Words of every sentence.
        tokenizer: See `load_word_tokenizer`.
        appended: A word for every sentence that stands behind it, or each of its pieces, as the second text of a pair.
        tags: Tags of every sentence, for the labels. Tags that `label_names` does not have are not trained on.
        label_names: Names of the classes by id.
        max_length: Longest row in tokens, special tokens included. Default: no limit.

    Returns:
        The features.

    Raises:
        ValueError: If `max_length` leaves no room for a word.
    """
    ids = {name: index for index, name in enumerate(label_names)}
    found: list[tuple[WordRow, dict[str, list[int]]]] = []
    with_words = [index for index, sentence in enumerate(words) if len(sentence) > 0]
    for start in range(0, len(with_words), _BATCH):
        indices = with_words[start : start + _BATCH]
        batch: list[_Words] = [list(words[index]) for index in indices]
        behind = None if appended is None else [appended[index] for index in indices]
        with special_tokens_as_text(tokenizer):
            rows = _encode(tokenizer, batch, behind)
            for index, sentence, encoded in zip(indices, batch, rows, strict=True):
                second = None if appended is None else appended[index]
                if len(encoded[1]) < len(sentence) and tokenizer.unk_token is not None:
                    readable = [word if at in encoded[1] else None for at, word in enumerate(sentence)]
                    (encoded,) = _encode(tokenizer, [readable], None if second is None else [second])
                columns, positions, _ = encoded
                pieces = [(0, columns, positions)]
                if max_length is not None and len(columns["input_ids"]) > max_length:
                    pieces = list(_split(encoded, len(sentence), second, max_length))
                for first_word, piece, at in pieces:
                    row = WordRow(index, [first_word + word for word in at], list(at.values()))
                    if tags is not None:
                        piece["labels"] = [IGNORED] * len(piece["input_ids"])
                        for word, position in zip(row.words, row.positions, strict=True):
                            piece["labels"][position] = ids.get(tags[index][word], IGNORED)
                    found.append((row, piece))
    dataset = Dataset.from_dict({name: [piece[name] for _, piece in found] for name in (found[0][1] if found else {})})
    known = None if tags is None else [list(sentence) for sentence in tags]
    return WordFeatures(dataset, [row for row, _ in found], [len(sentence) for sentence in words], known)


#: A sentence; None for a word that the tokenizer makes nothing of.
_Words = list[str | None]
#: The tokenizer's columns of a row, the first token of each of its words, and the token behind the last one.
_Row = tuple[dict[str, list[int]], dict[int, int], int]


def _encode(tokenizer: PreTrainedTokenizerBase, sentences: Sequence[_Words], appended: list[str] | None) -> list[_Row]:
    second = None if appended is None else [[word] for word in appended]
    # any word holds the place of an unknown one; the tokenizer would read its own unknown token as text here
    first = [["a" if word is None else word for word in sentence] for sentence in sentences]
    encoded = tokenizer(first, second, is_split_into_words=True, verbose=False)
    names = [name for name in tokenizer.model_input_names if name in encoded]
    rows = []
    for index, sentence in enumerate(sentences):
        columns = {name: list(encoded[name][index]) for name in names}
        positions: dict[int, int] = {}
        end = 0
        word_ids, sequence_ids = encoded.word_ids(index), encoded.sequence_ids(index)
        for position, (word, sequence) in enumerate(zip(word_ids, sequence_ids, strict=True)):
            if sequence == 0 and word is not None:
                positions.setdefault(word, position)
                end = position + 1
                if sentence[word] is None:
                    columns["input_ids"][position] = tokenizer.unk_token_id
        rows.append((columns, positions, end))
    return rows


def _split(
    row: _Row, words: int, second: str | None, max_length: int
) -> Iterator[tuple[int, dict[str, list[int]], dict[int, int]]]:
    """Split a row into pieces that fit: first word, columns, first tokens of the piece's words."""
    columns, positions, end = row
    begin = min(positions.values())
    around = len(columns["input_ids"]) - (end - begin)
    room = max_length - around
    if room < 1:
        raise ValueError(
            f"`max_seq_length` {max_length} leaves no room for a word: special tokens"
            f"{'' if second is None else f' and the appended {second!r}'} take {around}."
        )
    # the tokens of a word end where those of the next begin
    starts = [end] * (words + 1)
    for word in reversed(range(words)):
        starts[word] = positions.get(word, starts[word + 1])
    sizes = [min(stop - start, room) for start, stop in pairwise(starts)]
    for first, last in _even_pieces(sizes, room):
        start, stop = starts[first], min(starts[last], starts[first] + room)
        piece = {name: [*ids[:begin], *ids[start:stop], *ids[end:]] for name, ids in columns.items()}
        yield (
            first,
            piece,
            {word - first: at - start + begin for word, at in positions.items() if first <= word < last},
        )


def _even_pieces(sizes: Sequence[int], room: int) -> list[tuple[int, int]]:
    """Cut a row of sizes into as few pieces as their sum allows, none above `room`, of about the same sum."""
    target = -(-sum(sizes) // -(-sum(sizes) // room))
    pieces, first, filled = [], 0, 0
    for index, size in enumerate(sizes):
        if index > first and (filled + size > room or filled >= target):
            pieces.append((first, index))
            first, filled = index, 0
        filled += size
    return [*pieces, (first, len(sizes))]


def tag_words(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    sentences: Sequence[Sequence[str]],
    *,
    predicates: Sequence[int] | None = None,
    max_length: int | None = None,
    batch_size: int = 32,
) -> list[list[str]]:
    """Tag sentences with a trained token classifier.

    Args:
        model: A transformers model for token classification, or a `PeftModel` around one.
        tokenizer: See `load_word_tokenizer`.
        sentences: Words of every sentence.
        predicates: Semantic roles: the position of the predicate in every sentence.
        max_length: Longest row in tokens; a longer sentence becomes several. Default: what tokenizer and model
            take.
        batch_size: Rows computed at a time.

    Returns:
        A label of the model for every word. A word that the tokenizer makes nothing of is "O".

    Raises:
        ValueError: If a sentence is no list of words, or there is not one predicate in every sentence; or `max_length`
            leaves no room for a word, or is more than they take.
    """
    words = words_of(sentences, "`sentences`")
    appended = None
    if predicates is not None:
        if len(predicates) != len(words):
            raise ValueError(f"`predicates` must be one per sentence: {len(predicates)} for {len(words)} sentences.")
        for row, (sentence, predicate) in enumerate(zip(words, predicates, strict=True)):
            if not 0 <= predicate < len(sentence):
                raise ValueError(
                    f"`predicates`: sentence {row} has {len(sentence)} words, but {predicate} is asked for."
                )
        appended = [sentence[predicate] for sentence, predicate in zip(words, predicates, strict=True)]
    limit = longest_row(max_length, tokenizer, model)
    features = make_word_features(words, tokenizer, appended=appended, max_length=limit)
    labels = [model.config.id2label[index] for index in range(len(model.config.id2label))]
    predicted = predict_rows(model, tokenizer, list(features.dataset), batch_size)
    return features.decode([logits.argmax(-1) for logits in predicted], labels)
