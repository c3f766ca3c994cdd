"""`pipeline("multi-span-question-answering")`."""

from __future__ import annotations

import copy
import subprocess
import sys
from functools import cache

import numpy as np
import pytest
import torch
from datasets import Dataset
from hypothesis import HealthCheck, given, settings, strategies as st
from peft import TaskType, get_peft_model
from transformers import AutoModelForTokenClassification, pipeline

from dpt_peft import DeepPromptConfig, DPTForMultiSpanQuestionAnswering
from dpt_peft.tasks import multi_span_features
from dpt_peft.tasks.base import predict_rows
from dpt_peft.tasks.question_answering.windows import make_windows
from tests.tasks.question_answering.multi_span import MAX_LENGTH, make_tokenizer, question, write_discriminator

TASK = "multi-span-question-answering"
TOKENIZER = make_tokenizer()
ROWS = [question(number) for number in range(5)]
LONG = {"question": "Who sings?", "context": " ".join(row["context"] for row in ROWS)}


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return write_discriminator(tmp_path_factory.mktemp("reader"))


@cache
def reader(path):
    return pipeline(TASK, model=DPTForMultiSpanQuestionAnswering.from_pretrained(path), tokenizer=TOKENIZER)


@pytest.fixture(params=["dpt", "tagger", "peft"])
def model(path, request):
    torch.manual_seed(0)
    if request.param == "tagger":
        return AutoModelForTokenClassification.from_pretrained(path, num_labels=2, initializer_range=0.5)
    model = DPTForMultiSpanQuestionAnswering.from_pretrained(path)
    if request.param == "peft":
        model = get_peft_model(model, DeepPromptConfig(task_type=TaskType.TOKEN_CLS, num_virtual_tokens=3)).eval()
    return model


def expected(model, rows, **windows):
    rows = [{**row, "answers": {"text": [], "answer_start": []}, "id": "0"} for row in rows]
    features = multi_span_features(Dataset.from_list(rows), TOKENIZER, **windows)
    scores = features.score(predict_rows(model, TOKENIZER, [window.inputs for window in features.windows], 16))
    threshold = getattr(model.config, "logit_threshold", 0.0)
    spans = features.decode(scores, threshold)
    return [[{"answer": s.text, "start": s.start, "end": s.end} for s in found] for found in spans]


def without_scores(results):
    return [[{name: value for name, value in span.items() if name != "score"} for span in found] for found in results]


@pytest.mark.parametrize(("batch_size", "side"), [(1, "right"), (3, "right"), (3, "left")])
def test_the_same_as_features_and_decoding(model, batch_size, side):
    tokenizer = copy.copy(TOKENIZER)
    tokenizer.padding_side = tokenizer.truncation_side = side
    read = pipeline(TASK, model=model, tokenizer=tokenizer)
    rows = [LONG, *ROWS]
    results = read(rows, batch_size=batch_size, max_seq_length=30, doc_stride=6)
    assert without_scores(results) == expected(model, rows, max_length=30, doc_stride=6)
    assert tokenizer.padding_side == side
    for row, found in zip(rows, results, strict=True):
        assert found
        assert all(row["context"][span["start"] : span["end"]] == span["answer"] for span in found)
        assert all(0 <= span["score"] <= 1 for span in found)


def test_long_paragraphs_are_read_to_their_end(path):
    class Marks(torch.nn.Module):
        """Says that every "dora" is an answer, which is far behind what one window holds."""

        def __init__(self):
            super().__init__()
            self.inner = DPTForMultiSpanQuestionAnswering.from_pretrained(path)

        def forward(self, input_ids, **kwargs):
            output = self.inner(input_ids=input_ids, **kwargs)
            output.logits = torch.where(input_ids == TOKENIZER.convert_tokens_to_ids("dora"), 3.0, -3.0)
            return output

    model = DPTForMultiSpanQuestionAnswering.from_pretrained(path)
    read = pipeline(TASK, model=model, tokenizer=TOKENIZER)
    read.model.forward = Marks().forward
    context = "Bob met Ann. " * 60 + "Dora sings."
    (span,) = read(question="Who sings?", context=context)
    assert (span["answer"], span["start"]) == ("Dora", context.index("Dora"))
    assert span["score"] == pytest.approx(1 / (1 + np.exp(-3)))


def test_ways_to_ask(path):
    read = pipeline(TASK, model=DPTForMultiSpanQuestionAnswering.from_pretrained(path), tokenizer=TOKENIZER)
    row = {"question": ROWS[0]["question"], "context": ROWS[0]["context"]}
    one = read(**row)
    assert isinstance(one, list)
    assert isinstance(one[0], dict)
    assert read(row) == one
    assert read([row, row]) == [one, one]
    assert read(question=[row["question"]] * 2, context=row["context"]) == [one, one]
    assert list(read(row for _ in range(2))) == [one, one]
    everything = read(**row, min_probability=1e-6)
    assert [span["answer"] for span in everything] == [row["context"]]
    assert read(**row, min_probability=1 - 1e-9, allow_no_answer=True) == []
    assert len(read(**row, min_probability=1 - 1e-9)) == 1


@pytest.mark.parametrize(
    ("arguments", "keywords", "message"),
    [
        ((), {"question": "Who?"}, "`context` is missing"),
        ((), {"context": "Bob."}, "`question` is missing"),
        ((), {"question": ["Who?"], "context": ["Bob.", "Ann."]}, "1 questions, but 2 contexts"),
        (({"question": "Who?"},), {}, "must be a dict with `question` and `context`"),
        (({"question": "Who?", "context": "Bob."},), {"question": "Who?"}, "not the two together"),
        (({"question": "Who?", "context": "Bob."},), {"min_probability": 1.5}, "must be between 0 and 1"),
    ],
)
def test_bad_calls(path, arguments, keywords, message):
    read = pipeline(TASK, model=DPTForMultiSpanQuestionAnswering.from_pretrained(path), tokenizer=TOKENIZER)
    with pytest.raises(ValueError, match=message):
        read(*arguments, **keywords)


def test_saved_models_are_found_by_folder(model, tmp_path):
    if hasattr(model, "peft_config"):
        pytest.skip("an adapter's folder does not say which wrapper it was trained in")
    model.config.logit_threshold = 0.1
    model.save_pretrained(tmp_path)
    TOKENIZER.save_pretrained(tmp_path)
    read = pipeline(TASK, model=str(tmp_path))
    assert type(read.model) is type(model)
    assert without_scores([read(LONG)]) == expected(model, [LONG], max_length=MAX_LENGTH)


def test_import_registers_and_stays_light():
    code = (
        "import sys, {}; from transformers.pipelines import PIPELINE_REGISTRY as registry; "
        "heavy = ('evaluate', 'sklearn', 'dpt_peft.tasks.question_answering.multi_span'); "
        f"print({TASK!r} in registry.get_supported_tasks(), [name for name in heavy if name in sys.modules])"
    )

    def run(module: str) -> str:
        command = [sys.executable, "-c", code.format(module)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    # transformers 5.18 itself imports scikit-learn where there is one
    assert run("dpt_peft") == run("peft").replace("False", "True")


@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    words=st.lists(
        st.sampled_from(["Bob", "met", "Carl,", "starr", "1990", "Ünknown", "東京", "\n", "."]), max_size=60
    ),
    question=st.sampled_from(["Who sings?", "", "who " * 50]),
    max_seq_length=st.integers(12, 64),
    doc_stride=st.integers(0, 30),
)
def test_offsets_slice_and_stride_does_not_matter_in_one_window(path, words, question, max_seq_length, doc_stride):
    read = reader(path)
    context = " ".join(words)
    windows = {"max_seq_length": max_seq_length, "doc_stride": doc_stride}
    found = read(question=question, context=context, **windows)
    assert bool(found) == bool(context.split())
    assert all(context[span["start"] : span["end"]] == span["answer"] for span in found)
    if len(make_windows(TOKENIZER, question, context, max_length=max_seq_length, doc_stride=doc_stride)) == 1:
        assert read(question=question, context=context, max_seq_length=max_seq_length, doc_stride=0) == found
