"""Relation extraction: what holds between two marked spans of a sentence."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from textwrap import shorten
from typing import Any, ClassVar, Literal

import numpy as np
from datasets import Dataset
from transformers import AutoModelForSequenceClassification, PreTrainedModel, PreTrainedTokenizerBase
from transformers.hf_argparser import HfArg

from dpt_peft.tasks.base import Predictions, TaskData
from dpt_peft.tasks.data import DatasetArguments, check_columns, check_splits, is_missing, special_tokens_as_text
from dpt_peft.tasks.heads import (
    DISCRIMINATOR,
    NEW_HEAD,
    DPTOptions,
    Head,
    load_dpt_classifier,
    new_head,
    saved_wrapper,
)
from dpt_peft.tasks.labels import read_labels, whole_number
from dpt_peft.tasks.text_classification import ClassFeatures, TextClassification, tokenize_texts, usage_of_classifier

TEMPLATE = "{text} Relation: {labels}."
NO_RELATION = "no_relation"
#: Columns that say where an example stands in SpERT's sentences.
PLACE = ("row", "number", "head_entity", "tail_entity")

logger = logging.getLogger(__name__)


@dataclass
class RelationExtractionArguments(DatasetArguments):
    """Data of relation extraction: a row is a pair of spans, as objects or in TACRED's columns, or a SpERT sentence.

    SpERT's sentences have `entities`, a list of spans, and `relations`, a list of `{type, head, tail}` whose ends
    count the entities.
    """

    tokens_column_name: str | None = HfArg(
        default=None, help="Column of the words, a list. Default: 'tokens', or TACRED's 'token'."
    )
    head_column_name: str = HfArg(
        default="head",
        help="Column of the first span: {start, end, type}, the type if there is one. Without such a column: "
        "TACRED's subj_start, subj_end, subj_type, obj_start, obj_end, obj_type.",
    )
    tail_column_name: str = HfArg(default="tail", help="Column of the second span, as the first.")
    span_end: Literal["auto", "exclusive", "inclusive"] = HfArg(
        default="auto",
        help="Whether `end` is the word behind the span or its last one. Default: behind it in {start, end}, "
        "the last one in TACRED's columns.",
    )
    relation_column_name: str = HfArg(default="relation", help="Column of the relation's name.")
    no_relation_name: str | None = HfArg(
        default=None,
        help="The class that is no relation, which F1 does not count. Default: 'no_relation', if any. In "
        "SpERT's style, naming it makes an example of every two entities without a relation; otherwise the "
        "annotated relations are the only examples.",
    )
    class_names: list[str] | None = HfArg(
        default=None, help="Names of the relations: for labels 0, 1, ..., or the named ones' order."
    )
    max_seq_length: int | None = HfArg(
        default=None,
        help="Longest row in tokens; of a longer sentence the words farthest from both spans are left out. "
        "Default: what the model takes.",
    )


@dataclass(frozen=True)
class RelationData(TaskData):
    """A data set of relations.

    Attributes:
        no_relation: The class that is no relation; None if there is none.
    """

    no_relation: str | None = None


def one_row_a_relation(dataset: Dataset, split: str, tokens: str, args: RelationExtractionArguments) -> Dataset:
    """Turn SpERT's sentences into one row a relation, in their order; a sentence may have several relations or none.

    Two entities without a relation are a row too if `no_relation_name` says what that is called, and in a split that
    has no column of relations, or null in every row of it (not of train), where any two may have one. They stand
    behind the sentence's relations.

    Args:
        dataset: Sentences with the columns of words, `entities` and `relations`.
        split: Its name.
        tokens: Name of the column of words.
        args: Names of the columns of the result.

    Returns:
        The words, head, tail and relation of every row, its sentence (`row`), its number there (`number`) and the
        entities it is between (`head_entity`, `tail_entity`).

    Raises:
        ValueError: If a column is missing, entities or relations are no lists of objects, a relation has no type or
            is not between two entities of its sentence (row and relation are named), or there is no row.
    """
    check_columns(dataset, split, {"tokens_column_name": tokens, "entities": "entities"}, {"relations": "relations"})
    if split != "train" and "relations" in dataset.column_names and all(map(is_missing, dataset["relations"][:])):
        dataset = dataset.remove_columns("relations")
    known = "relations" in dataset.column_names
    names = (tokens, args.head_column_name, args.tail_column_name, args.relation_column_name)
    found: dict[str, list[Any]] = {name: [] for name in (*names, *PLACE)}
    for row, sentence in enumerate(dataset):
        where = f"row {row} of the {split} data"
        entities, relations = (_objects(sentence.get(name, []), name, where) for name in ("entities", "relations"))
        named = [_ends(relation, len(entities), f"relation {at} of {where}") for at, relation in enumerate(relations)]
        if not known or args.no_relation_name is not None:
            related = {ends for ends, _ in named}
            pairs = permutations(range(len(entities)), 2)
            named += [(ends, args.no_relation_name) for ends in pairs if ends not in related]
        for at, ((head, tail), relation) in enumerate(named):
            cells = (sentence[tokens], entities[head], entities[tail], relation, row, at, head, tail)
            for column, cell in zip(found.values(), cells, strict=True):
                column.append(cell)
    without = len(dataset) - len(set(found["row"]))
    if without == len(dataset):
        raise ValueError(f"The {split} data has no sentence with a relation.")
    if without:
        logger.warning(
            "%d of %d sentences of the %s data have no relation and so no example%s",
            without,
            len(dataset),
            split,
            "; `no_relation_name` makes one of every two entities" if known and args.no_relation_name is None else "",
        )
    if not known:
        del found[args.relation_column_name]
    return Dataset.from_dict(found)


def _objects(values: Any, name: str, where: str) -> list[dict[str, Any]]:
    if not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
        raise ValueError(f"{where} must have a list of objects as `{name}`, [] if there is none; got {values!r}.")
    return values


def _ends(relation: dict[str, Any], entities: int, where: str) -> tuple[tuple[int, int], str | None]:
    """Return which entities one of SpERT's relations is between, and its type."""
    ends = [whole_number(relation.get(end)) for end in ("head", "tail")]
    kind = relation.get("type")
    inside = [end for end in ends if end is not None and 0 <= end < entities]
    if len(inside) < 2 or not isinstance(kind, str):
        raise ValueError(
            f"{where} must have `type`, its name, and `head` and `tail`, which count the {entities} entities from 0; "
            f"got {relation!r}."
        )
    return (inside[0], inside[1]), kind


def _tacred_spans(dataset: Dataset, prefix: str) -> list[dict[str, Any]]:
    parts = {
        part: dataset[f"{prefix}_{part}"][:]
        for part in ("start", "end", "type")
        if f"{prefix}_{part}" in dataset.column_names
    }
    return [dict(zip(parts, values, strict=True)) for values in zip(*parts.values(), strict=True)]


def _check_span(span: Any, count: int, inclusive: bool, where: str) -> list[int]:
    start, end = (whole_number(span.get(key)) for key in ("start", "end")) if isinstance(span, dict) else (None, None)
    stop = None if end is None else end + inclusive
    if start is None or stop is None or not 0 <= start < stop <= count:
        last = "its last word" if inclusive else "the word behind it"
        raise ValueError(
            f"{where} must have `start`, its first word, and `end`, {last}, counted from 0 in {count} words; got "
            f"{span!r}."
        )
    return [start, stop]


def mark_spans(
    tokens: Sequence[str],
    head: tuple[int, int],
    tail: tuple[int, int],
    head_type: str | None = None,
    tail_type: str | None = None,
) -> str:
    """Write a sentence with its spans marked, as the models of this family read it.

    The markers are the punctuation of Zhou and Chen (2022, "An Improved Baseline for Sentence-level Relation
    Extraction", Table 1): `@ * person * Bob @` and `# ^ city ^ Paris #`, without a type `@ Bob @` and `# Paris #`.
    Every vocabulary has them, so that no token is new to a backbone that stays frozen.

    Args:
        tokens: The words.
        head: First word of the first span, and the word behind its last.
        tail: The same of the second span. Spans may lie in one another.
        head_type: Type of the first span.
        tail_type: Type of the second span.

    Returns:
        The words with markers, a blank between each two.
    """
    return " ".join(_marked(tokens, head, tail, head_type, tail_type)[0])


def _marked(
    tokens: Sequence[str],
    head: Sequence[int],
    tail: Sequence[int],
    head_type: str | None = None,
    tail_type: str | None = None,
) -> tuple[list[str], list[int]]:
    """Return the words with markers, and how far each is from the nearest span (0 in it, and for its markers)."""
    before: list[list[str]] = [[] for _ in tokens]
    behind: list[list[str]] = [[] for _ in tokens]
    spans = ((head, "@", "*", head_type), (tail, "#", "^", tail_type))
    for (start, stop), mark, of_type, kind in sorted(spans, key=lambda span: span[0][0] - span[0][1]):  # outer first
        before[start] += [mark, *([] if kind is None else [of_type, kind.replace("_", " ").lower(), of_type])]
        behind[stop - 1].insert(0, mark)
    words, distances = [], []
    for place, token in enumerate(tokens):
        distance = min(max(start - place, place - stop + 1, 0) for start, stop in (head, tail))
        written = [*before[place], token, *behind[place]]
        words += written
        distances += [distance] * len(written)
    return words, distances


def _fit(
    words: list[str], distances: list[int], tokenizer: PreTrainedTokenizerBase, max_length: int, row: Mapping[str, Any]
) -> str:
    """Leave out the words that are farthest from both spans until a sentence has at most `max_length` tokens."""
    pieces = tokenizer([f" {word}" for word in words], add_special_tokens=False)["input_ids"]
    free = max_length - tokenizer.num_special_tokens_to_add(pair=False)
    kept = []
    for place in sorted(range(len(words)), key=lambda place: (distances[place], place)):
        free -= len(pieces[place])
        if free < 0 and distances[place] == 0:
            raise ValueError(f"`max_seq_length` {max_length} is too short for the marked spans of {_described(row)}.")
        if free < 0:
            break
        kept.append(place)
    return " ".join(words[place] for place in sorted(kept))


def _described(row: Mapping[str, Any]) -> str:
    """Say which example of the data a row is; a sample's own numbers are not those of the file."""
    tokens = row["tokens"]
    head, tail = (shorten(" ".join(tokens[slice(*row[role])]), 60) for role in ("head", "tail"))
    place = f" (relation {row['number']} of row {row['row']} of its split)" if "row" in row else ""
    return f"{head!r} and {tail!r} in the sentence {shorten(' '.join(tokens), 60)!r}{place}"


def relation_words(name: str) -> str:
    """Write a relation's name as words: "per:city_of_birth" is "per city of birth", "OrgBased_In" "org based in"."""
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    return re.sub(r"[\W_]+", " ", apart).strip().lower() or name


def load_relation_reader(path: str, data: TaskData, options: DPTOptions, **kwargs: Any) -> PreTrainedModel:
    """Load a discriminator that scores relations in a template, a saved one in its own (`Head.load`)."""
    if options.template_preset is None and saved_wrapper(path, data.label_names, kwargs) is None:
        words = options.label_words or [relation_words(name) for name in data.label_names]
        options = replace(options, label_words=words, template=options.template or TEMPLATE)
    return load_dpt_classifier(path, data, options, **kwargs)


@dataclass(frozen=True)
class RelationFeatures(ClassFeatures):
    """Sentences with one relation each.

    Attributes:
        no_relation: The class that is none; None if there is none.
    """

    no_relation: str | None

    def measure(self, predictions: Predictions, config: Any) -> dict[str, float]:
        """Return the metrics of the classes, and of the relations alone.

        Returns:
            Those of `ClassFeatures`; and `micro_f1`, `precision`, `recall` over all relations but `no_relation`, as
            TACRED's scorer counts them (0 where there is nothing to divide by).
        """
        scores = super().measure(predictions, config)
        from sklearn.metrics import precision_recall_fscore_support

        relations = [index for index, name in enumerate(self.label_names) if name != self.no_relation]
        precision, recall, f1, _ = precision_recall_fscore_support(
            self.labels, np.argmax(predictions, axis=-1), labels=relations, average="micro", zero_division=0
        )
        return {**scores, "micro_f1": float(f1), "precision": float(precision), "recall": float(recall)}


class RelationExtraction(TextClassification):
    """The relation between two spans of a sentence."""

    name = "relation-extraction"
    arguments = RelationExtractionArguments
    names_argument = "class_names"
    heads: ClassVar[Mapping[str, Head]] = {
        NEW_HEAD: new_head(AutoModelForSequenceClassification),
        DISCRIMINATOR: Head(load_relation_reader, DPTOptions),
    }

    def shape_rows(self, splits: Mapping[str, Dataset], args: RelationExtractionArguments) -> RelationData:
        """Check splits of sentences with two spans each, or SpERT's with any number of relations each.

        Args:
            splits: As loaded.
            args: Columns.

        Returns:
            Splits with the columns `tokens`, `head` and `tail` ([first word, word behind the last]), `head_type`,
            `tail_type` (None where there is none) and `labels` (class ids; missing where a split has none); of SpERT's
            sentences also those of `PLACE`, see `one_row_a_relation`.

        Raises:
            ValueError: If there is neither training data nor `class_names`, or a split is empty; if a column is
                missing (those there are get listed); if words are no list of strings, or a span does not lie in its
                sentence (the row is named); if `no_relation_name` is no class; or what `one_row_a_relation` and
                `read_labels` refuse.
        """
        there = next(iter(splits.values())).column_names if splits else []
        tokens = args.tokens_column_name or ("token" if "token" in there and "tokens" not in there else "tokens")
        of_sentences = "entities" in there and args.head_column_name not in there
        if of_sentences:
            splits = {split: one_row_a_relation(dataset, split, tokens, args) for split, dataset in splits.items()}
        columns = {"head_column_name": args.head_column_name, "tail_column_name": args.tail_column_name}
        tacred = "subj_start" in there and args.head_column_name not in there
        if tacred:
            columns = {name: name for name in ("subj_start", "subj_end", "obj_start", "obj_end")}
        inclusive = args.span_end == "inclusive" or (args.span_end == "auto" and tacred)
        check_splits(
            splits,
            {"tokens_column_name": tokens, **columns},
            {"relation_column_name": args.relation_column_name},
            classes=None if args.class_names else "class_names",
        )
        labels = read_labels(splits, args.relation_column_name, args.class_names, "relation_column_name")
        no_relation = args.no_relation_name
        if no_relation is not None and no_relation not in labels.names:
            raise ValueError(
                f"`no_relation_name` {no_relation!r} is no relation of the train data: {', '.join(labels.names)}."
            )
        if no_relation is None and NO_RELATION in labels.names:
            no_relation = NO_RELATION
        shaped = {}
        for split, dataset in splits.items():
            places = {name: dataset[name][:] for name in PLACE} if of_sentences else {}
            rows = places.get("row", range(len(dataset)))
            where = [f"row {row} of the {split} data" for row in rows]
            if of_sentences:
                where = [f"relation {at} of {row}" for at, row in zip(places["number"], where, strict=True)]
            sentences = dataset[tokens][:]
            for words, place in zip(sentences, where, strict=True):
                if not isinstance(words, list) or not words or not all(isinstance(word, str) for word in words):
                    raise ValueError(
                        f"`tokens_column_name`: column {tokens!r} must hold lists of words, but {place} has {words!r}."
                    )
            out: dict[str, list[Any]] = {"tokens": sentences}
            for role, prefix in (("head", "subj"), ("tail", "obj")):
                name = getattr(args, f"{role}_column_name")
                spans = _tacred_spans(dataset, prefix) if tacred else dataset[name][:]
                out[role] = [
                    _check_span(span, len(words), inclusive, f"the {role} of {place}")
                    for span, words, place in zip(spans, sentences, where, strict=True)
                ]
                kinds = [span.get("type") for span in spans]
                out[f"{role}_type"] = [None if is_missing(kind) or kind == "" else str(kind) for kind in kinds]
            out |= places
            ids = labels.ids[split]
            if ids is not None:
                out["labels"] = ids
            shaped[split] = Dataset.from_dict(out)
        return RelationData(shaped, labels.names, no_relation)

    def groups(self, rows: Dataset) -> Sequence[Any]:
        """Return the sentence of every row: its pairs of spans are all trained on, or all held out."""
        return [tuple(words) for words in rows["tokens"][:]]

    def features(
        self, rows: Dataset, tokenizer: PreTrainedTokenizerBase, data: TaskData, args: Any, max_length: int
    ) -> RelationFeatures:
        """Mark the spans, see `mark_spans`, shorten what is too long, and tokenize.

        Raises:
            ValueError: If the spans of a row alone are too long (spans and sentence are named).
        """
        assert isinstance(data, RelationData)
        marked = [_marked(row["tokens"], row["head"], row["tail"], row["head_type"], row["tail_type"]) for row in rows]
        texts = [" ".join(words) for words, _ in marked]
        with special_tokens_as_text(tokenizer):
            lengths = [len(ids) for ids in tokenizer(texts, verbose=False)["input_ids"]]
            for row, length in enumerate(lengths):
                if length > max_length:
                    texts[row] = _fit(*marked[row], tokenizer, max_length, rows[row])
        columns = {"text": texts} | ({"labels": rows["labels"][:]} if "labels" in rows.column_names else {})
        dataset = tokenize_texts(Dataset.from_dict(columns), tokenizer, max_length)
        places = {name: rows[name][:] for name in PLACE if name in rows.column_names}
        return RelationFeatures(dataset, data.label_names, data.no_relation, places=places)

    def usage(self, folder: str, model: Any, args: Any) -> str:
        """Return the lines that load the model as a pipeline and mark a sentence for it."""
        call = 'classify(mark_spans(["Bob", "works", "for", "IBM"], (0, 1), (3, 4), "person", "organization"))'
        return usage_of_classifier(folder, model, call, ["from dpt_peft.tasks import mark_spans"])
