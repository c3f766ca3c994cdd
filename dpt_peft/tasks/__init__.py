"""Task families: what `dpt_peft.training.run` can run, and the parts of each for Trainer scripts of your own."""

from __future__ import annotations

from .base import Features, Task, TaskData
from .data_sets import DATA_SETS, data_arguments
from .hierarchical import HierarchicalClassification
from .multiple_choice import MultipleChoice, tokenize_choices
from .text_classification import TextClassification, classification_metrics, tokenize_texts

#: Task families by name. A new one is one row.
TASKS: dict[str, Task] = {
    task.name: task for task in (TextClassification(), HierarchicalClassification(), MultipleChoice())
}

__all__ = [
    "DATA_SETS",
    "TASKS",
    "Features",
    "HierarchicalClassification",
    "MultipleChoice",
    "Task",
    "TaskData",
    "TextClassification",
    "classification_metrics",
    "data_arguments",
    "tokenize_choices",
    "tokenize_texts",
]
