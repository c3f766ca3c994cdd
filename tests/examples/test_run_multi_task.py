import importlib.util
import json
import random
import shutil
import sys
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file
from transformers import AutoModelForTokenClassification, AutoTokenizer

from dpt_peft.training.shared_prompts import SharedPromptTrainer, TaskBatchSampler
from tests.processes import run_in_processes
from tests.training.tiny import BAD, GOOD, write_discriminator, write_task

EXAMPLES = Path(__file__).parents[2] / "examples"


def load_script(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def write_names(path, count, names, seed):
    """Two data sets with different tags of the same words."""
    draw = random.Random(seed)
    lines = []
    for _ in range(count):
        words = ["the", "film", draw.choice(GOOD), ",", draw.choice(BAD)]
        tags = ["O", "O", f"B-{names[0]}", "O", f"B-{names[1]}" if len(names) > 1 else "O"]
        lines.append(json.dumps({"tokens": words, "ner_tags": tags}))
    path.write_text("\n".join(lines))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    write_discriminator(folder / "discriminator")
    tasks, texts = {}, {}
    for name, tags, count in (("both", ("GOOD", "BAD"), 24), ("one", ("FINE",), 9)):
        tasks[name] = {"family": "token-classification"}
        for seed, split in enumerate(("train", "validation", "test")):
            write_names(folder / f"{name}_{split}.jsonl", count if split == "train" else 6, tags, seed)
            tasks[name][f"{split}_file"] = str(folder / f"{name}_{split}.jsonl")
    for name in ("films", "reviews"):
        texts[name] = {"family": "text-classification"}
        for seed, split in enumerate(("train", "validation", "test")):
            texts[name][f"{split}_file"] = str(write_task(folder / f"{name}_{split}.csv", 12, seed))
    tasks["one"]["train_fraction"] = 0.9
    (folder / "tasks.json").write_text(json.dumps(tasks))
    (folder / "texts.json").write_text(json.dumps(texts))
    return folder


def run(files, output_dir, *more, tasks="tasks"):
    words = [
        *("--tasks_file", files / f"{tasks}.json", "--model_name_or_path", files / "discriminator"),
        *("--output_dir", output_dir, "--num_virtual_tokens", 3, "--per_device_train_batch_size", 4),
        *("--report_to", "none", "--disable_tqdm", "true", "--use_cpu", *more),
    ]
    return load_script("run_multi_task").main([str(word) for word in words])


def test_it_trains_evaluates_predicts_and_saves_an_adapter_per_task(files, tmp_path, monkeypatch):
    epochs = []
    set_epoch = TaskBatchSampler.set_epoch
    monkeypatch.setattr(
        TaskBatchSampler, "set_epoch", lambda self, epoch: (epochs.append(epoch), set_epoch(self, epoch))
    )
    metrics = run(files, tmp_path, "--do_train", "--do_eval", "--do_predict", "--num_train_epochs", 2)
    written = json.loads((tmp_path / "all_results.json").read_text())
    for name in ("eval_both_f1", "eval_one_f1", "eval_mean_f1", "test_both_f1", "test_one_f1", "test_mean_f1"):
        assert written[name] == metrics[name]
    assert metrics["eval_mean_f1"] == pytest.approx((metrics["eval_both_f1"] + metrics["eval_one_f1"]) / 2)
    assert metrics["rows"]["one"] == {"train": 8, "validation": 6, "test": 6}
    assert written["epoch"] == 2
    assert set(epochs) == {0, 1}

    weights = {name: load_file(tmp_path / name / "adapter_model.safetensors") for name in ("both", "one")}
    prompts = [key for key in weights["both"] if "deep_prompt_" in key]
    assert prompts
    assert all(torch.equal(weights["both"][key], weights["one"][key]) for key in prompts)
    card = ModelCard.load(tmp_path / "one" / "README.md")
    assert {
        result.metric_type: result.metric_value for result in card.data.eval_results if result.dataset_split == "test"
    }["f1"] == pytest.approx(metrics["test_one_f1"], abs=1e-4)
    # the card's lines load the task and give its labels
    code = card.text.split("```python\n")[1].split("```")[0]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        namespace = {}
        exec(code, namespace)
    assert set(namespace["model"].config.id2label.values()) == {"O", "B-FINE", "I-FINE"}


def test_the_adapters_give_the_metrics_of_the_run(files, tmp_path):
    many = ("--num_train_epochs", 10, "--learning_rate", 5e-2, "--save_strategy", "no")
    metrics = run(files, tmp_path, "--do_train", "--do_predict", *many)
    assert metrics["test_mean_f1"] > 0.9
    words = ["--model_name_or_path", files / "discriminator", "--train_file", files / "both_train.jsonl"]
    words += ["--test_file", files / "both_test.jsonl", "--init_from", tmp_path / "both", "--num_virtual_tokens", 3]
    words += ["--do_train", "--do_predict", "--max_steps", 1, "--learning_rate", 1e-9, "--output_dir", tmp_path / "o"]
    words += ["--report_to", "none", "--disable_tqdm", "true", "--use_cpu"]
    load_script("run_ner").main([str(word) for word in words])
    # a single task that starts from them has the shared prompts
    shared, started = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("both", "o"))
    prompts = [key for key in shared if "deep_prompt_" in key]
    assert prompts
    for key in prompts:
        torch.testing.assert_close(started[key], shared[key], atol=1e-6, rtol=0)
    assert AutoModelForTokenClassification.from_pretrained(files / "discriminator").config.num_labels == 2
    assert AutoTokenizer.from_pretrained(tmp_path / "one").is_fast


def test_of_rows_without_labels_there_is_no_loss(files, tmp_path):
    tasks = json.loads((files / "tasks.json").read_text())
    rows = [json.loads(line) for line in Path(tasks["one"]["test_file"]).read_text().splitlines()]
    path = files / "unknown.jsonl"
    path.write_text("".join(json.dumps({"tokens": row["tokens"]}) + "\n" for row in rows))
    tasks["one"]["test_file"] = str(path)
    (files / "unknown.json").write_text(json.dumps(tasks))
    metrics = run(files, tmp_path, "--do_train", "--max_steps", 1, "--do_predict", tasks="unknown")
    assert {"test_both_loss", "test_both_f1"} <= metrics.keys()
    assert not {"test_one_loss", "test_one_f1", "test_mean_loss", "test_mean_f1"} & metrics.keys()


def test_predictions_stay_beside_their_rows(files, tmp_path):
    # Rows of like length in a batch: the Trainer would predict them in that order, and not in that of their words.
    tasks = json.loads((files / "tasks.json").read_text())
    for name, task in tasks.items():
        rows = [json.loads(line) for line in Path(task["test_file"]).read_text().splitlines()]
        longer = [
            {"tokens": ["the"] * number + row["tokens"], "ner_tags": ["O"] * number + row["ner_tags"]}
            for number, row in enumerate(rows)
        ]
        path = files / f"{name}_longer.jsonl"
        path.write_text("\n".join(map(json.dumps, longer)))
        task |= {"validation_file": str(path), "test_file": str(path)}
    (files / "longer.json").write_text(json.dumps(tasks))
    options = ("--do_train", "--max_steps", 1, "--do_eval", "--do_predict")
    metrics = run(files, tmp_path, *options, "--train_sampling_strategy", "group_by_length", tasks="longer")
    for name in ("both_f1", "one_f1", "both_loss", "one_loss"):
        assert metrics[f"test_{name}"] == metrics[f"eval_{name}"]
    for name, task in tasks.items():
        words = [json.loads(line)["tokens"] for line in Path(task["test_file"]).read_text().splitlines()]
        assert read_words(tmp_path / name / "predictions.tsv") == words


def read_words(path):
    """The words of every sentence that predictions were written for."""
    sentences = path.read_text().strip().split("\n\n")
    return [[line.split()[0] for line in sentence.splitlines()] for sentence in sentences]


def test_new_prompts_and_heads_are_not_measured_untrained(files, tmp_path):
    with pytest.raises(ValueError, match="`do_train` is not set, and method 'deep_prompt' has an adapter"):
        run(files, tmp_path, "--do_predict")


def test_the_tasks_are_not_pushed_as_one(files, tmp_path):
    with pytest.raises(ValueError, match="`push_to_hub` is not supported for several tasks"):
        run(files, tmp_path, "--do_train", "--push_to_hub")


@pytest.mark.parametrize("step", [3, 8])  # within the first epoch; at the end of it (32 rows are 8 batches)
def test_an_interrupted_run_resumed_ends_as_the_uninterrupted_one(files, tmp_path, step):
    options = ("--do_train", "--num_train_epochs", 2, "--lr_decay_per_epoch", 0.5)
    run(files, tmp_path / "whole", *options, "--save_steps", step)
    last = tmp_path / "whole" / f"checkpoint-{step}"
    run(files, tmp_path / "cut", *options, "--save_strategy", "no", "--resume_from_checkpoint", last)
    for task in ("both", "one"):
        whole, cut = (load_file(tmp_path / name / task / "adapter_model.safetensors") for name in ("whole", "cut"))
        for key, weight in whole.items():
            assert torch.equal(weight, cut[key]), key


def test_the_best_epoch_by_the_mean_over_tasks(files, tmp_path):
    each = ("--eval_strategy", "epoch", "--save_strategy", "epoch", "--num_train_epochs", 3, "--learning_rate", 2e-2)
    best = ("--load_best_model_at_end", "true", "--metric_for_best_model", "mean_f1")
    metrics = run(files, tmp_path, "--do_train", "--do_eval", *each, *best)
    state = json.loads((tmp_path / "trainer_state.json").read_text())
    assert metrics["eval_mean_f1"] == pytest.approx(state["best_metric"])
    with pytest.raises(ValueError, match="`metric_for_best_model` must name a task or their mean, such as 'mean_f1'"):
        run(files, tmp_path / "f1", "--do_train", *each, *best[:-1], "f1")


def test_the_best_epoch_is_by_default_that_of_the_least_loss(files, tmp_path):
    each = ("--eval_strategy", "epoch", "--save_strategy", "epoch", "--num_train_epochs", 2, "--learning_rate", 2e-2)
    metrics = run(files, tmp_path, "--do_train", "--do_eval", *each, "--load_best_model_at_end", "true")
    state = json.loads((tmp_path / "trainer_state.json").read_text())
    both, one = (
        [entry[name] for entry in state["log_history"] if name in entry]
        for name in ("eval_both_loss", "eval_one_loss")
    )
    least = min(sum(losses) / 2 for losses in zip(both, one, strict=True))
    assert metrics["eval_mean_loss"] == pytest.approx(least) == pytest.approx(state["best_metric"])


def test_batches_become_smaller_when_memory_runs_out(files, tmp_path, monkeypatch):
    sizes, step = [], SharedPromptTrainer.training_step

    def with_room_for_two(self, model, inputs, *args):
        sizes.append(len(inputs["input_ids"]))
        if sizes[-1] > 2:
            raise RuntimeError("CUDA out of memory.")
        return step(self, model, inputs, *args)

    monkeypatch.setattr(SharedPromptTrainer, "training_step", with_room_for_two)
    run(files, tmp_path, "--do_train", "--max_steps", 3, "--auto_find_batch_size", "true")
    assert max(sizes[:2]) > 2 >= max(sizes[-3:])


def test_text_classification_tasks(files, tmp_path):
    metrics = run(files, tmp_path, "--do_train", "--do_eval", "--max_steps", 2, tasks="texts")
    assert {"eval_films_accuracy", "eval_reviews_accuracy", "eval_mean_accuracy"} <= metrics.keys()
    assert (tmp_path / "films" / "adapter_config.json").exists()


def write_tasks(tmp_path, tasks):
    (tmp_path / "tasks.json").write_text(json.dumps(tasks))
    return tmp_path / "tasks.json"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tasks: tasks.pop("one"), "at least two tasks"),
        (lambda tasks: tasks["one"].update(family="names"), "the `family` of 'one' must be one of"),
        (lambda tasks: tasks["one"].update(fraction=1), "'one' has arguments that token-classification does not have"),
        (lambda tasks: tasks.update({"a.b": tasks.pop("one")}), "a task's name must be of letters"),
        (lambda tasks: tasks["one"].pop("validation_file"), "There is no validation data of one"),
        (lambda tasks: tasks["one"].update(family="text-classification"), "Tasks of different heads"),
        (lambda tasks: tasks.update(mean=tasks.pop("one")), "no task can be called 'mean'"),
        (
            lambda tasks: tasks["one"].update(train_fraction="0.5"),
            r"`tasks_file`: `train_fraction` of 'one' must be float \| None, got '0.5'",
        ),
        (
            lambda tasks: tasks["one"].update(tag_names="O B-FINE"),
            r"`tasks_file`: `tag_names` of 'one' must be list\[str\] \| None, got 'O B-FINE'",
        ),
        (lambda tasks: tasks["one"].update(sample_seed=True), "`sample_seed` of 'one' must be int, got True"),
        (lambda tasks: tasks["one"].update(train_file=5), "`train_file` of 'one' must be str"),
    ],
)
def test_tasks_that_do_not_fit(files, tmp_path, change, message):
    tasks = json.loads((files / "tasks.json").read_text())
    change(tasks)
    path = write_tasks(tmp_path, tasks)
    with pytest.raises(ValueError, match=message):
        run(files, tmp_path / "o", "--do_train", "--do_eval", "--tasks_file", path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"one": {"family": "regression"}, "two": {}, "one": {}}', "has the key 'one' twice"),
        ('{"one": {"train_file": "a", "train_file": "b"}}', "has the key 'train_file' twice"),
        ('{"one": ', "Expecting value"),
    ],
)
def test_a_file_of_tasks_that_is_not_to_be_read(files, tmp_path, text, message):
    (tmp_path / "tasks.json").write_text(text)
    with pytest.raises(ValueError, match=f"`tasks_file`: .* cannot be read as json: .*{message}"):
        run(files, tmp_path / "o", "--do_train", "--tasks_file", tmp_path / "tasks.json")


def test_a_card_has_its_own_tasks_metrics(files, tmp_path):
    tasks = json.loads((files / "texts.json").read_text())
    named = {"films": tasks["films"], "films_old": tasks["reviews"]}
    path = write_tasks(tmp_path, named)
    metrics = run(files, tmp_path / "o", "--do_train", "--do_eval", "--max_steps", 1, "--tasks_file", path)
    for name in named:
        results = ModelCard.load(tmp_path / "o" / name / "README.md").data.eval_results
        found = {result.metric_type: result.metric_value for result in results}
        assert found.keys() == {"accuracy", "macro_f1", "majority_share"}
        assert found["accuracy"] == pytest.approx(metrics[f"eval_{name}_accuracy"], abs=1e-4)


def train(files, output_dir, batch_size):
    still = ("--model_name_or_path", output_dir.parent / "without_dropout")
    few = (*still, "--max_steps", 5, "--per_device_train_batch_size", batch_size, "--save_strategy", "no", "--seed", 1)
    return run(files, output_dir, "--do_train", "--do_eval", *few)


def test_two_processes_give_the_weights_of_one(files, tmp_path):
    config = json.loads((files / "discriminator" / "config.json").read_text())
    shutil.copytree(files / "discriminator", tmp_path / "without_dropout")
    config |= {"hidden_dropout_prob": 0, "attention_probs_dropout_prob": 0, "classifier_dropout": 0}
    (tmp_path / "without_dropout" / "config.json").write_text(json.dumps(config))
    one = train(files, tmp_path / "one_process", 4)
    two, _ = run_in_processes(train, files, tmp_path / "two_processes", 2)
    assert two["eval_mean_f1"] == pytest.approx(one["eval_mean_f1"])
    for task in ("both", "one"):
        folders = (tmp_path / name / task for name in ("one_process", "two_processes"))
        expected, found = (load_file(folder / "adapter_model.safetensors") for folder in folders)
        for key, weight in expected.items():
            torch.testing.assert_close(found[key], weight, atol=1e-5, rtol=1e-4)


def test_a_number_of_examples_a_class_is_for_families_that_have_classes(files, tmp_path):
    with pytest.raises(ValueError, match="`examples_per_class` 2 is not for 'both', a task of token-classification"):
        run(files, tmp_path, "--do_train", "--examples_per_class", 2)
