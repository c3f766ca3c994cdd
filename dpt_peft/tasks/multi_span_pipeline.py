"""`pipeline("multi-span-question-answering")`: questions and paragraphs of any length to spans with offsets."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from transformers import AutoModelForTokenClassification
from transformers.pipelines import PIPELINE_REGISTRY
from transformers.pipelines.base import ChunkPipeline

from dpt_peft.tasks.spans import answer_logits, decode_spans, score_words, split_words
from dpt_peft.tasks.windows import DEFAULT_DOC_STRIDE, DEFAULT_MAX_LENGTH, make_windows, window_length

TASK = "multi-span-question-answering"


class MultiSpanQuestionAnsweringPipeline(ChunkPipeline):
    """Finds all spans of a paragraph that answer a question.

    The model is a `DPTForMultiSpanQuestionAnswering`, a token classifier with the classes O and I, or a PEFT model
    around either. Paragraphs longer than the model are read in windows.

    Example:
        >>> read = pipeline("multi-span-question-answering", model=model, tokenizer=tokenizer)
        >>> read(question="Who sings?", context="Bob and Carl sing, Ann plays.")
        [{'answer': 'Bob', 'start': 0, 'end': 3, 'score': 0.98}, {'answer': 'Carl', 'start': 8, 'end': 12, ...}]
    """

    _load_processor = False
    _load_image_processor = False
    _load_feature_extractor = False
    _load_tokenizer = True

    def __call__(self, *inputs: Any, question: Any = None, context: Any = None, **kwargs: Any) -> Any:
        """Answers one question or several.

        Args:
            *inputs: A dict with `question` and `context`, or a list (or generator) of such.
            question: One question or a list, in the place of `inputs`.
            context: One paragraph or a list of as many.
            **kwargs: `min_probability` (of being part of the answer, above which a token counts; default: the
                threshold in the model's config), `allow_no_answer` (default False), `max_seq_length` (default 384, at
                most what the model takes), `doc_stride` (default 128), `batch_size`.

        Returns:
            For every question a list of dicts in the order of the text: `answer`, `start`, `end`
            (`context[start:end] == answer`), `score` (mean probability of its words).

        Raises:
            ValueError: Question or context is missing, their numbers differ, or a number is out of its range.
        """
        if question is not None or context is not None:
            if inputs:
                raise ValueError("pass `question` and `context`, or dicts with both, and not the two together")
            inputs = (_pairs(question, context),)
        if len(inputs) != 1:
            raise ValueError("pass `question` and `context`, or one dict, or one list of dicts")
        return super().__call__(inputs[0], **kwargs)

    def _sanitize_parameters(
        self,
        min_probability: float | None = None,
        allow_no_answer: bool | None = None,
        max_seq_length: int | None = None,
        doc_stride: int | None = None,
        **kwargs: Any,
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        if kwargs:
            raise TypeError(f"unknown arguments {', '.join(kwargs)}")
        preprocess = {"max_seq_length": max_seq_length, "doc_stride": doc_stride}
        postprocess: dict[str, Any] = {"allow_no_answer": allow_no_answer}
        if min_probability is not None:
            if not 0 < min_probability < 1:
                raise ValueError(f"`min_probability` must be between 0 and 1, got {min_probability}")
            postprocess["logit_threshold"] = math.log(min_probability / (1 - min_probability))
        given = [{k: v for k, v in options.items() if v is not None} for options in (preprocess, postprocess)]
        return given[0], {}, given[1]

    def preprocess(
        self, inputs: Any, max_seq_length: int = DEFAULT_MAX_LENGTH, doc_stride: int = DEFAULT_DOC_STRIDE
    ) -> Iterator[dict[str, Any]]:
        """Cuts question and paragraph into windows."""
        if not isinstance(inputs, dict) or not {"question", "context"} <= inputs.keys():
            raise ValueError(f"an input must be a dict with `question` and `context`, got {inputs!r}")
        windows = make_windows(
            self.tokenizer,
            inputs["question"],
            inputs["context"],
            max_length=window_length(max_seq_length, self.tokenizer, self.model.config),
            doc_stride=doc_stride,
        )
        for number, window in enumerate(windows):
            columns = {name: torch.tensor([ids]) for name, ids in window.inputs.items()}
            columns.setdefault("attention_mask", torch.ones_like(columns["input_ids"]))
            last = number == len(windows) - 1
            yield {"is_last": last, "context": inputs["context"], "offsets": window.offsets, **columns}

    def _forward(self, model_inputs: dict[str, Any]) -> dict[str, Any]:
        extra = {name: model_inputs.pop(name) for name in ("is_last", "context", "offsets")}
        return {
            **extra,
            "logits": self.model(**model_inputs).logits,
            "attention_mask": model_inputs["attention_mask"],
        }

    def postprocess(
        self,
        model_outputs: list[dict[str, Any]],
        logit_threshold: float | None = None,
        allow_no_answer: bool = False,
    ) -> list[dict[str, Any]]:
        """Turns the windows' logits into spans."""
        if logit_threshold is None:
            logit_threshold = getattr(self.model.config, "logit_threshold", 0.0)
        context = model_outputs[0]["context"]
        words = split_words(context)
        windows = []
        for output in model_outputs:
            tokens = output["attention_mask"][0].bool()  # a batch pads on either side
            windows.append((output["offsets"], answer_logits(output["logits"][0][tokens].float().numpy())))
        spans = decode_spans(
            context,
            words,
            score_words(words, windows),
            logit_threshold=logit_threshold,
            allow_no_answer=allow_no_answer,
        )
        return [{"answer": span.text, "start": span.start, "end": span.end, "score": span.score} for span in spans]


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


def register() -> None:
    """Makes the task known to `transformers.pipeline`."""
    if TASK not in PIPELINE_REGISTRY.get_supported_tasks():
        PIPELINE_REGISTRY.register_pipeline(
            TASK,
            pipeline_class=MultiSpanQuestionAnsweringPipeline,
            pt_model=AutoModelForTokenClassification,
            type="text",
        )
