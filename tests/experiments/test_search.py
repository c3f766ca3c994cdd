import re
import sqlite3
from importlib import import_module

import pytest

from tests.training.tiny import write_discriminator, write_task

pytest.importorskip("optuna", reason="optuna is not installed")


@pytest.fixture(scope="module")
def script():
    return import_module("search")


def run(script, folder, capsys, *words):
    discriminator = folder / "tiny"
    if not discriminator.exists():
        write_discriminator(discriminator)
        write_task(folder / "train.csv", 32)
    script.main(
        [
            *("--model_name_or_path", str(discriminator), "--train_file", str(folder / "train.csv")),
            *("--examples_per_class", "4", "--validation_size", "10", "--num_train_epochs", "1"),
            *("--output_dir", str(folder / "out"), *map(str, words)),
        ]
    )
    return capsys.readouterr().out


def test_trials_choose_the_model_and_the_rate_and_go_on_after_an_interruption(script, tmp_path, capsys):
    space = ("--prompt_lengths", 2, 3, "--depths", "all", "last 1", "--encoders", "none", "mlp")
    run(script, tmp_path, capsys, *space, "--method", "deep_prompt", "--trials", 2)
    table = run(script, tmp_path, capsys, *space, "--method", "deep_prompt", "--trials", 4)
    rows = [line.split("|")[1:-1] for line in table.splitlines() if line.startswith("|")][2:]
    assert sorted(int(row[0]) for row in rows) == [0, 1, 2, 3]
    accuracies = [float(row[-1]) for row in rows]
    assert accuracies == sorted(accuracies, reverse=True)
    assert {row[2].strip() for row in rows} <= {"2", "3"}
    assert {row[3].strip() for row in rows} <= {"all", "last 1"}
    assert len({row[1] for row in rows}) == 4  # learning rates
    best = r"--method deep_prompt --learning_rate \S+ --head_learning_rate 0.001 --num_virtual_tokens [23]"
    assert re.search(best, table)
    assert (tmp_path / "out" / "plot.png").stat().st_size > 5000
    with sqlite3.connect(tmp_path / "out" / "search.db") as database:
        assert database.execute("select count(*) from trials where state = 'COMPLETE'").fetchone() == (4,)


def test_other_methods_search_the_rate_alone(script, tmp_path, capsys):
    table = run(script, tmp_path, capsys, "--method", "dpt", "--trials", 2)
    assert "num_virtual_tokens" not in table
    assert table.splitlines()[-1].startswith("--method dpt --learning_rate")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--method", "dpt", "--prompt_lengths", 4), "`prompt_lengths` has no use with method 'dpt'"),
        (("--method", "deep_prompt", "--num_virtual_tokens", 4), "`num_virtual_tokens` is what the trials choose"),
        (("--method", "deep_prompt", "--learning_rate", 1e-3), "`learning_rate` is what the trials choose"),
    ],
    ids=["idle", "option", "rate"],
)
def test_what_the_trials_do_not_use_is_refused(script, tmp_path, capsys, words, message):
    with pytest.raises(ValueError, match=message):
        run(script, tmp_path, capsys, *words)


def test_idle_options_of_methods_and_missing_validation_data(script, tmp_path, capsys):
    with pytest.raises(SystemExit):
        run(script, tmp_path, capsys, "--method", "fine_tuning", "--template", "{text} : {labels}")
    assert "--template has no use with --method fine_tuning" in capsys.readouterr().err
    where = ["--train_file", str(tmp_path / "train.csv"), "--output_dir", str(tmp_path)]
    with pytest.raises(ValueError, match="no validation data to search on: give `validation_size`"):
        script.main([*where, "--model_name_or_path", str(tmp_path / "tiny")])
