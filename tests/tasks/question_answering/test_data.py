"""Questions as files have them: columns, forms of answers, ids, SQuAD's own json."""

import json
import re

import datasets
import pytest
from datasets import Dataset

from dpt_peft.tasks import (
    MultiSpanQuestionAnswering,
    MultiSpanQuestionAnsweringArguments,
    SamplingArguments,
    TaskData,
)
from dpt_peft.tasks.question_answering.data import Example, read_examples, write_by_id, write_spans
from dpt_peft.tasks.question_answering.windows import Span
from tests.tasks.question_answering.multi_span import question


def write(path, rows):
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return str(path)


def load(**where):
    return MultiSpanQuestionAnswering().load(MultiSpanQuestionAnsweringArguments(**where)).splits


@pytest.fixture
def files(tmp_path):
    rows = [question(number) for number in range(4)]
    test = [{"question": row["question"], "context": row["context"]} for row in rows]
    return {"train_file": write(tmp_path / "train.jsonl", rows), "test_file": write(tmp_path / "test.jsonl", test)}


def test_loading(files):
    splits = load(**files)
    row = splits["train"][1]
    assert (row["id"], row["answers"]["text"]) == ("q1", ["Bob", "Carl"])
    assert [row["context"][start:][:3] for start in row["answers"]["answer_start"]] == ["Bob", "Car"]
    assert splits["test"].column_names == ["id", "question", "context"]
    assert splits["test"]["id"][:] == ["0", "1", "2", "3"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"answers": {"text": ["Bob"], "answer_start": [3]}}, "'Bob' does not stand at `answer_start` 3"),
        ({"answers": {"text": ["Bob"], "answer_start": []}}, "1 answer texts, but 0 values of `answer_start`"),
        ({"answers": {"text": [""], "answer_start": [0]}}, "an answer is empty, ''"),
        ({"answers": {"text": [" \n"], "answer_start": [0]}}, "an answer is empty, ' \\n'"),
        ({"answers": "Bob"}, "must hold {'text'"),
    ],
)
def test_bad_answers_name_the_row(tmp_path, change, message):
    path = write(tmp_path / "train.jsonl", [{**question(0), **change}])
    with pytest.raises(ValueError, match="row 0 of the train data") as caught:
        load(train_file=path)
    assert message in str(caught.value)


def test_missing_columns_and_rows(tmp_path):
    path = write(tmp_path / "train.jsonl", [{"question": "Who?", "context": "Bob."}])
    with pytest.raises(ValueError, match="no column 'answers'"):
        load(train_file=path)
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(ValueError, match="no rows"):
        load(train_file=str(tmp_path / "empty.jsonl"))


def answers_of(tmp_path, answers, context="Bob met Ann. Bob sings.", **more):
    path = write(tmp_path / "train.json", [{"question": "Who?", "context": context, "answers": answers, **more}])
    found = load(train_file=path)["train"]["answers"][0]
    return list(zip(found["text"], found["answer_start"], strict=True))


@pytest.mark.parametrize(
    ("answers", "read"),
    [
        ({"text": ["Bob", "Ann"], "answer_start": [13, 8]}, [("Bob", 13), ("Ann", 8)]),
        ({"text": "Bob", "answer_start": 13}, [("Bob", 13)]),
        ({"text": "Bob", "answer_start": 13.0}, [("Bob", 13)]),  # as pandas writes a column with gaps
        ([{"text": "Bob", "answer_start": 0}, {"text": "Ann", "answer_start": 8}], [("Bob", 0), ("Ann", 8)]),
        # without a place: where it stands, if it stands once
        ({"text": ["Ann"]}, [("Ann", 8)]),
        ({"text": ["Ann"], "answer_start": [None]}, [("Ann", 8)]),
        ([{"text": "sings"}], [("sings", 17)]),
        ({"text": [], "answer_start": []}, []),
        ([], []),
    ],
)
def test_answers_in_every_form_that_files_have(tmp_path, answers, read):
    assert answers_of(tmp_path, answers) == read


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ({"text": ["Bob"]}, "'Bob' has no `answer_start`, and its paragraph holds it 2 times"),
        ([{"text": "Eve"}], "'Eve' has no `answer_start`, and its paragraph holds it 0 times"),
        ({"text": ["Bob"], "answer_start": [-23]}, "does not stand at `answer_start` -23"),
        ({"text": ["Bob"], "answer_start": ["x"]}, "must be the number of a character, got 'x'"),
        ({"text": ["Bob", "Ann"], "answer_start": 0}, "2 answer texts, but 1 values of `answer_start`"),
        ({"answer_start": [0]}, "must hold {'text'"),
        (["Bob"], "must hold {'text'"),
        (7, "must hold {'text'"),
    ],
)
def test_answers_that_cannot_be_right(tmp_path, answers, message):
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        answers_of(tmp_path, answers)
    assert "row 0 of the train data (train.json, id '0')" in str(caught.value)


def squad(*questions, context="Bob sings. Ann plays."):
    """The official file: articles with paragraphs with questions."""
    other = {"title": "Nothing", "paragraphs": [{"context": "Nobody.", "qas": []}]}
    return {
        "version": "v2.0",
        "data": [other, {"title": "Band", "paragraphs": [{"context": context, "qas": questions}] * 1}],
    }


SINGS = {"id": "a", "question": "Who sings?", "answers": [{"text": "Bob", "answer_start": 0}], "is_impossible": False}
DRUMS = {
    "id": "b",
    "question": "Who drums?",
    "answers": [],
    "plausible_answers": [{"text": "Ann", "answer_start": 11}],
    "is_impossible": True,
}


@pytest.mark.parametrize("indent", [None, 2])
def test_the_official_json_of_squad(tmp_path, indent):
    path = tmp_path / "dev-v2.0.json"
    path.write_text(json.dumps(squad(SINGS, DRUMS), indent=indent))
    rows = load(train_file=str(path), test_file=str(path))["test"].to_list()
    context = "Bob sings. Ann plays."
    assert rows == [
        {
            "id": "a",
            "question": "Who sings?",
            "context": context,
            "answers": {"text": ["Bob"], "answer_start": [0]},
        },
        {"id": "b", "question": "Who drums?", "context": context, "answers": {"text": [], "answer_start": []}},
    ]
    # 1.1 has no `is_impossible`; a file to be answered has no answers
    first = {name: value for name, value in SINGS.items() if name != "is_impossible"}
    path.write_text(json.dumps(squad(first)))
    assert load(train_file=str(path))["train"]["answers"][:] == [{"text": ["Bob"], "answer_start": [0]}]
    path.write_text(json.dumps(squad({"id": "a", "question": "Who sings?"})))
    assert load(test_file=str(path))["test"].column_names == ["id", "question", "context"]
    if hasattr(datasets, "Json"):  # older ones refuse ids of several types
        path.write_text(json.dumps(squad({**SINGS, "id": 1}, DRUMS)))
        assert load(test_file=str(path))["test"]["id"][:] == ["1", "b"]
    # one article a line, as the file is cut up for streaming
    lines = tmp_path / "articles.jsonl"
    lines.write_text("\n".join(json.dumps(article) for article in squad(SINGS, DRUMS)["data"]))
    assert load(test_file=str(lines))["test"].to_list() == rows


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            {"data": [{"paragraphs": [{"contxt": "Bob.", "qas": [SINGS]}, {"context": "Bob.", "qas": [SINGS]}]}]},
            "`context`: paragraph 0 of article 0 of the train data (SQuAD's json, counted from 0) has none",
        ),
        ({"data": [{"paragraphs": [{"contxt": "Bob.", "qas": [SINGS]}]}]}, "`context`: paragraph 0 of article 0"),
        (
            {"data": [*squad(SINGS)["data"], {"paragraph": [{"context": "Bob.", "qas": [DRUMS]}]}]},
            "`paragraphs`: article 2 of the train data (SQuAD's json, counted from 0) has no such list of objects",
        ),
        (
            {"data": [{"paragraphs": [{"context": "Bob.", "qas": [SINGS]}, {"context": "Ann.", "questions": []}]}]},
            "`qas`: paragraph 1 of article 0 of the train data",
        ),
        ([*squad(SINGS)["data"], question(0)], "`paragraphs`: article 2 of the train data"),
        ([squad(SINGS), question(0)], "`paragraphs`: article 2 of the train data"),
    ],
)
def test_no_part_of_squads_json_is_dropped(tmp_path, content, message):
    path = tmp_path / "train.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=re.escape(message)):
        load(train_file=str(path))


def test_an_impossible_question_with_an_answer(tmp_path):
    path = tmp_path / "train.json"
    path.write_text(json.dumps(squad({**SINGS, "is_impossible": True})))
    with pytest.raises(ValueError, match=r"id 'a'\) has the answer 'Bob', but `is_impossible` says"):
        load(train_file=str(path))
    for unknown in (None, float("nan")):
        path.write_text(json.dumps(squad({**SINGS, "is_impossible": unknown})))
        assert load(train_file=str(path))["train"]["answers"][0]["text"] == ["Bob"]


def test_paragraphs_that_are_not_squads_stay_a_column(tmp_path):
    paragraphs = [{"idx": 0, "paragraph_text": "Bob sings."}]
    path = write(tmp_path / "train.jsonl", [{**question(number), "paragraphs": paragraphs} for number in range(2)])
    assert load(train_file=path)["train"]["id"][:] == ["q0", "q1"]
    path = write(tmp_path / "train.jsonl", [{**question(number), "data": "x"} for number in range(2)])
    assert load(train_file=path)["train"]["id"][:] == ["q0", "q1"]


def test_drop_has_no_places(tmp_path):
    path = tmp_path / "drop.json"
    path.write_text(json.dumps({"nfl_1": {"passage": "x", "qa_pairs": [{"question": "How many?", "answer": {}}]}}))
    with pytest.raises(ValueError, match="The train data is DROP's own json"):
        load(train_file=str(path))


@pytest.mark.parametrize("name", ["question", "context"])
def test_null_texts(tmp_path, name):
    path = write(tmp_path / "test.jsonl", [question(0), {**question(1), name: None}])
    with pytest.raises(ValueError, match=rf"`{name}_column_name`: row 1 of the test data \(test.jsonl, id 'q1'\)"):
        load(test_file=path)


@pytest.mark.parametrize("name", ["question", "context"])
@pytest.mark.parametrize("value", [["Bob", "Bob sings."], {"stem": "Who?"}])
def test_texts_that_are_none(tmp_path, name, value):
    path = write(tmp_path / "test.jsonl", [{**question(row), name: value} for row in range(2)])
    with pytest.raises(ValueError, match=rf"`{name}_column_name`: row 0 of the test data .* must be one text, got .*"):
        load(test_file=path)


@pytest.mark.parametrize("start", [{"answer_start": [0]}, {}])
def test_answers_in_another_unicode_form_than_their_paragraph(tmp_path, start):
    for answer, context in (("caf\u00e9", "cafe\u0301 Bob"), ("cafe\u0301", "caf\u00e9 Bob")):
        message = rf"the answer {answer!a} stands in its paragraph in another Unicode form, {context[:-4]!a}: write"
        with pytest.raises(ValueError, match=re.escape(message)):
            answers_of(tmp_path, {"text": [answer], **start}, context)


def test_answers_that_are_null(tmp_path):
    rows = [question(0), {**question(1), "answers": None}]
    for split in ("train", "validation"):
        with pytest.raises(ValueError, match=f"row 1 of the {split} data .* is null. Write"):
            load(**{f"{split}_file": write(tmp_path / "some.jsonl", rows)})
    asked = write(tmp_path / "all.jsonl", [{**row, "answers": None} for row in rows])
    assert load(test_file=asked)["test"].column_names == ["id", "question", "context"]


def test_ids(tmp_path):
    rows = [{**question(number), "id": name} for number, name in enumerate((None, 7, "x"))]
    path = write(tmp_path / "rows.jsonl", [{**row, "id": None} for row in rows])
    assert load(test_file=path)["test"]["id"][:] == ["0", "1", "2"]
    path = write(tmp_path / "rows.jsonl", [*rows[:2], {**rows[2], "id": 9}])
    assert load(test_file=path)["test"]["id"][:] == ["0", "7", "9"]
    twice = write(tmp_path / "twice.jsonl", [{**row, "id": "q"} for row in rows])
    assert load(train_file=twice)["train"]["id"][:] == ["q"] * 3  # nothing is written of them
    with pytest.raises(ValueError, match="rows 0, 1, 2 of the test data have the same id 'q'"):
        load(test_file=twice)
    named = write(tmp_path / "named.jsonl", [{**question(index), "name": f"n{index}"} for index in range(3)])
    assert load(test_file=named, id_column_name="name")["test"]["id"][:] == ["n0", "n1", "n2"]
    with pytest.raises(ValueError, match=r"no column 'number' \(`id_column_name`\)"):
        load(test_file=named, id_column_name="number")


def test_rows_that_are_no_questions():
    with pytest.raises(ValueError, match="The given data has no column 'context'"):
        list(read_examples(Dataset.from_list([{"question": "Who?", "passage": "Bob."}])))
    with pytest.raises(ValueError, match="no rows"):
        list(read_examples(Dataset.from_list([question(0)]).select([])))


def test_files_by_id_never_lose_a_question(tmp_path):
    examples = [Example("q", "Who?", "Bob."), Example("q", "What?", "Bob.")]
    with pytest.raises(ValueError, match="rows 0, 1 of the given data have the same id 'q'"):
        write_by_id(tmp_path / "out.json", examples, ["a", "b"])
    write_spans(tmp_path / "out.jsonl", examples, [[Span(0, 3, "Bob", 0.5)], []])
    assert [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()] == [
        {"row": 0, "id": "q", "spans": [{"start": 0, "end": 3, "text": "Bob", "score": 0.5}]},
        {"row": 1, "id": "q", "spans": []},
    ]


def test_validation_paragraphs_are_held_out_whole():
    rows = [{**question(number), "context": f"Bob sings. {number // 2}"} for number in range(20)]
    data = TaskData({"train": Dataset.from_list(rows), "test": Dataset.from_list(rows[:5])})
    sampling = SamplingArguments(train_fraction=0.5, validation_size=4, max_eval_samples=3, max_predict_samples=2)
    chosen = MultiSpanQuestionAnswering().select(data, sampling)
    assert {split: len(rows) for split, rows in chosen.items()} == {"train": 8, "validation": 3, "test": 2}
    assert not set(chosen["train"]["context"]) & set(chosen["validation"]["context"])
