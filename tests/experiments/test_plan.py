import json

import pytest
import torch
from comparison import comparison
from label_hierarchies import HierarchyExperimentArguments, plan as plan_hierarchies
from plan import (
    ComparisonArguments,
    ExperimentArguments,
    every_run,
    make_record,
    read_records,
    run_arguments,
    run_missing,
    train,
    values_of,
)
from transformers import AutoConfig

from dpt_peft.tasks import SamplingArguments, TextClassification
from dpt_peft.training import METHODS, run
from tests.training.tiny import write_task


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
    return [args.run("sst2", "dpt", seed, 1e-4) for seed in args.seeds]


def test_a_run_holds_all_that_decides_it(tmp_path):
    args = arguments(tmp_path, sample_seed=-1, epochs=3)
    run = args.run("trec", "lora", 5, 3e-3, examples_per_class=8, options={"r": 4})
    assert run["model"] == "a/model"
    assert run["sample_seed"] == 5
    assert run["learning_rate"] == 3e-3
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


def test_rates_are_those_given_or_the_methods_own(tmp_path):
    def rates(methods, **given):
        args = ComparisonArguments(str(tmp_path), datasets=["sst2"], seeds=[1], methods=methods, **given)
        return [(run["method"], run["learning_rate"], run.get("head_learning_rate")) for run in every_run(args)]

    own = METHODS["deep_prompt"]
    assert rates(["deep_prompt", "dpt"]) == [
        ("deep_prompt", own.learning_rate, own.head_learning_rate),
        ("dpt", METHODS["dpt"].learning_rate, None),
    ]
    # A rate that is given stands alone, and a rate for heads is for new ones over a frozen backbone.
    given = {"learning_rates": ["deep_prompt=1e-2", "deep_prompt=3e-2"]}
    assert rates(["deep_prompt"], **given) == [("deep_prompt", 1e-2, None), ("deep_prompt", 3e-2, None)]
    with_head = rates(["fine_tuning", "dpt_deep_prompt", "lora"], head_learning_rate=1e-3)
    assert [head for _, _, head in with_head] == [None, None, 1e-3]


def test_the_trainer_is_told_what_the_run_says(tmp_path):
    args = arguments(tmp_path, epochs=4, batch_size=16, bf16=True, split="validation", max_test_examples=7)
    options = {"num_virtual_tokens": 3, "class_names": ["a", "b"]}
    planned = args.run("sst2", "deep_prompt", 5, 3e-2, head_learning_rate=1e-3, examples_per_class=8, options=options)
    told = run_arguments(planned, TextClassification(), {"train_file": "a.csv"}, "a/model", tmp_path, 50)
    training = told.training
    assert (training.learning_rate, training.head_learning_rate, training.num_train_epochs) == (3e-2, 1e-3, 4)
    assert (training.per_device_train_batch_size, training.seed, training.warmup_steps) == (16, 5, 0.1)
    assert (training.do_eval, training.do_predict, training.bf16) == (True, False, True)
    # Options go where they are fields: the data's arguments, or the method.
    assert (told.options, told.data.class_names) == ({"num_virtual_tokens": 3}, ["a", "b"])
    assert (told.sampling.examples_per_class, told.sampling.validation_size, told.sampling.max_eval_samples) == (
        8,
        50,
        7,
    )


@pytest.fixture
def rows(tmp_path):
    folder = tmp_path / "data" / "sst2"
    folder.mkdir(parents=True)
    for split in ("train", "test"):
        write_task(folder / f"{split}.csv", 8)
    return {"train_file": str(folder / "train.csv"), "test_file": str(folder / "test.csv")}


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("dpt", {"template_preset": "sst2-released", "wordpieces": "mean", "calibrate": True}),
        ("dpt", {"label_words": ["bad", "good"], "template": "{labels} : {text}"}),
        ("verbalizer", {"template": "{mask} {text}", "num_virtual_tokens": 3}),
    ],
    ids=["preset", "own words", "verbalizer"],
)
def test_a_wrapper_is_made_again_from_its_record(discriminator, language_model, rows, tmp_path, method, options):
    path = str(language_model if method == "verbalizer" else discriminator)
    planned = arguments(tmp_path, epochs=1, max_seq_length=64).run("sst2", method, 1, 1e-3, options=options)
    task = TextClassification()
    outcome = run(task, run_arguments(planned, task, rows, path, tmp_path, None), write_files=False)
    record = json.loads(json.dumps(make_record(planned, outcome.results, 1.0)))
    assert record["run"] == planned

    # a verbalizer's prompts are not the wrapper's
    base = outcome.model.unload() if method == "verbalizer" else outcome.model
    (inner,) = base.config.sub_configs
    config = type(base.config).from_dict({**record["wrapper"], inner: AutoConfig.from_pretrained(path)})
    again = type(base).from_pretrained(path, config=config).eval()
    again.load_state_dict(base.state_dict(), strict=False)  # what is new is drawn anew
    ids = torch.tensor([[2, 8, 9, 3]])
    with torch.no_grad():
        assert torch.equal(again(ids).logits, base.eval()(ids).logits)


def test_a_record_says_the_options_in_use(discriminator, rows, tmp_path):
    args = arguments(tmp_path, data_dir=str(tmp_path / "data"), epochs=1, max_seq_length=64)
    planned = args.run("sst2", "lora", 1, 1e-3, options={"r": 4})
    record = make_record(planned, train(planned, args, str(discriminator)), 1.0)
    assert record["options"] == {"r": 4, "lora_alpha": 16, "lora_dropout": 0.0, "target_modules": None}
    assert "wrapper" not in record
    assert record["rows"] == {"train": 8, "test": 8}


class WithoutClasses(TextClassification):
    name = "questions"
    sampling = SamplingArguments


def test_examples_per_class_need_classes(tmp_path):
    planned = arguments(tmp_path).run("sst2", "dpt", 1, 1e-4, examples_per_class=2)
    with pytest.raises(ValueError, match="questions has no classes; give a share of the examples"):
        run_arguments(planned, WithoutClasses(), {}, "a/model", tmp_path, None)


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
        {"run": args.run("sst2", "dpt", 1, 1e-4, **amount), "metrics": {"accuracy": 0.5}, "trained_parameters": 1}
        for amount in amounts
    ]
    found = [line.partition(",")[0] for line in comparison(records, "accuracy").splitlines() if "accuracy in" in line]
    assert found == ["8 examples a class", "16 examples a class", "10 % of the data", "all data"]


def test_experiments_with_equal_runs_may_share_a_folder(tmp_path):
    hierarchies = HierarchyExperimentArguments(
        output_dir=str(tmp_path), model_name_or_path="a/model", datasets=["trec"], rows=["fine_tuning"], seeds=[1]
    )
    (run_of_fifty_classes,) = plan_hierarchies(hierarchies)
    flat = arguments(tmp_path, epochs=3, batch_size=8, max_seq_length=64)
    run_of_six_classes = flat.run("trec", "fine_tuning", 1, 2e-4, train_fraction=0.1)
    assert run_of_six_classes == run_of_fifty_classes
    run_missing([run_of_six_classes], flat, answer)
    (other,) = run_missing(
        [run_of_fifty_classes], hierarchies, lambda *told: answer(*told) | {"test_accuracy_level_1": 0.9}
    )
    assert other["metrics"] == {"accuracy": 0.1, "accuracy_level_1": 0.9}
    (mine,) = run_missing([run_of_six_classes], flat, None)
    assert mine["metrics"] == {"accuracy": 0.1}


def test_options_reach_the_runs_of_their_method(tmp_path):
    args = ComparisonArguments(
        output_dir=str(tmp_path),
        datasets=["trec"],
        seeds=[1],
        methods=["fine_tuning", "deep_prompt"],
        options=["deep_prompt.use_gate=true", "deep_prompt.num_virtual_tokens=64", "deep_prompt.init_std=0.5"],
    )
    plain, prompted = every_run(args)
    assert plain["options"] == {}
    assert prompted["options"] == {"use_gate": True, "num_virtual_tokens": 64, "init_std": 0.5}
    with pytest.raises(ValueError, match="'use_gate' is what this experiment compares"):
        every_run(args, [{"options": {"use_gate": False}}])
    args.options = ["dpt.wordpieces=mean"]
    with pytest.raises(ValueError, match="of the methods fine_tuning, deep_prompt; got 'dpt.wordpieces=mean'"):
        every_run(args)
