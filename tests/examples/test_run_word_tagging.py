"""Names and roles: the scripts, method by method, on a tiny model."""

import json
import random

import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file

from dpt_peft.tasks import ArgumentMetric, EntityMetric, TokenClassification
from dpt_peft.training import methods_of
from tests.examples.scripts import load_script, options_of
from tests.training.tiny import BAD, GOOD, write_discriminator

METHODS = methods_of(TokenClassification())


def sentence(draw):
    """Some words, a good one or two in a row, "the film", a bad one: names, and roles of "was"."""
    words, tags = [], []
    for more, new in ((["the", "film"], ["O", "O"]), (["was"], ["O"]), ([draw.choice(BAD)], ["B-BAD"])):
        words, tags = words + more, tags + new
    good = draw.sample(GOOD, draw.randrange(1, 3))
    words, tags = words + good, tags + ["B-GOOD", "I-GOOD"][: len(good)]
    return words + [","] * draw.randrange(4), tags


def rows_of(count, seed):
    draw = random.Random(seed)
    for _ in range(count):
        words, tags = sentence(draw)
        yield words, tags + ["O"] * (len(words) - len(tags))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    write_discriminator(folder / "discriminator")
    for seed, (split, count) in enumerate([("train", 32), ("validation", 10), ("test", 9)]):
        rows = list(rows_of(count, seed))
        (folder / f"{split}.conll").write_text(
            "\n".join("".join(f"{word} X {tag}\n" for word, tag in zip(*row, strict=True)) for row in rows)
        )
        lines = [
            {
                "tokens": words,
                "predicate_index": 2,
                "srl_tags": ["V" if i == 2 else t.replace("B-", "A").replace("I-", "C-A") for i, t in enumerate(tags)],
            }
            for words, tags in rows
        ]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


SCRIPTS = {"run_ner": "conll", "run_srl": "jsonl"}


def run(script, files, output_dir, method, *more):
    data = [
        word
        for split in ("train", "validation", "test")
        for word in (f"--{split}_file", files / f"{split}.{SCRIPTS[script]}")
    ]
    words = [
        *("--method", method, "--model_name_or_path", files / "discriminator", "--output_dir", output_dir, *data),
        *options_of(method, num_virtual_tokens=[3]),
        *("--per_device_train_batch_size", 8, "--num_train_epochs", 2),
        *("--report_to", "none", "--disable_tqdm", "true", "--use_cpu", *more),
    ]
    return load_script(script).main([str(word) for word in words])


def read_predictions(path):
    blocks = path.read_text().strip("\n").split("\n\n")
    return [[line.split("\t") for line in block.splitlines()] for block in blocks]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("script", SCRIPTS)
def test_every_method_trains_evaluates_predicts_and_saves(script, method, files, tmp_path):
    out = tmp_path / "tagger"
    # rows of at most 12 tokens: some sentences are in two
    metrics = run(script, files, out, method, "--do_train", "--do_eval", "--do_predict", "--max_seq_length", 12)
    written = json.loads((out / "all_results.json").read_text())
    for name in ("train_loss", "eval_f1", "eval_precision", "eval_recall", "test_f1"):
        assert written[name] == metrics[name]
    assert metrics["rows"] == {"train": 32, "validation": 10, "test": 9}

    # every word of the file has a prediction, and they give the metric
    predicted = read_predictions(out / "predictions.tsv")
    rows = list(rows_of(9, 2))
    assert [[line[0] for line in block] for block in predicted] == [words for words, _ in rows]
    tags = [[line[-1] for line in block] for block in predicted]
    if script == "run_ner":
        metric, references = EntityMetric, [row[1] for row in rows]
    else:
        assert all(block[2][1] == "V" and block[0][1] == "-" for block in predicted)
        gold = [json.loads(line)["srl_tags"] for line in (files / "test.jsonl").read_text().splitlines()]
        references = [[tag if tag == "O" else f"B-{tag}" for tag in row] for row in gold]
        metric, tags = ArgumentMetric, [[tag if tag == "O" else f"B-{tag}" for tag in row] for row in tags]
    scores = metric(keep_in_memory=True).compute(predictions=tags, references=references)
    assert scores["f1"] == pytest.approx(metrics["test_f1"])

    # the lines of the card load the tagger, which tags as the run did (sentences that fit in one row)
    card = ModelCard.load(out / "README.md")
    assert "f1" in {result.metric_type for result in card.data.eval_results}
    code = card.text.split("```python\n")[1].split("```")[0].strip().splitlines()
    assert "max_length=12)" in code[-1]
    namespace = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        exec("\n".join(code[:-1]), namespace)
        assert eval(code[-1].replace('[["She", "visited", "Rome"]]', "[['the', 'film', 'was']]"), namespace)
    short = [number for number, (words, _) in enumerate(rows) if len(words) <= 6]
    options = {} if script == "run_ner" else {"predicates": [2] * len(short)}
    again = namespace["tag_words"](namespace["model"], namespace["tokenizer"], [rows[n][0] for n in short], **options)
    strip = (lambda tag: tag) if script == "run_ner" else (lambda tag: tag.removeprefix("B-"))
    assert [[strip(tag) for tag in row] for row in again] == [[line[-1] for line in predicted[n]] for n in short]


def test_it_learns(files, tmp_path):
    quick = ("--do_train", "--do_eval", "--num_train_epochs", 12, "--learning_rate", 5e-2, "--save_strategy", "no")
    assert run("run_ner", files, tmp_path, "deep_prompt", *quick)["eval_f1"] > 0.9


@pytest.mark.parametrize("script", SCRIPTS)
def test_an_interrupted_run_resumed_ends_as_the_uninterrupted_one(script, files, tmp_path):
    more = ("--do_train", "--save_steps", 3, "--lr_decay_per_epoch", 0.5)
    run(script, files, tmp_path / "whole", "deep_prompt", *more)
    last = tmp_path / "whole" / "checkpoint-3"
    run(script, files, tmp_path / "cut", "deep_prompt", *more, "--resume_from_checkpoint", last)
    whole, resumed = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("whole", "cut"))
    for name, weight in whole.items():
        assert torch.equal(weight, resumed[name]), name


def test_samples_and_held_out_sentences(files, tmp_path, capsys):
    sampling = ("--do_train", "--max_steps", 1, "--max_predict_samples", 4, "--do_predict")
    assert run("run_srl", files, tmp_path / "a", "lora", *sampling, "--train_fraction", 0.25)["rows"]["train"] == 8
    words = [
        *("--method", "lora", "--model_name_or_path", files / "discriminator", "--output_dir", tmp_path / "b"),
        *("--train_file", files / "train.jsonl", "--do_train", "--do_eval", "--validation_size", 8),
        *("--max_steps", 1, "--report_to", "none", "--disable_tqdm", "true", "--use_cpu"),
    ]
    rows = load_script("run_srl").main([str(word) for word in words])["rows"]
    assert rows["validation"] >= 8
    assert rows["train"] + rows["validation"] == 32
    with pytest.raises(SystemExit):
        run("run_ner", files, tmp_path / "c", "lora", "--do_train", "--examples_per_class", 2)
    assert "--examples_per_class" in capsys.readouterr().err


def test_test_data_without_tags(files, tmp_path):
    (tmp_path / "new.jsonl").write_text('{"tokens": ["good", "film"]}\n{"tokens": []}\n{"tokens": ["dull"]}\n')
    words = ("--do_train", "--max_steps", 1, "--do_predict", "--test_file", tmp_path / "new.jsonl")
    metrics = run("run_ner", files, tmp_path / "o", "lora", *words)
    assert "test_f1" not in metrics
    lines = (tmp_path / "o" / "predictions.tsv").read_text().split("\n")
    assert [line.split("\t")[0] for line in lines] == ["good", "film", "", "", "dull", "", ""]


def test_methods_of_classification_are_refused(files, tmp_path, capsys):
    with pytest.raises(SystemExit):
        run("run_ner", files, tmp_path, "dpt", "--do_train")
    assert "invalid choice: 'dpt'" in capsys.readouterr().err
