"""What the pipelines that answer questions share: their inputs, and the windows of long paragraphs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import torch
from transformers.pipelines.base import ChunkPipeline

from dpt_peft.tasks.question_answering.windows import (
    DEFAULT_DOC_STRIDE,
    DEFAULT_MAX_LENGTH,
    make_windows,
    window_length,
)


class QuestionPipeline(ChunkPipeline):
    """Base of the pipelines that answer questions on paragraphs of any length.

    A subclass computes the answers of one question in `postprocess`, from a list with one dict a window: `context`,
    `window`, and the model's outputs of `output_names`, to be read by `without_padding`.
    """

    output_names: ClassVar[tuple[str, ...]]

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
            **kwargs: `max_seq_length` (default 384, at most what the model takes), `doc_stride` (default 128),
                `batch_size`, and the options that the class names.

        Returns:
            What the class says, or a list of it.

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
        """Returns an output of one window, (tokens, ...); a batch pads on either side."""
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
