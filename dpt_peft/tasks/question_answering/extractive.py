"""Extractive question answering (SQuAD 1.1 and 2.0): labels, answers, metrics, files and the best null threshold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from datasets import Dataset
from peft import TaskType
from transformers import AutoModelForQuestionAnswering
from transformers.hf_argparser import HfArg

from dpt_peft.tasks.base import Features, Predictions
from dpt_peft.tasks.heads import NEW_HEAD, Head, new_head
from dpt_peft.tasks.question_answering.data import (
    Example,
    QuestionArguments,
    QuestionFeatures,
    QuestionTask,
    ThresholdSearch,
    write_by_id,
    write_spans,
)
from dpt_peft.tasks.question_answering.metrics import score_answer, squad_scores
from dpt_peft.tasks.question_answering.windows import (
    DEFAULT_MAX_ANSWER_LENGTH,
    DEFAULT_N_BEST,
    RankedAnswers,
    Window,
    rank_answers,
)


@dataclass
class QuestionAnsweringArguments(QuestionArguments):
    """Data of an extractive question answering task, and how answers are read. Names as in transformers' `run_qa`.

    Several texts in a question's `answers` are different people's answers; the first is trained on, and measuring
    takes the one that fits best.
    """

    version_2_with_negative: bool = HfArg(
        default=False, help="Whether some questions have no answer, as in SQuAD 2.0."
    )
    null_score_diff_threshold: float | None = HfArg(
        default=None,
        help="version_2_with_negative: no answer if the score of none less that of the best one is above this. "
        "Default: a saved reader's own, else 0.",
    )
    n_best_size: int = HfArg(default=DEFAULT_N_BEST, help="Starts and ends that are tried with each other.")
    max_answer_length: int = HfArg(default=DEFAULT_MAX_ANSWER_LENGTH, help="Longest answer in tokens.")


def answer_positions(window: Window, answer: tuple[int, int] | None) -> tuple[int, int]:
    """Find the tokens of an answer.

    Args:
        window: A window.
        answer: Its half-open character range in the paragraph, `None` if there is none.

    Returns:
        First and last token; the window's `null_position` twice if it does not hold the answer whole.
    """
    nothing = (window.null_position, window.null_position)
    if answer is None:
        return nothing
    tokens = [(index, offset) for index, offset in enumerate(window.offsets) if offset is not None]
    inside = [index for index, offset in tokens if offset[0] < answer[1] and answer[0] < offset[1]]
    if not inside or tokens[0][1][0] > answer[0] or tokens[-1][1][1] < answer[1]:
        return nothing
    return inside[0], inside[-1]


@dataclass(frozen=True)
class ExtractiveFeatures(QuestionFeatures):
    """A split of questions with one span for an answer.

    Attributes:
        dataset: See `QuestionFeatures`; with `start_positions` and `end_positions` if all questions are annotated.
        n_best_size: See `rank_answers`.
        max_answer_length: See `rank_answers`.
    """

    n_best_size: int = DEFAULT_N_BEST
    max_answer_length: int = DEFAULT_MAX_ANSWER_LENGTH

    @classmethod
    def label(cls, example: Example, windows: list[Window], **options: Any) -> list[dict[str, Any]]:
        """Label windows with the first annotated answer, without spaces around it.

        A window that does not hold the answer whole is one without an answer: both positions are its [CLS].
        """
        if example.texts is None:
            return [{} for _ in windows]
        answer = None
        if example.texts:
            text, start = example.texts[0], example.starts[0]
            start += len(text) - len(text.lstrip())
            answer = (start, start + len(text.strip()))
        labels = [answer_positions(window, answer) for window in windows]
        return [{"start_positions": first, "end_positions": last} for first, last in labels]

    def rank(self, predictions: Predictions | Sequence[Any]) -> list[RankedAnswers]:
        """Rank the answers of every question over all of its windows; see `rank_answers`.

        Args:
            predictions: Start logits and end logits, each (windows, tokens) or one array a window; padded on the
                right if at all.
        """
        start, end = predictions
        return [
            rank_answers(
                example.context,
                windows,
                n_best_size=self.n_best_size,
                max_answer_length=self.max_answer_length,
            )
            for example, windows in zip(self.examples, self.by_example(zip(start, end, strict=True)), strict=True)
        ]

    def evaluate(self, ranked: Sequence[RankedAnswers], null_threshold: float | None = None) -> dict[str, float]:
        """Compute `SquadMetric` of answers: rules of SQuAD 2.0 with a threshold, of 1.1 without one.

        Raises:
            ValueError: The questions have no annotation.
        """
        texts = answer_texts(ranked, null_threshold)
        return squad_scores(texts, self.gold_texts(), version_2=null_threshold is not None)

    def measure(self, predictions: Predictions, config: Any) -> dict[str, float]:
        """Return the numbers of `SquadMetric`.

        With a threshold also `best_f1` and `best_f1_thresh`, those of the threshold that would be best for this split,
        which flatter. None for a split without answers.
        """
        ranked, threshold = self.rank(predictions), get_null_threshold(config)
        found = self.evaluate(ranked, threshold)
        if threshold is not None:
            best = search_null_threshold(self, ranked, before=threshold)
            found |= {"best_f1": best.metrics["f1"], "best_f1_thresh": best.threshold}
        return found

    def write(self, predictions: Predictions, config: Any, folder: Path) -> None:
        """Write the files that the official scripts read, the n best answers, and one line a question.

        `predictions.json` (text by id, "" for none), with a threshold `null_odds.json` (`null_odds` by id, for
        `--na-prob-file`), `nbest_predictions.json` (by id: `text`, `start`, `end`, `score`, `probability` of each),
        and `prediction_spans.jsonl` (see `write_spans`).

        Raises:
            ValueError: Two questions have the same id.
        """
        ranked, threshold = self.rank(predictions), get_null_threshold(config)
        files: dict[str, list[Any]] = {"predictions": answer_texts(ranked, threshold), "nbest_predictions": []}
        if threshold is not None:
            files["null_odds"] = [one.null_odds for one in ranked]
        for one in ranked:
            choices = [vars(answer) for answer in one.answers]
            if threshold is not None:
                choices.append({"text": "", "start": None, "end": None, "score": one.null_score})
            probabilities = one.probabilities(threshold is not None)
            rows = [{**choice, "probability": share} for choice, share in zip(choices, probabilities, strict=True)]
            files["nbest_predictions"].append(sorted(rows, key=lambda row: -row["score"]))
        for name, values in files.items():
            write_by_id(folder / f"{name}.json", self.examples, values)
        best = [one.best(threshold) for one in ranked]
        write_spans(folder / "prediction_spans.jsonl", self.examples, [[one] if one else [] for one in best])


extractive_features = ExtractiveFeatures.cut


def answer_texts(ranked: Sequence[RankedAnswers], null_threshold: float | None = None) -> list[str]:
    """Return every question's answer, "" for none; see `RankedAnswers.best`."""
    answers = [one.best(null_threshold) for one in ranked]
    return ["" if answer is None else answer.text for answer in answers]


def search_null_threshold(
    features: ExtractiveFeatures, ranked: Sequence[RankedAnswers], *, before: float = 0.0
) -> ThresholdSearch:
    """Find the threshold of `RankedAnswers.null_odds` with the best F1, among all that make a difference.

    The official script of SQuAD 2.0 does the same with the file of null odds; here the threshold lies half-way between
    the two questions that it divides, which is a better guess for other questions.

    Args:
        features: Questions with annotations.
        ranked: Their answers, from `features.rank`.
        before: The threshold in use. It stays unless another one is better, and of equally good ones the nearest to
            it is taken.

    Returns:
        The best threshold, and F1 with it and with the one before.

    Raises:
        ValueError: The questions have no annotation.
    """
    golds = features.gold_texts()
    odds = np.array([one.null_odds for one in ranked])
    answered, silent = (
        np.array([score_answer(text, gold, version_2=True)[1] for text, gold in zip(texts, golds, strict=True)])
        for texts in (answer_texts(ranked), [""] * len(golds))
    )

    ordered = np.unique(odds)
    between = [ordered[0] - 1, *(ordered[:-1] + ordered[1:]) / 2, ordered[-1] + 1]
    candidates = [before, *sorted(between, key=lambda threshold: abs(threshold - before))]
    f1 = [float(np.where(odds <= threshold, answered, silent).mean()) for threshold in candidates]
    best = int(np.argmax(np.round(f1, 9)))
    return ThresholdSearch(float(candidates[best]), {"f1": f1[best]}, {"f1": f1[0]})


def get_null_threshold(config: Any) -> float | None:
    """Return the threshold that a config holds, or None: every question has an answer."""
    return getattr(config, "null_score_diff_threshold", None)


class QuestionAnswering(QuestionTask):
    """One span of a paragraph for an answer, or none."""

    name = "question-answering"
    task_type = TaskType.QUESTION_ANS
    arguments = QuestionAnsweringArguments
    # a start and an end
    heads: ClassVar[Mapping[str, Head]] = {
        NEW_HEAD: new_head(AutoModelForQuestionAnswering, label_names=(), num_labels=2)
    }
    auto_class = "QuestionAnswering"
    pipeline = "extractive-question-answering"
    threshold_name = "null_score_diff_threshold"
    kind = ExtractiveFeatures
    reading = (*QuestionTask.reading, "n_best_size", "max_answer_length")

    def check(self, args: Any, splits: Mapping[str, Dataset]) -> None:
        """Raise a `ValueError` for questions without an answer in SQuAD 1.1, or a threshold that there is not."""
        if args.version_2_with_negative:
            return
        if args.null_score_diff_threshold is not None:
            raise ValueError("`null_score_diff_threshold` needs `version_2_with_negative`.")
        if args.tune_threshold:
            raise ValueError("`tune_threshold` needs `version_2_with_negative`: otherwise there is no threshold.")
        for split, rows in splits.items():
            if "answers" in rows.column_names and not all(answers["text"] for answers in rows["answers"][:]):
                raise ValueError(
                    f"The {split} data has questions without an answer: set `version_2_with_negative`, "
                    "or take them out."
                )

    def settings(self, args: Any, config: Any) -> dict[str, Any]:
        """Return the threshold, which the pipeline reads from the config; SQuAD 1.1 has none."""
        if not args.version_2_with_negative:
            return {self.threshold_name: None}
        known = get_null_threshold(config) or 0.0
        asked = args.null_score_diff_threshold
        return {self.threshold_name: known if asked is None else asked}

    def reduce(self, logits: Any, labels: torch.Tensor) -> Any:
        """Return start and end logits."""
        return tuple(logits[:2])

    def tune(self, features: Features, predictions: Predictions, config: Any) -> dict[str, Any]:
        """Choose the threshold of having no answer, see `search_null_threshold`."""
        assert isinstance(features, ExtractiveFeatures)
        before = get_null_threshold(config) or 0.0
        found = search_null_threshold(features, features.rank(predictions), before=before)
        return {self.threshold_name: found.threshold}
