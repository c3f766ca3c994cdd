"""Splits of `datasets` in the formats of numpy, torch and pandas, in every family."""

import pytest
from datasets import Dataset

from dpt_peft.tasks import TASKS, TaskData

TEXTS = {"text": ["a b", "c d"]}
ANSWERS = {"answers": [{"text": ["a"], "answer_start": [0]}, {"text": [], "answer_start": []}]}
SPANS = {"head": [{"start": 0, "end": 1}] * 2, "tail": [{"start": 1, "end": 2}] * 2, "relation": ["x", "y"]}
COLUMNS = {
    "text-classification": {**TEXTS, "label": [0, 1]},
    "hierarchical-classification": {**TEXTS, "kind": [1, 2], "label": [10, 20]},
    "regression": {**TEXTS, "label": [0, 1.5]},
    "multiple-choice": {"premise": ["p", "q"], "options": [["a", "b"], ["c", "d"]], "label": [0, 1]},
    "relation-extraction": {"tokens": [["a", "b"], ["c", "d"]], **SPANS},
    "question-answering": {"question": ["p", "q"], "context": ["a b", "c d"], **ANSWERS},
    "multi-span-question-answering": {"question": ["p", "q"], "context": ["a b", "c d"], **ANSWERS},
    "token-classification": {"tokens": [["a", "b"], ["c", "d"]], "ner_tags": [["B-X", "O"], ["O", "O"]]},
    "semantic-role-labeling": {
        "tokens": [["a", "b"], ["c", "d"]],
        "srl_tags": [["B-V", "B-A0"], ["B-V", "O"]],
        "predicate_index": [0, 0],
    },
}
ARGUMENTS = {
    "hierarchical-classification": {"level_column_names": ["kind", "label"]},
    "multiple-choice": {"choices_column_name": "options"},
}


def test_there_are_rows_of_every_family():
    assert COLUMNS.keys() == TASKS.keys()


@pytest.mark.parametrize("name", COLUMNS)
def test_a_format_changes_nothing(name):
    task, rows = TASKS[name], Dataset.from_dict(COLUMNS[name])
    args = task.arguments(train_file="x", **ARGUMENTS.get(name, {}))

    def shape(rows):
        data: TaskData = task.shape({"train": rows, "validation": rows}, args)
        return data.label_names, {split: part.to_dict() for split, part in data.splits.items()}

    expected = shape(rows)
    for kind in ("numpy", "torch", "pandas"):
        formatted = rows.with_format(kind)
        assert shape(formatted) == expected
        assert formatted.format["type"] == kind  # it is the caller's
