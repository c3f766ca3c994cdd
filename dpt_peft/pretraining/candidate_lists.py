"""Rows for discriminator pre-training: clean text, and candidate lists in the form of DPT's template.

A candidate list is a piece of a document, then the template's list, `Class: w1, w2, ... .`, whose words come from the
unseen neighbourhood of the piece (original) or from other documents (replaced). It practises what DPT asks for:
judging, at a listed word, whether the word belongs to the text. It is part of neither the DPT nor the ELECTRA paper.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedTokenizerBase

from dpt_peft.pretrained_heads.template import DEFAULT_SEPARATOR, DEFAULT_TEMPLATE, parse_template
from dpt_peft.pretraining.replaced_tokens import IGNORED

_MARKERS = ("Ġ", "▁")


class WholeWords:
    """Which tokens are whole words by themselves, and how telling each is of its document.

    Args:
        tokenizer: A WordPiece (`##`), byte-level (`Ġ`) or sentencepiece (`▁`) tokenizer.
        documents: Token ids of documents, without special tokens; they give the document frequencies.
        min_letters: Shorter words are never listed.

    Attributes:
        true_weight: Weight of drawing a token from its own document, shape (vocabulary,); 0 for what is no whole word.
        false_weight: The same for drawing it as a word of another document.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, documents: Sequence[Sequence[int]], min_letters: int = 3
    ) -> None:
        names = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
        marked = any(name.startswith(_MARKERS) for name in names)
        words = [name[1:] if name.startswith(_MARKERS) else name for name in names]
        starts = [name.startswith(_MARKERS) if marked else not name.startswith("##") for name in names]
        special = set(tokenizer.all_special_ids)
        self.is_word = np.array(
            [
                start and len(word) >= min_letters and word.isalpha() and i not in special
                for i, (start, word) in enumerate(zip(starts, words, strict=True))
            ]
        )
        self.continues = np.array(
            [not start and word.removeprefix("##").isalnum() for start, word in zip(starts, words, strict=True)]
        )
        counts = np.zeros(len(names))
        for document in documents:
            counts[np.unique(np.asarray(document))] += 1
        frequency = counts / max(len(documents), 1)
        telling = np.where(self.is_word & (counts > 0), -np.log(np.maximum(frequency, 1e-9)), 0.0)
        self.false_weight = telling
        # A word of another document is refused where it also occurs in this one, which happens with probability
        # `frequency`. The true words are thinned by the same factor: how common a word is must not tell which kind it
        # is.
        self.true_weight = telling * (1 - frequency)

    def at(self, tokens: np.ndarray) -> np.ndarray:
        """Tell which tokens stand for whole words of their text; boolean, shape (tokens,)."""
        whole = self.is_word[tokens]
        whole[:-1] &= ~self.continues[tokens[1:]]
        return whole


class DocumentCollator:
    """Turn documents into padded rows, half of them (say) candidate lists; `data_collator` of a Trainer.

    Documents of a batch are each other's "other documents". Randomness comes from torch's global generator, which
    Trainer seeds, gives each data worker its own of, and restores on resume.

    Args:
        tokenizer: The discriminator's tokenizer.
        max_length: Tokens per row, special tokens included.
        words: The words that may be listed; None makes no candidate lists.
        candidate_list_share: Probability that a row is a candidate list. A document too short to leave words unseen,
            or a batch with no other document, gives a row of text in its place.
        template: Template string, first `{text}`, then `{labels}`. Default: DPT's own.
        label_separator: What stands between two listed words.
        min_candidates: Fewest listed words, at least 2.
        max_candidates: Most listed words.
        max_true: Most words of the row's own document among them; at least one is always true and at least one false.

    Raises:
        ValueError: A template in another order, a share outside [0, 1], a share without `words`, numbers of candidates
            out of order, or a `max_length` that leaves the text fewer than 8 tokens.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        max_length: int = 64,
        words: WholeWords | None = None,
        candidate_list_share: float = 0.0,
        template: str | None = None,
        label_separator: str = DEFAULT_SEPARATOR,
        min_candidates: int = 2,
        max_candidates: int = 6,
        max_true: int = 3,
    ) -> None:
        if not 0 <= candidate_list_share <= 1:
            raise ValueError(f"candidate_list_share={candidate_list_share} must lie between 0 and 1.")
        if candidate_list_share > 0 and words is None:
            raise ValueError("candidate_list_share > 0 needs words (a WholeWords of the training documents).")
        if not 2 <= min_candidates <= max_candidates or max_true < 1:
            raise ValueError(
                f"min_candidates={min_candidates}, max_candidates={max_candidates} and max_true={max_true} must "
                "satisfy 2 <= min_candidates <= max_candidates and max_true >= 1."
            )
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.words: Any = words
        self.candidate_list_share = candidate_list_share
        self.min_candidates, self.max_candidates, self.max_true = min_candidates, max_candidates, max_true
        frame = tokenizer("")["input_ids"]
        self.head, self.tail = frame[:1], frame[1:]
        pieces = parse_template(template or DEFAULT_TEMPLATE)
        if [field for _, field in pieces[:2]] != ["text", "labels"] or pieces[0][0] or len(pieces) > 3:
            raise ValueError(f"template={template!r} must be {{text}}, some words, {{labels}}, and what may follow.")
        texts = (pieces[1][0], label_separator, pieces[2][0] if len(pieces) == 3 else "")
        self.prompt, self.separator, self.stop = (_behind_a_word(tokenizer, text) for text in texts)
        self.special = np.zeros(len(tokenizer), dtype=bool)
        self.special[tokenizer.all_special_ids] = True
        listed = len(self.prompt) + self._list_length(max_candidates) if candidate_list_share > 0 else 0
        if max_length - len(frame) - listed < 8:
            beside = f"a list of up to {max_candidates} candidates" if listed else "the special tokens"
            raise ValueError(
                f"max_length={max_length} leaves the text {max_length - len(frame) - listed} tokens beside {beside}; "
                "it needs 8."
            )

    def _list_length(self, count: int) -> int:
        return count + (count - 1) * len(self.separator) + len(self.stop)

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        """Make a batch.

        Args:
            rows: Documents (`input_ids` without special tokens), or finished rows that carry `labels`, which are only
                padded.

        Returns:
            `input_ids`, `attention_mask`, `labels` and, for documents, `replaceable` and `text_mask` (the text, and
            special tokens beside it); each of shape (batch, longest row).
        """
        if "labels" in rows[0]:
            finished = [(list(row["input_ids"]), list(row["labels"])) for row in rows]
            return self._pad(finished)
        documents = [np.asarray(row["input_ids"]) for row in rows]
        made: list[tuple[list[int], list[int]]] = []
        of_text, text_lengths = [], []
        for index in range(len(documents)):
            listed = None
            if float(torch.rand(())) < self.candidate_list_share:
                listed = self._candidate_list(documents, index)
            of_text.append(listed is None)
            made.append(self._text(documents[index]) if listed is None else listed[:2])
            text_lengths.append(len(made[-1][0]) if listed is None else listed[2])
        batch = self._pad(made)
        replaceable = torch.tensor(of_text)[:, None] & batch["attention_mask"].bool()
        batch["replaceable"] = replaceable & ~torch.from_numpy(self.special)[batch["input_ids"]]
        batch["text_mask"] = torch.arange(replaceable.shape[1]) < torch.tensor(text_lengths)[:, None]
        return batch

    def _pad(self, rows: list[tuple[list[int], list[int]]]) -> dict[str, torch.Tensor]:
        tokens, labels = ([torch.tensor(part) for part in column] for column in zip(*rows, strict=True))
        return {
            "input_ids": pad_sequence(tokens, batch_first=True, padding_value=self.tokenizer.pad_token_id),
            "attention_mask": pad_sequence([torch.ones_like(row) for row in tokens], batch_first=True),
            "labels": pad_sequence(labels, batch_first=True, padding_value=IGNORED),
        }

    def _window(self, document: np.ndarray, room: int) -> tuple[int, int]:
        start = int(torch.randint(max(len(document) - room, 0) + 1, ()))
        return start, min(start + room, len(document))

    def _text(self, document: np.ndarray) -> tuple[list[int], list[int]]:
        start, end = self._window(document, self.max_length - len(self.head) - len(self.tail))
        tokens = [*self.head, *document[start:end].tolist(), *self.tail]
        return tokens, [IGNORED] * len(tokens)

    def _draw(
        self, document: np.ndarray, window: tuple[int, int], weight: np.ndarray, count: int, barred: np.ndarray
    ) -> list[int]:
        """Draw up to `count` distinct words outside the window that occur neither in it nor among `barred`."""
        whole = self.words.at(document)
        whole[slice(*window)] = False
        places = document[whole]
        places = places[~np.isin(places, document[slice(*window)]) & ~np.isin(places, barred)]
        drawn: list[int] = []
        while len(drawn) < count:
            chances = torch.from_numpy(weight[places])
            if float(chances.sum()) <= 0:
                break
            drawn.append(int(places[int(torch.multinomial(chances, 1))]))
            places = places[places != drawn[-1]]
        return drawn

    def _candidate_list(self, documents: list[np.ndarray], index: int) -> tuple[list[int], list[int], int] | None:
        """Make tokens and labels of a row with a list, and tell how many tokens stand before the list's prompt."""
        document = documents[index]
        count = int(torch.randint(self.min_candidates, self.max_candidates + 1, ()))
        wanted_true = int(torch.randint(1, min(self.max_true, count - 1) + 1, ()))
        room = self.max_length - len(self.head) - len(self.tail) - len(self.prompt)
        room -= self._list_length(count)
        # Texts to classify are often short: the list must not always stand at the end of a full row.
        room = int(torch.randint(max(room // 4, 1), room + 1, ()))
        start, end = self._window(document, room)
        nothing = np.empty(0, dtype=document.dtype)
        true = self._draw(document, (start, end), self.words.true_weight, wanted_true, nothing)
        false: list[int] = []
        for other in torch.randperm(len(documents)).tolist():
            if len(false) == count - wanted_true:
                break
            if other == index:
                continue
            # From behind a window of its own, exactly as the true words are drawn.
            barred = np.concatenate([document, np.array(false, dtype=document.dtype)])
            hidden = self._window(documents[other], room)
            false += self._draw(documents[other], hidden, self.words.false_weight, 1, barred)
        if not true or not false:
            return None
        words, answers = true + false, [0] * len(true) + [1] * len(false)
        tokens = [*self.head, *document[start:end].tolist(), *self.prompt]
        labels, text_length = [IGNORED] * len(tokens), len(tokens) - len(self.prompt)
        for number, place in enumerate(torch.randperm(len(words)).tolist()):
            separator = self.separator if number else []
            tokens += [*separator, words[place]]
            labels += [*[IGNORED] * len(separator), answers[place]]
        behind = [*self.stop, *self.tail]
        return tokens + behind, labels + [IGNORED] * len(behind), text_length


def _behind_a_word(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """The tokens of a text as they stand behind a word, without those of the word."""
    word, both = (tokenizer(words, add_special_tokens=False)["input_ids"] for words in ("a", f"a{text.rstrip()}"))
    return both[len(word) :]
