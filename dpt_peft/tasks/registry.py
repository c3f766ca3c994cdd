"""The task families by name."""

from __future__ import annotations

from .base import Task
from .hierarchical import HierarchicalClassification
from .multiple_choice import MultipleChoice
from .regression import Regression
from .text_classification import TextClassification

#: Task families by name. A new one is one row.
TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        TextClassification(),
        HierarchicalClassification(),
        MultipleChoice(),
        Regression(),
    )
}
