"""Metrics of the task families as `evaluate` metrics that need no network.

`evaluate.load("accuracy")` downloads a script; these are the same interface (`add_batch`, `compute`, `combine`) in the
package. Their numbers come from scikit-learn.
"""

from __future__ import annotations

from collections.abc import Sequence

import datasets
import evaluate


class ClassificationMetric(evaluate.Metric):
    """Accuracy and macro F1 of single-label classification.

    `ClassificationMetric(keep_in_memory=True).compute(predictions=[...], references=[...])` returns
    `{"accuracy": ..., "macro_f1": ...}`, both between 0 and 1. Macro F1 is the plain mean over the classes that occur
    among references or predictions; a class that is never right counts 0.
    """

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Accuracy and macro F1 of single-label classification.",
            citation="",
            inputs_description="predictions, references: class ids, (n,).",
            features=datasets.Features(
                {"predictions": datasets.Value("int64"), "references": datasets.Value("int64")}
            ),
        )

    def _compute(self, predictions: Sequence[int], references: Sequence[int]) -> dict[str, float]:
        try:
            from sklearn.metrics import accuracy_score, f1_score
        except ImportError as error:
            raise ImportError("ClassificationMetric needs scikit-learn: pip install dpt_peft[tasks]") from error
        return {
            "accuracy": float(accuracy_score(references, predictions)),
            "macro_f1": float(f1_score(references, predictions, average="macro", zero_division=0)),
        }
