"""A trained model predicts rows of a file, with no training data beside it, and as it did when it was trained."""

import json
import re
from pathlib import Path

import pytest
from transformers import AutoConfig

import dpt_peft
from dpt_peft.tasks import TASKS
from dpt_peft.training import ModelArguments, RunArguments, ScriptTrainingArguments, run

ROWS = [("the film was great", "positive"), ("the film was poor", "negative"), ("really good", "positive")]
TAGGED = [
    {"tokens": ["the", "film", "was", "great"], "ner_tags": ["O", "B-good", "I-good", "O"]},
    {"tokens": ["really", "bad"], "ner_tags": ["O", "B-bad"]},
]
SPANS = {"head": {"start": 1, "end": 2}, "tail": {"start": 3, "end": 4}}
RELATIONS = [
    {"tokens": ["the", "film", "was", "great"], **SPANS, "relation": "positive"},
    {"tokens": ["the", "film", "was", "poor"], **SPANS, "relation": "negative"},
]


def write(path: Path, rows: list[dict], *without: str) -> str:
    kept = [{name: value for name, value in row.items() if name not in without} for row in rows]
    path.write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")
    return str(path)


def start(family: str, method: str, model: Path, folder: Path, *, options: dict | None = None, **data):
    task = TASKS[family]
    trains = "train_file" in data
    training = ScriptTrainingArguments(
        str(folder), do_train=trains, do_predict=True, max_steps=2, use_cpu=True, report_to="none", disable_tqdm=True
    )
    arguments = RunArguments(
        task.arguments(**data), method, training, options=options or {}, model=ModelArguments(str(model))
    )
    return run(task, arguments, show=False)


TEXTS = [{"text": text, "label": label} for text, label in ROWS]
NUMBERS = [{"text": text, "label": len(text)} for text, _ in ROWS]
LISTS = [{"text": text, "label": [label]} for text, label in ROWS]
LEVELS = [
    {"text": text, "kind": kind, "label": label}
    for (text, label), kind in zip([*ROWS, ("a great film", "great")], ["good", "bad", "good", "good"], strict=True)
]
CHOICES = [{"context": "the film", "ending0": "was good", "ending1": "was bad", "label": n} for n in (0, 1)]
ADAPTERS = ("deep_prompt", "lora", "prefix_tuning", "p_tuning", "dpt_deep_prompt", "dpt_prototypes_deep_prompt")


@pytest.mark.parametrize(
    ("family", "method", "rows", "unknown", "data"),
    [
        ("text-classification", "fine_tuning", TEXTS, "label", {}),
        ("text-classification", "dpt", TEXTS, "label", {}),
        ("text-classification", "dpt_prototypes", TEXTS, "label", {}),
        *[("text-classification", method, TEXTS, "label", {}) for method in ADAPTERS],
        ("text-classification", "dpt_deep_prompt", LISTS, "label", {}),
        *[
            ("hierarchical-classification", method, LEVELS, "label", {"level_column_names": ["kind", "label"]})
            for method in ("dpt", "dpt_deep_prompt", "fine_tuning")
        ],
        ("hierarchical-classification", "dpt", TEXTS, "label", {}),  # a tree that is built of the words
        ("token-classification", "fine_tuning", TAGGED, "ner_tags", {}),
        ("token-classification", "deep_prompt", TAGGED, "ner_tags", {}),
        ("relation-extraction", "fine_tuning", RELATIONS, "relation", {}),
        ("relation-extraction", "dpt_deep_prompt", RELATIONS, "relation", {}),
        ("regression", "fine_tuning", NUMBERS, "label", {}),
        ("regression", "lora", NUMBERS, "label", {}),
        *[
            (
                "multiple-choice",
                method,
                CHOICES,
                "label",
                {"context_column_name": "context", "choice_column_names": ["ending0", "ending1"]},
            )
            for method in ("fine_tuning", "deep_prompt")
        ],
    ],
)
@pytest.mark.parametrize("labels_known", [False, True])
def test_the_file_of_rows_is_enough(family, method, rows, unknown, data, labels_known, discriminator, tmp_path):
    train = write(tmp_path / "train.jsonl", rows)
    test = write(tmp_path / "test.jsonl", rows, *([] if labels_known else [unknown]))
    start(family, method, discriminator, tmp_path / "trained", train_file=train, test_file=test, **data)
    outcome = start(family, method, tmp_path / "trained", tmp_path / "again", test_file=test, **data)
    file = "predictions.jsonl" if rows is LISTS else "predictions.tsv"
    told = [_cells((tmp_path / folder / file).read_text()) for folder in ("trained", "again")]
    assert told[1] == pytest.approx(told[0], abs=1e-6)  # batches of the two runs are of other sizes
    assert any(name.startswith("test_") and "loss" in name for name in outcome.results) is labels_known
    assert not (tmp_path / "again" / "README.md").exists()  # there is no model beside it


def _cells(text: str) -> list[str | float]:
    numbers = re.compile(r"-?\d+(\.\d+)?e-\d+|-?\d+\.\d+")
    return [float(cell) if numbers.fullmatch(cell) else cell for cell in re.split(r"[\t\n]", text)]


def test_without_saved_names_the_classes_are_asked_for(discriminator, tmp_path):
    test = write(tmp_path / "test.jsonl", TEXTS, "label")
    with pytest.raises(ValueError, match="no training data, whose labels are the classes.*`class_names`"):
        start("text-classification", "dpt", discriminator, tmp_path / "out", test_file=test)
    outcome = start(
        "text-classification", "dpt", discriminator, tmp_path / "out", test_file=test, class_names=["bad", "good"]
    )
    assert outcome.model.config.label_words == ["bad", "good"]


@pytest.mark.parametrize(
    "options",
    [
        {"label_hierarchy": "given"},
        {"label_hierarchy": "none"},
        {"label_hierarchy": "none", "label_words": ["great", "poor", "good"]},
        {"label_hierarchy": "built"},
    ],
)
def test_the_tree_is_that_of_the_trained_model(options, discriminator, tmp_path, caplog):
    family, rows = "hierarchical-classification", write(tmp_path / "rows.jsonl", LEVELS)
    kind = options["label_hierarchy"]
    data = {"level_column_names": ["kind", "label"]}
    trained = start(
        family, "dpt", discriminator, tmp_path / "m", options=options, train_file=rows, test_file=rows, **data
    )
    again = start(family, "dpt", tmp_path / "m", tmp_path / "again", options=options, test_file=rows, **data)
    # which of them it is need not be said
    unsaid = start(family, "dpt", tmp_path / "m", tmp_path / "unsaid", test_file=rows, **data)
    for outcome in (again, unsaid):
        assert type(outcome.model) is type(trained.model)
        for setting in ("label_tree", "label_words"):
            assert getattr(outcome.model.config, setting, None) == getattr(trained.model.config, setting, None)
        assert outcome.results["test_accuracy"] == trained.results["test_accuracy"]
        # the levels of the rows are those of a tree that was given, and of no other
        if kind == "given":
            assert outcome.results["test_accuracy_level_1"] == trained.results["test_accuracy_level_1"]
        else:
            assert not any("level" in name for name in outcome.results)
            assert "levels kind, label, or the model has no tree with these" in caplog.text
    words = write(tmp_path / "words.json", [{"good": "great"}])
    with pytest.raises(ValueError, match="`tree_words_file`: the words were settled"):
        start(family, "dpt", tmp_path / "m", tmp_path / "out", test_file=rows, tree_words_file=words, **data)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("given", {"max_children": 3}, "`max_children` was settled"),
        ("built", {"label_words": ["great", "poor", "good"]}, "`label_words` was settled"),
        ("none", {"label_hierarchy": "given"}, "has no tree, and rows alone give none"),
        ("none", {"beam_width": 1}, "`beam_width` is for a hierarchy, but .* has all classes in one template"),
    ],
)
def test_what_was_settled_is_not_chosen_again(kind, options, message, discriminator, tmp_path):
    family, rows = "hierarchical-classification", write(tmp_path / "rows.jsonl", LEVELS)
    data = {"level_column_names": ["kind", "label"]}
    trained = {"options": {"label_hierarchy": kind}, "train_file": rows, "test_file": rows}
    start(family, "dpt", discriminator, tmp_path / "m", **trained, **data)
    with pytest.raises(ValueError, match=message):
        start(family, "dpt", tmp_path / "m", tmp_path / "out", options=options, test_file=rows, **data)


def test_a_hierarchy_does_not_take_a_model_of_several_labels(discriminator, tmp_path):
    rows = write(tmp_path / "rows.jsonl", LISTS)
    start("text-classification", "dpt", discriminator, tmp_path / "m", train_file=rows, test_file=rows)
    with pytest.raises(ValueError, match="several labels; in a hierarchy .* 'text-classification'"):
        start("hierarchical-classification", "dpt", tmp_path / "m", tmp_path / "out", test_file=rows)


def test_a_tree_needs_the_data_that_it_was_read_off(discriminator, tmp_path):
    test = write(tmp_path / "test.jsonl", TEXTS, "label")
    with pytest.raises(ValueError, match="the classes of the tree: give `train_file`"):
        start("hierarchical-classification", "dpt", discriminator, tmp_path / "out", test_file=test)


@pytest.mark.parametrize("method", ["dpt", "verbalizer"])
def test_a_saved_classifier_keeps_its_words(method, discriminator, language_model, tmp_path):
    train, test = write(tmp_path / "train.jsonl", TEXTS), write(tmp_path / "test.jsonl", TEXTS, "label")
    base = language_model if method == "verbalizer" else discriminator
    task, words = TASKS["text-classification"], ["bad", "good"]
    head = task.heads["discriminator" if method == "dpt" else "language model"]
    data = task.load(task.arguments(train_file=train))
    if method == "dpt":
        start(
            task.name, method, base, tmp_path / "m", options={"label_words": words}, train_file=train, test_file=test
        )
    else:
        head.load(str(base), data, head.options(words)).save_pretrained(tmp_path / "m")
        task.load_tokenizer(str(base)).save_pretrained(tmp_path / "m")
    assert head.load(str(tmp_path / "m"), data, head.options()).config.label_words == words
    turned = task.load(task.arguments(train_file=train, class_names=["positive", "negative"]))
    assert head.load(str(tmp_path / "m"), turned, head.options()).config.label_words == words[::-1]
    others = task.load(
        task.arguments(
            train_file=write(
                tmp_path / "other.jsonl", [{"text": "a", "label": "dull"}, {"text": "b", "label": "fine"}]
            )
        )
    )
    assert head.load(str(tmp_path / "m"), others, head.options()).config.label_words == ["dull", "fine"]
    assert head.load(str(tmp_path / "m"), data, head.options(["poor", "great"])).config.label_words == [
        "poor",
        "great",
    ]
    if method == "dpt":
        start(task.name, method, tmp_path / "m", tmp_path / "again", train_file=train, test_file=test)
        told = [(tmp_path / folder / "predictions.tsv").read_text() for folder in ("m", "again")]
        assert told[0] == told[1]


def test_several_labels_are_not_read_as_one(discriminator, tmp_path):
    rows = [{"text": text, "label": [label]} for text, label in ROWS]
    train, test = write(tmp_path / "train.jsonl", rows), write(tmp_path / "test.jsonl", rows, "label")
    for method in ("fine_tuning", "dpt"):
        folder = tmp_path / method
        start("text-classification", method, discriminator, folder, train_file=train, test_file=test)
        assert AutoConfig.from_pretrained(folder).problem_type == "multi_label_classification"
        for file in (test, train):  # without and with labels
            outcome = start("text-classification", method, folder, tmp_path / "out", test_file=file)
            written = [(f / "predictions.jsonl").read_text() for f in (folder, tmp_path / "out")]
            assert written[0] == written[1]
            assert ("test_micro_f1" in outcome.results) is (file == train)
        with pytest.raises(ValueError, match="was trained to give a text several labels"):
            start(
                "text-classification",
                method,
                folder,
                tmp_path / "out",
                test_file=test,
                class_names=["negative", "positive"],
            )


def test_a_new_head_is_not_put_on_a_wrapper(discriminator, tmp_path):
    train, test = write(tmp_path / "train.jsonl", TEXTS), write(tmp_path / "test.jsonl", TEXTS, "label")
    start("text-classification", "dpt", discriminator, tmp_path / "m", train_file=train, test_file=test)
    for method in ("fine_tuning", "deep_prompt"):
        with pytest.raises(ValueError, match="m' is a DPTForSequenceClassification, which has its own head"):
            start("text-classification", method, tmp_path / "m", tmp_path / "out", train_file=train, test_file=test)
    rows = [{"text": text, "label": [label]} for text, label in ROWS]
    several = write(tmp_path / "several.jsonl", rows)
    start("text-classification", "dpt", discriminator, tmp_path / "s", train_file=several, test_file=test)
    outcome = start("text-classification", "dpt", tmp_path / "s", tmp_path / "out", train_file=train, test_file=test)
    assert outcome.model.config.problem_type == "single_label_classification"


def test_saved_prototypes_are_not_left_out(discriminator, tmp_path):
    train, test = write(tmp_path / "train.jsonl", TEXTS), write(tmp_path / "test.jsonl", TEXTS, "label")
    start("text-classification", "dpt_prototypes", discriminator, tmp_path / "m", train_file=train, test_file=test)
    with pytest.raises(ValueError, match="prototypes of its classes, which the method leaves out"):
        start("text-classification", "dpt", tmp_path / "m", tmp_path / "out", test_file=test)
    with pytest.raises(ValueError, match="prototypes of its classes, which the method leaves out"):
        start("text-classification", "dpt", tmp_path / "m", tmp_path / "out", train_file=train, test_file=test)


def test_saved_names_do_not_say_what_numbers_stand_for(discriminator, tmp_path):
    rows = [{"text": f"really {word}", "label": number} for number, word in enumerate(("bad", "fine", "great"), 1)]
    train, names = write(tmp_path / "train.jsonl", rows), ["poor", "fine", "great"]
    start(
        "text-classification",
        "dpt",
        discriminator,
        tmp_path / "m",
        train_file=train,
        test_file=train,
        class_names=names,
    )
    alone = write(tmp_path / "alone.jsonl", rows[:2])
    with pytest.raises(ValueError, match="none of the model's classes: 1, 2. Its classes are poor, fine, great"):
        start("text-classification", "dpt", tmp_path / "m", tmp_path / "out", test_file=alone)
    spelled = write(tmp_path / "spelled.jsonl", [{"text": "really bad", "label": "poor"}])
    outcome = start("text-classification", "dpt", tmp_path / "m", tmp_path / "out", test_file=spelled)
    assert outcome.features["test"].labels.tolist() == [0]


def test_tags_of_a_file_alone_are_read_by_their_own_scheme(discriminator, tmp_path):
    train = write(tmp_path / "train.jsonl", TAGGED)
    start("token-classification", "fine_tuning", discriminator, tmp_path / "m", train_file=train, test_file=train)
    bioes = [{"tokens": ["the", "film", "was"], "ner_tags": ["O", "B-good", "E-good"]}]
    bioes += [{"tokens": ["dull", "bad"], "ner_tags": ["S-other", "S-bad"]}]
    file = write(tmp_path / "bioes.jsonl", bioes)
    outcome = start("token-classification", "fine_tuning", tmp_path / "m", tmp_path / "out", test_file=file)
    assert outcome.features["test"].words.tags == [["O", "B-good", "I-good"], ["B-other", "B-bad"]]
    numbers = write(tmp_path / "numbers.jsonl", [{"tokens": ["the", "film"], "ner_tags": [0, 2]}])
    with pytest.raises(ValueError, match="say with `tag_names` what the numbers stand for"):
        start("token-classification", "fine_tuning", tmp_path / "m", tmp_path / "out", test_file=numbers)


@pytest.mark.parametrize("method", ["fine_tuning", "dpt"])
def test_one_label_is_not_read_as_several(method, discriminator, tmp_path):
    train, test = write(tmp_path / "train.jsonl", TEXTS), write(tmp_path / "test.jsonl", TEXTS, "label")
    start("text-classification", method, discriminator, tmp_path / "m", train_file=train, test_file=test)
    with pytest.raises(ValueError, match="was trained to give a text one label, but the data gives a text several"):
        start("text-classification", method, tmp_path / "m", tmp_path / "out", test_file=test, label_separator=";")


def test_an_adapter_is_used_as_it_was_trained(discriminator, tmp_path):
    train, test = write(tmp_path / "train.jsonl", TEXTS), write(tmp_path / "test.jsonl", TEXTS, "label")
    folder, words = tmp_path / "m", ["bad", "good"]
    start(
        "text-classification",
        "dpt_deep_prompt",
        discriminator,
        folder,
        options={"label_words": words, "num_virtual_tokens": 3, "use_gate": True},
        train_file=train,
        test_file=test,
    )

    def use(method, options=None, **data):
        return start("text-classification", method, folder, tmp_path / "out", options=options, test_file=test, **data)

    assert use("dpt_deep_prompt").model.config.label_words == words
    with pytest.raises(ValueError, match="kind DEEP_PROMPT over a pretrained head.*: dpt_deep_prompt, dpt_proto"):
        use("deep_prompt")
    with pytest.raises(ValueError, match="not one of 'dpt'"):
        use("dpt")
    with pytest.raises(ValueError, match="`num_virtual_tokens` was settled when the adapter"):
        use("dpt_deep_prompt", {"num_virtual_tokens": 8})
    with pytest.raises(ValueError, match="has an adapter already"):
        use("dpt_deep_prompt", train_file=train)


def test_classes_of_an_adapter_are_checked(discriminator, tmp_path):
    train, test = write(tmp_path / "train.jsonl", TEXTS), write(tmp_path / "test.jsonl", TEXTS, "label")
    start("text-classification", "deep_prompt", discriminator, tmp_path / "m", train_file=train, test_file=test)

    def use(**data):
        return start("text-classification", "deep_prompt", tmp_path / "m", tmp_path / "out", test_file=test, **data)

    for names in (["positive", "negative"], ["dull", "negative", "positive"]):
        message = f"trained for the classes negative, positive, and those of the data are {', '.join(names)}"
        with pytest.raises(ValueError, match=message):
            use(class_names=names)
    file = tmp_path / "m" / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"task_type": None, "modules_to_save": None}))
    with pytest.raises(ValueError, match="was saved without classifier"):
        use()


QUESTIONS = [
    {"id": str(n), "context": f"the film was {word}", "question": "was the film good", "answers": answers}
    for n, (word, answers) in enumerate(
        [("great", {"text": ["great"], "answer_start": [13]}), ("bad", {"text": [], "answer_start": []})] * 3
    )
]


@pytest.mark.parametrize("method", ["deep_prompt", "lora", "fine_tuning"])
def test_a_tuned_threshold_is_kept(method, discriminator, tmp_path):
    file = write(tmp_path / "rows.jsonl", QUESTIONS)
    task = TASKS["question-answering"]
    asked = {"version_2_with_negative": True, "max_seq_length": 24, "doc_stride": 4}
    training = ScriptTrainingArguments(
        str(tmp_path / "m"), do_train=True, max_steps=2, use_cpu=True, report_to="none", disable_tqdm=True
    )
    data = task.arguments(train_file=file, validation_file=file, tune_threshold=True, **asked)
    trained = run(task, RunArguments(data, method, training, model=ModelArguments(str(discriminator))), show=False)
    threshold = trained.model.config.null_score_diff_threshold
    assert threshold != 0
    outcome = start("question-answering", method, tmp_path / "m", tmp_path / "out", test_file=file, **asked)
    assert outcome.model.config.null_score_diff_threshold == threshold
    # the flag is of training: without it the model still says nothing where it said nothing
    told = (tmp_path / "out" / "predictions.json").read_text()
    plain = {name: value for name, value in asked.items() if name != "version_2_with_negative"}
    bare = write(tmp_path / "bare.jsonl", QUESTIONS, "answers")
    start(task.name, method, tmp_path / "m", tmp_path / "out", test_file=bare, **plain)
    assert (tmp_path / "out" / "predictions.json").read_text() == told
    if method != "fine_tuning":
        loaded = dpt_peft.AutoPeftModelForQuestionAnswering.from_pretrained(tmp_path / "m")
        assert loaded.config.null_score_diff_threshold == threshold
