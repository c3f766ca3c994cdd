from dataclasses import fields

import pytest

from dpt_peft.tasks.data_sets import DATA_SETS
from dpt_peft.tasks.multiple_choice import MultipleChoiceArguments
from dpt_peft.tasks.question_answering.extractive import QuestionAnsweringArguments
from dpt_peft.tasks.tagging.names import TokenClassificationArguments
from dpt_peft.tasks.tagging.roles import SemanticRoleArguments
from dpt_peft.tasks.text_classification import TextClassificationArguments
from dpt_peft.training.command_line import parse_arguments
from dpt_peft.training.multiple_choice import MultipleChoiceMethodArguments
from dpt_peft.training.presets import PRESETS
from dpt_peft.training.question_answering import QuestionAnsweringMethodArguments
from dpt_peft.training.schedules import ScriptTrainingArguments
from dpt_peft.training.text_classification import MethodArguments, SamplingArguments
from dpt_peft.training.tuned_run import ModelArguments
from dpt_peft.training.word_tagging import WordTaggingMethodArguments

DATA = {
    "text-classification": (TextClassificationArguments, MethodArguments),
    "token-classification": (TokenClassificationArguments, WordTaggingMethodArguments),
    "semantic-role-labeling": (SemanticRoleArguments, WordTaggingMethodArguments),
    "multiple-choice": (MultipleChoiceArguments, MultipleChoiceMethodArguments),
    "question-answering": (QuestionAnsweringArguments, QuestionAnsweringMethodArguments),
}


def parse(family, *words):
    data, method = DATA[family]
    dataclasses = (ModelArguments, data, method, SamplingArguments, ScriptTrainingArguments)
    parsed = parse_arguments(dataclasses, None, ["--do_train", *map(str, words)], family=family)
    return {f.name: getattr(part, f.name) for part in parsed for f in fields(part)}


@pytest.mark.parametrize("name", PRESETS)
def test_every_value_arrives(name, tmp_path):
    preset = PRESETS[name]
    file = tmp_path / "train.json"
    values = parse(preset.family, "--preset", name, "--train_file", file, "--output_dir", tmp_path)
    assert {key: values[key] for key in preset.values} == preset.values
    data = DATA_SETS[preset.data_set]
    assert {key: values[key] for key in data.columns} == data.columns
    assert {key: values[key] for key in data.options} == data.options
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
    assert values["num_virtual_tokens"] == 20
    assert (values["dataset_name"], values["dataset_config_name"]) == ("nyu-mll/glue", "rte")
    assert (values["text_column_name"], values["text_pair_column_name"]) == ("sentence1", "sentence2")


@pytest.mark.parametrize(
    ("family", "words", "message"),
    [
        ("text-classification", "--method lora --template {text}{labels}", "--template has no use with --method lora"),
        ("text-classification", "--method dpt --lora_r 4", "--lora_r has no use with --method dpt: it is for lora"),
        ("text-classification", "--method fine_tuning --num_virtual_tokens 5", "it is for deep_prompt, dpt_deep_pro"),
        ("text-classification", "--method verbalizer --calibrate", "it is for dpt, dpt_deep_prompt"),
        ("token-classification", "--method deep_prompt --label_words a b", "it is for no method of this script"),
        ("semantic-role-labeling", "--method lora --prompt_dropout 0.5", "it is for deep_prompt"),
        ("question-answering", "--method deep_prompt --score_function sigmoid", "--score_function has no use"),
        ("multiple-choice", "--method fine_tuning --layers_to_transform last 2", "it is for deep_prompt"),
    ],
)
def test_options_that_the_method_does_not_read_are_refused(family, words, message, tmp_path, capsys):
    with pytest.raises(SystemExit):
        parse(family, *words.split(), "--output_dir", tmp_path)
    assert message in capsys.readouterr().err


def test_options_without_use_at_their_default_or_from_a_preset_are_not_refused(tmp_path):
    words = ("--method", "lora", "--num_virtual_tokens", 20, "--output_dir", tmp_path)
    assert parse("text-classification", *words)["num_virtual_tokens"] == 20
    words = ("--preset", "rte-roberta-large", "--method", "lora", "--output_dir", tmp_path)
    assert parse("text-classification", *words)["num_virtual_tokens"] == 128


def test_data_that_is_not_on_the_hub_has_to_be_given(tmp_path, capsys):
    with pytest.raises(SystemExit):
        parse("token-classification", "--preset", "ontonotes-bert-large", "--output_dir", tmp_path)
    assert "LDC2013T19" in capsys.readouterr().err


def test_a_preset_of_another_family_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit):
        parse("text-classification", "--preset", "conll04-bert-large", "--output_dir", tmp_path)
    assert "invalid choice: 'conll04-bert-large'" in capsys.readouterr().err


def test_without_a_preset_nothing_changes(tmp_path):
    values = parse("token-classification", "--output_dir", tmp_path)
    assert (values["learning_rate"], values["num_virtual_tokens"], values["dataset_name"]) == (1e-2, 20, None)
    assert values["lr_decay_per_epoch"] is None
