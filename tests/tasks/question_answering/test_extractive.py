"""Windows with the answer's tokens, decoding over windows, the null threshold, files and the pipeline."""

import copy
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from datasets import Dataset
from hypothesis import given, settings, strategies as st
from peft import PeftModel, TaskType, get_peft_model
from transformers import AutoModelForQuestionAnswering, AutoTokenizer, pipeline

from dpt_peft import DeepPromptConfig, embedded_discriminator
from dpt_peft.tasks import QuestionAnswering, QuestionAnsweringArguments, extractive_features
from dpt_peft.tasks.question_answering.extractive import (
    ExtractiveFeatures,
    answer_positions,
    answer_texts,
    search_null_threshold,
)
from dpt_peft.tasks.question_answering.metrics import score_answer
from dpt_peft.tasks.question_answering.windows import RankedAnswers, Span, make_windows
from tests.tasks.question_answering.multi_span import make_tokenizer
from tests.tasks.question_answering.reader import ask, make_reader, write_reader

TASK = "extractive-question-answering"
TOKENIZER = make_tokenizer()
ROWS = [ask(number, impossible=number % 3 == 2) for number in range(6)]
LONG = {**ask(7), "context": ask(7)["context"] + " Ann met Eve." * 12}


def features_of(rows, **kwargs):
    return extractive_features(Dataset.from_list(rows), TOKENIZER, **kwargs)


def logits_of(model, features):
    batch = TOKENIZER.pad([window.inputs for window in features.windows], return_tensors="pt")
    with torch.no_grad():
        output = model(**batch)
    return output.start_logits.numpy(), output.end_logits.numpy()


def test_labels_are_the_answers_tokens():
    features = features_of(ROWS)
    assert features.labelled
    for row, window, index in zip(features.dataset, features.windows, features.example_index, strict=True):
        answers = ROWS[index]["answers"]
        if not answers["text"]:
            assert (row["start_positions"], row["end_positions"]) == (0, 0)
            continue
        first, last = window.offsets[row["start_positions"]], window.offsets[row["end_positions"]]
        assert ROWS[index]["context"][first[0] : last[1]] == answers["text"][0]
        assert first[0] == answers["answer_start"][0]


def test_an_answer_of_several_tokens_with_spaces_around_it():
    row = {**ask(0), "context": "Bob met  Ringo Starr ."}
    row["answers"] = {"text": [" Ringo Starr "], "answer_start": [8]}
    (labelled,) = features_of([row]).dataset
    tokens = TOKENIZER.convert_ids_to_tokens(
        labelled["input_ids"][labelled["start_positions"] : labelled["end_positions"] + 1]
    )
    assert tokens == ["ring", "##o", "star", "##r"]


def test_windows_that_do_not_hold_the_answer_whole_are_without_one():
    context = "Ann met Bob . Ringo Starr plays the drum ."
    windows = make_windows(TOKENIZER, "Who plays?", context, max_length=12, doc_stride=2)
    start = context.index("Ringo")
    labels = [answer_positions(window, (start, start + len("Ringo Starr"))) for window in windows]
    whole = 0
    for window, (first, last) in zip(windows, labels, strict=True):
        covered = [offset for offset in window.offsets if offset]
        if covered[0][0] <= start and start + 11 <= covered[-1][1]:
            assert context[window.offsets[first][0] : window.offsets[last][1]] == "Ringo Starr"
            whole += 1
        else:
            assert (first, last) == (0, 0)
    assert 0 < whole < len(windows)


def test_questions_without_annotation_have_no_labels():
    features = features_of([{name: value for name, value in ROWS[0].items() if name != "answers"}])
    assert not features.labelled
    assert "start_positions" not in features.dataset.column_names
    with pytest.raises(ValueError, match="no answers to compare with"):
        features.evaluate([])


def test_answers_never_cross_windows_or_enter_the_question():
    features = features_of([LONG], max_length=24, doc_stride=4)
    assert len(features.windows) > 3
    logits = [[np.random.default_rng(seed).normal(size=len(w.offsets)) for w in features.windows] for seed in (0, 1)]
    (ranked,) = features.rank(tuple(logits))
    assert len(ranked.answers) == 20
    for answer in ranked.answers:
        assert LONG["context"][answer.start : answer.end] == answer.text
        assert any(
            {answer.start} <= {o[0] for o in window.offsets if o}
            and {answer.end} <= {o[1] for o in window.offsets if o}
            for window in features.windows
        )
    # A question's tokens do not count, whatever their logits.
    question = len(TOKENIZER(LONG["question"])["input_ids"]) - 1
    for part in logits:
        for row in part:
            row[1:question] = 50
    assert features.rank(tuple(logits))[0].answers == ranked.answers


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans(), st.booleans()), min_size=1, max_size=9))
def test_the_threshold_is_the_best_of_all(questions):
    rows, ranked = [], []
    for number, (odds, impossible, right) in enumerate(questions):
        rows.append(ask(number, impossible=impossible))
        text = rows[-1]["answers"]["text"][0] if right and not impossible else "the band"
        ranked.append(RankedAnswers([Span(0, 1, text, -float(odds))], 0.0))
    features = features_of(rows)
    found = search_null_threshold(features, ranked)

    def f1(threshold):
        texts = answer_texts(ranked, threshold)
        scores = [score_answer(t, r["answers"]["text"], version_2=True)[1] for t, r in zip(texts, rows, strict=True)]
        return float(np.mean(scores))

    best = max(f1(threshold) for threshold in np.arange(-4.25, 4.5, 0.5))
    assert found.metrics["f1"] == pytest.approx(best)
    assert f1(found.threshold) == pytest.approx(best)
    assert found.metrics_before["f1"] == pytest.approx(f1(0.0))
    if f1(0.0) == pytest.approx(best):
        assert found.threshold == 0.0  # nothing is changed without a gain
    assert features.evaluate(ranked, found.threshold)["f1"] == pytest.approx(best)


def config(threshold=None):
    return SimpleNamespace(null_score_diff_threshold=threshold)


def test_files_are_those_of_the_official_scripts(tmp_path, monkeypatch):
    features = features_of(ROWS[:2])
    ranked = [
        RankedAnswers([Span(0, 3, "Bob", 2.0), Span(4, 7, "and", 1.0)], 0.5),
        RankedAnswers([Span(0, 3, "Ann", 2.0)], 3.0),
    ]
    monkeypatch.setattr(ExtractiveFeatures, "rank", lambda self, predictions: ranked)
    features.write(None, config(0.0), tmp_path)
    read = {path.stem: json.loads(path.read_text()) for path in tmp_path.glob("*.json")}
    assert read["predictions"] == {"q0": "Bob", "q1": ""}
    assert read["null_odds"] == {"q0": -1.5, "q1": 1.0}
    best = read["nbest_predictions"]["q1"]
    assert [(one["text"], one["start"]) for one in best] == [("", None), ("Ann", 0)]
    assert best[0]["probability"] == pytest.approx(1 / (1 + np.exp(-1)))
    lines = [json.loads(line) for line in (tmp_path / "prediction_spans.jsonl").read_text().splitlines()]
    bob = {"start": 0, "end": 3, "text": "Bob", "score": 2.0}
    assert lines == [{"row": 0, "id": "q0", "spans": [bob]}, {"row": 1, "id": "q1", "spans": []}]

    features.write(None, config(), tmp_path)
    assert json.loads((tmp_path / "predictions.json").read_text()) == {"q0": "Bob", "q1": "Ann"}


@pytest.mark.parametrize("adapted", [False, True])
@pytest.mark.parametrize(("batch_size", "side"), [(1, "right"), (4, "right"), (4, "left")])
def test_the_pipeline_answers_as_features_and_decoding(tmp_path, adapted, batch_size, side):
    tokenizer = copy.copy(TOKENIZER)
    tokenizer.padding_side = tokenizer.truncation_side = side
    model = AutoModelForQuestionAnswering.from_pretrained(write_reader(tmp_path / "reader"), num_labels=2)
    model.config.null_score_diff_threshold = 0.3
    if adapted:
        config = DeepPromptConfig(task_type=TaskType.QUESTION_ANS, num_virtual_tokens=3, init_std=1.0)
        get_peft_model(model, config).save_pretrained(tmp_path / "prompts")
        base = AutoModelForQuestionAnswering.from_pretrained(tmp_path / "reader", num_labels=2)
        base.config.null_score_diff_threshold = 0.3
        model = PeftModel.from_pretrained(base, tmp_path / "prompts").eval()
    rows = [*ROWS, LONG]
    features = features_of(rows, max_length=24, doc_stride=4)
    ranked = features.rank(logits_of(model, features))
    read = pipeline(TASK, model=model, tokenizer=tokenizer)
    asked = [{"question": row["question"], "context": row["context"]} for row in rows]
    answers = read(asked, max_seq_length=24, doc_stride=4, batch_size=batch_size)
    assert [answer["answer"] for answer in answers] == answer_texts(ranked, 0.3)
    assert all(row["context"][a["start"] : a["end"]] == a["answer"] for a, row in zip(answers, asked, strict=True))

    several = read(**asked[0], max_seq_length=24, doc_stride=4, top_k=5)
    shares = ranked[0].probabilities(True)
    assert len(several) == 5
    assert len(read(**asked[0], top_k=9, n_best_size=2)) == 9
    assert {round(one["score"], 5) for one in several} <= {round(share, 5) for share in shares}
    always = read(asked, max_seq_length=24, doc_stride=4, handle_impossible_answer=False)
    assert [answer["answer"] for answer in always] == answer_texts(ranked)
    never = read(**asked[0], null_score_diff_threshold=-1e9)
    assert never["answer"] == ""


def test_no_question_has_no_answer():
    assert pipeline(TASK, model=make_reader(), tokenizer=make_tokenizer())([]) == []


def test_pipeline_arguments_that_make_no_sense():
    read = pipeline(TASK, model=make_reader(), tokenizer=TOKENIZER)
    with pytest.raises(TypeError, match="unknown arguments top"):
        read(question="Who?", context="Bob.", top=2)
    with pytest.raises(ValueError, match="`top_k` must be at least 1"):
        read(question="Who?", context="Bob.", top_k=0)
    with pytest.raises(ValueError, match="`context` is missing"):
        read(question="Who?")


def test_a_frozen_reader_learns_by_prompts_and_head():
    model = get_peft_model(make_reader(), DeepPromptConfig(task_type=TaskType.QUESTION_ANS, num_virtual_tokens=4))
    features = features_of([ask(number) for number in range(15)])
    batch = TOKENIZER.pad(features.dataset[:], return_tensors="pt")
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.05)
    for _ in range(60):
        optimizer.zero_grad()
        model(**batch).loss.backward()
        optimizer.step()
    ranked = features.rank(logits_of(model, features))
    assert features.evaluate(ranked)["exact_match"] > 0.9


@pytest.mark.parametrize(
    ("file", "threshold", "exact"), [("squad_v1/validation", None, 0.99), ("squad_v2/dev_half_validation", 0.0, 0.99)]
)
def test_logits_at_the_labels_give_the_gold_answers_of_squad(shared, file, threshold, exact):
    """Only answers above 30 tokens, or that begin or end within a token, are out of reach."""
    tokenizer = AutoTokenizer.from_pretrained(embedded_discriminator())
    where = QuestionAnsweringArguments(validation_file=str(shared / "data" / f"{file}.jsonl"))
    rows = QuestionAnswering().load(where).splits["validation"]
    # windows of 128 tokens, so that many paragraphs take several
    features = extractive_features(
        rows.select(range(0, len(rows), len(rows) // 250)), tokenizer, max_length=128, doc_stride=64
    )
    assert len(features.windows) > 1.2 * len(features.examples)
    logits = ([], [])
    for row, window in zip(features.dataset, features.windows, strict=True):
        for part, name in zip(logits, ("start_positions", "end_positions"), strict=True):
            part.append(np.where(np.arange(len(window.offsets)) == row[name], 5.0, -5.0))
    assert features.evaluate(features.rank(logits), threshold)["exact_match"] >= exact
