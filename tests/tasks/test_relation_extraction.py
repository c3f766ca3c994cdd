"""Columns of both styles, markers, long sentences, and the score of relations alone."""

import json

import numpy as np
import pytest
from datasets import Dataset
from sklearn.metrics import f1_score, precision_score, recall_score
from transformers import BertTokenizer

from dpt_peft.tasks import RelationExtraction, RelationExtractionArguments, TaskData, mark_spans
from dpt_peft.tasks.relation_extraction import TEMPLATE, RelationFeatures, relation_words
from dpt_peft.training import build_model
from tests.training.tiny import write_discriminator

TASK = RelationExtraction()
BOB = ["Bob", "Ross", "works", "for", "IBM", "."]
ROW = {
    "tokens": BOB,
    "head": {"start": 0, "end": 2, "type": "Peop"},
    "tail": {"start": 4, "end": 5, "type": "Org"},
    "relation": "Work_For",
}
TACRED = {
    "token": BOB,
    "subj_start": 0,
    "subj_end": 1,
    "obj_start": 4,
    "obj_end": 4,
    "subj_type": "PERSON",
    "obj_type": "STATE_OR_PROVINCE",
    "relation": "per:employee_of",
}


def load(tmp_path, rows, test=None, **kwargs):
    files = {"train": rows} | ({} if test is None else {"test": test})
    for split, content in files.items():
        (tmp_path / f"{split}.jsonl").write_text("\n".join(map(json.dumps, content)))
    paths = {f"{split}_file": str(tmp_path / f"{split}.jsonl") for split in files}
    return TASK.load(RelationExtractionArguments(**paths, **kwargs))


def test_objects_for_spans_with_the_end_behind_them(tmp_path):
    rows = [ROW, {**ROW, "tail": {"start": 2, "end": 3}, "relation": "no_relation"}]
    data = load(tmp_path, rows, [{key: value for key, value in ROW.items() if key != "relation"}])
    assert data.label_names == ["Work_For", "no_relation"]
    assert data.no_relation == "no_relation"
    assert data.splits["train"].to_dict() == {
        "tokens": [BOB, BOB],
        "head": [[0, 2], [0, 2]],
        "head_type": ["Peop", "Peop"],
        "tail": [[4, 5], [2, 3]],
        "tail_type": ["Org", None],
        "labels": [0, 1],
    }
    assert "labels" not in data.splits["test"].column_names
    inclusive = load(tmp_path, [ROW, {**ROW, "relation": "x"}], span_end="inclusive").splits["train"]
    assert inclusive[0]["head"] == [0, 3]


def test_tacreds_columns_with_the_last_word(tmp_path):
    data = load(tmp_path, [TACRED, {**TACRED, "relation": "NA"}], no_relation_name="NA")
    row = data.splits["train"][0]
    assert (row["head"], row["tail"]) == ([0, 2], [4, 5])
    assert (row["head_type"], row["tail_type"]) == ("PERSON", "STATE_OR_PROVINCE")
    assert data.no_relation == "NA"
    bare = {key: value for key, value in TACRED.items() if not key.endswith("type")}
    assert load(tmp_path, [bare, {**bare, "relation": "x"}]).splits["train"][0]["head_type"] is None


@pytest.mark.parametrize(
    ("row", "kwargs", "message"),
    [
        ({**ROW, "head": {"start": 0, "end": 7}}, {}, "head of row 1 of the train data.*word behind it.*6 words"),
        ({**ROW, "head": {"start": 2, "end": 2}}, {}, "the head of row 1"),
        ({**ROW, "tail": {"start": -1, "end": 2}}, {}, "the tail of row 1"),
        ({**ROW, "tail": {"start": 1}}, {}, "the tail of row 1"),
        ({**ROW, "tail": {"start": True, "end": 2}}, {}, "the tail of row 1"),
        ({**ROW, "tail": None}, {}, "the tail of row 1 .* got None"),
        ({**ROW, "tail": [4, 5]}, {}, r"the tail of row 1 .* got \[4, 5\]"),
        ({**ROW, "tokens": None}, {}, "`tokens_column_name`: .* row 1 of the train data has None"),
        ({**ROW, "tokens": "Bob works"}, {}, "must hold lists of words, but row 1"),
        ({**ROW, "tokens": ["Bob", None, "works"]}, {}, "must hold lists of words, but row 1"),
        ({**ROW, "relation": None}, {}, "1 of 3 rows of the train data have no label in column 'relation'"),
        ({**ROW, "relation": "Work_For "}, {}, "`relation_column_name`: .* differ only in blanks"),
        ({**ROW, "relation": "x"}, {"no_relation_name": "none"}, "`no_relation_name` 'none' is no relation of the"),
        ({**ROW, "relation": "x"}, {"head_column_name": "subject"}, r"no column 'subject' \(`head_column_name`\)"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(tmp_path, row, kwargs, message):
    with pytest.raises(ValueError, match=message):
        load(tmp_path, [ROW, row, {**ROW, "relation": "other"}], **kwargs)


ENTITIES = [
    {"type": "Peop", "start": 0, "end": 2},
    {"type": "Org", "start": 4, "end": 5},
    {"type": "Other", "start": 3, "end": 4},
]
SPERT = {
    "tokens": BOB,
    "entities": ENTITIES,
    "relations": [{"type": "Work_For", "head": 0, "tail": 1}, {"type": "Led_By", "head": 1, "tail": 0}],
    "orig_id": 7,
}
NONE = {"tokens": ["Hello", "Bob"], "entities": [{"type": "Peop", "start": 1, "end": 2}], "relations": []}


def test_sperts_sentences_give_an_example_a_relation(tmp_path, caplog):
    data = load(tmp_path, [NONE, SPERT])
    assert data.label_names == ["Led_By", "Work_For"]
    assert data.no_relation is None
    assert data.splits["train"].to_dict() == {
        "tokens": [BOB, BOB],
        "head": [[0, 2], [4, 5]],
        "head_type": ["Peop", "Org"],
        "tail": [[4, 5], [0, 2]],
        "tail_type": ["Org", "Peop"],
        "row": [1, 1],
        "number": [0, 1],
        "head_entity": [0, 1],
        "tail_entity": [1, 0],
        "labels": [1, 0],
    }
    assert "1 of 2 sentences of the train data have no relation and so no example; `no_relation_name`" in caplog.text
    last = load(tmp_path, [SPERT], span_end="inclusive").splits["train"]
    assert last["head"][0] == [0, 3]


def test_two_entities_without_a_relation_are_examples_where_that_has_a_name(tmp_path):
    data = load(tmp_path, [SPERT], [SPERT, NONE], no_relation_name="none")
    assert (data.label_names, data.no_relation) == (["Led_By", "Work_For", "none"], "none")
    for split in ("train", "test"):
        rows = data.splits[split]
        between = list(zip(rows["head_entity"][:], rows["tail_entity"][:], strict=True))
        assert between == [(0, 1), (1, 0), (0, 2), (1, 2), (2, 0), (2, 1)]
        assert rows["number"][:] == list(range(6))
        assert rows["labels"][:] == [1, 0, 2, 2, 2, 2]


def test_where_relations_are_not_known_any_two_entities_may_have_one(tmp_path, tokenizer):
    asked = [{key: value for key, value in row.items() if key != "relations"} for row in (NONE, SPERT)]
    data = load(tmp_path, [SPERT], asked)
    rows = data.splits["test"]
    nulls = load(tmp_path, [SPERT], [{**row, "relations": None} for row in asked])
    assert nulls.splits["test"].to_dict() == rows.to_dict()
    with pytest.raises(ValueError, match=r"row 0 of the train data must have a list .* as `relations`, .*got None"):
        load(tmp_path, [{**SPERT, "relations": None}])
    assert "labels" not in rows.column_names
    assert len(rows) == 6
    features = TASK.features(rows, tokenizer, data, None, 40)
    features.write(np.eye(2)[[0, 1, 1, 0, 0, 0]], None, tmp_path)
    assert (tmp_path / "predictions.tsv").read_text().splitlines() == [
        "index\tprediction\trow\tnumber\thead_entity\ttail_entity",
        "0\tLed_By\t1\t0\t0\t1",
        "1\tWork_For\t1\t1\t0\t2",
        "2\tWork_For\t1\t2\t1\t0",
        "3\tLed_By\t1\t3\t1\t2",
        "4\tLed_By\t1\t4\t2\t0",
        "5\tLed_By\t1\t5\t2\t1",
    ]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"relations": [{"type": "x", "head": 0, "tail": 3}]}, "relation 0 of row 1 of the train data .* 3 entities"),
        ({"relations": [{"type": "x", "head": -1, "tail": 0}]}, "relation 0 of row 1 of the train data"),
        ({"relations": [{"type": None, "head": 1, "tail": 0}]}, "relation 0 of row 1 of the train data must have"),
        ({"relations": [{"head": 1, "tail": 0}]}, "relation 0 of row 1 of the train data must have `type`"),
        ({"relations": None}, r"row 1 of the train data must have a list of objects as `relations`, .*got None"),
        ({"entities": None}, "row 1 of the train data must have a list of objects as `entities`"),
        ({"entities": [{"start": 0, "end": 9}] * 2}, "the head of relation 0 of row 1 of the train data .* 6 words"),
        ({"tokens": None}, "must hold lists of words, but relation 0 of row 1 of the train data has None"),
    ],
)
def test_what_does_not_fit_in_a_sentence_is_named(tmp_path, row, message):
    with pytest.raises(ValueError, match=message):
        load(tmp_path, [SPERT, {**SPERT, **row}])


def test_sentences_without_any_relation_are_no_data(tmp_path):
    with pytest.raises(ValueError, match="The train data has no sentence with a relation"):
        load(tmp_path, [NONE])
    with pytest.raises(ValueError, match=r"The train data has no column 'relations'"):
        load(tmp_path, [{"tokens": BOB, "entities": ENTITIES}])


def test_markers():
    assert mark_spans(BOB, (0, 2), (4, 5)) == "@ Bob Ross @ works for # IBM # ."
    typed = mark_spans(BOB, (4, 5), (0, 2), "ORG", "STATE_OR_PROVINCE")
    assert typed == "# ^ state or province ^ Bob Ross # works for @ * org * IBM @ ."
    assert mark_spans(BOB, (0, 2), (1, 2)) == "@ Bob # Ross # @ works for IBM ."  # one in the other
    assert mark_spans(BOB, (1, 2), (0, 2)) == "# Bob @ Ross @ # works for IBM ."
    assert mark_spans(["a"], (0, 1), (0, 1)) == "@ # a # @"


@pytest.fixture(scope="module")
def tokenizer():
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"@#*^.", *(f"w{n}" for n in range(60))]
    return BertTokenizer(vocab={word: index for index, word in enumerate(words)})


def long_row(head, tail):
    words = [f"w{n}" for n in range(60)]
    return {"tokens": [words], "head": [head], "head_type": [None], "tail": [tail], "tail_type": [None]}


def tokens_of(tokenizer, rows, max_length, tmp_path):
    data = load(tmp_path, [ROW, {**ROW, "relation": "x"}])
    features = TASK.features(Dataset.from_dict(rows), tokenizer, data, None, max_length)
    return tokenizer.convert_ids_to_tokens(features.dataset["input_ids"][0])


def test_of_a_long_sentence_the_words_around_the_spans_stay(tokenizer, tmp_path):
    tokens = tokens_of(tokenizer, long_row([30, 31], [33, 35]), 14, tmp_path)
    assert " ".join(tokens) == "[CLS] w28 w29 @ w30 @ w31 w32 # w33 w34 # w35 [SEP]"
    far = tokens_of(tokenizer, long_row([50, 51], [5, 6]), 16, tmp_path)
    assert " ".join(far) == "[CLS] w3 w4 # w5 # w6 w7 w48 w49 @ w50 @ w51 w52 [SEP]"
    with pytest.raises(ValueError, match="12 is too short for the marked spans of 'w0 w1 .*' and 'w40' in the senten"):
        tokens_of(tokenizer, long_row([0, 30], [40, 41]), 12, tmp_path)
    whole = tokens_of(tokenizer, long_row([0, 30], [40, 41]), 512, tmp_path)
    assert len(whole) == 60 + 4 + 2


def test_spans_that_are_too_long_are_named_by_their_text_and_sentence(tokenizer, tmp_path):
    tokens = [f"w{number}" for number in range(20)]
    spans = [{"start": 0, "end": 1}, {"start": 3, "end": 20}]
    sentence = {"tokens": tokens, "entities": spans, "relations": [{"type": "x", "head": 0, "tail": 1}]}
    rows = load(tmp_path, [NONE, SPERT, sentence]).splits["train"]
    message = r"spans of 'w0' and 'w3 w4 .*' in the sentence 'w0 w1 .*' \(relation 0 of row 2 of its split\)\."
    with pytest.raises(ValueError, match=message):
        TASK.features(rows.select([2]), tokenizer, load(tmp_path, [SPERT]), None, 20)


def test_special_tokens_in_a_sentence_are_text(tokenizer, tmp_path):
    row = {**long_row([0, 1], [2, 3]), "tokens": [["w0", "[SEP]", "w1"]]}
    assert " ".join(tokens_of(tokenizer, row, 30, tmp_path)) == "[CLS] @ w0 @ [UNK] [UNK] [UNK] # w1 # [SEP]"


@pytest.mark.parametrize("no_relation", ["none", None])
def test_relations_are_scored_as_scikit_learn_scores_some_classes(no_relation):
    draw = np.random.default_rng(0)
    labels, logits = draw.integers(0, 4, 60), draw.normal(size=(60, 4))
    dataset = Dataset.from_dict({"labels": labels.tolist()})
    found = RelationFeatures(dataset, ["a", "none", "b", "c"], no_relation).metrics(logits, None)
    counted = [0, 2, 3] if no_relation else [0, 1, 2, 3]
    predicted = logits.argmax(-1)
    for name, score in (("micro_f1", f1_score), ("precision", precision_score), ("recall", recall_score)):
        assert found[name] == pytest.approx(score(labels, predicted, labels=counted, average="micro"))
    assert found["accuracy"] == pytest.approx(np.mean(predicted == labels))
    empty = RelationFeatures(Dataset.from_dict({"labels": [1]}), ["a", "none"], "none")
    assert empty.metrics(np.array([[0.0, 1.0]]), None)["micro_f1"] == 0


def test_names_as_words():
    names = ["per:city_of_birth", "OrgBased_In", "Cause-Effect(e1,e2)", "no_relation", "P19", "is-a", "²", "::"]
    words = ["per city of birth", "org based in", "cause effect e1 e2", "no relation", "p19", "is a", "²", "::"]
    assert [relation_words(name) for name in names] == words


def test_a_saved_reader_keeps_its_words_and_its_template(tmp_path):
    def build(path, names=("film", "Good_Of"), **options):
        config = build_model(TASK, "dpt", str(path), TaskData({}, list(names)), **options).config
        return config.label_words, config.template

    write_discriminator(tmp_path / "plain")
    assert build(tmp_path / "plain") == (["film", "good of"], TEMPLATE)
    given = {"label_words": ["film", "great"], "template": "{text} : {labels}"}
    model = build_model(TASK, "dpt", str(tmp_path / "plain"), TaskData({}, ["film", "Good_Of"]), **given)
    model.save_pretrained(tmp_path / "saved")
    TASK.load_tokenizer(str(tmp_path / "plain")).save_pretrained(tmp_path / "saved")
    assert build(tmp_path / "saved") == (["film", "great"], "{text} : {labels}")
    assert build(tmp_path / "saved", ["Good_Of", "film"])[0] == ["great", "film"]
    assert build(tmp_path / "saved", template="{text} . {labels}") == (["film", "great"], "{text} . {labels}")
    assert build(tmp_path / "saved", ["poor", "dull"]) == (["poor", "dull"], TEMPLATE)


def test_a_sentence_is_held_out_with_all_its_pairs(tmp_path):
    rows = []
    for number in range(20):
        tokens = [f"s{number}", "a", "b", "c"]
        spans = [{"start": place, "end": place + 1} for place in range(3)]
        rows += [
            {"tokens": tokens, "head": spans[0], "tail": spans[tail], "relation": f"r{(number + tail) % 2}"}
            for tail in (1, 2)
        ]
    data = load(tmp_path, rows)
    chosen = TASK.select(data, TASK.sampling(validation_size=6, examples_per_class=5))
    sentences = {split: {words[0] for words in part["tokens"]} for split, part in chosen.items()}
    assert len(chosen["validation"]) == 6
    assert len(sentences["validation"]) == 3
    assert not sentences["validation"] & sentences["train"]
    assert sorted(chosen["train"]["labels"]) == [0] * 5 + [1] * 5
