"""The script on tiny data: every method, what it writes, and that what it saved finds the same relations."""

import json
import random

import pytest
from huggingface_hub import ModelCard

from dpt_peft.tasks import RelationExtraction, mark_spans
from dpt_peft.training.methods import methods_of
from tests.examples.scripts import load_script, options_of
from tests.training.tiny import write_discriminator

METHODS = (
    "fine_tuning",
    "dpt",
    "dpt_prototypes",
    "deep_prompt",
    "dpt_deep_prompt",
    "dpt_prototypes_deep_prompt",
    "lora",
    "shallow_prompt",
    "prefix_tuning",
    "p_tuning",
)
WORDS = (
    "[PAD] [UNK] [CLS] [SEP] [MASK] . , : @ # * ^ relation no work live for in bob eve ibm rome paris is works lives"
)
VERBS = {"Work_For": ["works", "for"], "Live_In": ["lives", "in"], "no_relation": ["is"]}


@pytest.fixture(scope="module")
def script():
    return load_script("run_relation_extraction")


def make_rows(count, seed):
    draw = random.Random(seed)
    rows = []
    for number in range(count):
        relation = list(VERBS)[number % 3]
        tokens = [draw.choice(["bob", "eve"]), *VERBS[relation], draw.choice(["ibm", "rome", "paris"]), "[SEP]"]
        tail = {"start": len(tokens) - 2, "end": len(tokens) - 1}
        rows.append({"tokens": tokens, "head": {"start": 0, "end": 1}, "tail": tail, "relation": relation})
    return rows


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    write_discriminator(folder / "backbone", WORDS)
    for seed, (split, count) in enumerate({"train": 60, "validation": 9, "test": 12}.items()):
        (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, make_rows(count, seed))))
    return folder


def run(script, files, output_dir, method, *more):
    words = [
        *("--method", method, "--model_name_or_path", files / "backbone", "--output_dir", output_dir),
        *("--train_file", files / "train.jsonl", "--validation_file", files / "validation.jsonl"),
        *("--test_file", files / "test.jsonl", "--max_steps", 6, *options_of(method, num_virtual_tokens=[3])),
        *("--per_device_train_batch_size", 4, "--report_to", "none", "--use_cpu", "--disable_tqdm", "true", *more),
    ]
    return script.main([str(word) for word in words])


def test_the_family_has_these_methods():
    assert set(methods_of(RelationExtraction())) == set(METHODS)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_evaluates_predicts_and_saves(script, files, tmp_path, method):
    metrics = run(script, files, tmp_path, method, "--do_train", "--do_eval", "--do_predict")
    written = json.loads((tmp_path / "all_results.json").read_text())
    for name in ("train_loss", "eval_accuracy", "eval_micro_f1", "test_micro_f1"):
        assert written[name] == metrics[name]
    rows = make_rows(12, 2)
    lines = [line.split("\t") for line in (tmp_path / "predictions.tsv").read_text().splitlines()[1:]]
    assert [int(index) for index, _ in lines] == list(range(12))
    said = [relation for _, relation in lines]
    assert metrics["test_accuracy"] == sum(row["relation"] == name for row, name in zip(rows, said, strict=True)) / 12
    if method.startswith("dpt"):
        assert metrics["wrapper"]["label_words"] == ["live in", "work for", "no relation"]
        assert metrics["wrapper"]["template"] == "{text} Relation: {labels}."

    # The card's lines load what finds the same.
    card = ModelCard.load(tmp_path / "README.md")
    code = card.text.split("```python\n")[1].split("```")[0].replace(f'"{tmp_path.name}"', repr(str(tmp_path)))
    namespace = {}
    exec(code, namespace)
    for row, name in list(zip(rows, said, strict=True))[:4]:
        spans = [(row[span]["start"], row[span]["end"]) for span in ("head", "tail")]
        (answer,) = namespace["classify"]([mark_spans(row["tokens"], *spans)])
        assert answer["label"] == name


@pytest.mark.parametrize("method", ["fine_tuning", "dpt"])
def test_it_learns(script, files, tmp_path, method):
    many = ("--max_steps", 150, "--learning_rate", 0.003)
    metrics = run(script, files, tmp_path, method, "--do_train", "--do_eval", *many)
    assert metrics["eval_micro_f1"] > 0.8


def test_sperts_sentences(script, files, tmp_path):
    def sentence(row):
        found = [{"type": row["relation"], "head": 0, "tail": 1}] if row["relation"] != "no_relation" else []
        entities = [{**row[span], "type": "x"} for span in ("head", "tail")]
        return {"tokens": row["tokens"], "entities": entities, "relations": found}

    words = []
    for seed, (split, count) in enumerate({"train": 30, "validation": 6, "test": 6}.items()):
        path = tmp_path / f"{split}.json"
        path.write_text(json.dumps([sentence(row) for row in make_rows(count, seed)]))
        words += [f"--{split}_file", path]
    more = ("--do_train", "--do_predict", "--no_relation_name", "none")
    metrics = run(script, files, tmp_path / "out", "fine_tuning", *more, *words)
    # both orders of the two entities: a relation in two of three sentences, and else none
    assert metrics["rows"]["train"] == 60
    assert 0 <= metrics["test_micro_f1"] <= 1
    lines = [line.split("\t") for line in (tmp_path / "out" / "predictions.tsv").read_text().splitlines()]
    assert lines[0] == ["index", "prediction", "row", "number", "head_entity", "tail_entity"]
    places = [(row, number) for _, _, row, number, _, _ in lines[1:]]
    assert places == [(str(row), str(number)) for row in range(6) for number in range(2)]
