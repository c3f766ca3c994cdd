import importlib.util
import json
import shutil
import sys
from itertools import cycle
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard
from peft import AutoPeftModelForSequenceClassification
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer, Trainer, pipeline

import dpt_peft
from dpt_peft import DPTForSequenceClassification
from dpt_peft.training.methods import METHODS
from tests.examples.scripts import options_of
from tests.training.tiny import write_discriminator, write_language_model, write_task

SCRIPT = Path(__file__).parents[2] / "examples" / "run_text_classification.py"
WEIGHTS = {"fine_tuning": "model", "dpt": "model", "dpt_prototypes": "model"}
WORDS = ["negative", "positive"]


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("run_text_classification", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    write_discriminator(folder / "discriminator")
    write_language_model(folder / "language_model")
    for seed, (split, rows) in enumerate([("train", 40), ("validation", 10), ("test", 12)]):
        write_task(folder / f"{split}.csv", rows, seed)
    return folder


def arguments(files, output_dir, method, *more):
    model = files / ("language_model" if method == "verbalizer" else "discriminator")
    return [
        *("--method", method, "--model_name_or_path", model, "--output_dir", output_dir),
        *("--train_file", files / "train.csv", "--validation_file", files / "validation.csv"),
        *("--test_file", files / "test.csv", *options_of(method, label_words=WORDS, num_virtual_tokens=[3])),
        *("--examples_per_class", 8, "--per_device_train_batch_size", 4, "--max_steps", 6, "--report_to", "none"),
        *("--disable_tqdm", "true", "--use_cpu", *more),
    ]


def run(script, files, output_dir, method, *more):
    return script.main([str(word) for word in arguments(files, output_dir, method, *more)])


def weights(folder, method):
    return load_file(folder / f"{WEIGHTS.get(method, 'adapter_model')}.safetensors")


def load(folder, method):
    if method in ("dpt_deep_prompt", "dpt_prototypes_deep_prompt", "verbalizer"):
        return dpt_peft.AutoPeftModelForSequenceClassification.from_pretrained(folder)
    auto = AutoModelForSequenceClassification if method in WEIGHTS else AutoPeftModelForSequenceClassification
    return auto.from_pretrained(folder)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_evaluates_predicts_and_saves(script, files, tmp_path, method):
    metrics = run(script, files, tmp_path, method, "--do_train", "--do_eval", "--do_predict")
    written = json.loads((tmp_path / "all_results.json").read_text())
    for name in ("train_loss", "eval_accuracy", "eval_macro_f1", "test_accuracy", "test_macro_f1"):
        assert written[name] == metrics[name]
    assert metrics["rows"] == {"train": 16, "validation": 10, "test": 12}

    # What was saved predicts what the run predicted, on unpadded single texts and in the file's order.
    model, tokenizer = load(tmp_path, method).eval(), AutoTokenizer.from_pretrained(tmp_path)
    lines = [line.rsplit(",", 1) for line in (files / "test.csv").read_text().splitlines()[1:]]
    with torch.no_grad():
        ids = [model(**tokenizer(text, return_tensors="pt")).logits.argmax().item() for text, _ in lines]
    predictions = [line.split("\t") for line in (tmp_path / "predictions.tsv").read_text().splitlines()[1:]]
    assert predictions == [[str(row), WORDS[label]] for row, label in enumerate(ids)]
    accuracy = sum(WORDS[label] == truth for label, (_, truth) in zip(ids, lines, strict=True)) / len(lines)
    assert metrics["test_accuracy"] == pytest.approx(accuracy)

    # Our card stands, for adapters too.
    card = ModelCard.load(tmp_path / "README.md")
    assert card.data.library_name == ("transformers" if method in WEIGHTS else "peft")
    assert method in card.data.tags
    assert {result.metric_type for result in card.data.eval_results} >= {"accuracy", "macro_f1"}
    assert "## Command" in card.text
    assert "train 16, validation 10, test 12" in card.text


def test_pipelines_leave_room_for_prompts_that_take_positions(script, files, tmp_path):
    run(script, files, tmp_path, "prefix_tuning", "--do_train", "--num_virtual_tokens", 5)
    classify = dpt_peft.load(tmp_path)
    assert classify.tokenizer.model_max_length == classify.model.config.max_position_embeddings - 5
    assert classify("the film was good. " * 40)[0]["label"] in WORDS


@pytest.mark.parametrize(
    ("method", "strategy"),
    # PEFT saves what the MLP of p_tuning makes, not the MLP, so that method cannot be continued.
    zip([name for name in METHODS if name != "p_tuning"], cycle(["random", "group_by_length"]), strict=False),
)
def test_an_interrupted_run_resumed_ends_as_the_uninterrupted_one(
    script, files, tmp_path, monkeypatch, method, strategy
):
    options = ("--do_train", "--save_strategy", "epoch", "--train_sampling_strategy", strategy)
    run(script, files, tmp_path / "whole", method, *options)

    steps, original = [], Trainer.training_step

    def interrupted(self, *args, **kwargs):
        steps.append(1)
        if len(steps) > 5:  # in the second epoch: 4 steps each
            raise KeyboardInterrupt
        return original(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "training_step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(script, files, tmp_path / "cut", method, *options)
    assert not (tmp_path / "cut" / "all_results.json").exists()
    run(script, files, tmp_path / "cut", method, *options, "--resume_from_checkpoint", "last")

    whole, resumed = weights(tmp_path / "whole", method), weights(tmp_path / "cut", method)
    assert whole.keys() == resumed.keys()
    for name, weight in whole.items():
        assert torch.equal(weight, resumed[name]), name


def test_resuming_within_an_epoch(script, files, tmp_path):
    options = ("--do_train", "--save_strategy", "steps", "--save_steps", 2)
    run(script, files, tmp_path / "whole", "dpt", *options)
    run(script, files, tmp_path / "cut", "dpt", *options, "--resume_from_checkpoint", tmp_path / "whole/checkpoint-2")
    for name, weight in weights(tmp_path / "whole", "dpt").items():
        assert torch.equal(weight, weights(tmp_path / "cut", "dpt")[name]), name


@pytest.mark.parametrize("method", ["dpt", "dpt_deep_prompt"])
def test_the_best_epoch_is_kept(script, files, tmp_path, method):
    best = ("--load_best_model_at_end", "true", "--metric_for_best_model", "accuracy", "--num_train_epochs", 3)
    each = ("--eval_strategy", "epoch", "--save_strategy", "epoch", "--learning_rate", "0.02", "--max_steps", -1)
    metrics = run(script, files, tmp_path, method, "--do_train", "--do_eval", *best, *each)
    history = json.loads((tmp_path / "trainer_state.json").read_text())
    by_epoch = [entry["eval_accuracy"] for entry in history["log_history"] if "eval_accuracy" in entry]
    assert len(by_epoch) == 3
    assert metrics["eval_accuracy"] == max(by_epoch)


def test_low_resource_sample_has_its_own_seed(script, files, tmp_path):
    def fingerprint(name, *more):
        more = (*more, "--max_steps", 1)
        return run(script, files, tmp_path / name, "dpt", "--do_train", *more)["data_fingerprint"]["train"]

    first = fingerprint("a")
    assert fingerprint("b", "--seed", 7) == first
    assert fingerprint("c", "--sample_seed", 7) != first


def test_validation_rows_are_held_out_of_what_the_sample_leaves(script, files, tmp_path):
    words = [
        str(word) for word in arguments(files, tmp_path, "dpt", "--do_train", "--do_eval", "--validation_size", 20)
    ]
    at = words.index("--validation_file")
    metrics = script.main(words[:at] + words[at + 2 :])
    assert metrics["rows"] == {"train": 16, "validation": 20, "test": 12}
    with pytest.raises(ValueError, match="`validation_size` is for data without a validation split"):
        script.main(words)


def test_saved_dpt_works_in_a_pipeline(script, files, tmp_path):
    run(script, files, tmp_path, "dpt", "--do_train")
    (result,) = pipeline("text-classification", model=str(tmp_path))("the film was good.")
    assert result["label"] in WORDS


def test_table_3_ablation_is_reachable(script, files, tmp_path):
    run(script, files, tmp_path, "dpt", "--do_train", "--score_function", "sigmoid")
    assert DPTForSequenceClassification.from_pretrained(tmp_path).config.score_function == "sigmoid"


@pytest.mark.parametrize("method", ["dpt", "dpt_deep_prompt"])
def test_presets_passes_and_calibration_come_back(script, files, tmp_path, method):
    choices = ("--template_preset", "sst2-released", "--wordpieces", "mean", "--classes_per_pass", 1, "--calibrate")
    metrics = run(script, files, tmp_path, method, "--do_train", "--do_predict", *choices)
    card = (tmp_path / "README.md").read_text()
    assert "| Template | `{text}{sep} sentiment : _ {labels}` |" in card
    if method == "dpt":
        model = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    else:
        # As the card says; a base without preset or calibration would answer otherwise.
        namespace: dict = {}
        code = card.split("```python\n")[1].split("```")[0]
        exec(code.replace(f'"{tmp_path.name}"', repr(str(tmp_path))), namespace)
        model = namespace["classify"].model
    config = model.config
    assert (config.label_separator, config.wordpieces, config.classes_per_pass) == (" , ", "mean", 1)
    assert config.untied_labels
    assert config.label_bias
    assert len(set(config.calibration)) == 2
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    texts, labels = zip(
        *[line.rsplit(",", 1) for line in (files / "test.csv").read_text().splitlines()[1:]], strict=True
    )
    with torch.no_grad():
        batch = tokenizer(list(texts), padding=True, return_tensors="pt")
        loss = model.eval()(**batch, labels=torch.tensor([WORDS.index(label) for label in labels])).loss
    assert metrics["test_loss"] == pytest.approx(loss.item(), abs=1e-4)


def test_empty_and_very_long_texts(script, files, tmp_path):
    (tmp_path / "odd.csv").write_text(f'text,label\n"",positive\n{"film " * 10_000},negative\n')
    for method in ("fine_tuning", "dpt", "deep_prompt"):
        words = ("--do_train", "--max_steps", 1, "--do_predict", "--test_file", tmp_path / "odd.csv")
        metrics = run(script, files, tmp_path / method, method, *words)
        assert 0 <= metrics["test_accuracy"] <= 1


@pytest.mark.parametrize(
    ("method", "new"),
    [
        ("fine_tuning", "a head"),
        ("lora", "an adapter"),
        ("dpt_deep_prompt", "an adapter"),
        ("dpt_prototypes", "proto"),
    ],
)
def test_what_nothing_has_trained_does_not_predict(method, new, script, files, tmp_path):
    with pytest.raises(ValueError, match=f"`do_train` is not set, and method '{method}' has {new}"):
        run(script, files, tmp_path / "out", method, "--do_predict")
    assert not (tmp_path / "out" / "predictions.tsv").exists()


def test_validation_data_without_labels_is_said(script, files, tmp_path, caplog):
    (tmp_path / "new.csv").write_text("text\na film\n")
    run(script, files, tmp_path / "out", "dpt", "--do_eval", "--validation_file", tmp_path / "new.csv")
    assert "The validation data has no labels" in caplog.text


def test_a_checkpoint_is_for_training(script, files, tmp_path):
    with pytest.raises(ValueError, match="`resume_from_checkpoint` goes on with training"):
        run(script, files, tmp_path, "dpt", "--do_predict", "--resume_from_checkpoint", "last")


def test_a_trained_classifier_is_measured_without_training(script, files, tmp_path):
    trained = run(script, files, tmp_path / "one", "fine_tuning", "--do_train", "--max_steps", 2, "--do_predict")
    card = (tmp_path / "one" / "README.md").read_text()
    assert "| Updates | 2 |" in card
    assert "Epochs" not in card
    words = ("--model_name_or_path", tmp_path / "one", "--do_predict")
    again = run(script, files, tmp_path / "two", "fine_tuning", *words)
    assert again["test_loss"] == pytest.approx(trained["test_loss"], abs=1e-5)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--do_train", "--resume_from_checkpoint", "last"), "No valid checkpoint found in output directory"),
        (("--do_train", "--text_column_name", "sentence"), "Columns there are: text, label"),
        (("--do_train", "--examples_per_class", 21), "'negative' has 20"),
        (("--do_train", "--train_fraction", 0.5), "exactly one of `fraction` and `examples_per_class`"),
        (("--do_train", "--label_words", "good"), "1 label words"),
    ],
)
def test_bad_arguments_end_before_anything_is_written(script, files, tmp_path, more, message):
    with pytest.raises(ValueError, match=message):
        run(script, files, tmp_path / "out", "dpt", *more)
    assert not list(tmp_path.glob("out/*"))


def test_data_that_is_missing_for_what_is_asked(script, files, tmp_path):
    words = [str(word) for word in arguments(files, tmp_path, "dpt", "--do_eval")]
    at = words.index("--validation_file")
    with pytest.raises(ValueError, match="`do_eval` is set, but there is no validation data"):
        script.main(words[:at] + words[at + 2 :])


def test_nothing_to_do_and_unknown_methods(script, files, tmp_path, capsys):
    with pytest.raises(SystemExit):
        run(script, files, tmp_path, "dpt")
    assert "nothing to do" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        run(script, files, tmp_path, "prefix", "--do_train")
    assert "invalid choice: 'prefix'" in capsys.readouterr().err


@pytest.mark.parametrize("method", ["deep_prompt", "fine_tuning", "dpt"])
def test_accumulated_batches_count_as_one_batch(script, files, tmp_path, method):
    two = ("--per_device_train_batch_size", 2, "--gradient_accumulation_steps", 2)
    losses = [
        run(script, files, tmp_path / str(number), method, "--do_train", "--max_steps", 4, *more)["train_loss"]
        for number, more in enumerate([(), two])
    ]
    assert losses[1] == pytest.approx(losses[0], rel=0.2)


def test_cached_lower_layers_give_the_same_adapter_and_leave_nothing(script, files, tmp_path):
    # Without dropout, which the cached layers leave off.
    files = shutil.copytree(files, tmp_path / "files")
    config = files / "discriminator" / "config.json"
    without = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    config.write_text(json.dumps({**json.loads(config.read_text()), **without}))
    options = ("--do_train", "--do_eval", "--do_predict", "--layers_to_transform", "last", 1)
    plain = run(script, files, tmp_path / "plain", "dpt_deep_prompt", *options)
    cached = run(script, files, tmp_path / "cached", "dpt_deep_prompt", *options, "--cache_lower_layers")
    assert cached["eval_loss"] == pytest.approx(plain["eval_loss"], rel=1e-4)
    assert cached["test_accuracy"] == plain["test_accuracy"]
    assert not (tmp_path / "cached" / "lower_layers").exists()
    plain_weights, cached_weights = (weights(tmp_path / run, "dpt_deep_prompt") for run in ("plain", "cached"))
    assert plain_weights.keys() == cached_weights.keys()
    for name, weight in plain_weights.items():
        torch.testing.assert_close(cached_weights[name], weight, rtol=1e-4, atol=1e-5, msg=name)

    kept = ("--cache_lower_layers", "--keep_cache", "--cache_dir", tmp_path / "kept")
    run(script, files, tmp_path / "again", "dpt_deep_prompt", *options, *kept)
    assert len(list((tmp_path / "kept").glob("*.states"))) == 3
    with pytest.raises(ValueError, match="has no deep prompts"):
        run(script, files, tmp_path / "none", "lora", "--do_train", "--cache_lower_layers")
    with pytest.raises(ValueError, match="`cache_lower_layers` is not possible with `prototypes`"):
        run(script, files, tmp_path / "none", "dpt_deep_prompt", *options, "--prototypes", "--cache_lower_layers")


def test_a_saved_head_keeps_its_classes(script, files, tmp_path):
    run(script, files, tmp_path / "one", "fine_tuning", "--do_train", "--max_steps", 1)
    saved = ("--model_name_or_path", tmp_path / "one")
    swapped = ("--class_names", "positive", "negative")
    run(script, files, tmp_path / "two", "fine_tuning", *saved, "--do_predict")
    run(script, files, tmp_path / "swapped", "fine_tuning", *saved, "--do_predict", *swapped)
    predicted = [(tmp_path / name / "predictions.tsv").read_text() for name in ("two", "swapped")]
    assert predicted[0] == predicted[1]
    rows = [f"text {number},{name}" for number in range(8) for name in ("x", "y", "z")]
    (tmp_path / "three.csv").write_text("\n".join(["text,label", *rows]))
    three = [word for split in ("train", "validation", "test") for word in (f"--{split}_file", tmp_path / "three.csv")]
    with pytest.raises(ValueError, match="classes negative, positive, and those of the data are x, y, z"):
        run(script, files, tmp_path / "three", "fine_tuning", *saved, *three, "--do_predict")
    # to train on, another number of classes takes a new head
    run(script, files, tmp_path / "three", "fine_tuning", *saved, *three, "--do_train", "--max_steps", 1)
    assert dpt_peft.load(tmp_path / "three").model.config.id2label == {0: "x", 1: "y", 2: "z"}


@pytest.mark.parametrize("method", ["fine_tuning", "dpt", "deep_prompt"])
def test_texts_are_cut_later_as_they_were(method, script, files, tmp_path):
    run(script, files, tmp_path, method, "--do_train", "--max_steps", 1, "--max_seq_length", 7)
    assert AutoTokenizer.from_pretrained(tmp_path).model_max_length == 7
    long = "the film was really really really really good"
    classify = dpt_peft.load(tmp_path)
    assert classify(long) == classify("the film was really really really really bad")
    if method == "dpt":
        # the saved length is that of texts: the template comes on top, again
        saved = ("--model_name_or_path", tmp_path, "--do_predict")
        run(script, files, tmp_path / "later", method, *saved)
        config = DPTForSequenceClassification.from_pretrained(tmp_path).config
        assert config.max_length > 7


def test_a_loss_alone_is_kept(script, files, tmp_path, caplog):
    metrics = run(
        script, files, tmp_path, "dpt", "--do_train", "--max_steps", 1, "--do_eval", "--prediction_loss_only"
    )
    assert metrics["eval_loss"] > 0
    assert json.loads((tmp_path / "eval_results.json").read_text())["eval_loss"] == metrics["eval_loss"]
    assert "no labels" not in caplog.text
