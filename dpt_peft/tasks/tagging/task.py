"""Named entities and semantic roles: a tag for every word."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar

import evaluate
import torch
from datasets import ClassLabel, Dataset
from peft import TaskType
from transformers import (
    AutoModelForTokenClassification,
    DataCollatorForTokenClassification,
    PreTrainedTokenizerBase,
)
from transformers.hf_argparser import HfArg

from dpt_peft.tasks.base import Features, Predictions, Task, TaskData, is_adapter
from dpt_peft.tasks.data import DatasetArguments, check_splits, load_splits, refuse_given
from dpt_peft.tasks.heads import NEW_HEAD, Head, new_head
from dpt_peft.tasks.labels import SavedNames, names_by_number
from dpt_peft.tasks.tagging.conll import (
    PropositionColumns,
    TaggedColumns,
    read_propositions,
    read_tagged,
    write_tagged,
)
from dpt_peft.tasks.tagging.features import WordFeatures, load_word_tokenizer, make_word_features, words_of
from dpt_peft.tasks.tagging.metrics import ArgumentMetric, EntityMetric
from dpt_peft.tasks.tagging.schemes import Plain, TagScheme, label_names_of, recognise_scheme

logger = logging.getLogger(__name__)


@dataclass
class WordTaggingArguments(DatasetArguments):
    """Data of a task with a tag for every word."""

    tokens_column_name: str = HfArg(default="tokens", help="Column of the words, a list.")
    tags_column_name: str = HfArg(default="ner_tags", help="Column of the tags, a list.")
    tag_names: list[str] | None = HfArg(
        default=None, help="All tags: those that the numbers 0, 1, ... stand for, or, of tags in words, their order."
    )
    max_seq_length: int | None = HfArg(
        default=None, help="Longest row in tokens; a longer sentence becomes several. Default: what the model takes."
    )


@dataclass
class TokenClassificationArguments(TaggedColumns, WordTaggingArguments):
    """Data of named entities: a Hub id, or json files with the same columns, or CoNLL files (any other ending)."""


@dataclass
class SemanticRoleArguments(PropositionColumns, WordTaggingArguments):
    """Data of semantic roles: a Hub id, or json files with the same columns, or CoNLL files (any other ending)."""

    tags_column_name: str = HfArg(default="srl_tags", help="Column of the roles, a list.")
    predicate_column_name: str = HfArg(
        default="predicate_index", help="Column of the predicate's position among the words, from 0."
    )


@dataclass(frozen=True)
class WordTaggingData(TaskData):
    """A data set of tagged words in one shape, whatever its source.

    Attributes:
        splits: Subset of "train", "validation", "test", with the columns `words`, `tags` (IOB2; missing where a split
            has no tags) and, for semantic roles, `predicate_index`.
        label_names: Classes by id, see `label_names_of`.
        scheme: How the data writes tags, and predictions are to be written.
    """

    scheme: TagScheme = field(default_factory=TagScheme)


def _checked_predicates(
    column: Sequence[Any], sentences: Sequence[Sequence[str]], split: str, roles: Sequence[Sequence[str]] | None
) -> list[int]:
    """Check that every predicate is a word of its sentence, and not always another one than that with the role V."""
    for row, (predicate, words) in enumerate(zip(column, sentences, strict=True)):
        if type(predicate) is not int or not 0 <= predicate < len(words):
            raise ValueError(
                f"`predicate_column_name`: row {row} of the {split} data has {len(words)} words, but the predicate is "
                f"at {predicate!r}."
            )
    marked = [row for row, tags in enumerate(roles or []) if "B-V" in tags]
    if roles and len(marked) > 1 and all(roles[row][column[row]] not in ("B-V", "I-V") for row in marked):
        row = marked[0]
        raise ValueError(
            f"`predicate_column_name`: row {row} of the {split} data has the predicate at {column[row]}, "
            f"{sentences[row][column[row]]!r}, but the role V at {roles[row].index('B-V')}, and so it is in all rows; "
            "predicates count from 0."
        )
    return list(column)


def _are_unknown(column: Sequence[Any]) -> bool:
    """Return whether a split's tags are those of test data that nobody may know: null or -1, all of them."""
    return all(row is None or (isinstance(row, list) and all(tag in (None, -1) for tag in row)) for row in column)


def _checked_tags(
    rows: Sequence[Any], sentences: Sequence[Sequence[str]], column: str, split: str
) -> list[list[str | int]]:
    """Check that every word has a tag: a string, or a number."""
    checked = []
    for number, (tags, words) in enumerate(zip(rows, sentences, strict=True)):
        where = f"row {number} of the {split} data"
        if not isinstance(tags, list):
            raise ValueError(f"{column} must hold lists of tags, but {where} is {tags!r}.")
        if len(words) != len(tags):
            raise ValueError(f"R{where[1:]} has {len(words)} words, but {len(tags)} tags.")
        for index, tag in enumerate(tags):
            whole = isinstance(tag, float) and tag.is_integer()  # as pandas has whole numbers beside missing ones
            if isinstance(tag, bool) or not (whole or isinstance(tag, (str, int))):
                raise ValueError(f"{column}: {where} has no tag for its word {words[index]!r}, but {tag!r}.")
        checked.append([int(tag) if isinstance(tag, float) else tag for tag in tags])
    return checked


def _named_tags(
    splits: Mapping[str, Dataset], tags: dict[str, list[list[str | int]]], args: WordTaggingArguments
) -> dict[str, list[list[str]]]:
    """Put names in the place of numbers, and hold names against `tag_names`."""
    if args.tag_names is not None:
        known = set(args.tag_names)
        if len(known) < len(args.tag_names):
            raise ValueError(f"`tag_names` has a tag twice: {', '.join(args.tag_names)}.")
        strings = {tag for rows in tags.values() for row in rows for tag in row if isinstance(tag, str)}
        if strings - known and all(tag.isascii() and tag.isdigit() and tag == str(int(tag)) for tag in strings):
            tags = {split: [[int(tag) for tag in row] for row in rows] for split, rows in tags.items()}
        elif strings - known:
            raise ValueError(f"`tag_names` does not have tags of the data: {', '.join(sorted(strings - known))}.")
    named = {}
    for split, rows in tags.items():
        names = _known_names(splits[split], args)
        for number, row in enumerate(rows):
            wrong = next((tag for tag in row if not isinstance(tag, str) and not 0 <= tag < len(names)), None)
            if wrong is not None and not names:
                raise ValueError(
                    f"`tags_column_name`: row {number} of the {split} data has tags that are no strings, {row[:5]!r}; "
                    "say with `tag_names` what the numbers stand for."
                )
            if wrong is not None:
                source = "`tag_names`" if args.tag_names else f"The {split} data"
                raise ValueError(
                    f"{source} has {len(names)} tags, but row {number} of the {split} data has the tag {wrong!r}."
                )
        named[split] = [[tag if isinstance(tag, str) else names[tag] for tag in row] for row in rows]
    return named


def _known_names(dataset: Dataset, args: WordTaggingArguments) -> list[str]:
    """Return the tags' names by number, as the arguments or the data say; none if neither does."""
    inner = getattr(dataset.features[args.tags_column_name], "feature", None)
    if isinstance(inner, ClassLabel):
        return names_by_number(inner.names, args.tag_names, "tag_names")
    return args.tag_names or []


@dataclass(frozen=True)
class TaggedFeatures(Features):
    """A split of tagged words, ready for a token classifier.

    Attributes:
        words: The rows of tokens, and the way back to words.
        rows: The split, with the columns of `WordTaggingData`.
        data: The data that it is of.
        metric: Measures IOB2 tags.
    """

    words: WordFeatures
    rows: Dataset
    data: WordTaggingData
    metric: evaluate.Metric

    def measure(self, predictions: Predictions, config: Any) -> dict[str, float]:
        """Measure class ids (rows, tokens). Pieces of a sentence are put together before anything is counted."""
        predicted = self.words.decode(predictions, self.data.label_names)
        scores = self.metric.compute(predictions=predicted, references=self.words.tags)
        assert scores is not None
        return scores

    def write(self, predictions: Predictions, config: Any, folder: Path) -> None:
        """Write `predictions.tsv`: a word and its tag a line, tags as the data writes them, see `TagScheme.write`.

        A blank line ends a sentence. Of semantic roles there is a column between: "V" at the predicate, else "-".
        """
        words = self.rows["words"][:]
        columns: Iterable[Sequence[Sequence[str]]]
        tags = map(self.data.scheme.write, self.words.decode(predictions, self.data.label_names))
        if "predicate_index" not in self.rows.column_names:
            columns = zip(words, tags, strict=True)
        else:
            marks = [
                ["V" if index == predicate else "-" for index in range(len(sentence))]
                for sentence, predicate in zip(words, self.rows["predicate_index"][:], strict=True)
            ]
            columns = zip(words, marks, tags, strict=True)
        write_tagged(folder / "predictions.tsv", columns)


class WordTagging(Task):
    """A tag for every word: what names and roles share.

    Attributes:
        metric: Makes the metric.
        plain: How plain types are read, if the data has such.
        example: Further arguments of `tag_words` for the sentence in a model card.
    """

    pipeline_tag = "token-classification"
    task_type = TaskType.TOKEN_CLS
    cuts = False  # but splits
    names_argument = "tag_names"
    heads: ClassVar[Mapping[str, Head]] = {NEW_HEAD: new_head(AutoModelForTokenClassification)}
    metric: ClassVar[type[evaluate.Metric]]
    plain: ClassVar[Plain]
    example: ClassVar[str] = ""

    def load(self, args: WordTaggingArguments) -> TaskData:
        """Load and check the data, see `Task.load`; names of columns without effect are refused."""
        in_conll = []

        def read(path: str, argument: str) -> Dataset:
            in_conll.append(path)
            return self.read_conll(path, argument, args)

        splits = load_splits(args, read)
        names = [known.name for known in fields(args)]
        of_conll = [name for name in names if name.startswith("conll_")]
        if not in_conll:
            refuse_given(args, of_conll, "is for CoNLL files, and this data has none")
        elif len(in_conll) == sum(getattr(args, f"{split}_file") is not None for split in splits):
            of_rows = [name for name in names if name.endswith("_column_name")]
            refuse_given(args, of_rows, f"is for rows with names; of CoNLL files say `{of_conll[-1]}`, a number")
        return self.shape(splits, args)

    @abstractmethod
    def read_conll(self, path: str, argument: str, args: Any) -> Dataset:
        """Read a file of the family's own format, which `argument` names, into columns named by `args`."""

    def shape_rows(self, splits: Mapping[str, Dataset], args: WordTaggingArguments) -> WordTaggingData:
        """Check splits of words and tags, and turn the tags into IOB2.

        Args:
            splits: As loaded.
            args: Names of the columns. Every split must have that of the predicates, if there is one.

        Returns:
            The data, see `WordTaggingData`. Validation and test data may have types that the training data does not
            have (they count as missed; one warning names them), or no tags at all: no column of them, or only null or
            -1.

        Raises:
            ValueError: If there is neither training data nor `tag_names`, or a split is empty; a column is missing;
                words or tags are no list of strings; words and tags differ in number; a predicate is no word of its
                sentence; `tag_names` does not have a tag; the tags are of no one scheme, or there is only one.
        """
        saved = args.tag_names if isinstance(args.tag_names, SavedNames) and "train" not in splits else None
        if saved is not None:
            args = replace(args, tag_names=None)  # they do not say what numbers stand for, nor how tags are written
        predicates = getattr(args, "predicate_column_name", None)
        columns = {"tokens_column_name": args.tokens_column_name}
        columns |= {} if predicates is None else {"predicate_column_name": predicates}
        check_splits(
            splits,
            columns,
            {"tags_column_name": args.tags_column_name},
            classes=None if args.tag_names or saved else "tag_names",
        )
        words: dict[str, list[list[str]]] = {}
        tags: dict[str, list[list[str | int]]] = {}
        for split, dataset in splits.items():
            words[split] = words_of(
                dataset[args.tokens_column_name][:], f"`tokens_column_name`: column {args.tokens_column_name!r}", split
            )
            column = dataset[args.tags_column_name][:] if args.tags_column_name in dataset.column_names else []
            if split == "train" or not _are_unknown(column):
                tags[split] = _checked_tags(
                    column, words[split], f"`tags_column_name` {args.tags_column_name!r}", split
                )
        given = args.tag_names or (_known_names(splits["train"], args) if "train" in splits else [])
        named = _named_tags(splits, tags, args)
        try:
            scheme = recognise_scheme(named, self.plain, args.tag_names or (() if named else saved) or ())
        except ValueError as error:
            raise ValueError(f"`tags_column_name` {args.tags_column_name!r}: {error}") from error
        iob2 = {split: [scheme.read(row) for row in rows] for split, rows in named.items()}
        label_names = list(saved or ()) or label_names_of(
            chain.from_iterable(iob2.get("train", ())),
            [parts[1] for parts in map(scheme.split, given) if parts is not None],
            one_word=scheme.plain == "single",
        )
        if len(label_names) < 2:
            raise ValueError(f"The train data has only one tag: {scheme.outside}.")
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
            out: dict[str, list[Any]] = {"words": words[split]}
            if predicates is not None:
                out["predicate_index"] = _checked_predicates(
                    dataset[predicates][:], words[split], split, iob2.get(split)
                )
            if split in iob2:
                out["tags"] = iob2[split]
            shaped[split] = Dataset.from_dict(out)
        return WordTaggingData(shaped, label_names, scheme)

    def groups(self, rows: Dataset) -> list[tuple[str, ...]]:
        """Return the words of every row: predicates of one sentence stay on one side."""
        return [tuple(words) for words in rows["words"][:]]

    def labels(self, data: TaskData, rows: Dataset) -> list[set[str]]:
        """Return the types of every row's spans."""
        return [{tag[2:] for tag in tags if tag != "O"} for tags in rows["tags"][:]]

    def load_tokenizer(self, path: str, **kwargs: Any) -> PreTrainedTokenizerBase:
        """Load a tokenizer that takes words, see `load_word_tokenizer`."""
        return load_word_tokenizer(path, **kwargs)

    def features(
        self, rows: Dataset, tokenizer: PreTrainedTokenizerBase, data: Any, args: Any, max_length: int
    ) -> TaggedFeatures:
        """Tokenize words, see `make_word_features`; of semantic roles the predicate stands behind the sentence."""
        words, appended = rows["words"][:], None
        if "predicate_index" in rows.column_names:
            appended = [sentence[at] for sentence, at in zip(words, rows["predicate_index"][:], strict=True)]
        made = make_word_features(
            words,
            tokenizer,
            appended=appended,
            tags=rows["tags"][:] if "tags" in rows.column_names else None,
            label_names=data.label_names,
            max_length=max_length,
        )
        return TaggedFeatures(made.dataset, made, rows, data, self.metric(keep_in_memory=True))

    def collator(self, tokenizer: PreTrainedTokenizerBase) -> DataCollatorForTokenClassification:
        """Return what pads tokens and labels."""
        return DataCollatorForTokenClassification(tokenizer)

    def reduce(self, logits: Any, labels: torch.Tensor) -> torch.Tensor:
        """Reduce logits (rows, tokens, classes) to class ids."""
        return super().reduce(logits, labels).argmax(-1)

    def details(self, data: Any, args: Any, model: Any, max_length: int) -> dict[str, Any]:
        """Return the labels, and what becomes of long sentences."""
        plain = data.scheme.plain is not None
        labels = dict.fromkeys(data.scheme.write(data.label_names) if plain else data.label_names)
        return {"Labels": ", ".join(labels), "Longest row": f"{max_length} tokens; longer sentences are split"}

    def usage(self, folder: str, model: Any, args: Any) -> str:
        """Return the lines that load a tagger and tag a sentence."""
        longest = "" if args.max_seq_length is None else f", max_length={args.max_seq_length}"
        auto, first = "AutoModelForTokenClassification", ["from transformers import AutoModelForTokenClassification"]
        if is_adapter(model):
            auto, first = "dpt_peft.AutoPeftModelForTokenClassification", ["import dpt_peft"]
        lines = [
            *first,
            "from dpt_peft.tasks import load_word_tokenizer, tag_words",
            "",
            f'model = {auto}.from_pretrained("{folder}")',
            f'tokenizer = load_word_tokenizer("{folder}")',
            f'tag_words(model, tokenizer, [["She", "visited", "Rome"]]{self.example}{longest})',
        ]
        return "\n".join(lines)


class TokenClassification(WordTagging):
    """Named entities: columns of words and tags, or CoNLL files. Plain types are joined to spans."""

    name = "token-classification"
    arguments = TokenClassificationArguments
    metric = EntityMetric
    plain = "joined"

    def read_conll(self, path: str, argument: str, args: TokenClassificationArguments) -> Dataset:
        """Read a CoNLL file, see `read_tagged`."""
        return read_tagged(path, args, argument, (args.tokens_column_name, args.tags_column_name))


class SemanticRoleLabeling(WordTagging):
    """Semantic roles: which words are the arguments of a predicate. One row a predicate.

    Roles may mark whole arguments or, as in Universal Propositions ("ARG0 O V"), their heads: plain types, each an
    argument of its own, of one word.
    """

    name = "semantic-role-labeling"
    arguments = SemanticRoleArguments
    metric = ArgumentMetric
    plain = "single"
    example = ", predicates=[1]"

    def read_conll(self, path: str, argument: str, args: SemanticRoleArguments) -> Dataset:
        """Read a CoNLL file, see `read_propositions`."""
        names = (args.tokens_column_name, args.predicate_column_name, args.tags_column_name)
        return read_propositions(path, args, argument, names)
