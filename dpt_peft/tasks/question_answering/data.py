"""Questions on paragraphs: loaded, checked, cut into windows and written, for every family that answers them."""

from __future__ import annotations

import json
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from datasets import Dataset
from transformers import PreTrainedTokenizerBase
from transformers.hf_argparser import HfArg

from dpt_peft.tasks.base import Features, Task, TaskData, is_adapter
from dpt_peft.tasks.data import (
    DatasetArguments,
    check_columns,
    is_missing,
    json_dataset,
)
from dpt_peft.tasks.question_answering.windows import (
    DEFAULT_DOC_STRIDE,
    DEFAULT_MAX_LENGTH,
    Span,
    Window,
    make_windows,
)

F = TypeVar("F", bound="QuestionFeatures")
T = TypeVar("T")


@dataclass
class QuestionArguments(DatasetArguments):
    """Questions, their paragraphs and answers, and how paragraphs are cut into windows."""

    question_column_name: str = HfArg(default="question", help="Column of the question.")
    context_column_name: str = HfArg(default="context", help="Column of the paragraph.")
    answers_column_name: str = HfArg(
        default="answers", help="Column of the answers: {'text': [...], 'answer_start': [...]}."
    )
    id_column_name: str | None = HfArg(
        default=None, help="Column of the question's id. Default: 'id' if there is one, or row numbers."
    )
    max_seq_length: int | None = HfArg(
        default=None,
        help="Longest window in tokens, question included. Default: 384, or what the model takes if less.",
    )
    doc_stride: int = HfArg(default=DEFAULT_DOC_STRIDE, help="Tokens that neighbouring windows of a paragraph share.")
    tune_threshold: bool = HfArg(
        default=False,
        help="After training, choose the threshold with the best F1 on the validation data: of having no "
        "answer (`version_2_with_negative`), or of tokens to be part of one of several spans.",
    )


@dataclass(frozen=True)
class Example:
    """One question.

    Attributes:
        id: Its id, or the number of its row.
        question: The question.
        context: The paragraph.
        texts: Texts of the annotated spans, empty if the question has no answer; `None` if unknown.
        starts: First characters of the spans in the paragraph.
    """

    id: str
    question: str
    context: str
    texts: list[str] | None = None
    starts: list[int] = field(default_factory=list)


def shape_questions(splits: Mapping[str, Dataset], args: QuestionArguments) -> dict[str, Dataset]:
    """Check splits of questions.

    Files and data sets have one row a question, or are SQuAD's own json ("data", "paragraphs", "qas"), of which every
    question becomes a row.

    Args:
        splits: As loaded.
        args: Columns.

    Returns:
        The splits with the columns `id`, `question`, `context`, and `answers` as `{"text": [...], "answer_start":
        [...]}`. A split whose answers are not known is without the last column. A question without an id has its row
        number for one.

    Raises:
        ValueError: A column is missing or a split is empty; a question or paragraph is null or no text; a part of
            SQuAD's json is missing; answers are not what they should be, or do not stand in the paragraph where their
            `answer_start` says; or two test questions have one id, because predictions are written by id. The message
            names the rows.
    """
    return {split: _checked(dataset, split, args) for split, dataset in splits.items()}


def _checked(dataset: Dataset, split: str, args: QuestionArguments) -> Dataset:
    if len(dataset):
        dataset = _unfolded(dataset, split)
    columns = {"question_column_name": args.question_column_name, "context_column_name": args.context_column_name}
    if args.id_column_name is not None:
        columns["id_column_name"] = args.id_column_name
    check_columns(dataset, split, columns, {"answers_column_name": args.answers_column_name})

    def column(name: str) -> list[Any]:
        return dataset[name][:] if name in dataset.column_names else [None] * len(dataset)

    ids = [str(row if is_missing(value) else value) for row, value in enumerate(column(args.id_column_name or "id"))]
    source = getattr(args, f"{split}_file")
    where = [
        f"row {row} of the {split} data ({f'{Path(source).name}, ' if source else ''}id {name!r})"
        for row, name in enumerate(ids)
    ]
    if split == "test":
        _require_unique(ids, split)
    checked: dict[str, list[Any]] = {"id": ids}
    for name, argument in (("question", "question_column_name"), ("context", "context_column_name")):
        checked[name] = [
            _text(value, argument, at) for value, at in zip(column(columns[argument]), where, strict=True)
        ]
    answers = column(args.answers_column_name)
    if split == "train" or any(value is not None for value in answers):
        read = [_read_answers(*row) for row in zip(answers, checked["context"], where, strict=True)]
        checked["answers"] = [{"text": texts, "answer_start": starts} for texts, starts in read]
        for (texts, _), impossible, at in zip(read, column("is_impossible"), where, strict=True):
            if impossible and not is_missing(impossible) and texts:
                raise ValueError(f"{at} has the answer {texts[0]!r}, but `is_impossible` says that it has none")
    return Dataset.from_dict(checked)


def _unfolded(dataset: Dataset, split: str) -> Dataset:
    """Return SQuAD's articles with paragraphs with questions as one row a question; other data as it is."""
    articles: list[Any] = []
    if "data" in dataset.column_names:
        articles = [article for part in dataset["data"][:] for article in (part if isinstance(part, list) else [part])]
    elif "paragraphs" in dataset.column_names:
        articles = list(dataset)
    elif isinstance(passage := dataset[0][dataset.column_names[0]], dict) and "qa_pairs" in passage:
        raise ValueError(
            f"The {split} data is DROP's own json, whose answers have no places in their paragraphs and are often "
            "numbers: write a row for each question that spans answer, with the columns question, context, answers."
        )
    if not any(map(_is_squads, articles)):
        return dataset
    rows = []
    for number, article in enumerate(articles):
        where = f"article {number} of the {split} data (SQuAD's json, counted from 0)"
        for place, paragraph in enumerate(_parts(article, "paragraphs", where)):
            here = f"paragraph {place} of {where}"
            questions = _parts(paragraph, "qas", here)
            if is_missing(paragraph.get("context")):
                raise ValueError(f"`context`: {here} has none, but {str(paragraph)[:80]}.")
            rows += [{**question, "context": paragraph["context"]} for question in questions]
    names = [
        name
        for name in ("id", "question", "context", "answers", "is_impossible")
        if any(row.get(name) is not None for row in rows)
    ]
    return json_dataset({name: [row.get(name) for row in rows] for name in names})


def _is_squads(article: Any) -> bool:
    """Return whether an article has paragraphs with questions."""
    paragraphs = article.get("paragraphs") if isinstance(article, dict) else None
    return isinstance(paragraphs, list) and any(isinstance(part, dict) and "qas" in part for part in paragraphs)


def _parts(whole: Any, name: str, where: str) -> list[dict[str, Any]]:
    """Return the paragraphs of one of SQuAD's articles, or the questions of a paragraph."""
    parts = whole.get(name) if isinstance(whole, dict) else None
    if not isinstance(parts, list) or not all(isinstance(part, dict) for part in parts):
        raise ValueError(f"`{name}`: {where} has no such list of objects, but {str(whole)[:80]}.")
    return parts


def _require_unique(ids: Sequence[str], split: str) -> None:
    """Refuse ids that stand for several questions, of which files by id would keep one."""
    name, count = Counter(ids).most_common(1)[0]
    if count > 1:
        rows = [str(row) for row, value in enumerate(ids) if value == name]
        raise ValueError(
            f"`id_column_name`: rows {', '.join(rows[:5])}{' ...' if count > 5 else ''} of the {split} data have the "
            f"same id {name!r}, but predictions are written by id. Give every question its own id, or take the column "
            "out to have row numbers."
        )


def _text(value: Any, argument: str, where: str) -> str:
    if is_missing(value):
        raise ValueError(f"`{argument}`: {where} is null")
    if isinstance(value, Iterable) and not isinstance(value, str):
        raise ValueError(f"`{argument}`: {where} must be one text, got {str(value)[:80]}")
    return str(value)


def _read_answers(answers: Any, context: str, where: str) -> tuple[list[str], list[int]]:
    """Return texts and first characters of a question's answers, in any of the forms that data sets have."""
    if answers is None:
        raise ValueError(
            f"`answers_column_name`: {where} is null. Write {{'text': [], 'answer_start': []}} for a question without "
            "an answer; leave the column out where no answers are known"
        )
    if isinstance(answers, dict):
        texts, starts = answers.get("text"), answers.get("answer_start")
        if not isinstance(texts, list):
            texts, starts = [texts], [starts]
        starts = [None] * len(texts) if starts is None else starts
    elif isinstance(answers, list) and all(isinstance(one, dict) for one in answers):
        texts, starts = ([one.get(name) for one in answers] for name in ("text", "answer_start"))
    else:
        texts = [None]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError(
            f"`answers_column_name`: {where} must hold {{'text': [...], 'answer_start': [...]}}, got {answers!r}"
        )
    if not isinstance(starts, list) or len(texts) != len(starts):
        count = len(starts) if isinstance(starts, list) else 1
        raise ValueError(f"{where} has {len(texts)} answer texts, but {count} values of `answer_start`")
    return texts, [_find(text, start, context, where) for text, start in zip(texts, starts, strict=True)]


def _find(text: str, start: Any, context: str, where: str) -> int:
    """Return where an answer begins: where the data says, or if it does not, where alone the text stands."""
    if not text.strip():
        raise ValueError(f"{where}: an answer is empty, {text!r}. A question without an answer has empty lists")
    forms = [unicodedata.normalize(form, text) for form in ("NFC", "NFD")]
    other = next((form for form in forms if text not in context and form in context), None)
    if other is not None:
        raise ValueError(
            f"{where}: the answer {text!a} stands in its paragraph in another Unicode form, {other!a}: "
            "write both in one form, and count `answer_start` there"
        )
    if is_missing(start):
        count = context.count(text)
        if count != 1:
            raise ValueError(
                f"{where}: the answer {text!r} has no `answer_start`, and its paragraph holds it {count} times: give "
                "its first character as `answer_start`"
            )
        return context.index(text)
    if isinstance(start, float) and start.is_integer():
        start = int(start)  # pandas writes a column with gaps so
    if isinstance(start, bool) or not isinstance(start, int):
        raise ValueError(f"{where}: `answer_start` must be the number of a character, got {start!r}")
    found = context[start : start + len(text)] if start >= 0 else ""
    if found != text:
        raise ValueError(
            f"{where}: the answer {text!r} does not stand at `answer_start` {start} of its paragraph, where {found!r} "
            "stands"
        )
    return start


def read_examples(dataset: Dataset) -> Iterator[Example]:
    """Go through the rows of a split of `shape_questions`, or of one as it comes from the Hub.

    Raises:
        ValueError: See `shape_questions`; but a row whose answers are null is a question whose answers are not known.
    """
    check_columns(dataset, "given", {name: name for name in ("question", "context")}, {})
    for number, row in enumerate(dataset):
        where = f"row {number}"
        question, context = (_text(row[name], name, where) for name in ("question", "context"))
        known = row.get("answers") is not None
        texts, starts = _read_answers(row["answers"], context, where) if known else (None, [])
        name = row.get("id")
        yield Example(str(number if is_missing(name) else name), question, context, texts, starts)


@dataclass(frozen=True)
class QuestionFeatures(Features):
    """A split, ready for model and decoding.

    Attributes:
        dataset: One row a window, in the order of the questions: the tokenizer's columns (not padded) and labels.
        windows: The windows, in the order of `dataset`.
        example_index: For every window its question, as an index into `examples`.
        examples: The questions.
    """

    windows: list[Window]
    example_index: list[int]
    examples: list[Example]

    @classmethod
    def label(cls, example: Example, windows: list[Window], **options: Any) -> list[dict[str, Any]]:
        """Return the labels of a question's windows, by column; `options` are the family's own attributes."""
        raise NotImplementedError

    @classmethod
    def cut(
        cls: type[F],
        rows: Dataset,
        tokenizer: PreTrainedTokenizerBase,
        *,
        max_length: int = DEFAULT_MAX_LENGTH,
        doc_stride: int = DEFAULT_DOC_STRIDE,
        **options: Any,
    ) -> F:
        """Cut questions into windows with labels.

        Args:
            rows: A split of `shape_questions`, or any data set with the columns `id`, `question`, `context` and
                `answers` of the Hub.
            tokenizer: A fast tokenizer that pads on the right.
            max_length: See `make_windows`.
            doc_stride: See `make_windows`.
            **options: The family's own attributes, see the class.

        Raises:
            ValueError: The tokenizer pads on the left.
            TypeError, ValueError: See `make_windows` and `read_examples`.
        """
        unknown = options.keys() - {known.name for known in fields(cls)}
        if unknown:
            raise TypeError(f"{cls.__name__} has no {', '.join(sorted(unknown))}")
        if tokenizer.padding_side != "right":
            raise ValueError(
                "`tokenizer` pads on the left, but labels and scores count from the left: "
                "set tokenizer.padding_side = 'right'"
            )
        examples = list(read_examples(rows))
        windows, example_index, found = [], [], []
        for index, example in enumerate(examples):
            cut = make_windows(
                tokenizer, example.question, example.context, max_length=max_length, doc_stride=doc_stride
            )
            labels = cls.label(example, cut, **options)
            windows += cut
            example_index += [index] * len(cut)
            found += [{**window.inputs, **columns} for window, columns in zip(cut, labels, strict=True)]
        # Labels of a split that is annotated in part are of no use.
        names = [name for name in found[0] if all(name in row for row in found)]
        dataset = Dataset.from_dict({name: [row[name] for row in found] for name in names})
        return cls(dataset, windows, example_index, examples, **options)

    @property
    def labelled(self) -> bool:
        """Whether every question is annotated (with answers, or as one without)."""
        return all(example.texts is not None for example in self.examples)

    def gold_texts(self) -> list[list[str]]:
        """Return the texts of every question's answers.

        Raises:
            ValueError: A question is not annotated.
        """
        if not self.labelled:
            raise ValueError("the questions have no answers to compare with")
        return [example.texts or [] for example in self.examples]

    def by_example(self, values: Iterable[T]) -> list[list[tuple[Window, T]]]:
        """Group what there is for every window by question; a window comes with its value."""
        grouped: list[list[tuple[Window, T]]] = [[] for _ in self.examples]
        for index, window, value in zip(self.example_index, self.windows, values, strict=True):
            grouped[index].append((window, value))
        return grouped


class QuestionTask(Task):
    """Questions on paragraphs.

    Attributes:
        auto_class: The end of the names of the classes that load the model, behind `AutoModelFor`.
        pipeline: The name of the pipeline.
        threshold_name: The attribute of the model's config that decides what is an answer.
        kind: Its features.
        reading: Arguments of the data that are options of the pipeline, under the same names.
    """

    pipeline_tag = "question-answering"
    default_length = DEFAULT_MAX_LENGTH
    auto_class: ClassVar[str]
    pipeline: ClassVar[str]
    threshold_name: ClassVar[str]
    kind: ClassVar[type[QuestionFeatures]]
    reading: ClassVar[tuple[str, ...]] = ("max_seq_length", "doc_stride")

    def shape_rows(self, splits: Mapping[str, Dataset], args: Any) -> TaskData:
        """Check questions, paragraphs and answers, see `shape_questions`."""
        return TaskData(shape_questions(splits, args))

    def groups(self, rows: Dataset) -> Sequence[str]:
        """Return the paragraphs, so that none is trained on and held out."""
        return rows["context"][:]

    def features(
        self, rows: Dataset, tokenizer: PreTrainedTokenizerBase, data: TaskData, args: Any, max_length: int
    ) -> QuestionFeatures:
        """Cut questions into labelled windows, see `QuestionFeatures.cut`."""
        asked = {known.name: getattr(args, known.name) for known in fields(self.kind) if hasattr(args, known.name)}
        return self.kind.cut(rows, tokenizer, max_length=max_length, doc_stride=args.doc_stride, **asked)

    def load_tokenizer(self, path: str, **kwargs: Any) -> PreTrainedTokenizerBase:
        """Load a tokenizer that pads on the right: scores are read off from the left."""
        return super().load_tokenizer(path, **{**kwargs, "padding_side": "right"})

    def tunes(self, args: Any) -> bool:
        """Return whether the threshold is chosen on the validation data."""
        return args.tune_threshold

    def results(self, config: Any) -> dict[str, Any]:
        """Return the threshold."""
        return {self.threshold_name: getattr(config, self.threshold_name, None)}

    def details(self, data: TaskData, args: Any, model: Any, max_length: int) -> dict[str, Any]:
        """Return the windows and the threshold."""
        found = {"Window": f"{max_length} tokens, stride {args.doc_stride}"}
        if (threshold := self.results(model.config)[self.threshold_name]) is not None:
            title = self.threshold_name.replace("_", " ").capitalize()
            tuned = ", tuned on the validation data" if args.tune_threshold else ""
            found[title] = f"{threshold:.3f}{tuned}"
        return found

    def usage(self, folder: str, model: Any, args: Any) -> str:
        """Return the lines that load a reader, with its threshold, and ask; what was set for reading is an option."""
        asked = "".join(
            f", {known.name}={getattr(args, known.name)!r}"
            for known in fields(args)
            if known.name in self.reading and getattr(args, known.name) != known.default
        )
        lines, task = ["import dpt_peft"], f'"{self.pipeline}"'
        if is_adapter(model):
            lines += [
                f"from dpt_peft import AutoPeftModelFor{self.auto_class}",
                "from transformers import AutoTokenizer, pipeline",
                "",
                f'model = AutoPeftModelFor{self.auto_class}.from_pretrained("{folder}")',
                f'read = pipeline({task}, model=model, tokenizer=AutoTokenizer.from_pretrained("{folder}"))',
            ]
        else:
            lines += ["from transformers import pipeline", "", f'read = pipeline({task}, model="{folder}")']
        return "\n".join([*lines, f'read(question="...", context="..."{asked})'])


@dataclass(frozen=True)
class ThresholdSearch:
    """Outcome of a search for the best threshold.

    Attributes:
        threshold: The best one.
        metrics: Metrics with it, on the questions it was searched on (so they flatter).
        metrics_before: The same with the threshold before.
    """

    threshold: float
    metrics: dict[str, float]
    metrics_before: dict[str, float]


def write_by_id(path: Path, examples: Sequence[Example], values: Iterable[Any]) -> None:
    """Write one value a question as a json object by id, as official scripts read it.

    Raises:
        ValueError: Two questions have the same id.
    """
    ids = [example.id for example in examples]
    _require_unique(ids, "given")
    path.write_text(json.dumps(dict(zip(ids, values, strict=True)), ensure_ascii=False, indent=1), encoding="utf-8")


def write_spans(path: Path, examples: Sequence[Example], answers: Iterable[Sequence[Span]]) -> None:
    """Write one line a question, in the order of the data: `row`, `id`, and `spans` with characters and scores."""
    with path.open("w", encoding="utf-8") as file:
        for row, (example, spans) in enumerate(zip(examples, answers, strict=True)):
            record = {"row": row, "id": example.id, "spans": [vars(span) for span in spans]}
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
