"""Task families: what `dpt_peft.training.run` can run, and the parts of each for Trainer scripts of your own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dpt_peft._lazy import lazily

if TYPE_CHECKING:
    from .base import Features, Task, TaskData, is_adapter
    from .data import (
        DatasetArguments,
        as_texts,
        check_splits,
        load_file,
        load_tokenizer,
        special_tokens_as_text,
    )
    from .data_sets import DATA_SETS, data_arguments
    from .heads import DISCRIMINATOR, LANGUAGE_MODEL, NEW_HEAD, Head, new_head
    from .hierarchical import HierarchicalClassification, HierarchicalClassificationArguments
    from .labels import Labels, read_labels
    from .metrics import ArgumentMetric, EntityMetric
    from .multiple_choice import MultipleChoice, MultipleChoiceArguments, tokenize_choices
    from .question_answering.extractive import QuestionAnswering, QuestionAnsweringArguments, extractive_features
    from .question_answering.metrics import MultiSpanMetric, SquadMetric
    from .question_answering.multi_span import (
        MultiSpanQuestionAnswering,
        MultiSpanQuestionAnsweringArguments,
        multi_span_features,
        tune_threshold,
    )
    from .registry import TASKS
    from .regression import Regression, RegressionArguments, regression_scores
    from .relation_extraction import RelationExtraction, RelationExtractionArguments, mark_spans
    from .sampling import ClassSamplingArguments, SamplingArguments, sample_per_class
    from .tagging.features import load_word_tokenizer, make_word_features, tag_words
    from .tagging.task import (
        SemanticRoleArguments,
        SemanticRoleLabeling,
        TokenClassification,
        TokenClassificationArguments,
    )
    from .text_classification import (
        TextClassification,
        TextClassificationArguments,
        classification_metrics,
        tokenize_texts,
    )

__getattr__ = lazily(
    __name__,
    {
        "base": ["Features", "Task", "TaskData", "is_adapter"],
        "data": [
            "DatasetArguments",
            "as_texts",
            "check_splits",
            "load_file",
            "load_tokenizer",
            "special_tokens_as_text",
        ],
        "data_sets": ["DATA_SETS", "data_arguments"],
        "heads": ["DISCRIMINATOR", "LANGUAGE_MODEL", "NEW_HEAD", "Head", "new_head"],
        "hierarchical": ["HierarchicalClassification", "HierarchicalClassificationArguments"],
        "labels": ["Labels", "read_labels"],
        "metrics": ["ArgumentMetric", "EntityMetric"],
        "multiple_choice": ["MultipleChoice", "MultipleChoiceArguments", "tokenize_choices"],
        "question_answering.extractive": ["QuestionAnswering", "QuestionAnsweringArguments", "extractive_features"],
        "question_answering.metrics": ["MultiSpanMetric", "SquadMetric"],
        "question_answering.multi_span": [
            "MultiSpanQuestionAnswering",
            "MultiSpanQuestionAnsweringArguments",
            "multi_span_features",
            "tune_threshold",
        ],
        "registry": ["TASKS"],
        "regression": ["Regression", "RegressionArguments", "regression_scores"],
        "relation_extraction": ["RelationExtraction", "RelationExtractionArguments", "mark_spans"],
        "sampling": ["ClassSamplingArguments", "SamplingArguments", "sample_per_class"],
        "tagging.features": ["load_word_tokenizer", "make_word_features", "tag_words"],
        "tagging.task": [
            "SemanticRoleArguments",
            "SemanticRoleLabeling",
            "TokenClassification",
            "TokenClassificationArguments",
        ],
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
    "DISCRIMINATOR",
    "LANGUAGE_MODEL",
    "NEW_HEAD",
    "TASKS",
    "ArgumentMetric",
    "ClassSamplingArguments",
    "DatasetArguments",
    "EntityMetric",
    "Features",
    "Head",
    "HierarchicalClassification",
    "HierarchicalClassificationArguments",
    "Labels",
    "MultiSpanMetric",
    "MultiSpanQuestionAnswering",
    "MultiSpanQuestionAnsweringArguments",
    "MultipleChoice",
    "MultipleChoiceArguments",
    "QuestionAnswering",
    "QuestionAnsweringArguments",
    "Regression",
    "RegressionArguments",
    "RelationExtraction",
    "RelationExtractionArguments",
    "SamplingArguments",
    "SemanticRoleArguments",
    "SemanticRoleLabeling",
    "SquadMetric",
    "Task",
    "TaskData",
    "TextClassification",
    "TextClassificationArguments",
    "TokenClassification",
    "TokenClassificationArguments",
    "as_texts",
    "check_splits",
    "classification_metrics",
    "data_arguments",
    "extractive_features",
    "is_adapter",
    "load_file",
    "load_tokenizer",
    "load_word_tokenizer",
    "make_word_features",
    "mark_spans",
    "multi_span_features",
    "new_head",
    "read_labels",
    "regression_scores",
    "sample_per_class",
    "special_tokens_as_text",
    "tag_words",
    "tokenize_choices",
    "tokenize_texts",
    "tune_threshold",
]
