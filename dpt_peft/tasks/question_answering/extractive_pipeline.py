"""`pipeline("extractive-question-answering")`: questions and paragraphs of any length to the best span.

transformers 5 has taken its own "question-answering" pipeline out and refuses the name. This one answers in the same
format, and knows the tuned null threshold.
"""

from __future__ import annotations

from typing import Any

from transformers import AutoModelForQuestionAnswering
from transformers.pipelines import PIPELINE_REGISTRY

from dpt_peft.tasks.question_answering.answers import (
    DEFAULT_MAX_ANSWER_LENGTH,
    DEFAULT_N_BEST,
    WindowLogits,
    null_position,
    rank_answers,
)
from dpt_peft.tasks.question_answering.pipeline_base import QuestionPipeline

TASK = "extractive-question-answering"


class ExtractiveQuestionAnsweringPipeline(QuestionPipeline):
    """Finds the piece of a paragraph that answers a question.

    The model is a question answering model of transformers (`AutoModelForQuestionAnswering`), or a PEFT model around
    one. Paragraphs longer than the model are read in windows. Options:

    - `handle_impossible_answer`: whether the answer may be none. Default: whether the model's config has a
      `null_score_diff_threshold`, as models tuned on SQuAD 2.0 here have.
    - `null_score_diff_threshold`: no answer if the score of none less that of the best answer is above this. Default:
      the config's, or 0.
    - `top_k` (default 1), `max_answer_length` in tokens (default 30), `n_best_size` (default 20).

    For every question it returns a dict, or with `top_k` above 1 a list of dicts, best first: `answer` ("" for none),
    `start`, `end` (`context[start:end] == answer`), `score` (softmax over the n best answers, and none if it may be).

    Example:
        >>> read = pipeline("extractive-question-answering", model=model, tokenizer=tokenizer)
        >>> read(question="Who sings?", context="Bob sings, Ann plays.")
        {'score': 0.98, 'start': 0, 'end': 3, 'answer': 'Bob'}
    """

    output_names = ("start_logits", "end_logits")

    def _sanitize_parameters(
        self,
        max_seq_length: int | None = None,
        doc_stride: int | None = None,
        **kwargs: Any,
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        known = {
            "handle_impossible_answer",
            "max_answer_length",
            "n_best_size",
            "null_score_diff_threshold",
            "top_k",
        }
        if not kwargs.keys() <= known:
            raise TypeError(f"unknown arguments {', '.join(sorted(kwargs.keys() - known))}")
        if kwargs.get("top_k", 1) < 1:
            raise ValueError(f"`top_k` must be at least 1, got {kwargs['top_k']}")
        preprocess = {"max_seq_length": max_seq_length, "doc_stride": doc_stride}
        return {name: value for name, value in preprocess.items() if value is not None}, {}, kwargs

    def postprocess(
        self,
        model_outputs: list[dict[str, Any]],
        top_k: int = 1,
        handle_impossible_answer: bool | None = None,
        null_score_diff_threshold: float | None = None,
        max_answer_length: int = DEFAULT_MAX_ANSWER_LENGTH,
        n_best_size: int = DEFAULT_N_BEST,
    ) -> dict[str, Any] | list[dict[str, Any]]:
        """Turns the windows' logits into answers."""
        tuned = getattr(self.model.config, "null_score_diff_threshold", None)
        if handle_impossible_answer is None:
            handle_impossible_answer = tuned is not None or null_score_diff_threshold is not None
        if null_score_diff_threshold is None:
            null_score_diff_threshold = tuned or 0.0
        windows = [
            WindowLogits(
                output["window"].offsets,
                self.without_padding(output, "start_logits"),
                self.without_padding(output, "end_logits"),
                null_position(output["window"], self.tokenizer),
            )
            for output in model_outputs
        ]
        context = model_outputs[0]["context"]
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


def register() -> None:
    """Makes the task known to `transformers.pipeline`."""
    if TASK not in PIPELINE_REGISTRY.get_supported_tasks():
        PIPELINE_REGISTRY.register_pipeline(
            TASK,
            pipeline_class=ExtractiveQuestionAnsweringPipeline,
            pt_model=AutoModelForQuestionAnswering,
            type="text",
        )
