"""`pipeline("multi-span-question-answering")`: questions and paragraphs of any length to spans with offsets."""

from __future__ import annotations

import math
from typing import Any

from transformers import AutoModelForTokenClassification
from transformers.pipelines import PIPELINE_REGISTRY

from dpt_peft.tasks.question_answering.pipeline_base import QuestionPipeline
from dpt_peft.tasks.question_answering.spans import answer_logits, decode_spans, score_words, split_words

TASK = "multi-span-question-answering"


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
        windows = [
            (output["window"].offsets, answer_logits(self.without_padding(output, "logits")))
            for output in model_outputs
        ]
        spans = decode_spans(
            context,
            words,
            score_words(words, windows),
            logit_threshold=logit_threshold,
            allow_no_answer=allow_no_answer,
        )
        return [{"answer": span.text, "start": span.start, "end": span.end, "score": span.score} for span in spans]


def register() -> None:
    """Makes the task known to `transformers.pipeline`."""
    if TASK not in PIPELINE_REGISTRY.get_supported_tasks():
        PIPELINE_REGISTRY.register_pipeline(
            TASK,
            pipeline_class=MultiSpanQuestionAnsweringPipeline,
            pt_model=AutoModelForTokenClassification,
            type="text",
        )
