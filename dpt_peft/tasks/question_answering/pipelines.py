"""Pipelines that answer questions on paragraphs of any length: by the best span, or by all spans.

transformers 5 has taken its own "question-answering" pipeline out and refuses the name.
"""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import torch
from transformers import AutoModelForQuestionAnswering, AutoModelForTokenClassification
from transformers.pipelines import PIPELINE_REGISTRY
from transformers.pipelines.base import ChunkPipeline

from dpt_peft.pretrained_heads.base import longest_row
from dpt_peft.tasks.question_answering.windows import (
    DEFAULT_DOC_STRIDE,
    DEFAULT_MAX_ANSWER_LENGTH,
    DEFAULT_MAX_LENGTH,
    DEFAULT_N_BEST,
    answer_logits,
    decode_spans,
    make_windows,
    rank_answers,
    score_words,
    split_words,
)

EXTRACTIVE = "extractive-question-answering"
MULTI_SPAN = "multi-span-question-answering"


class QuestionPipeline(ChunkPipeline):
    """Base of the pipelines that answer questions on paragraphs of any length.

    A subclass computes the answers of one question in `postprocess`, from a list with one dict a window: `context`,
    `window`, and the model's outputs of `output_names`, to be read by `without_padding`.

    Attributes:
        output_names: The model's outputs that `postprocess` reads.
    """

    output_names: ClassVar[tuple[str, ...]]

    _load_processor = False
    _load_image_processor = False
    _load_feature_extractor = False
    _load_tokenizer = True

    tokenizer: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Padding on the left would move the positions of short windows in a batch.
        self.tokenizer = copy.copy(self.tokenizer)
        self.tokenizer.padding_side = "right"

    def __call__(self, *inputs: Any, question: Any = None, context: Any = None, **kwargs: Any) -> Any:
        """Answer one question or several.

        Args:
            *inputs: A dict with `question` and `context`, or a list (or generator) of such.
            question: One question or a list, in the place of `inputs`.
            context: One paragraph or a list of as many.
            **kwargs: `max_seq_length` (default 384, or what the model takes if less), `doc_stride` (default 128),
                `batch_size`, and the options that the class names.

        Returns:
            What the class says, or a list of it.

        Raises:
            TypeError: An argument is unknown.
            ValueError: Question or context is missing, their numbers differ, or a number is out of its range.
        """
        if question is not None or context is not None:
            if inputs:
                raise ValueError("pass `question` and `context`, or dicts with both, and not the two together")
            inputs = (_pairs(question, context),)
        if len(inputs) != 1:
            raise ValueError("pass `question` and `context`, or one dict, or one list of dicts")
        return [] if inputs[0] == [] else super().__call__(inputs[0], **kwargs)

    def _sanitize_parameters(
        self, max_seq_length: int | None = None, doc_stride: int | None = None, **kwargs: Any
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        if unknown := kwargs.keys() - inspect.signature(self.postprocess).parameters:
            raise TypeError(f"unknown arguments {', '.join(sorted(unknown))}")
        windows = {"max_seq_length": max_seq_length, "doc_stride": doc_stride}
        given = [{k: v for k, v in options.items() if v is not None} for options in (windows, kwargs)]
        self.check_options(given[1])
        return given[0], {}, given[1]

    def check_options(self, options: dict[str, Any]) -> None:
        """Raise a `ValueError` if an option of `postprocess` is out of its range."""

    def preprocess(
        self, inputs: Any, max_seq_length: int | None = None, doc_stride: int = DEFAULT_DOC_STRIDE
    ) -> Iterator[dict[str, Any]]:
        """Cut question and paragraph into windows."""
        if not isinstance(inputs, dict) or not {"question", "context"} <= inputs.keys():
            raise ValueError(f"an input must be a dict with `question` and `context`, got {inputs!r}")
        for name in ("question", "context"):
            if not isinstance(inputs[name], str):
                raise ValueError(f"`{name}` must be a text, got {inputs[name]!r}")
        windows = make_windows(
            self.tokenizer,
            inputs["question"],
            inputs["context"],
            max_length=longest_row(
                max_seq_length, self.tokenizer, self.model, default=DEFAULT_MAX_LENGTH, argument="max_seq_length"
            ),
            doc_stride=doc_stride,
        )
        for number, window in enumerate(windows):
            columns = {name: torch.tensor([ids]) for name, ids in window.inputs.items()}
            columns.setdefault("attention_mask", torch.ones_like(columns["input_ids"]))
            last = number == len(windows) - 1
            yield {"is_last": last, "context": inputs["context"], "window": window, **columns}

    def _forward(self, model_inputs: dict[str, Any]) -> dict[str, Any]:
        extra = {name: model_inputs.pop(name) for name in ("is_last", "context", "window")}
        outputs = self.model(**model_inputs)
        return {
            **extra,
            **{name: outputs[name] for name in self.output_names},
            "attention_mask": model_inputs["attention_mask"],
        }

    def without_padding(self, output: dict[str, Any], name: str) -> np.ndarray:
        """Return an output of one window, (tokens, ...); a batch pads on either side."""
        tokens = output["attention_mask"][0].bool()
        return output[name][0][tokens].float().numpy()


def _pairs(question: Any, context: Any) -> Any:
    if question is None or context is None:
        raise ValueError(f"`{'question' if question is None else 'context'}` is missing")
    if isinstance(question, str) and isinstance(context, str):
        return {"question": question, "context": context}
    questions = [question] if isinstance(question, str) else list(question)
    contexts = [context] * len(questions) if isinstance(context, str) else list(context)
    if len(questions) != len(contexts):
        raise ValueError(f"there are {len(questions)} questions, but {len(contexts)} contexts")
    return [{"question": q, "context": c} for q, c in zip(questions, contexts, strict=True)]


class ExtractiveQuestionAnsweringPipeline(QuestionPipeline):
    """Finds the piece of a paragraph that answers a question.

    The model is a question answering model of transformers (`AutoModelForQuestionAnswering`), or a PEFT model around
    one. Paragraphs longer than the model are read in windows. Options:

    - `handle_impossible_answer`: whether the answer may be none. Default: whether the model's config has a
      `null_score_diff_threshold`, as models tuned on SQuAD 2.0 here have.
    - `null_score_diff_threshold`: no answer if the score of none less that of the best answer is above this. Default:
      the config's, or 0.
    - `top_k` (default 1), `max_answer_length` in tokens (default 30), `n_best_size` (default 20, at least `top_k`).

    For every question it returns a dict, or with `top_k` above 1 a list of dicts, best first: `answer` ("" for none),
    `start`, `end` (`context[start:end] == answer`), `score` (softmax over the n best answers, and none if it may be).

    Example:
        >>> read = pipeline("extractive-question-answering", model=model, tokenizer=tokenizer)
        >>> read(question="Who sings?", context="Bob sings, Ann plays.")
        {'score': 0.98, 'start': 0, 'end': 3, 'answer': 'Bob'}
    """

    output_names = ("start_logits", "end_logits")

    def check_options(self, options: dict[str, Any]) -> None:
        """Raise a `ValueError` if there would be no answer to return."""
        if options.get("top_k", 1) < 1:
            raise ValueError(f"`top_k` must be at least 1, got {options['top_k']}")

    def postprocess(
        self,
        model_outputs: list[dict[str, Any]],
        top_k: int = 1,
        handle_impossible_answer: bool | None = None,
        null_score_diff_threshold: float | None = None,
        max_answer_length: int = DEFAULT_MAX_ANSWER_LENGTH,
        n_best_size: int = DEFAULT_N_BEST,
    ) -> dict[str, Any] | list[dict[str, Any]]:
        """Turn the windows' logits into answers."""
        tuned = getattr(self.model.config, "null_score_diff_threshold", None)
        if handle_impossible_answer is None:
            handle_impossible_answer = tuned is not None or null_score_diff_threshold is not None
        if null_score_diff_threshold is None:
            null_score_diff_threshold = tuned or 0.0
        windows = [
            (output["window"], [self.without_padding(output, name) for name in self.output_names])
            for output in model_outputs
        ]
        context = model_outputs[0]["context"]
        n_best_size = max(n_best_size, top_k)
        ranked = rank_answers(context, windows, n_best_size=n_best_size, max_answer_length=max_answer_length)
        shares = ranked.probabilities(handle_impossible_answer)
        found: list[dict[str, Any]] = [
            {"score": share, "start": answer.start, "end": answer.end, "answer": answer.text}
            for share, answer in zip(shares, ranked.answers, strict=False)
        ]
        if handle_impossible_answer or not found:
            none = {"score": shares[-1] if shares else 1.0, "start": 0, "end": 0, "answer": ""}
            impossible = ranked.best(null_score_diff_threshold) is None
            found = [none, *found] if impossible else [*found[:1], none, *found[1:]]
            found[1:] = sorted(found[1:], key=lambda one: -one["score"])
        return found[0] if top_k == 1 else found[:top_k]


class MultiSpanQuestionAnsweringPipeline(QuestionPipeline):
    """Finds all spans of a paragraph that answer a question.

    The model is a `DPTForMultiSpanQuestionAnswering`, a token classifier with the classes O and I, or a PEFT model
    around either. Paragraphs longer than the model are read in windows. Options: `min_probability` (of being part of
    the answer, above which a token counts; default: the threshold in the model's config) and `allow_no_answer`
    (default False).

    For every question it returns a list of dicts in the order of the text: `answer`, `start`, `end`
    (`context[start:end] == answer`), `score` (mean probability of its words).

    Example:
        >>> read = pipeline("multi-span-question-answering", model=model, tokenizer=tokenizer)
        >>> read(question="Who sings?", context="Bob and Carl sing, Ann plays.")
        [{'answer': 'Bob', 'start': 0, 'end': 3, 'score': 0.98}, {'answer': 'Carl', 'start': 8, 'end': 12, ...}]
    """

    output_names = ("logits",)

    def check_options(self, options: dict[str, Any]) -> None:
        """Raise a `ValueError` if a probability is none."""
        if not 0 < options.get("min_probability", 0.5) < 1:
            raise ValueError(f"`min_probability` must be between 0 and 1, got {options['min_probability']}")

    def postprocess(
        self,
        model_outputs: list[dict[str, Any]],
        min_probability: float | None = None,
        allow_no_answer: bool = False,
    ) -> list[dict[str, Any]]:
        """Turn the windows' logits into spans."""
        if min_probability is None:
            threshold = getattr(self.model.config, "logit_threshold", 0.0)
        else:
            threshold = math.log(min_probability / (1 - min_probability))
        context = model_outputs[0]["context"]
        words = split_words(context)
        windows = [
            (output["window"].offsets, answer_logits(self.without_padding(output, "logits")))
            for output in model_outputs
        ]
        spans = decode_spans(
            context,
            words,
            score_words(words, windows),
            logit_threshold=threshold,
            allow_no_answer=allow_no_answer,
        )
        return [{"answer": span.text, "start": span.start, "end": span.end, "score": span.score} for span in spans]


def register() -> None:
    """Make the tasks known to `transformers.pipeline`."""
    for task, pipeline, model in (
        (EXTRACTIVE, ExtractiveQuestionAnsweringPipeline, AutoModelForQuestionAnswering),
        (MULTI_SPAN, MultiSpanQuestionAnsweringPipeline, AutoModelForTokenClassification),
    ):
        if task not in PIPELINE_REGISTRY.get_supported_tasks():
            PIPELINE_REGISTRY.register_pipeline(task, pipeline_class=pipeline, pt_model=model, type="text")
