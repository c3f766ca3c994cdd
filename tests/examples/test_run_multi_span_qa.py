"""The script on tiny data: every method, what it writes, and that what it saved answers as the run did."""

import json
import math

import pytest
from huggingface_hub import ModelCard
from peft import PeftModel
from transformers import AutoConfig, AutoModelForTokenClassification, AutoTokenizer, pipeline

from dpt_peft import DPTForMultiSpanQuestionAnswering
from dpt_peft.tasks import TASKS
from dpt_peft.training import methods_of
from tests.examples.scripts import load_script, options_of
from tests.tasks.question_answering.multi_span import question, write_discriminator

METHODS = ("dpt", "fine_tuning", "deep_prompt", "dpt_deep_prompt", "lora")
TASK = "multi-span-question-answering"


@pytest.fixture(scope="module")
def script():
    return load_script("run_multi_span_qa")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    write_discriminator(folder / "discriminator")
    for split, numbers in (("train", range(12)), ("validation", range(4)), ("test", range(6))):
        rows = [question(number) for number in numbers]
        if split == "test":  # longer than a window
            rows[1]["context"] += " Ann met Eve." * 12
        (folder / f"{split}.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    return folder


def run(script, files, output_dir, method, *more, validation=True):
    words = [
        *("--method", method, "--model_name_or_path", files / "discriminator", "--output_dir", output_dir),
        *("--train_file", files / "train.jsonl", "--test_file", files / "test.jsonl"),
        *(("--validation_file", files / "validation.jsonl") if validation else ()),
        *options_of(method, num_virtual_tokens=[3]),
        *("--per_device_train_batch_size", 4, "--max_steps", 9, "--report_to", "none"),
        *("--max_seq_length", 40, "--doc_stride", 8, "--disable_tqdm", "true", "--use_cpu", *more),
    ]
    return script.main([str(word) for word in words])


def load(folder, files, method):
    if method in ("dpt", "fine_tuning"):
        return AutoModelForTokenClassification.from_pretrained(folder)
    if method == "dpt_deep_prompt":
        base = DPTForMultiSpanQuestionAnswering.from_pretrained(files / "discriminator")
    else:
        base = AutoModelForTokenClassification.from_pretrained(files / "discriminator", num_labels=2)
    return PeftModel.from_pretrained(base, folder)


def test_the_family_has_these_methods():
    assert set(methods_of(TASKS[TASK])) == set(METHODS)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_evaluates_predicts_and_saves(script, files, tmp_path, method):
    # grouping by length must not mix up whose window is whose
    grouped = ("--train_sampling_strategy", "group_by_length", "--per_device_eval_batch_size", 2)
    metrics = run(script, files, tmp_path, method, "--do_train", "--do_eval", "--do_predict", *grouped)
    written = json.loads((tmp_path / "all_results.json").read_text())
    for name in ("train_loss", "eval_f1", "eval_exact_match_multi_span", "test_exact_match", "test_f1_single_span"):
        assert written[name] == metrics[name]
    assert metrics["rows"] == {"train": 12, "validation": 4, "test": 6}

    # What was saved answers in the pipeline what the run wrote.
    model, tokenizer = load(tmp_path, files, method).eval(), AutoTokenizer.from_pretrained(tmp_path)
    read = pipeline(TASK, model=model, tokenizer=tokenizer)
    rows = [json.loads(line) for line in (files / "test.jsonl").read_text().splitlines()]
    asked = [{name: row[name] for name in ("question", "context")} for row in rows]
    answers = read(asked, max_seq_length=40, doc_stride=8)
    by_id = json.loads((tmp_path / "predictions.json").read_text())
    assert by_id == {row["id"]: [span["answer"] for span in found] for row, found in zip(rows, answers, strict=True)}
    spans = [json.loads(line) for line in (tmp_path / "prediction_spans.jsonl").read_text().splitlines()]
    for row, record in zip(rows, spans, strict=True):
        assert row["id"] == record["id"]
        assert all(row["context"][span["start"] : span["end"]] == span["text"] for span in record["spans"])
    exact = sum(set(by_id[row["id"]]) == set(row["answers"]["text"]) for row in rows) / len(rows)
    assert metrics["test_exact_match"] == pytest.approx(exact)

    card = ModelCard.load(tmp_path / "README.md")
    assert card.data.pipeline_tag == "question-answering"
    assert method in card.data.tags
    assert "train 12, validation 4, test 6" in card.text


def test_it_learns(script, files, tmp_path):
    many = ("--max_steps", 60, "--learning_rate", 0.02)
    metrics = run(script, files, tmp_path, "dpt", "--do_train", "--do_eval", *many)
    assert metrics["eval_f1"] > 0.9


@pytest.mark.parametrize("method", ["fine_tuning", "dpt_deep_prompt"])
def test_the_tuned_threshold_is_kept(script, files, tmp_path, method):
    metrics = run(script, files, tmp_path, method, "--do_train", "--do_eval", "--tune_threshold", "--allow_no_answer")
    assert metrics["logit_threshold"] != (0 if method == "fine_tuning" else pytest.approx(-math.log(1.5)))
    if method == "fine_tuning":
        saved = AutoModelForTokenClassification.from_pretrained(tmp_path).config
        assert saved.logit_threshold == metrics["logit_threshold"]
    # The card's lines load the model with its threshold, and read as the run did.
    card = ModelCard.load(tmp_path / "README.md").text
    assert f"| Logit threshold | {metrics['logit_threshold']:.3f}" in card
    code = card.split("```python\n")[1].split("```")[0]
    code = code.replace(f'"{tmp_path.name}"', repr(str(tmp_path))).replace('"..."', '"Who sings?"', 1)
    assert "max_seq_length=40, doc_stride=8, allow_no_answer=True)" in code  # as the run read
    namespace = {}
    exec(code.replace('"..."', '"Bob and Ann."'), namespace)
    assert namespace["read"].model.config.logit_threshold == pytest.approx(metrics["logit_threshold"])


def test_validation_paragraphs_are_held_out(script, files, tmp_path):
    metrics = run(script, files, tmp_path, "dpt", "--do_train", "--do_eval", "--validation_size", 5, validation=False)
    # paragraphs are shared by two questions each
    assert metrics["rows"] == {"train": 6, "validation": 6, "test": 6}


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--do_train", "--validation_size", 2), "`validation_size` is for data without a validation split"),
        (("--do_train", "--train_fraction", 2), "`train_fraction` must be greater than 0"),
        (("--do_predict", "--tune_threshold"), "`tune_threshold` needs `do_train`"),
        (("--do_train", "--context_column_name", "text"), "Columns there are: "),
        (("--do_train", "--threshold", 0), "`threshold` must be between 0 and 1"),
    ],
)
def test_bad_arguments_end_before_anything_is_written(script, files, tmp_path, more, message):
    with pytest.raises(ValueError, match=message):
        run(script, files, tmp_path / "out", "dpt", *more)
    assert not list(tmp_path.glob("out/*"))


def test_nothing_to_do(script, files, tmp_path, capsys):
    with pytest.raises(SystemExit):
        run(script, files, tmp_path, "dpt")
    assert "nothing to do" in capsys.readouterr().err


def test_questions_without_answers_are_answered(script, files, tmp_path):
    rows = [json.loads(line) for line in (files / "test.jsonl").read_text().splitlines()]
    path = tmp_path / "asked.jsonl"
    path.write_text("\n".join(json.dumps({k: v for k, v in row.items() if k != "answers"}) for row in rows))
    metrics = run(script, files, tmp_path / "out", "dpt", "--do_predict", "--test_file", path)
    assert not {"test_f1", "test_loss"} & metrics.keys()
    assert len(json.loads((tmp_path / "out" / "predictions.json").read_text())) == 6


def test_the_experiment_runs_records_and_tunes_on_held_out_questions(files, tmp_path, capsys):
    script = load_script("experiments/multi_span")
    folder = tmp_path / "data" / "quoref"
    folder.mkdir(parents=True)
    questions = [json.loads(line) for line in (files / "train.jsonl").read_text().splitlines()]
    # Paragraphs are held out whole, at least 150 questions of them.
    many = [
        {**row, "id": f"{row['id']}-{number}", "context": row["context"] + " the end" * number}
        for number in range(160 // len(questions) + 1)
        for row in questions
    ]
    (folder / "train_10pct.jsonl").write_text("\n".join(map(json.dumps, many)))
    (folder / "validation.jsonl").write_text((files / "test.jsonl").read_text())
    words = [
        *("--data_dir", tmp_path / "data", "--model_name_or_path", files / "discriminator", "--output_dir", tmp_path),
        *("--epochs", 1, "--max_seq_length", 40, "--bf16", "--readings", "one_minus_sigmoid", "sigmoid"),
    ]
    script.main([str(word) for word in [*words, "--seeds", 1]])
    script.main([str(word) for word in [*words, "--seeds", 1, 2, "--methods", "dpt"]])
    records = [json.loads(line) for line in (tmp_path / "records.jsonl").read_text().splitlines()]
    assert [(r["run"]["method"], r["run"]["options"].get("score_function"), r["run"]["seed"]) for r in records] == [
        ("dpt", None, 1),
        ("fine_tuning", None, 1),
        ("dpt", "sigmoid", 1),
        ("dpt", None, 2),
        ("dpt", "sigmoid", 2),
    ]
    assert all(r["run"]["bf16"] and r["rows"]["validation"] >= 150 and r["rows"]["test"] == 6 for r in records)
    table = capsys.readouterr().out
    (line,) = [line for line in table.splitlines() if "DPT, tuned threshold  " in line][-1:]
    f1 = [100 * r["metrics"]["f1"] for r in records if r["run"]["options"] == {"tune_threshold": True}]
    assert f"{(f1[0] + f1[2]) / 2:.1f} ±" in line
    assert (tmp_path / "plot.png").stat().st_size > 5000


def test_what_a_saved_reader_was_told_stays(script, files, tmp_path):
    options = ("--threshold", 0.8, "--score_function", "sigmoid", "--loss_reduction", "sum")
    run(script, files, tmp_path / "one", "dpt", "--do_train", "--max_steps", 1, *options)
    again = ("--model_name_or_path", tmp_path / "one", "--do_train", "--max_steps", 1)
    run(script, files, tmp_path / "two", "dpt", *again, "--loss_reduction", "mean")
    config = AutoConfig.from_pretrained(tmp_path / "two")
    assert (config.threshold, config.score_function, config.loss_reduction) == (0.8, "sigmoid", "mean")
    turned = (*again, "--score_function", "one_minus_sigmoid")
    run(script, files, tmp_path / "three", "dpt", *turned)
    assert AutoConfig.from_pretrained(tmp_path / "three").threshold == 0.6
