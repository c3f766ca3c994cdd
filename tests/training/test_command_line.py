from dataclasses import fields

import pytest

from dpt_peft.tasks import DATA_SETS, TASKS
from dpt_peft.training import PRESETS, parse_arguments


def parse(family, *words):
    (parsed,) = parse_arguments(TASKS[family], None, ["--do_train", *map(str, words)])
    parts = (parsed.model, parsed.data, parsed.sampling, parsed.training)
    values = {f.name: getattr(part, f.name) for part in parts for f in fields(part)}
    return {**values, "method": parsed.method, **parsed.options}


@pytest.mark.parametrize("name", PRESETS)
def test_every_value_arrives(name, tmp_path):
    preset = PRESETS[name]
    file = tmp_path / "train.json"
    values = parse(preset.family, "--preset", name, "--train_file", file, "--output_dir", tmp_path)
    assert {key: values[key] for key in preset.values} == preset.values
    data = DATA_SETS[preset.data_set]
    assert {key: values[key] for key in data.arguments} == data.arguments
    assert (values["dataset_name"], values["train_file"]) == (None, str(file))


def test_the_released_values_of_conll04():
    # run_script/run_conll04_roberta.sh of github.com/THUDM/P-tuning-v2
    values = PRESETS["conll04-roberta-large"].values
    assert (values["learning_rate"], values["num_virtual_tokens"], values["num_train_epochs"]) == (6e-2, 144, 80)
    assert (values["per_device_train_batch_size"], values["lr_decay_per_epoch"]) == (32, 0.95)


def test_the_command_line_goes_before(tmp_path):
    words = ("--preset", "rte-bert-large", "--learning_rate", 0.5, "--model_name_or_path", "tiny", "--method", "lora")
    values = parse("text-classification", *words, "--output_dir", tmp_path)
    assert (values["learning_rate"], values["model_name_or_path"], values["method"]) == (0.5, "tiny", "lora")
    assert "num_virtual_tokens" not in values  # what a preset sets is for its own method
    assert (values["dataset_name"], values["dataset_config_name"]) == ("nyu-mll/glue", "rte")
    assert (values["text_column_name"], values["text_pair_column_name"]) == ("sentence1", "sentence2")


@pytest.mark.parametrize(
    ("family", "words", "message"),
    [
        ("text-classification", "--method lora --template {text}{labels}", "--template has no use with --method lora"),
        ("text-classification", "--method dpt --r 4", "--r has no use with --method dpt: it is for lora"),
        ("text-classification", "--method fine_tuning --num_virtual_tokens 5", "it is for deep_prompt, dpt_deep_pro"),
        ("text-classification", "--method verbalizer --calibrate", "it is for dpt, dpt_prototypes, dpt_deep_prompt"),
        (
            "token-classification",
            "--method deep_prompt --label_words a b",
            "no argument of this script: --label_wo",
        ),
        ("semantic-role-labeling", "--method lora --prompt_dropout 0.5", "it is for deep_prompt"),
        (
            "question-answering",
            "--method deep_prompt --score_function sigmoid",
            "this script: --score_function",
        ),
        ("text-classification", "--method deep_prompt --init_weights zeros", "`init_weights` must be one of"),
        ("multiple-choice", "--method fine_tuning --layers_to_transform last 2", "it is for deep_prompt"),
    ],
)
def test_options_that_the_method_does_not_read_are_refused(family, words, message, tmp_path, capsys):
    with pytest.raises(SystemExit):
        parse(family, *words.split(), "--output_dir", tmp_path)
    assert message in capsys.readouterr().err


def test_options_of_a_preset_for_another_method_are_left_out(tmp_path):
    words = ("--preset", "rte-roberta-large", "--method", "lora", "--output_dir", tmp_path)
    other = parse("text-classification", *words)
    assert "num_virtual_tokens" not in other
    assert (other["learning_rate"], other["num_train_epochs"]) == (None, None)
    same = parse("text-classification", *words[:2], "--output_dir", tmp_path)
    assert (same["learning_rate"], same["num_train_epochs"]) != (None, None)
    assert parse("text-classification", *words, "--learning_rate", 1e-3)["learning_rate"] == 1e-3
    assert parse("text-classification", *words[:2], "--output_dir", tmp_path)["num_virtual_tokens"] == 128


def test_switches_lists_and_numbers_arrive(tmp_path):
    words = ("--method", "deep_prompt", "--use_gate", "--layers_to_transform", "last", 2, "--init_std", 0.5)
    values = parse("text-classification", *words, "--output_dir", tmp_path)
    assert (values["use_gate"], values["layers_to_transform"], values["init_std"]) == (True, ["last", "2"], 0.5)
    words = ("--method", "lora", "--target_modules", "query", "--r", 4, "--output_dir", tmp_path)
    assert (parse("text-classification", *words)["target_modules"], values["method"]) == (["query"], "deep_prompt")


def test_an_unknown_word_is_named(tmp_path, capsys):
    with pytest.raises(SystemExit):
        parse("text-classification", "--no_such_thing", 3, "--output_dir", tmp_path)
    assert "no argument of this script: --no_such_thing" in capsys.readouterr().err


def test_data_that_is_not_on_the_hub_has_to_be_given(tmp_path, capsys):
    with pytest.raises(SystemExit):
        parse("token-classification", "--preset", "ontonotes-bert-large", "--output_dir", tmp_path)
    assert "LDC2013T19" in capsys.readouterr().err


def test_help_shows_what_a_preset_stands_for(capsys):
    with pytest.raises(SystemExit):
        parse("text-classification", "--preset", "sst2-electra-base", "--help")
    assert "(default: google/electra-base-discriminator)" in " ".join(capsys.readouterr().out.split())


def test_a_preset_of_another_family_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit):
        parse("text-classification", "--preset", "conll04-bert-large", "--output_dir", tmp_path)
    assert "invalid choice: 'conll04-bert-large'" in capsys.readouterr().err


def test_without_a_preset_nothing_changes(tmp_path):
    values = parse("token-classification", "--output_dir", tmp_path)
    assert (values["learning_rate"], values["dataset_name"]) == (None, None)
    assert "num_virtual_tokens" not in values
    assert values["lr_decay_per_epoch"] is None
