"""What `dpt_peft.tasks` gives, and from where: read by type checkers, and by `__init__.py` at run time."""

from .base import (
    Features as Features,
    Task as Task,
    TaskData as TaskData,
    is_adapter as is_adapter,
)
from .data import (
    DatasetArguments as DatasetArguments,
    as_texts as as_texts,
    check_splits as check_splits,
    load_file as load_file,
    load_tokenizer as load_tokenizer,
    special_tokens_as_text as special_tokens_as_text,
)
from .data_sets import (
    DATA_SETS as DATA_SETS,
    data_arguments as data_arguments,
)
from .heads import (
    DISCRIMINATOR as DISCRIMINATOR,
    LANGUAGE_MODEL as LANGUAGE_MODEL,
    NEW_HEAD as NEW_HEAD,
    Head as Head,
    new_head as new_head,
)
from .hierarchical import (
    HierarchicalClassification as HierarchicalClassification,
    HierarchicalClassificationArguments as HierarchicalClassificationArguments,
)
from .labels import (
    Labels as Labels,
    read_labels as read_labels,
)
from .multiple_choice import (
    MultipleChoice as MultipleChoice,
    MultipleChoiceArguments as MultipleChoiceArguments,
    tokenize_choices as tokenize_choices,
)
from .question_answering.extractive import (
    QuestionAnswering as QuestionAnswering,
    QuestionAnsweringArguments as QuestionAnsweringArguments,
    extractive_features as extractive_features,
)
from .question_answering.metrics import (
    MultiSpanMetric as MultiSpanMetric,
    SquadMetric as SquadMetric,
)
from .question_answering.multi_span import (
    MultiSpanQuestionAnswering as MultiSpanQuestionAnswering,
    MultiSpanQuestionAnsweringArguments as MultiSpanQuestionAnsweringArguments,
    multi_span_features as multi_span_features,
    tune_threshold as tune_threshold,
)
from .registry import (
    TASKS as TASKS,
)
from .regression import (
    Regression as Regression,
    RegressionArguments as RegressionArguments,
    regression_scores as regression_scores,
)
from .relation_extraction import (
    RelationExtraction as RelationExtraction,
    RelationExtractionArguments as RelationExtractionArguments,
    mark_spans as mark_spans,
)
from .sampling import (
    ClassSamplingArguments as ClassSamplingArguments,
    SamplingArguments as SamplingArguments,
    sample_per_class as sample_per_class,
)
from .tagging.features import (
    load_word_tokenizer as load_word_tokenizer,
    make_word_features as make_word_features,
    tag_words as tag_words,
)
from .tagging.metrics import (
    ArgumentMetric as ArgumentMetric,
    EntityMetric as EntityMetric,
)
from .tagging.task import (
    SemanticRoleArguments as SemanticRoleArguments,
    SemanticRoleLabeling as SemanticRoleLabeling,
    TokenClassification as TokenClassification,
    TokenClassificationArguments as TokenClassificationArguments,
)
from .text_classification import (
    TextClassification as TextClassification,
    TextClassificationArguments as TextClassificationArguments,
    classification_metrics as classification_metrics,
    tokenize_texts as tokenize_texts,
)
