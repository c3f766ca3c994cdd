"""The script on tiny data: every method, what it writes, and that what it saved answers as the run did."""

import json

import pytest
from huggingface_hub import ModelCard
from transformers import AutoConfig, pipeline

from dpt_peft.tasks import TASKS
from dpt_peft.tasks.question_answering.metrics import normalize_answer
from dpt_peft.training import methods_of
from tests.examples.scripts import load_script, options_of
from tests.tasks.question_answering.reader import ask, write_reader

METHODS = ("fine_tuning", "deep_prompt", "lora")


@pytest.fixture(scope="module")
def script():
    return load_script("run_qa")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    write_reader(folder / "reader")
    for split, numbers in (("train", range(12)), ("validation", range(5)), ("test", range(6))):
        rows = [ask(number, impossible=number % 4 == 3) for number in numbers]
        if split == "test":  # longer than a window
            rows[1]["context"] += " Ann met Eve." * 12
        (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


def run(script, files, output_dir, method, *more):
    words = [
        *("--method", method, "--model_name_or_path", files / "reader", "--output_dir", output_dir),
        *("--train_file", files / "train.jsonl", "--validation_file", files / "validation.jsonl"),
        *("--test_file", files / "test.jsonl", "--version_2_with_negative"),
        *options_of(method, num_virtual_tokens=[3]),
        *("--per_device_train_batch_size", 4, "--max_steps", 9, "--report_to", "none", "--use_cpu"),
        *("--max_seq_length", 40, "--doc_stride", 8, "--disable_tqdm", "true", *more),
    ]
    return script.main([str(word) for word in words])


def test_the_family_has_these_methods():
    assert set(methods_of(TASKS["question-answering"])) == set(METHODS)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_tunes_predicts_and_saves(script, files, tmp_path, method):
    # grouping by length must not mix up whose window is whose
    grouped = ("--train_sampling_strategy", "group_by_length", "--per_device_eval_batch_size", 2)
    wanted = ("--do_train", "--do_eval", "--do_predict", "--tune_threshold")
    metrics = run(script, files, tmp_path, method, *wanted, *grouped)
    written = json.loads((tmp_path / "all_results.json").read_text())
    for name in ("train_loss", "eval_f1", "eval_HasAns_exact", "test_exact_match", "test_NoAns_f1", "test_best_f1"):
        assert written[name] == metrics[name]
    assert metrics["eval_f1"] == pytest.approx(metrics["eval_best_f1"])  # tuned on these questions
    assert metrics["rows"] == {"train": 12, "validation": 5, "test": 6}
    threshold = metrics["null_score_diff_threshold"]

    # The card's lines load a pipeline that answers, with the tuned threshold, what the run wrote.
    card = ModelCard.load(tmp_path / "README.md")
    assert card.data.pipeline_tag == "question-answering"
    assert "train 12, validation 5, test 6" in card.text
    code = card.text.split("```python\n")[1].split("```")[0].replace(f'"{tmp_path.name}"', repr(str(tmp_path)))
    assert 'read(question="...", context="...", max_seq_length=40, doc_stride=8)' in code  # as the run read
    namespace = {}
    exec(code.replace('"..."', '"Who sings?"', 1).replace('"..."', '"Bob sings."'), namespace)
    read = namespace["read"]
    assert read.model.config.null_score_diff_threshold == pytest.approx(threshold)
    rows = [json.loads(line) for line in (files / "test.jsonl").read_text().splitlines()]
    asked = [{name: row[name] for name in ("question", "context")} for row in rows]
    answers = read(asked, max_seq_length=40, doc_stride=8)
    by_id = json.loads((tmp_path / "predictions.json").read_text())
    assert by_id == {row["id"]: answer["answer"] for row, answer in zip(rows, answers, strict=True)}
    lines = [json.loads(line) for line in (tmp_path / "prediction_spans.jsonl").read_text().splitlines()]
    assert [(line["id"], "".join(span["text"] for span in line["spans"])) for line in lines] == list(by_id.items())
    odds = json.loads((tmp_path / "null_odds.json").read_text())
    assert {name for name, value in odds.items() if value > threshold} == {n for n, text in by_id.items() if not text}
    gold = [(row["answers"]["text"] or [""])[0] for row in rows]
    exact = [
        normalize_answer(by_id[row["id"]]) == normalize_answer(text) for row, text in zip(rows, gold, strict=True)
    ]
    assert metrics["test_exact_match"] == pytest.approx(sum(exact) / len(exact))
    assert len(json.loads((tmp_path / "nbest_predictions.json").read_text())["q0"]) > 1


def test_it_learns(script, files, tmp_path):
    many = ("--max_steps", 90, "--learning_rate", 0.01)
    metrics = run(script, files, tmp_path, "fine_tuning", "--do_train", "--do_eval", *many)
    assert metrics["eval_f1"] > 0.9


def test_squad_1_has_no_threshold(script, files, tmp_path):
    answered = tmp_path / "answered.jsonl"
    answered.write_text("\n".join(json.dumps(ask(number)) for number in range(5)))
    words = [f"--{split}_file" for split in ("train", "validation", "test")]
    where = [word for name in words for word in (name, answered)]
    metrics = run(
        script, files, tmp_path / "out", "lora", *where, "--version_2_with_negative", "false",
        "--do_train", "--do_eval", "--do_predict",
    )  # fmt: skip
    assert {"eval_exact_match", "eval_f1"} <= set(metrics)
    assert not [name for name in metrics if "HasAns" in name or "best_f1" in name]
    assert not (tmp_path / "out" / "null_odds.json").exists()
    assert all(json.loads((tmp_path / "out" / "predictions.json").read_text()).values())
    assert getattr(AutoConfig.from_pretrained(files / "reader"), "null_score_diff_threshold", None) is None


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            ("--do_train", "--version_2_with_negative", "false", "--null_score_diff_threshold", 1),
            "`null_score_diff_threshold` needs `version_2_with_negative`",
        ),
        (("--do_train", "--version_2_with_negative", "false"), "train data has questions without an answer"),
        (("--do_predict", "--tune_threshold"), "`tune_threshold` needs `do_train`"),
        (("--do_train", "--context_column_name", "text"), "Columns there are: "),
        (("--do_train", "--train_fraction", 2), "`train_fraction` must be greater than 0"),
    ],
)
def test_bad_arguments_end_before_anything_is_written(script, files, tmp_path, more, message):
    with pytest.raises(ValueError, match=message):
        run(script, files, tmp_path / "out", "lora", *more)
    assert not list(tmp_path.glob("out/*"))


def test_a_saved_reader_is_found_by_its_folder(script, files, tmp_path):
    run(script, files, tmp_path, "fine_tuning", "--do_train", "--null_score_diff_threshold", 1.5)
    read = pipeline("extractive-question-answering", model=str(tmp_path))
    assert read.model.config.null_score_diff_threshold == 1.5
    assert set(read(question="Who sings?", context="Bob sings.")) == {"score", "start", "end", "answer"}


def test_the_threshold_of_a_saved_reader_stays(script, files, tmp_path):
    run(script, files, tmp_path / "one", "fine_tuning", "--do_train", "--null_score_diff_threshold", -1.5)
    saved = ("--model_name_or_path", tmp_path / "one", "--do_predict")
    assert run(script, files, tmp_path / "two", "fine_tuning", *saved)["null_score_diff_threshold"] == -1.5
    asked = (*saved, "--null_score_diff_threshold", 0.0)
    assert run(script, files, tmp_path / "three", "fine_tuning", *asked)["null_score_diff_threshold"] == 0.0
