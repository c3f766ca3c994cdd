"""What named entities and semantic roles share: columns of words and tags checked, tags as IOB2, metrics."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import evaluate
import numpy as np
import torch
from datasets import ClassLabel, Dataset, DatasetDict
from transformers import EvalPrediction, PreTrainedTokenizerBase

from dpt_peft.tasks.data import DatasetArguments, require_columns, require_rows
from dpt_peft.tasks.tagging.features import WordFeatures, make_word_features
from dpt_peft.tasks.tagging.schemes import OUTSIDE, Plain, has_prefixes, label_names_of, split_tag, to_iob2

logger = logging.getLogger(__name__)


@dataclass
class WordTaggingArguments(DatasetArguments):
    """Data of a task with a tag for every word."""

    tokens_column_name: str = field(default="tokens", metadata={"help": "Column of the words, a list."})
    tags_column_name: str = field(default="ner_tags", metadata={"help": "Column of the tags, a list."})
    tag_names: list[str] | None = field(
        default=None, metadata={"help": "Tags that the numbers 0, 1, ... stand for, where the data has bare numbers."}
    )
    max_seq_length: int | None = field(
        default=None,
        metadata={"help": "Longest row in tokens; a longer sentence becomes several. Default: what the model takes."},
    )


@dataclass(frozen=True)
class WordTaggingData:
    """A data set of tagged words in one shape, whatever its source.

    Attributes:
        splits: Subset of "train", "validation", "test", with the columns `words`, `tags` (IOB2; missing where a split
            has no tags) and, for semantic roles, `predicate_index`.
        label_names: Classes by id, see `tagging.label_names_of`.
        plain: How the data's own tags were read if they were plain types, see `tagging.to_iob2`.
    """

    splits: DatasetDict
    label_names: list[str]
    plain: Plain | None

    def own_tag(self, tag: str) -> str:
        """Writes an IOB2 tag the way the data does: without B- and I- where it has plain types."""
        return tag if self.plain is None or tag == OUTSIDE else split_tag(tag)[1]


def _tag_strings(dataset: Dataset, column: str, split: str, names: list[str] | None) -> list[list[str]]:
    feature, values = dataset.features[column], dataset[column][:]
    inner = getattr(feature, "feature", None)
    if isinstance(inner, ClassLabel):
        names = inner.names if names is None else names
    rows = []
    for row, tags in enumerate(values):
        if all(isinstance(tag, str) for tag in tags):
            rows.append(list(tags))
            continue
        if names is None:
            raise ValueError(
                f"`tags_column_name`: row {row} of the {split} data has tags that are no strings, {tags[:5]!r}; say "
                "with `tag_names` what the numbers stand for."
            )
        wrong = [tag for tag in tags if not isinstance(tag, int) or not 0 <= tag < len(names)]
        if wrong:
            raise ValueError(
                f"`tag_names` has {len(names)} tags, but row {row} of the {split} data has the tag {wrong[0]!r}."
            )
        rows.append([names[tag] for tag in tags])
    return rows


def _given_types(train: Dataset, column: str, tag_names: list[str] | None, prefixes: bool) -> list[str]:
    inner = getattr(train.features[column], "feature", None)
    names = tag_names or (inner.names if isinstance(inner, ClassLabel) else [])
    tags = [name for name in names if name != OUTSIDE]
    return [split_tag(tag)[1] if prefixes else tag for tag in tags]


def shape_word_tagging(
    splits: DatasetDict, args: WordTaggingArguments, plain: Plain, keep: dict[str, tuple[str, str]] | None = None
) -> WordTaggingData:
    """Checks splits of words and tags, and turns the tags into IOB2.

    Args:
        splits: As loaded.
        args: Names of the columns.
        plain: How plain types are read, if the data has such.
        keep: Further columns that every split must have: argument that names it -> its name, its name in the result.

    Returns:
        The data, see `WordTaggingData`. Validation and test data may have types that the training data does not have
        (they count as missed; one warning names them), or no tags at all.

    Raises:
        ValueError: If there is no training data or a split is empty; a column is missing; words are no list of
            strings; words and tags differ in number; a tag is of no known scheme, or there is only one.
    """
    if "train" not in splits:
        raise ValueError("There is no training data: give `train_file`, or a `dataset_name` with a training split.")
    kept = keep or {}
    tags: dict[str, list[list[str]]] = {}
    for split, dataset in splits.items():
        require_rows(dataset, split)
        columns = {"tokens_column_name": args.tokens_column_name, **{name: old for name, (old, _) in kept.items()}}
        if split == "train" or args.tags_column_name in dataset.column_names:
            columns["tags_column_name"] = args.tags_column_name
        require_columns(dataset, split, columns)
        _check_words(dataset[args.tokens_column_name][:], args.tokens_column_name, split)
        if "tags_column_name" in columns:
            tags[split] = _tag_strings(dataset, args.tags_column_name, split, args.tag_names)
            _check_lengths(dataset[args.tokens_column_name][:], tags[split], split)

    found = set(chain.from_iterable(chain.from_iterable(tags.values())))
    try:
        prefixes = has_prefixes(found)
    except ValueError as error:
        raise ValueError(f"`tags_column_name` {args.tags_column_name!r}: {error}") from error
    iob2 = {
        split: [_convert(row, None if prefixes else plain, split, n) for n, row in enumerate(rows)]
        for split, rows in tags.items()
    }
    label_names = label_names_of(
        chain.from_iterable(iob2["train"]),
        _given_types(splits["train"], args.tags_column_name, args.tag_names, prefixes),
        one_word=plain == "single" and not prefixes,
    )
    if len(label_names) < 2:
        raise ValueError(f"The train data has only one tag: {OUTSIDE}.")
    for split, rows in iob2.items():
        unknown = sorted(set(chain.from_iterable(rows)) - set(label_names))
        if unknown:
            logger.warning(
                "The %s data has tags that the train data does not have; they count as missed: %s",
                split,
                ", ".join(unknown),
            )
    shaped = {}
    for split, dataset in splits.items():
        out: dict[str, list[Any]] = {"words": dataset[args.tokens_column_name][:]}
        out |= {new: dataset[old][:] for old, new in kept.values()}
        if split in iob2:
            out["tags"] = iob2[split]
        shaped[split] = Dataset.from_dict(out)
    return WordTaggingData(DatasetDict(shaped), label_names, None if prefixes else plain)


def _check_words(sentences: Sequence[Any], column: str, split: str) -> None:
    for row, words in enumerate(sentences):
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise ValueError(
                f"`tokens_column_name`: column {column!r} must hold lists of words, but row {row} of the {split} data "
                f"is {words!r}."
            )


def _check_lengths(sentences: Sequence[Sequence[str]], tags: Sequence[Sequence[str]], split: str) -> None:
    for row, (words, row_tags) in enumerate(zip(sentences, tags, strict=True)):
        if len(words) != len(row_tags):
            raise ValueError(f"Row {row} of the {split} data has {len(words)} words, but {len(row_tags)} tags.")


def _convert(tags: list[str], plain: Plain | None, split: str, row: int) -> list[str]:
    try:
        return to_iob2(tags, plain=plain)
    except ValueError as error:
        raise ValueError(f"`tags_column_name`: row {row} of the {split} data: {error}") from error


def word_tagging_metrics(
    metric: evaluate.Metric, features: WordFeatures, label_names: Sequence[str]
) -> Callable[[EvalPrediction], dict[str, float]]:
    """Makes the Trainer's `compute_metrics`: pieces of sentences are put together before anything is counted.

    Args:
        metric: A metric of IOB2 tags.
        features: What is predicted, in the same order.
        label_names: Classes by id.

    Returns:
        A function from `EvalPrediction` with class ids (rows, tokens) or logits (rows, tokens, classes) to metrics.

    Raises:
        ValueError: If the features have no tags.
    """
    if features.tags is None:
        raise ValueError("`features` have no tags to compare predictions with.")

    def compute(prediction: EvalPrediction) -> dict[str, float]:
        predicted = prediction.predictions[0] if isinstance(prediction.predictions, tuple) else prediction.predictions
        ids = np.argmax(predicted, axis=-1) if predicted.ndim == 3 else predicted
        scores = metric.compute(predictions=features.decode(ids, label_names), references=features.tags)
        assert scores is not None
        return scores

    return compute


@torch.inference_mode()
def tag_words(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    sentences: Sequence[Sequence[str]],
    *,
    predicates: Sequence[int] | None = None,
    max_length: int | None = None,
    batch_size: int = 32,
) -> list[list[str]]:
    """Tags sentences with a trained token classifier.

    Args:
        model: A transformers model for token classification, or a `PeftModel` around one.
        tokenizer: See `word_features.load_word_tokenizer`.
        sentences: Words of every sentence.
        predicates: Semantic roles: the position of the predicate in every sentence.
        max_length: Longest row in tokens. Default: what the tokenizer says.
        batch_size: Rows computed at a time.

    Returns:
        A label of the model for every word. A word that the tokenizer makes nothing of is "O".

    Raises:
        ValueError: If there are not as many predicates as sentences.
    """
    if predicates is not None and len(predicates) != len(sentences):
        raise ValueError(f"`predicates` must be one per sentence: {len(predicates)} for {len(sentences)} sentences.")
    limit = max_length if max_length is not None else tokenizer.model_max_length
    appended = None if predicates is None else [row[at] for row, at in zip(sentences, predicates, strict=True)]
    features = make_word_features(sentences, tokenizer, appended=appended, max_length=limit)
    model.eval()
    predicted: list[np.ndarray] = []
    for start in range(0, len(features.dataset), batch_size):
        batch = tokenizer.pad(features.dataset[start : start + batch_size], return_tensors="pt").to(model.device)
        predicted += list(model(**batch).logits.argmax(-1).cpu().numpy())
    return features.decode(predicted, [model.config.id2label[index] for index in range(len(model.config.id2label))])
