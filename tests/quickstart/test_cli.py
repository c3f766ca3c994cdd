"""The command from its arguments to its files, on a tiny random discriminator."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib import image
from transformers import pipeline

import dpt_peft
from dpt_peft.quickstart.__main__ import main
from dpt_peft.quickstart.run import Quickstart, load_data
from dpt_peft.tasks import TextClassificationArguments
from dpt_peft.training import METHODS
from tests.quickstart.conftest import write_csv

QUICKSTART_METHODS = ("fine_tuning", "dpt", "dpt_prototypes", "dpt_prototypes_deep_prompt")


@pytest.fixture
def call(discriminator, own_csv, tmp_path):
    """Calls `main` on the small file; later arguments win over these."""

    def run(*arguments: str) -> int:
        base = ["--model_name_or_path", discriminator, "--train_file", own_csv]
        base += ["--text_column_name", "body", "--label_column_name", "team", "--output_dir", str(tmp_path / "out")]
        base += ["--examples_per_class", "2", "--num_train_epochs", "1", "--seeds", "2"]
        return main([*base, "--max_seq_length", "32", "--num_virtual_tokens", "3", *arguments])

    return run


def fails(capfd, call, *arguments: str) -> str:
    """What the command says when it ends before training."""
    with pytest.raises(SystemExit) as error:
        call(*arguments)
    assert error.value.code == 2
    return capfd.readouterr().err


def test_end_to_end_in_a_process_of_its_own(discriminator, tmp_path) -> None:
    """The packaged data, all three methods; nothing but the report on stdout, nothing at all on stderr."""
    arguments = ["--model_name_or_path", discriminator, "--max_seq_length", "32", "--seeds", "1"]
    arguments += ["--num_train_epochs", "1", "--examples_per_class", "1"]
    done = subprocess.run(
        # torch 2.6 leaves a folder of its own to the interpreter
        [
            *(sys.executable, "-W", "default", "-W", "ignore:Implicitly cleaning up:ResourceWarning"),
            *("-m", "dpt_peft.quickstart", *arguments),
        ],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "COLUMNS": "200"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    noise = [line for line in done.stderr.splitlines() if "DeprecationWarning" not in line]
    assert "arning" not in done.stdout
    out = tmp_path / "outputs" / "quickstart"
    records = [json.loads(line) for line in (out / "runs.jsonl").read_text().splitlines()]
    assert [record["run"]["method"] for record in records] == list(QUICKSTART_METHODS)
    for record in records:
        assert METHODS[record["run"]["method"]].title in done.stdout
        folder = out / "models" / record["run"]["method"]
        assert record["saved_bytes"] == sum(file.stat().st_size for file in folder.rglob("*.safetensors"))
    assert records[3]["trained_parameters"] == 2 * 2 * 8 * 16 + 8 * 16  # keys and values, layers, prompts; prototypes
    assert "Customer messages: 8 classes, 1 labelled examples a class, 1 seeds, 224 test texts" in done.stdout
    assert len(re.findall(r"^    (?:\w+ [01]\.\d\d(?:, )?){3}$", done.stdout, re.MULTILINE)) == 3
    assert np.ptp(image.imread(out / "spread.png")[..., :3]) > 0.9
    assert not noise, noise


def test_saved_models_load_and_predict_as_reported(call, capfd, tmp_path) -> None:
    assert call() == 0
    shown = capfd.readouterr().out
    folder = tmp_path / "out" / "models" / "dpt_prototypes"
    assert f'dpt_peft.load("{folder}")' in shown
    classify = pipeline("text-classification", model=str(folder))
    text = re.search(r"That model on three texts:\n  (.*)\n    (\w+) ([01]\.\d\d),", shown)
    answer = classify(text.group(1))[0]
    assert answer["label"] == text.group(2)
    assert answer["score"] == pytest.approx(float(text.group(3)), abs=0.006)


@pytest.mark.parametrize("method", ["fine_tuning", "dpt", "dpt_prototypes", "deep_prompt", "dpt_deep_prompt", "lora"])
def test_every_method_loads_what_it_saved(call, tmp_path, method, own_csv) -> None:
    """The loaded model classifies the test texts with the accuracy that was measured before saving."""
    call("--methods", method, "--seeds", "1", "--test_fraction", "0.5", "--num_train_epochs", "4")
    (record,) = (json.loads(line) for line in (tmp_path / "out" / "runs.jsonl").read_text().splitlines())
    data = load_data(
        TextClassificationArguments(train_file=own_csv, text_column_name="body", label_column_name="team"), 0.5
    )
    test = data.splits["test"]
    answers = [answer["label"] for answer in dpt_peft.load(tmp_path / "out" / "models" / method)(test["text"][:])]
    right = [answer == data.label_names[label] for answer, label in zip(answers, test["labels"], strict=True)]
    assert sum(right) / len(right) == pytest.approx(record["accuracy"])


def test_second_call_trains_nothing(call, capfd, monkeypatch, tmp_path) -> None:
    call()
    table = re.search(r"method .*?\naccuracy", capfd.readouterr().out, re.DOTALL).group()
    monkeypatch.setattr(Quickstart, "train", None)
    assert call() == 0
    again = capfd.readouterr().out
    assert "8 of 8 runs are already in" in again
    assert table in again
    assert len((tmp_path / "out" / "runs.jsonl").read_text().splitlines()) == 8


def test_interrupted_run_goes_on(call, capfd, monkeypatch, tmp_path) -> None:
    train, calls = Quickstart.train, []

    def interrupted(self, method, seed, *args):
        calls.append((method, seed))
        if len(calls) == 5:
            raise KeyboardInterrupt
        return train(self, method, seed, *args)

    monkeypatch.setattr(Quickstart, "train", interrupted)
    assert call() == 130
    assert "the same command goes on from there" in capfd.readouterr().out
    assert call() == 0
    assert "4 of 8 runs are already in" in capfd.readouterr().out
    expected = [(method, seed) for seed in range(2) for method in QUICKSTART_METHODS]
    assert calls == [*expected[:5], *expected[4:]]
    assert call("--overwrite") == 0
    assert calls[9:] == expected


def test_other_settings_are_other_runs(call, monkeypatch) -> None:
    calls = []
    train = Quickstart.train

    def counted(self, method, seed, *args):
        calls.append((method, seed))
        return train(self, method, seed, *args)

    monkeypatch.setattr(Quickstart, "train", counted)
    call("--seeds", "1")
    calls.clear()
    # Other label words change DPT and leave fine-tuning as it is; a further seed is the only new run.
    call("--seeds", "1", "--label_words", "job", "praise")
    assert calls == [(method, 0) for method in QUICKSTART_METHODS[1:]]
    calls.clear()
    call("--seeds", "2", "--methods", "fine_tuning")
    assert calls == [("fine_tuning", 1)]
    calls.clear()
    # The record of the first call is there, but the kept model is the second call's.
    call("--seeds", "1", "--methods", "dpt")
    assert calls == [("dpt", 0)]


def test_changed_data_is_another_run(call, capfd, own_csv) -> None:
    call("--seeds", "1", "--methods", "dpt")
    with Path(own_csv).open("a", encoding="utf-8") as file:
        file.write("one more row,good\n")
    capfd.readouterr()
    call("--seeds", "1", "--methods", "dpt")
    assert "already" not in capfd.readouterr().out


def test_missing_column(call, capfd) -> None:
    message = fails(capfd, call, "--label_column_name", "topic")
    assert "'topic' (`label_column_name`)" in message
    assert "body, team" in message


def test_missing_file(call, capfd) -> None:
    assert "`train_file`: there is no file 'nowhere.csv'" in fails(capfd, call, "--train_file", "nowhere.csv")


def test_unknown_ending(call, capfd, tmp_path) -> None:
    (tmp_path / "data.xlsx").write_text("x")
    assert "`train_file` must end in .csv" in fails(capfd, call, "--train_file", str(tmp_path / "data.xlsx"))


def test_label_that_only_the_test_data_has(call, capfd, tmp_path) -> None:
    test = write_csv(tmp_path / "new.csv", [("lovely", "good"), ("hm", "unsure")], ("body", "team"))
    assert "labels that the train data does not have: unsure" in fails(capfd, call, "--test_file", test)


def test_too_few_examples(call, capfd) -> None:
    message = fails(capfd, call, "--examples_per_class", "9")
    assert "`examples_per_class` is 9, but class 'bad' has 7" in message


def test_output_dir_is_a_file(call, capfd, tmp_path) -> None:
    (tmp_path / "file").write_text("kept")
    assert "is a file" in fails(capfd, call, "--output_dir", str(tmp_path / "file"))
    assert (tmp_path / "file").read_text() == "kept"


def test_number_of_label_words(call, capfd) -> None:
    assert "`label_words` must give one entry per class" in fails(capfd, call, "--label_words", "good", "bad", "ugly")


def test_unknown_method(call, capfd) -> None:
    assert "invalid choice: 'magic'" in fails(capfd, call, "--methods", "magic")


def test_longer_than_the_model_reads(call, capfd) -> None:
    assert "`max_seq_length` must be between 1 and 64" in fails(capfd, call, "--max_seq_length", "65")


def test_model_without_a_discriminator_head(call, capfd, discriminator, tmp_path) -> None:
    from transformers import AutoTokenizer, ElectraModel

    ElectraModel.from_pretrained(discriminator).save_pretrained(tmp_path / "encoder")
    AutoTokenizer.from_pretrained(discriminator).save_pretrained(tmp_path / "encoder")
    assert "no pretrained replaced-token head" in fails(capfd, call, "--model_name_or_path", str(tmp_path / "encoder"))


def test_no_such_model(call, capfd) -> None:
    assert "`model_name_or_path`: there is no model 'no-such-model'" in fails(
        capfd, call, "--model_name_or_path", "no-such-model"
    )


def test_options_of_own_data_without_data(capfd, tmp_path) -> None:
    message = fails(capfd, lambda *_: main(["--label_column_name", "team", "--output_dir", str(tmp_path / "out")]))
    assert "give `train_file` too" in message


@pytest.mark.parametrize(
    "arguments",
    [("--seeds", "0"), ("--num_train_epochs", "-1"), ("--test_fraction", "1"), ("--examples_per_class", "0")],
)
def test_numbers_out_of_range(call, capfd, arguments) -> None:
    assert f"`{arguments[0][2:]}`" in fails(capfd, call, *arguments)


def test_an_error_leaves_no_run_and_no_model(call, capfd, tmp_path) -> None:
    fails(capfd, call, "--label_column_name", "topic")
    assert not list((tmp_path / "out").rglob("*"))


def test_help_names_every_option_and_default(capfd) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    shown = " ".join(capfd.readouterr().out.split())
    for option in ("--model_name_or_path", "--train_file", "--text_column_name", "--label_words", "--overwrite"):
        assert option in shown
    assert str(list(QUICKSTART_METHODS)) in shown


@pytest.mark.parametrize("package", ["matplotlib", "rich.console", "sklearn"])
def test_without_the_extra_it_helps_and_says_what_to_install(tmp_path, package) -> None:
    start = f"import sys; sys.modules[{package!r}] = None; from dpt_peft.quickstart.__main__ import main; "

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", f"{start}sys.exit(main({list(arguments)}))"]
        return subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)

    helped = run("--help")
    assert helped.returncode == 0, helped.stderr
    assert "--train_file" in helped.stdout
    refused = run()
    assert refused.returncode == 2
    assert package.partition(".")[0] in refused.stderr
    assert refused.stderr.strip().endswith('`pip install "dpt_peft[quickstart]"` installs what the quickstart needs')
    assert "Traceback" not in refused.stderr
    assert list(tmp_path.glob("outputs")) == []
