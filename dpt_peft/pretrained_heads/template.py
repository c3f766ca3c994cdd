"""Label words and template words -> token ids around the text, and where each class stands among them.

The template of DPT (Yao et al. 2022, Eq. 1) lists every class behind the text:
`[CLS] x Class: c1, c2, ..., cn. [SEP]`. Everything here happens once, when a model is made; the result is a handful of
integers which the model's config keeps, so that a saved model needs no tokenizer.

A preset is a set of arguments of `DPTForSequenceClassification.from_pretrained`; whatever is passed beside it counts
more. `<data set>` has the paper's template, `<data set>-released` the released code's with its prompt words.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from string import Formatter
from types import MappingProxyType
from typing import Any, TypeVar

from transformers import PreTrainedTokenizerBase

DEFAULT_TEMPLATE = "{text} Class: {labels}."
#: Placeholder of what the model is asked about -> a template with it: DPT lists the classes, a masked language model
#: fills a gap.
DEFAULT_TEMPLATES = {"labels": DEFAULT_TEMPLATE, "mask": "{text} It was {mask}."}
DEFAULT_SEPARATOR = ", "
WORDPIECES = ("first", "mean", "max")
_SPECIAL_TOKENS = ("bos_token", "cls_token", "eos_token", "mask_token", "pad_token", "sep_token", "unk_token")
_FIELDS = ("text", "text_a", "text_b", "sep")
_Resolved = TypeVar("_Resolved")
_logger = logging.getLogger(__name__)


class WordsBeginAlikeError(ValueError):
    """Two label words begin with the same token, and are read there only."""


@dataclass(frozen=True)
class ResolvedTemplate:
    """A template filled with label words, in token ids and without special tokens.

    Attributes:
        prefix_ids: Ids that stand before the (first) text.
        suffix_ids: Ids that stand behind the (last) text.
        label_spans: For every class, in the order of the label words, the half-open range of its wordpieces in `ids`.
        between_ids: Ids that stand between two texts that the template names. Empty where it has one `{text}`: a pair
            then keeps the separator that the tokenizer has put into it.
        slots: The placeholders of the texts in their order: `("text",)`, `("text_a", "text_b")` or
            `("text_b", "text_a")`.
    """

    prefix_ids: tuple[int, ...]
    suffix_ids: tuple[int, ...]
    label_spans: tuple[tuple[int, int], ...]
    between_ids: tuple[int, ...] = ()
    slots: tuple[str, ...] = ("text",)

    @property
    def ids(self) -> tuple[int, ...]:
        """All ids of the template, without the texts."""
        return self.prefix_ids + self.between_ids + self.suffix_ids

    def to_dict(self) -> dict[str, Any]:
        """Write the template as lists and strings, for a config."""
        return {
            "prefix_ids": list(self.prefix_ids),
            "between_ids": list(self.between_ids),
            "suffix_ids": list(self.suffix_ids),
            "label_spans": [list(span) for span in self.label_spans],
            "slots": list(self.slots),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ResolvedTemplate:
        """Read back what `to_dict` wrote."""
        spans = tuple((int(start), int(end)) for start, end in values["label_spans"])
        ids = {name: tuple(values[name]) for name in ("prefix_ids", "between_ids", "suffix_ids")}
        return cls(**ids, label_spans=spans, slots=tuple(values["slots"]))


def check_label_words(
    label_words: Sequence[str], *, minimum: int = 2, tokenizer: PreTrainedTokenizerBase | None = None
) -> list[str]:
    """Return the label words, stripped of surrounding spaces, or say what is wrong with them.

    Args:
        label_words: One word (or short phrase) a class.
        minimum: Fewest classes allowed.
        tokenizer: Whose special tokens no word may hold. `None`: not known yet.

    Raises:
        TypeError: Not a list or tuple of strings.
        ValueError: Too few words, an empty word, the same word twice, or a special token in a word.
    """
    if isinstance(label_words, str) or not isinstance(label_words, Sequence):
        raise TypeError(
            f"`label_words` must be a list with one string a class, such as ['negative', 'positive'], "
            f"got {type(label_words).__name__}: {label_words!r}"
        )
    for word in label_words:
        if not isinstance(word, str):
            raise TypeError(f"`label_words` must hold strings only, got {type(word).__name__}: {word!r}")
    if len(label_words) < minimum:
        raise ValueError(f"`label_words` must name at least {minimum} classes, got {list(label_words)!r}")
    words = [word.strip() for word in label_words]
    for index, word in enumerate(words):
        if not word:
            raise ValueError(f"`label_words[{index}]` is empty: every class needs a word in the template")
        if word in words[:index]:
            raise ValueError(f"`label_words` has {word!r} twice: every class needs a word of its own")
        for name in _SPECIAL_TOKENS:
            special = getattr(tokenizer, name, None)
            if special and special in word:
                raise ValueError(
                    f"`label_words`: {word!r} holds the tokenizer's special token {special!r}; choose another word"
                )
    return words


def resolve_label_order(label_order: Sequence[int] | int | None, num_labels: int) -> list[int]:
    """Return the order in which the classes stand in the template, as indices into the label words.

    Args:
        label_order: `None` for the order of the label words, a seed for a random order, or a permutation of
            `0 ... num_labels - 1`. The paper finds that the order matters little (section 2.1).
        num_labels: Number of classes.

    Raises:
        ValueError: Not a permutation of `0 ... num_labels - 1`.
    """
    if label_order is None:
        return list(range(num_labels))
    if isinstance(label_order, int) and not isinstance(label_order, bool):
        order = list(range(num_labels))
        random.Random(label_order).shuffle(order)
        return order
    if not isinstance(label_order, Sequence) or sorted(label_order, key=str) != sorted(range(num_labels), key=str):
        raise ValueError(
            f"`label_order` must be a seed or a permutation of 0 ... {num_labels - 1} (the class indices), "
            f"got {label_order!r}"
        )
    return list(label_order)


def parse_template(template: str, asked: str = "labels") -> list[tuple[str, str | None]]:
    """Split a template string into pairs (literal words, name of the placeholder behind them or `None`).

    Args:
        template: Template string.
        asked: The placeholder of what the model is asked about, one of `DEFAULT_TEMPLATES`.

    Raises:
        TypeError: `template` is not a string.
        ValueError: A placeholder is missing, unknown, given twice or carries a format, `{text}` stands beside
            `{text_a}` or `{text_b}`, or a brace is left open.
    """
    default = DEFAULT_TEMPLATES[asked]
    if not isinstance(template, str):
        raise TypeError(f"`template` must be a string such as {default!r}, got {type(template).__name__}")
    try:
        parsed = list(Formatter().parse(template))
    except ValueError as error:
        raise ValueError(
            f"`template` {template!r} is not a valid template: {error} (write {{{{ for a brace)"
        ) from None
    pieces: list[tuple[str, str | None]] = []
    found: list[str] = []
    for literal, field, spec, conversion in parsed:
        if field is not None:
            if field not in (*_FIELDS, asked) or spec or conversion:
                raise ValueError(
                    f"`template` {template!r} has the unknown placeholder {{{field}}}: "
                    f"only {{text}} (or {{text_a}} and {{text_b}}), {{{asked}}} and {{sep}} are allowed, "
                    "without a format"
                )
            if field in found and field != "sep":
                raise ValueError(f"`template` {template!r} has {{{field}}} twice")
            found.append(field)
        pieces.append((literal, field))
    texts = sorted(set(found) - {asked, "sep"})
    if texts not in (["text"], ["text_a", "text_b"]):
        problem = f"has {{{'} and {'.join(texts)}}}" if texts else "lacks {text}"
        raise ValueError(
            f"`template` {template!r} {problem}: it needs {{text}}, or {{text_a}} and {{text_b}}; "
            f"the default is {default!r}"
        )
    if asked not in found:
        raise ValueError(f"`template` {template!r} lacks {{{asked}}}; the default is {default!r}")
    return pieces


def resolve_template(
    template: str,
    label_words: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    label_order: Sequence[int] | None = None,
    *,
    label_separator: str = DEFAULT_SEPARATOR,
    wordpieces: str = "first",
    asked: str = "labels",
) -> ResolvedTemplate:
    """Fill the template with the label words and tokenize it the way it stands in the running text.

    Args:
        template: Template string with `{labels}` and `{text}`, or with `{labels}`, `{text_a}` and `{text_b}`. `{sep}`
            is the tokenizer's separator token.
        label_words: One word a class.
        tokenizer: Tokenizer of the discriminator.
        label_order: Order of the classes in the template; default: the order of `label_words`.
        label_separator: What stands between two classes.
        wordpieces: Which wordpieces of a class are read: `"first"`, `"mean"` or `"max"`. Classes read at their first
            wordpiece only must differ there.
        asked: The placeholder that the label words fill, see `parse_template`.

    Raises:
        TypeError, ValueError: See `parse_template` and `check_label_words`.
        ValueError: A label word becomes no token or an unknown token, or two classes are read at the same tokens.
    """
    words = check_label_words(label_words, minimum=1, tokenizer=None if asked == "mask" else tokenizer)
    order = resolve_label_order(label_order, len(words))
    if not isinstance(label_separator, str):
        raise TypeError(f"`label_separator` must be a string such as ', ', got {type(label_separator).__name__}")
    # What stands before, between and behind the texts.
    sides = [""]
    slots: list[str] = []
    # Character span of every word within its side.
    spans: dict[int, tuple[int, int]] = {}
    labels_side = 0
    for literal, field in parse_template(template, asked):
        sides[-1] += literal
        if field == asked:
            labels_side = len(sides) - 1
            for position, index in enumerate(order):
                sides[-1] += label_separator if position else ""
                spans[index] = (len(sides[-1]), len(sides[-1]) + len(words[index]))
                sides[-1] += words[index]
        elif field == "sep":
            sides[-1] += tokenizer.sep_token
        elif field is not None:
            slots.append(field)
            sides.append("")
    # A space before a text would become a token of its own in byte-level vocabularies.
    sides[:-1] = [side.rstrip() for side in sides[:-1]]

    char_spans = [spans[index] for index in range(len(words))]
    ids: list[tuple[int, ...]] = []
    label_spans: list[tuple[int, int] | None] = []
    for number, rendered in enumerate(sides):
        side_ids, side_spans = _tokenize(tokenizer, rendered, char_spans if number == labels_side else [])
        offset = sum(map(len, ids))
        label_spans += [None if span is None else (span[0] + offset, span[1] + offset) for span in side_spans]
        ids.append(tuple(side_ids))
    checked = _check_tokens(words, label_spans, sum(ids, ()), tokenizer, first_only=wordpieces == "first")
    between = ids[1] if len(ids) == 3 else ()
    return ResolvedTemplate(ids[0], ids[-1], tuple(checked), between, tuple(slots))


def choose_wordpieces(wordpieces: str | None, resolve: Callable[[str], _Resolved]) -> tuple[str, _Resolved]:
    """Return which wordpieces of the classes are read, and the templates resolved for them.

    Args:
        wordpieces: `"first"`, `"mean"`, `"max"`; or `None`: `"first"` (the paper's) unless words begin alike, then
            `"mean"`.
        resolve: Resolves the templates for one of the three.

    Raises:
        ValueError: `resolve` does, or `wordpieces` is none of the three.
    """
    if wordpieces not in (None, *WORDPIECES):
        raise ValueError(f"`wordpieces` must be one of {WORDPIECES}, got {wordpieces!r}")
    try:
        return wordpieces or "first", resolve(wordpieces or "first")
    except WordsBeginAlikeError:
        if wordpieces is not None:
            raise
        _logger.info("Label words begin alike: classes are read at all of their wordpieces (wordpieces='mean')")
        return "mean", resolve("mean")


def _tokenize(
    tokenizer: PreTrainedTokenizerBase, text: str, char_spans: list[tuple[int, int]]
) -> tuple[list[int], list[tuple[int, int] | None]]:
    """Tokenize once, as running text, and translate character spans into token spans (`None`: no token)."""
    read = partial(tokenizer, add_special_tokens=False, split_special_tokens=False, verbose=False)
    encoding = read(text)
    ids: list[int] = list(encoding["input_ids"])
    spans: list[tuple[int, int] | None] = []
    for start, end in char_spans:
        if tokenizer.is_fast:
            tokens = [token for token in map(encoding.char_to_token, range(start, end)) if token is not None]
            spans.append((min(tokens), max(tokens) + 1) if tokens else None)
        else:
            # Tokenizers in Python know no offsets: count the tokens of what stands before the word, and up to its end.
            before, upto = (len(read(text[:stop].rstrip())["input_ids"]) for stop in (start, end))
            spans.append((before, upto) if upto > before else None)
    return ids, spans


def _check_tokens(
    words: list[str],
    spans: list[tuple[int, int] | None],
    ids: tuple[int, ...],
    tokenizer: PreTrainedTokenizerBase,
    *,
    first_only: bool,
) -> list[tuple[int, int]]:
    checked: list[tuple[int, int]] = []
    seen: dict[tuple[int, ...], str] = {}
    for word, span in zip(words, spans, strict=True):
        if span is None:
            raise ValueError(f"`label_words`: the tokenizer turns {word!r} into nothing; choose another word")
        read = ids[span[0] : span[0] + 1] if first_only else ids[slice(*span)]
        if tokenizer.unk_token_id in read:
            raise ValueError(
                f"`label_words`: {word!r} {'begins with' if first_only else 'holds'} a token unknown to the "
                "tokenizer; choose another word"
            )
        if read in seen and first_only:
            raise WordsBeginAlikeError(
                f"`label_words`: {seen[read]!r} and {word!r} begin with the same token "
                f"{tokenizer.convert_ids_to_tokens(read[0])!r}, and a class is read at its first token; "
                "choose words that differ there, or read all of them with wordpieces='mean' or 'max'"
            )
        if read in seen:
            raise ValueError(f"`label_words`: {seen[read]!r} and {word!r} are the same to the tokenizer")
        seen[read] = word
        checked.append(span)
    return checked


#: Label words of the data sets in the paper.
LABEL_WORDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        # Label words of the released code, in the order of the sorted labels of the data (TREC: ABBR DESC ENTY ...).
        "sst2": ("negative", "positive"),
        "sst5": ("disgusted", "dissatisfied", "indifferent", "acceptable", "satisfied"),
        "trec": ("abbreviation", "description", "entity", "human", "location", "number"),
        "ag_news": ("world", "sports", "business", "science and technology"),
    }
)
_RELEASED_PROMPTS = {"sst2": "sentiment : _", "sst5": "label : _", "trec": "category : _", "ag_news": "labels :"}


def _paper() -> dict[str, Any]:
    return {"template": DEFAULT_TEMPLATE, "label_separator": DEFAULT_SEPARATOR}


def _released(prompt: str) -> dict[str, Any]:
    # [CLS] text [SEP] (text_b [SEP]) PROMPT c1 , c2 , ... [SEP]; the last separator ends every row.
    return {
        "template": f"{{text}}{{sep}} {prompt} {{labels}}",
        "label_separator": " , ",
        "untied_labels": True,
        "label_bias": True,
    }


#: Named choices of arguments.
PRESETS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "paper": _paper(),
        "released": _released("labels :"),
        **{name: _paper() | {"label_words": list(words)} for name, words in LABEL_WORDS.items()},
        **{
            f"{name}-released": _released(_RELEASED_PROMPTS[name]) | {"label_words": list(words)}
            for name, words in LABEL_WORDS.items()
        },
    }
)


def preset_options(name: str) -> dict[str, Any]:
    """Return the arguments that a preset stands for.

    Raises:
        ValueError: There is no preset of that name.
    """
    if name not in PRESETS:
        raise ValueError(f"`preset` must be one of {', '.join(PRESETS)}, got {name!r}")
    return dict(PRESETS[name])
