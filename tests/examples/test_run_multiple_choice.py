"""The script on tiny data: every method, what it writes, and that what it saved chooses as the run did."""

import json
import shutil

import pytest
from huggingface_hub import ModelCard

from dpt_peft.tasks import MultipleChoice
from dpt_peft.training.methods import methods_of
from tests.examples.scripts import load_script, options_of
from tests.tasks.choices import make_rows, write_chooser

METHODS = ("fine_tuning", "deep_prompt", "lora")


@pytest.fixture(scope="module")
def script():
    return load_script("run_multiple_choice")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    write_chooser(folder / "chooser")
    for seed, (split, count) in enumerate({"train": 24, "validation": 9, "test": 8}.items()):
        (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, make_rows(count, seed))))
    return folder


def run(script, files, output_dir, method, *more):
    words = [
        *("--method", method, "--model_name_or_path", files / "chooser", "--output_dir", output_dir),
        *("--train_file", files / "train.jsonl", "--validation_file", files / "validation.jsonl"),
        *("--test_file", files / "test.jsonl", "--max_steps", 6),
        *options_of(method, num_virtual_tokens=[3]),
        *("--per_device_train_batch_size", 4, "--report_to", "none", "--use_cpu", "--disable_tqdm", "true", *more),
    ]
    return script.main([str(word) for word in words])


def test_the_family_has_these_methods():
    assert set(methods_of(MultipleChoice())) == set(METHODS)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_evaluates_predicts_and_saves(script, files, tmp_path, method):
    metrics = run(script, files, tmp_path, method, "--do_train", "--do_eval", "--do_predict")
    written = json.loads((tmp_path / "all_results.json").read_text())
    for name in ("train_loss", "eval_accuracy", "test_accuracy"):
        assert written[name] == metrics[name]
    assert metrics["rows"] == {"train": 24, "validation": 9, "test": 8}
    assert metrics["eval_majority_share"] == 5 / 9
    rows = [json.loads(line) for line in (files / "test.jsonl").read_text().splitlines()]
    chosen = [int(line.split("\t")[1]) for line in (tmp_path / "predictions.tsv").read_text().splitlines()[1:]]
    right = [row["label"] == number for row, number in zip(rows, chosen, strict=True)]
    assert metrics["test_accuracy"] == pytest.approx(sum(right) / 8)

    # The card's lines load what chooses the same.
    card = ModelCard.load(tmp_path / "README.md")
    assert card.data.pipeline_tag == "multiple-choice"
    code = card.text.split("```python\n")[1].split("```")[0].replace(f'"{tmp_path.name}"', repr(str(tmp_path)))
    joiner = {"cause": "because", "effect": "so"}
    for row, number in list(zip(rows, chosen, strict=True))[:3]:
        texts = (f"{row['premise']} {joiner[row['question']]}", row["choice1"], row["choice2"])
        filled = code
        for text in texts:
            filled = filled.replace('"..."', repr(text), 1)
        namespace = {}
        exec(filled, namespace)
        assert namespace["best"] == number


def test_it_learns(script, files, tmp_path):
    many = ("--max_steps", 150, "--learning_rate", 0.003)
    metrics = run(script, files, tmp_path, "fine_tuning", "--do_train", "--do_eval", *many)
    assert metrics["eval_accuracy"] > 0.8


def test_sampling_and_data_without_labels(script, files, tmp_path):
    asked = tmp_path / "asked.jsonl"
    rows = [json.loads(line) for line in (files / "test.jsonl").read_text().splitlines()]
    asked.write_text("\n".join(json.dumps({**row, "label": -1}) for row in rows))
    small = ("--examples_per_class", 3, "--max_steps", 1)
    metrics = run(script, files, tmp_path / "o", "lora", "--do_train", "--do_predict", "--test_file", asked, *small)
    assert metrics["rows"]["train"] == 6
    assert "test_accuracy" not in metrics
    assert len((tmp_path / "o" / "predictions.tsv").read_text().splitlines()) == 9


def test_nothing_to_do(script, files, tmp_path, capsys):
    with pytest.raises(SystemExit):
        run(script, files, tmp_path, "lora")
    assert "nothing to do" in capsys.readouterr().err


def test_what_a_base_calls_its_classes_is_nothing_to_choices(script, files, tmp_path):
    shutil.copytree(files / "chooser", tmp_path / "base")
    config = json.loads((tmp_path / "base" / "config.json").read_text())
    names = {"0": "contradiction", "1": "entailment"}
    config |= {"id2label": names, "label2id": {name: int(number) for number, name in names.items()}}
    (tmp_path / "base" / "config.json").write_text(json.dumps(config))
    base = ("--model_name_or_path", tmp_path / "base")
    trained = run(script, files, tmp_path / "one", "fine_tuning", *base, "--do_train", "--do_predict")
    saved = ("--model_name_or_path", tmp_path / "one")
    again = run(script, files, tmp_path / "two", "fine_tuning", *saved, "--do_predict")
    assert again["test_accuracy"] == trained["test_accuracy"]
