"""The script on tiny data: every method, what it writes, and that what it saved rates as the run did."""

import csv
import json
import random

import pytest
from huggingface_hub import ModelCard

from dpt_peft.tasks import Regression
from dpt_peft.training.methods import methods_of
from tests.examples.scripts import load_script, options_of
from tests.training.tiny import write_discriminator, write_task

METHODS = ("fine_tuning", "deep_prompt", "lora", "shallow_prompt", "prefix_tuning", "p_tuning")
WORTH = {"bad": -1.0, "fine": 0.5, "great": 2.0}


@pytest.fixture(scope="module")
def script():
    return load_script("run_regression")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    write_discriminator(folder / "backbone")
    for seed, (split, count) in enumerate({"train": 48, "validation": 10, "test": 8}.items()):
        draw = random.Random(seed)
        with (folder / f"{split}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["sentence1", "sentence2", "score"])
            for _ in range(count):
                first, second = draw.choice(list(WORTH)), draw.choice(list(WORTH))
                pair = f"the film was {'really ' * draw.randrange(4)}{first}", f"it was {second} [SEP]"
                writer.writerow([*pair, WORTH[first] + WORTH[second]])
    return folder


def run(script, files, output_dir, method, *more):
    words = [
        *("--method", method, "--model_name_or_path", files / "backbone", "--output_dir", output_dir),
        *("--train_file", files / "train.csv", "--validation_file", files / "validation.csv"),
        *("--test_file", files / "test.csv", "--max_steps", 6, *options_of(method, num_virtual_tokens=[3])),
        *("--per_device_train_batch_size", 4, "--report_to", "none", "--use_cpu", "--disable_tqdm", "true", *more),
    ]
    return script.main([str(word) for word in words])


def test_the_family_has_these_methods():
    assert set(methods_of(Regression())) == set(METHODS)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_evaluates_predicts_and_saves(script, files, tmp_path, method):
    metrics = run(script, files, tmp_path, method, "--do_train", "--do_eval", "--do_predict")
    written = json.loads((tmp_path / "all_results.json").read_text())
    for name in ("train_loss", "eval_loss", "eval_mse", "eval_pearson", "test_spearman"):
        assert written[name] == metrics[name]
    assert metrics["eval_loss"] == pytest.approx(metrics["eval_mse"], rel=1e-4)  # the loss is the mean squared error
    with (files / "test.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    lines = [line.split("\t") for line in (tmp_path / "predictions.tsv").read_text().splitlines()[1:]]
    assert [int(index) for index, _ in lines] == list(range(8))
    numbers = [float(number) for _, number in lines]
    right = [float(row["score"]) for row in rows]
    assert metrics["test_mse"] == pytest.approx(sum((p - r) ** 2 for p, r in zip(numbers, right, strict=True)) / 8)

    # The card's lines load what rates the same, in a pipeline, special tokens that users typed and all.
    card = ModelCard.load(tmp_path / "README.md")
    assert card.data.pipeline_tag == "text-classification"
    assert "| Numbers | -2 to 4, mean" in card.text
    code = card.text.split("```python\n")[1].split("```")[0].replace(f'"{tmp_path.name}"', repr(str(tmp_path)))
    namespace = {}
    exec(code, namespace)
    for row, number in list(zip(rows, numbers, strict=True))[:4]:
        answer = namespace["rate"]({"text": row["sentence1"], "text_pair": row["sentence2"]})
        answer = answer[0] if isinstance(answer, list) else answer
        assert answer["score"] == pytest.approx(number, abs=1e-5)


def test_it_learns(script, files, tmp_path):
    many = ("--max_steps", 200, "--learning_rate", 0.003)
    metrics = run(script, files, tmp_path, "fine_tuning", "--do_train", "--do_eval", *many)
    assert metrics["eval_pearson"] > 0.8
    assert metrics["eval_mse"] < 1


def test_a_part_of_the_data_and_cached_layers(script, files, tmp_path):
    words = [
        *("--method", "lora", "--model_name_or_path", files / "backbone", "--output_dir", tmp_path),
        *("--train_file", files / "train.csv", "--validation_size", 6, "--train_fraction", 0.5, "--max_steps", 2),
        *("--do_train", "--do_eval", "--report_to", "none", "--use_cpu", "--disable_tqdm", "true"),
    ]
    assert script.main([str(word) for word in words])["rows"] == {"train": 21, "validation": 6}
    prompts = ("--layers_to_transform", "last", 1, "--cache_lower_layers", "--do_train", "--do_eval")
    assert run(script, files, tmp_path / "cached", "deep_prompt", *prompts)["eval_mse"] > 0


def test_prompts_are_shared_by_tasks_of_numbers_only(files, tmp_path):
    write_task(tmp_path / "classes.csv", 24)
    numbers = {f"{split}_file": str(files / f"{split}.csv") for split in ("train", "validation")}
    classes = {f"{split}_file": str(tmp_path / "classes.csv") for split in ("train", "validation")}

    def share(**tasks):
        (tmp_path / "tasks.json").write_text(json.dumps(tasks))
        words = [
            *("--model_name_or_path", files / "backbone", "--tasks_file", tmp_path / "tasks.json", "--max_steps", 3),
            *("--output_dir", tmp_path / "out", "--do_train", "--do_eval", "--report_to", "none", "--use_cpu"),
            *("--num_virtual_tokens", 3, "--disable_tqdm", "true"),
        ]
        return load_script("run_multi_task").main([str(word) for word in words])

    one, other = {"family": "regression", **numbers}, {"family": "regression", **numbers, "train_fraction": 0.5}
    metrics = share(one=one, other=other)
    assert metrics["eval_other_mse"] == pytest.approx(metrics["eval_other_loss"], rel=1e-4)
    assert metrics["rows"]["other"]["train"] == 24
    with pytest.raises(ValueError, match="one, mood have columns of different kinds"):
        share(one=one, mood={"family": "text-classification", **classes})
