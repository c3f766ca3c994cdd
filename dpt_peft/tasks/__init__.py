"""Task families: what `dpt_peft.training.run` can run, and the parts of each for Trainer scripts of your own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dpt_peft._lazy import lazily

if TYPE_CHECKING:
    from .base import Features, Task, TaskData
    from .data_sets import DATA_SETS, data_arguments
    from .hierarchical import HierarchicalClassification, HierarchicalClassificationArguments
    from .multiple_choice import MultipleChoice, MultipleChoiceArguments, tokenize_choices
    from .registry import TASKS
    from .regression import Regression, RegressionArguments, regression_scores
    from .sampling import ClassSamplingArguments, SamplingArguments, sample_per_class
    from .text_classification import (
        TextClassification,
        TextClassificationArguments,
        classification_metrics,
        tokenize_texts,
    )

__getattr__ = lazily(
    __name__,
    {
        "base": ["Features", "Task", "TaskData"],
        "data_sets": ["DATA_SETS", "data_arguments"],
        "hierarchical": ["HierarchicalClassification", "HierarchicalClassificationArguments"],
        "multiple_choice": ["MultipleChoice", "MultipleChoiceArguments", "tokenize_choices"],
        "registry": ["TASKS"],
        "regression": ["Regression", "RegressionArguments", "regression_scores"],
        "sampling": ["ClassSamplingArguments", "SamplingArguments", "sample_per_class"],
        "text_classification": [
            "TextClassification",
            "TextClassificationArguments",
            "classification_metrics",
            "tokenize_texts",
        ],
    },
)

__all__ = [
    "DATA_SETS",
    "TASKS",
    "ClassSamplingArguments",
    "Features",
    "HierarchicalClassification",
    "HierarchicalClassificationArguments",
    "MultipleChoice",
    "MultipleChoiceArguments",
    "Regression",
    "RegressionArguments",
    "SamplingArguments",
    "Task",
    "TaskData",
    "TextClassification",
    "TextClassificationArguments",
    "classification_metrics",
    "data_arguments",
    "regression_scores",
    "sample_per_class",
    "tokenize_choices",
    "tokenize_texts",
]
