"""Columns, labels, rows of tokens, and prompts for batch x choices."""

import json

import pytest
import torch
from datasets import ClassLabel, Dataset
from peft import TaskType, get_peft_model

from dpt_peft import DeepPromptConfig
from dpt_peft.tasks.multiple_choice import (
    ChoiceCollator,
    MultipleChoice,
    MultipleChoiceArguments,
    tokenize_choices,
)
from tests.tasks.choices import make_chooser, make_rows, make_tokenizer

TOKENIZER = make_tokenizer()


def load(tmp_path, rows, test=None, **kwargs):
    files = {"train_file": rows} | ({} if test is None else {"test_file": test})
    for name, content in files.items():
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, content)))
    paths = {name: str(tmp_path / f"{name}.jsonl") for name in files}
    return MultipleChoice().load(MultipleChoiceArguments(**paths, **kwargs))


def test_copa_with_the_question_words_of_the_released_code(tmp_path):
    rows = [
        {"premise": "It rained.", "question": "effect", "choice1": "I got wet.", "choice2": "I slept.", "label": 0},
        {"premise": "I got wet.", "question": "cause", "choice1": "I slept.", "choice2": "It rained.", "label": 1},
    ]
    data = load(tmp_path, rows, [{**row, "label": -1} for row in rows])
    assert data.label_names == ["choice 0", "choice 1"]
    assert data.splits["train"][:] == {
        "context": ["It rained. so", "I got wet. because"],
        "choices": [["I got wet.", "I slept."], ["I slept.", "It rained."]],
        "labels": [0, 1],
    }
    assert data.splits["test"].column_names == ["context", "choices"]
    baseline = ["cause=What was the cause of this?", "effect=What happened as a result?"]
    data = load(tmp_path, rows, question_words=baseline)
    assert data.splits["train"]["context"][0] == "It rained. What happened as a result?"


def test_other_shapes(tmp_path):
    swag = [{"sent1": "He eats.", "sent2": "She", "e0": "eats too.", "e1": "sleeps.", "e2": "sings.", "label": 2}]
    names = {"context_column_name": "sent1", "question_column_name": "sent2", "question_place": "choice"}
    data = load(tmp_path, swag, choice_column_names=["e0", "e1", "e2"], **names)
    assert data.splits["train"][0] == {
        "context": "He eats.",
        "choices": ["She eats too.", "She sleeps.", "She sings."],
        "labels": 2,
    }
    race = [{"article": "Long.", "question": "Why?", "options": ["a", "b", "c", "d"], "answer": "C"}]
    names = {"context_column_name": "article", "choices_column_name": "options", "label_column_name": "answer"}
    data = load(tmp_path, race, **names)
    assert data.splits["train"][0] == {"context": "Long. Why?", "choices": ["a", "b", "c", "d"], "labels": 2}
    bare = [{"premise": None, "choice1": "a", "choice2": "b", "label": "1"}]
    assert load(tmp_path, bare).splits["train"][0] == {"context": "", "choices": ["a", "b"], "labels": 1}


def test_labels_in_every_spelling(tmp_path):
    path = tmp_path / "train.csv"
    path.write_text('premise,choice1,choice2,label\np,007,"1,0",1\np,true,NA,B\np,a,b,b\np,a,b,1.0\n')
    data = MultipleChoice().load(MultipleChoiceArguments(train_file=str(path))).splits["train"]
    assert data["labels"][:] == [1, 1, 1, 1]
    assert data["choices"][:2] == [["007", "1,0"], ["true", "NA"]]
    with_nulls = [{**ROW, "label": 1}, {**ROW, "label": 1.0}, {**ROW, "label": "1"}, {**ROW, "label": " b "}]
    assert load(tmp_path, with_nulls).splits["train"]["labels"][:] == [1, 1, 1, 1]
    hidden = [{**ROW, "label": label} for label in (None, -1, "-1", "", float("nan"))]
    assert "labels" not in load(tmp_path, [ROW], hidden).splits["test"].column_names


ROW = {"premise": "p", "choice1": "a", "choice2": "b", "label": 0}


def shape_class_label(names, **kwargs):
    columns = {**ROW, "o": ["a", "b"]}
    rows = Dataset.from_list([{**columns, "label": label} for label in (0, 1)])
    rows = rows.cast_column("label", ClassLabel(names=names))
    return MultipleChoice().shape({"train": rows}, MultipleChoiceArguments(**kwargs)).splits["train"]["labels"][:]


def test_the_names_of_a_class_label_say_which_choice():
    assert shape_class_label(["B", "A"]) == shape_class_label(["1", "0"]) == [1, 0]
    assert shape_class_label(["A", "B"]) == shape_class_label(["0", "1"]) == [0, 1]
    assert shape_class_label(["choice1", "choice2"]) == [0, 1]
    assert shape_class_label(["choice2", "choice1"]) == [1, 0]

    assert shape_class_label(["2", "1"]) == [1, 0]
    assert shape_class_label(["first", "second"]) == [0, 1]
    with pytest.raises(ValueError, match="`label_column_name`: 'label' has 3 classes, but there are 2 choices"):
        shape_class_label(["A", "B", "C"])


ARC = {"question": "Why?", "choices": {"text": ["a", "b"], "label": ["A", "B"]}, "answerKey": "B"}
ARC_COLUMNS = {
    "context_column_name": "question",
    "choices_column_name": "choices",
    "label_column_name": "answerKey",
}


def test_arcs_objects_of_choices(tmp_path):
    numbered = {**ARC, "choices": {"text": ["c", "d"], "label": ["1", "2"]}, "answerKey": "1"}
    data = load(tmp_path, [ARC, numbered], [{**ARC, "answerKey": ""}], **ARC_COLUMNS)
    assert data.splits["train"][:] == {
        "context": ["Why?", "Why?"],
        "choices": [["a", "b"], ["c", "d"]],
        "labels": [1, 0],
    }
    assert data.splits["test"].column_names == ["context", "choices"]
    rows = Dataset.from_list([ARC, numbered]).class_encode_column("answerKey")
    shaped = MultipleChoice().shape({"train": rows}, MultipleChoiceArguments(**ARC_COLUMNS))
    assert shaped.splits["train"]["labels"][:] == [1, 0]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({**ARC_COLUMNS, "choice_column_names": ["a", "b"]}, "`choice_column_names` .* beside `choices_column_name`"),
        ({**ARC_COLUMNS, "question_place": "choice"}, "`question_place` 'choice' is for a question; name its"),
        ({**ARC_COLUMNS, "question_words": ["why=because"]}, "`question_words` .* is for a question"),
    ],
)
def test_options_that_would_do_nothing(tmp_path, given, message):
    with pytest.raises(ValueError, match=message):
        load(tmp_path, [ARC], **given)


def test_splits_have_as_many_choices(tmp_path):
    more = {**ARC, "choices": {"text": ["a", "b", "c"], "label": ["A", "B", "C"]}}
    with pytest.raises(ValueError, match="the same number of choices; there are: train 2, test 3"):
        load(tmp_path, [ARC], [more], **ARC_COLUMNS)


def test_a_question_column_is_asked_of_every_split(tmp_path):
    with pytest.raises(ValueError, match=r"The test data has no column 'question' \(`question_column_name`\)"):
        load(tmp_path, [{**ROW, "question": "cause"}], [ROW])


@pytest.mark.parametrize(
    ("rows", "kwargs", "message"),
    [
        (
            [{**ROW, "label": 2}],
            {},
            "row 0 of the train data must be a number from 0 to 1 or one of the first 2 letters",
        ),
        ([ROW, {**ROW, "label": -1}], {}, "1 of 2 rows of the train data have no label"),
        (
            [ROW],
            {"choice_column_names": ["choice1", "choice3"]},
            r"no column 'choice3' \(`choice_column_names\[1\]`\)",
        ),
        ([ROW], {"choice_column_names": ["choice1"]}, "`choice_column_names`.* at least two of them, each once; got"),
        ([ROW], {"choice_column_names": ["choice1"] * 2}, "at least two of them, each once; got choice1, choice1"),
        ([ROW], {"choice_column_names": []}, "at least two of them, each once; got"),
        ([ROW], {"question_words": ["because"]}, "`question_words` must be like 'cause=because'"),
        ([ROW], {"question_column_name": "asked"}, "no column 'asked'"),
        ([{**ROW, "o": ["a", "b"]}, {**ROW, "o": ["a"]}], {"choices_column_name": "o"}, "row 1 of the train data has"),
        (
            [{**ROW, "o": "['a', 'b']"}],
            {"choices_column_name": "o"},
            "row 0 of the train data has .* A csv file has no lists: write json",
        ),
        ([{**ROW, "o": None}], {"choices_column_name": "o"}, "row 0 of the train data has None, but must have a list"),
        ([{**ROW, "o": {"A": "a"}}], {"choices_column_name": "o"}, "or ARC's object {'text': "),
        ([{**ARC, "answerKey": "C"}], ARC_COLUMNS, r"row 0 of the train data must be one of 2 choices \['A', 'B'\]"),
        ([{**ROW, "o": ["a", None]}], {"choices_column_name": "o"}, "Row 0 of the train data has an empty choice, nu"),
        ([ROW, {**ROW, "choice2": None}], {}, "Row 1 of the train data has an empty choice, number 1 from 0"),
        (
            [{**ROW, "o": []}],
            {"choices_column_name": "o"},
            r"row 0 of the train data has \[\], but must have a list of at",
        ),
        (
            [{**ROW, "o": ["a", "b"]}, {**ROW, "o": ["a"]}],
            {"choices_column_name": "o"},
            r"row 1 of the train data has \['a'\], but must have a list of at least two",
        ),
        (
            [{**ROW, "o": ["a", "b"]}, {**ROW, "o": ["a", "b", "c"]}],
            {"choices_column_name": "o"},
            "as many choices as the first, .* but row 1 of the train data has",
        ),
        (
            [{**ROW, "o": [["a"], ["b"]]}, {**ROW, "o": [["a"], ["b"]]}],
            {"choices_column_name": "o"},
            r"`choices_column_name`: choice 0 \(from 0\) in column 'o' of the train data has, in row 0 counted",
        ),
        (
            [ROW, {**ROW, "premise": ["p"]}],
            {},
            "`context_column_name`: column 'premise' of the train data has, in row 1 counted from 0, .*no text",
        ),
        (
            [{**ROW, "question": {"a": 1}}],
            {},
            "`question_column_name`: column 'question' of the train data has, in row 0 counted from 0, .*no text",
        ),
        (
            [ROW, {**ROW, "choice2": ["b"]}],
            {},
            r"`choice_column_names\[1\]`: column 'choice2' of the train data has, in row 1 counted from 0, .*no text",
        ),
        ([{**ROW, "label": "²"}], {}, "must be a number from 0 to 1 or one of the first 2 letters, got '²'"),
        ([{**ROW, "label": "ß"}], {}, "must be a number from 0 to 1 or one of the first 2 letters, got 'ß'"),
        ([{**ROW, "label": True}], {}, "must be a number from 0 to 1 or one of the first 2 letters, got True"),
        ([{**ROW, "label": 0.5}], {}, "must be a number from 0 to 1 or one of the first 2 letters, got 0.5"),
        ([{**ROW, "label": -2}], {}, "must be a number from 0 to 1 or one of the first 2 letters, got -2"),
        ([{**ROW, "label": None}], {}, "1 of 1 rows of the train data have no label"),
    ],
)
def test_bad_data(tmp_path, rows, kwargs, message):
    with pytest.raises(ValueError, match=message):
        load(tmp_path, rows, **kwargs)


def batch_of(count, **kwargs):
    rows = make_rows(count)
    columns = {
        "context": [row["premise"] for row in rows],
        "choices": [[row["choice1"], row["choice2"]] for row in rows],
        "labels": [row["label"] for row in rows],
    }
    dataset = tokenize_choices(Dataset.from_dict(columns), TOKENIZER, **kwargs)
    return dataset, ChoiceCollator(TOKENIZER)([dict(row) for row in dataset])


def test_every_choice_is_a_pair_with_the_context_padded_by_batch():
    dataset, batch = batch_of(4)
    rows = make_rows(4)
    length = max(len(ids) for row in dataset["input_ids"] for ids in row)
    assert batch["input_ids"].shape == (4, 2, length)
    assert batch["labels"].tolist() == [row["label"] for row in rows]
    for row, ids, mask in zip(rows, batch["input_ids"], batch["attention_mask"], strict=True):
        for number in (0, 1):
            expected = TOKENIZER(row["premise"], row[f"choice{number + 1}"])["input_ids"]
            assert ids[number][mask[number].bool()].tolist() == expected
    cut, _ = batch_of(4, max_length=9)
    assert max(len(ids) for row in cut["input_ids"] for ids in row) == 9
    unlabelled = ChoiceCollator(TOKENIZER)([{k: v for k, v in row.items() if k != "labels"} for row in dataset])
    assert set(unlabelled) == {"input_ids", "attention_mask", "token_type_ids"} & set(dataset.column_names)


def test_special_tokens_that_users_typed_are_text():
    rows = {"context": ["the film [SEP] was"], "choices": [["good [MASK]", "bad"]], "labels": [0]}
    for ids in tokenize_choices(Dataset.from_dict(rows), TOKENIZER)["input_ids"][0]:
        tokens = TOKENIZER.convert_ids_to_tokens(ids)
        assert tokens.count("[SEP]") == 2
        assert "[MASK]" not in tokens


def prompted(**kwargs):
    config = DeepPromptConfig(task_type=TaskType.SEQ_CLS, num_virtual_tokens=3, init_std=1.0, **kwargs)
    return get_peft_model(make_chooser(), config).double().eval()


@pytest.mark.parametrize("encoder", ["none", "mlp"])
def test_prompts_for_batch_times_choices_give_what_each_choice_gives_alone(encoder):
    model = prompted(encoder_reparameterization=encoder)
    _, batch = batch_of(3)
    logits = model(**{name: values for name, values in batch.items() if name != "labels"}).logits
    for row in range(3):
        for choice in range(2):
            tokens = batch["attention_mask"][row, choice].bool()
            alone = {
                name: values[row, choice, tokens][None, None] for name, values in batch.items() if name != "labels"
            }
            assert torch.allclose(model(**alone).logits, logits[row, choice], atol=1e-10)


def test_the_prompts_gradient_is_that_of_all_choices():
    """d loss / d prompts by hand: softmax - one-hot, times the gradient of each choice's score alone."""
    model = prompted()
    _, batch = batch_of(3)
    names = [name for name, p in model.named_parameters() if p.requires_grad and "deep_prompt" in name]
    parameters = [p for name, p in model.named_parameters() if name in names]
    assert parameters
    output = model(**batch)
    found = torch.autograd.grad(output.loss, parameters)
    weights = (output.logits.softmax(-1) - torch.nn.functional.one_hot(batch["labels"], 2)).detach() / 3
    expected = [torch.zeros_like(p) for p in parameters]
    for row in range(3):
        for choice in range(2):
            tokens = batch["attention_mask"][row, choice].bool()
            alone = {
                name: values[row, choice, tokens][None, None] for name, values in batch.items() if name != "labels"
            }
            for total, part in zip(
                expected, torch.autograd.grad(model(**alone).logits.sum(), parameters), strict=True
            ):
                total += weights[row, choice] * part
    for one, other in zip(found, expected, strict=True):
        assert one.abs().sum() > 0
        assert torch.allclose(one, other, atol=1e-10)
