import json

import pytest
import torch
from comparison import comparison
from datasets import Dataset
from plan import ExperimentArguments, make_record, read_records, run_missing, values_of
from transformers import AutoConfig

from dpt_peft.training.families import TEXT_CLASSIFICATION
from dpt_peft.training.methods import METHODS, MethodOptions
from dpt_peft.training.tuned_run import ModelArguments, facts_of_run, prepare_model


def arguments(tmp_path, **kwargs):
    return ExperimentArguments(output_dir=str(tmp_path), model_name_or_path="a/model", **kwargs)


def answer(run, arguments, path):
    return {
        "test_accuracy": run["seed"] / 10,
        "test_runtime": 1.0,
        "trained_parameters": 7,
        "rows": {"train": 1},
        "data_fingerprint": {"train": "abc"},
    }


def runs(args):
    return [args.run("sst2", "dpt", seed) for seed in args.seeds]


def test_a_run_holds_all_that_decides_it(tmp_path):
    args = arguments(tmp_path, sample_seed=-1, epochs=3)
    run = args.run("trec", "lora", 5, examples_per_class=8, options={"lora_r": 4})
    assert run["model"] == "a/model"
    assert run["sample_seed"] == 5
    assert run["learning_rate"] == METHODS["lora"].learning_rate
    assert (run["epochs"], run["batch_size"], run["examples_per_class"]) == (3, 32, 8)
    assert json.loads(json.dumps(run)) == run  # so that a record read again is known as this run


def test_finished_runs_are_not_run_again(tmp_path):
    args = arguments(tmp_path)
    seen = []

    def train(run, *rest):
        seen.append(run["seed"])
        if run["seed"] == 2 and seen.count(2) == 1:
            raise KeyboardInterrupt
        return answer(run, *rest)

    with pytest.raises(KeyboardInterrupt):
        run_missing(runs(args), args, train)
    # the interruption may also cut a line
    with (tmp_path / "records.jsonl").open("a") as file:
        file.write('{"run": {"se')
    records = run_missing(runs(args), args, train)
    assert seen == [1, 2, 2, 3]
    assert values_of(records, "accuracy") == pytest.approx([10, 20, 30])
    assert records[0]["metrics"] == {"accuracy": 0.1}
    assert {"torch", "transformers", "peft", "dpt_peft"} <= set(records[0]["versions"])
    assert run_missing(runs(args), arguments(tmp_path, only_table=True), train) == records


def test_processes_share_the_runs_and_their_records_merge(tmp_path):
    for part in ("1/2", "2/2"):
        args = arguments(tmp_path, seeds=[1, 2, 3], share=part)
        run_missing(runs(args), args, answer)
    counts = {file.name: len(file.read_text().splitlines()) for file in tmp_path.glob("records*.jsonl")}
    assert counts == {"records-1-of-2.jsonl": 2, "records-2-of-2.jsonl": 1}
    assert sorted(record["run"]["seed"] for record in read_records(args)) == [1, 2, 3]


def test_records_of_two_machines_merge_and_count_once(tmp_path):
    for name, seeds in (("here", [1, 2]), ("there", [2, 3])):
        args = arguments(tmp_path / name, seeds=seeds)
        run_missing(runs(args), args, answer)
    files = [str(tmp_path / name / "records.jsonl") for name in ("here", "there")]
    merged = read_records(arguments(tmp_path / "other", records=files))
    assert [record["run"]["seed"] for record in merged] == [1, 2, 3]


@pytest.mark.parametrize("share", ["3/2", "0/2", "half", "1/"])
def test_a_share_that_is_none_is_refused(tmp_path, share):
    with pytest.raises(ValueError, match="`share` must be like"):
        arguments(tmp_path, share=share)


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("dpt", {"template_preset": "sst2-released", "wordpieces": "mean", "calibrate": True}),
        ("dpt", {"label_words": ["bad", "good"], "template": "{labels} : {text}"}),
        ("verbalizer", {"mask_template": "{mask} {text}"}),
    ],
    ids=["preset", "own words", "verbalizer"],
)
def test_a_wrapper_is_made_again_from_its_record(discriminator, language_model, tmp_path, method, options):
    path = str(language_model if method == "verbalizer" else discriminator)
    names = ["negative", "positive"]
    chosen = MethodOptions(num_virtual_tokens=3, **options)
    prepared = prepare_model(TEXT_CLASSIFICATION, ModelArguments(path), method, chosen, seed=1, label_names=names)
    run = arguments(tmp_path).run("sst2", method, 1, options=options)
    result = {"test_accuracy": 0.5, **facts_of_run(prepared, {"train": Dataset.from_dict({"text": ["a"]})})}
    record = json.loads(json.dumps(make_record(run, result, 1.0)))
    assert record["run"] == run

    # a verbalizer's prompts are not the wrapper's
    base = prepared.model.unload() if method == "verbalizer" else prepared.model
    (inner,) = base.config.sub_configs_defaults
    config = type(base.config).from_dict({**record["wrapper"], inner: AutoConfig.from_pretrained(path)})
    again = type(base).from_pretrained(path, config=config).eval()
    again.load_state_dict(base.state_dict(), strict=False)  # what is new is drawn anew
    ids = torch.tensor([[2, 8, 9, 3]])
    with torch.no_grad():
        assert torch.equal(again(ids).logits, base.eval()(ids).logits)


def test_a_record_says_the_options_in_use(discriminator, tmp_path):
    chosen = MethodOptions(lora_r=4, num_virtual_tokens=9)
    names = ["negative", "positive"]
    prepared = prepare_model(
        TEXT_CLASSIFICATION, ModelArguments(str(discriminator)), "lora", chosen, seed=1, label_names=names
    )
    result = facts_of_run(prepared, {})
    record = make_record(arguments(tmp_path).run("sst2", "lora", 1), result, 1.0)
    assert record["options"] == {"lora_r": 4, "lora_alpha": 16, "lora_dropout": 0.0, "lora_target_modules": None}
    assert "wrapper" not in record


def test_records_without_them_are_still_read(tmp_path):
    args = arguments(tmp_path, seeds=[1])
    old = make_record(runs(args)[0], answer(runs(args)[0], args, ""), 1.0)
    assert not {"options", "wrapper"} & old.keys()
    (tmp_path / "records.jsonl").write_text(json.dumps(old) + "\n")
    assert run_missing(runs(args), args, None) == [old]


def test_tables_go_from_little_data_to_much(tmp_path):
    args = arguments(tmp_path)
    amounts = ({"train_fraction": 0.1}, {"examples_per_class": 16}, {}, {"examples_per_class": 8})
    records = [
        {"run": args.run("sst2", "dpt", 1, **amount), "metrics": {"accuracy": 0.5}, "trained_parameters": 1}
        for amount in amounts
    ]
    found = [line.partition(",")[0] for line in comparison(records, "accuracy").splitlines() if "accuracy in" in line]
    assert found == ["8 examples a class", "16 examples a class", "10 % of the data", "all data"]
