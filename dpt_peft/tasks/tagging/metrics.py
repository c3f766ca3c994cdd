"""Metrics of tags as `evaluate` metrics that need no network.

`evaluate.load("seqeval")` downloads a script. These have its interface (`add_batch`, `compute`, `combine`) and need no
network.
"""

from __future__ import annotations

from collections.abc import Sequence

import datasets
import evaluate

from dpt_peft.tasks.tagging.schemes import read_spans


def _tag_metric_info(description: str) -> evaluate.MetricInfo:
    tags = datasets.Sequence(datasets.Value("string"))
    return evaluate.MetricInfo(
        description=description,
        citation="",
        inputs_description="predictions, references: IOB2 tags, one list of strings a sentence.",
        features=datasets.Features({"predictions": tags, "references": tags}),
    )


class EntityMetric(evaluate.Metric):
    """Precision, recall and micro F1 of entities, and the accuracy of single tags.

    An entity is right if its type and both its ends are. The numbers are those of the official `conlleval` script, by
    `seqeval` in its default mode: a tag that does not fit the one before it begins a new entity.

    `EntityMetric(keep_in_memory=True).compute(predictions=[["B-PER", "O"]], references=[["B-PER", "O"]])` returns
    `{"precision": ..., "recall": ..., "f1": ..., "accuracy": ...}`, all between 0 and 1; what has no entity is 0.
    """

    def _info(self) -> evaluate.MetricInfo:
        return _tag_metric_info("Precision, recall and micro F1 of entities.")

    def _compute(self, predictions: list[list[str]], references: list[list[str]]) -> dict[str, float]:
        try:
            from seqeval.metrics.sequence_labeling import accuracy_score, precision_recall_fscore_support
        except ImportError as error:
            raise ImportError("EntityMetric needs seqeval: pip install dpt_peft[tasks]") from error
        precision, recall, f1, _ = precision_recall_fscore_support(
            references, predictions, average="micro", zero_division=0
        )
        accuracy = accuracy_score(references, predictions) if any(references) else 0.0
        return {
            "precision": float(precision),
            "recall": float(recall),
            "f1": float(f1),
            "accuracy": float(accuracy),
        }


#: An argument: its role, and the first and last word of each of its parts.
Argument = tuple[str, tuple[tuple[int, int], ...]]


def read_arguments(tags: Sequence[str]) -> set[Argument]:
    """Read the arguments of one predicate, as the official CoNLL-2005 script (`srl-eval.pl`) does.

    "C-A0" goes on with the last "A0" before it: both are one argument in two parts. Without one, it is an "A0" itself.
    The predicate ("V", with its own "C-V") is no argument.

    Args:
        tags: IOB2 roles, one a word.
    """
    parts: dict[str, list[tuple[int, int]]] = {}
    found: list[tuple[str, list[tuple[int, int]]]] = []
    for role, first, last in read_spans(tags):
        base = role.removeprefix("C-")
        if role != base and base in parts:
            parts[base].append((first, last))
            continue
        parts[base] = [(first, last)]
        found.append((base, parts[base]))
    return {(role, tuple(spans)) for role, spans in found if role != "V"}


class ArgumentMetric(evaluate.Metric):
    """Precision, recall and micro F1 of the arguments of predicates, by the rules of the CoNLL-2005 script.

    An argument is right if its role and all its parts are; see `read_arguments`. Used as `EntityMetric`, with one list
    of tags a predicate; `proposition_accuracy` is the share of predicates with all arguments right and none too many.
    """

    def _info(self) -> evaluate.MetricInfo:
        return _tag_metric_info("Precision, recall and micro F1 of the arguments of predicates.")

    def _compute(self, predictions: list[list[str]], references: list[list[str]]) -> dict[str, float]:
        pairs = [(read_arguments(p), read_arguments(r)) for p, r in zip(predictions, references, strict=True)]
        right = sum(len(predicted & gold) for predicted, gold in pairs)
        predicted = sum(len(predicted) for predicted, _ in pairs)
        gold = sum(len(gold) for _, gold in pairs)
        return {
            "precision": right / predicted if predicted else 0.0,
            "recall": right / gold if gold else 0.0,
            "f1": 2 * right / (predicted + gold) if predicted + gold else 0.0,
            "proposition_accuracy": sum(p == g for p, g in pairs) / len(pairs) if pairs else 0.0,
        }
