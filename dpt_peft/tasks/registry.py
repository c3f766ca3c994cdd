"""The task families by name."""

from __future__ import annotations

from .base import Task
from .hierarchical import HierarchicalClassification
from .multiple_choice import MultipleChoice
from .question_answering.extractive import QuestionAnswering
from .question_answering.multi_span import MultiSpanQuestionAnswering
from .regression import Regression
from .relation_extraction import RelationExtraction
from .tagging.task import SemanticRoleLabeling, TokenClassification
from .text_classification import TextClassification

#: Task families by name. A new one is one row.
TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        TextClassification(),
        HierarchicalClassification(),
        MultipleChoice(),
        QuestionAnswering(),
        MultiSpanQuestionAnswering(),
        TokenClassification(),
        SemanticRoleLabeling(),
        Regression(),
        RelationExtraction(),
    )
}
