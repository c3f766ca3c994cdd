import numpy as np
import pytest
import torch
from accelerate.data_loader import BatchSamplerShard
from datasets import Dataset
from peft import PeftModel
from transformers import AutoModelForTokenClassification

from dpt_peft.tasks import TASKS
from dpt_peft.training.methods import build_model
from dpt_peft.training.shared_prompts import OneTask, SharedPromptModel, TaskBatchSampler, join_tasks, mean_over_tasks

IDS = torch.tensor([[2, 9, 12, 3]])


def models(discriminator, encoder="none", **lengths):
    return {
        name: build_model(
            TASKS["token-classification"],
            "deep_prompt",
            str(discriminator),
            [str(number) for number in range(labels)],
            num_virtual_tokens=length,
            encoder_reparameterization=encoder,
        )
        for name, (labels, length) in lengths.items()
    }


@pytest.fixture(params=["none", "mlp"])
def shared_model(discriminator, request):
    return SharedPromptModel(models(discriminator, request.param, names=(3, 4), roles=(5, 4)))


def test_prompts_and_backbone_are_one_and_heads_are_not(shared_model):
    names, roles = shared_model.tasks.values()
    ours, theirs = dict(names.named_parameters()), dict(roles.named_parameters())
    assert ours.keys() == theirs.keys()
    own = {name for name in ours if ours[name] is not theirs[name]}
    assert own
    assert all(".classifier." in name for name in own)
    assert any("deep_prompt_" in name and ours[name].requires_grad for name in ours)
    assert shared_model("names", input_ids=IDS).logits.shape == (1, 4, 3)
    assert shared_model("roles", input_ids=IDS).logits.shape == (1, 4, 5)


def test_a_task_trains_the_shared_prompts_and_its_own_head(shared_model):
    before = {key: value.clone() for key, value in shared_model.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in shared_model.parameters() if p.requires_grad], lr=0.5)
    roles_before = shared_model.eval()("roles", input_ids=IDS).logits
    shared_model.train()("names", labels=torch.tensor([[-100, 1, 2, -100]]), input_ids=IDS).loss.backward()
    optimizer.step()
    changed = {key for key, value in shared_model.state_dict().items() if not torch.equal(value, before[key])}
    assert not any(key.startswith("tasks.roles") for key in changed)
    assert any(".classifier." in key for key in changed)
    assert any("deep_prompt_" in key for key in changed)
    assert not torch.equal(shared_model.eval()("roles", input_ids=IDS).logits, roles_before)


def test_the_state_holds_what_is_trained_once(shared_model):
    state = shared_model.state_dict()
    trained = {name: p for name, p in shared_model.named_parameters() if p.requires_grad}
    assert state.keys() == trained.keys()
    assert not any(key.startswith("tasks.roles") for key in state if "deep_prompt_" in key)
    zeros = {key: torch.zeros_like(value) for key, value in state.items()}
    result = shared_model.load_state_dict(zeros)
    assert (result.missing_keys, result.unexpected_keys) == ([], [])
    assert all((p == 0).all() for p in trained.values())
    with pytest.raises(RuntimeError, match="Unexpected keys: \\['other'\\]"):
        shared_model.load_state_dict({**zeros, "other": torch.zeros(1)})
    # as part of a larger module
    whole = torch.nn.ModuleDict({"part": shared_model, "more": torch.nn.Linear(1, 1)}).state_dict()
    assert {key.removeprefix("part.") for key in whole if key.startswith("part.")} == state.keys()
    assert "more.weight" in whole


def test_every_task_is_saved_as_a_plain_adapter(shared_model, discriminator, tmp_path):
    with torch.no_grad():
        for parameter in shared_model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter))
    shared_model.eval()
    for name, labels in (("names", 3), ("roles", 5)):
        shared_model.tasks[name].save_pretrained(tmp_path / name)
        base = AutoModelForTokenClassification.from_pretrained(discriminator, num_labels=labels, dtype=torch.float32)
        again = PeftModel.from_pretrained(base, tmp_path / name).eval()
        with torch.no_grad():
            expected = shared_model(name, input_ids=IDS).logits
            assert torch.equal(again(input_ids=IDS).logits, expected)


def test_models_that_do_not_fit_are_refused(discriminator):
    with pytest.raises(ValueError, match="'a' and 'b' have different backbones or prompts"):
        SharedPromptModel(models(discriminator, a=(3, 4), b=(3, 5)))
    with pytest.raises(ValueError, match="`models` is empty"):
        SharedPromptModel({})


def test_batches_are_full_and_of_one_task():
    sizes = [10, 3]
    batches = list(TaskBatchSampler(sizes, 4, temperature=1))
    assert len(batches) == 4  # 13 rows
    assert all(len(batch) == 4 for batch in batches)
    assert all(max(batch) < 10 or min(batch) >= 10 for batch in batches)


def test_rows_come_once_before_they_come_again():
    sampler = TaskBatchSampler([8, 4], 2, temperature=1, seed=3)
    seen = [[row for batch in sampler for row in batch if (row >= 8) == second] for second in (False, True)]
    for rows, size in zip(seen, (8, 4), strict=True):
        for start in range(0, len(rows) - size + 1, size):
            assert len(set(rows[start : start + size])) == size


@pytest.mark.parametrize(("temperature", "share"), [(1, 0.9), (2, 0.75), (float("inf"), 0.5)])
def test_temperature(temperature, share):
    sampler = TaskBatchSampler([90, 10], 1, temperature=temperature)
    assert sampler.probabilities[0] == pytest.approx(share)
    drawn = []
    for epoch in range(40):
        sampler.set_epoch(epoch)
        drawn += [batch[0] < 90 for batch in sampler]
    assert np.mean(drawn) == pytest.approx(share, abs=0.03)


def test_the_order_depends_on_seed_and_epoch_alone():
    def order(seed, epoch):
        sampler = TaskBatchSampler([8, 8], 2, seed=seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    assert order(0, 1) == order(0, 1)
    assert order(0, 1) != order(0, 2)
    assert order(0, 1) != order(1, 1)


def test_processes_see_the_same_task_at_the_same_time():
    sampler = TaskBatchSampler([9, 5], 2, together=2)
    shards = [list(BatchSamplerShard(sampler, 2, index)) for index in range(2)]
    assert len(shards[0]) == len(shards[1]) == len(sampler) // 2 == 4
    assert [batch[0] < 9 for batch in shards[0]] == [batch[0] < 9 for batch in shards[1]]
    assert BatchSamplerShard(sampler, 2, 0).batch_sampler.sampler is sampler  # where accelerate tells the epoch


@pytest.mark.parametrize(
    ("sizes", "options", "message"),
    [([3, 0], {}, "Every task needs rows"), ([], {}, "Every task needs rows"), ([3], {"temperature": 0}, "above 0")],
)
def test_impossible_batches(sizes, options, message):
    with pytest.raises(ValueError, match=message):
        TaskBatchSampler(sizes, 2, **options)


def test_a_batch_of_two_tasks_is_refused():
    rows = list(join_tasks({"a": Dataset.from_dict({"x": [1]}), "b": Dataset.from_dict({"x": [2]})}))
    collate = OneTask(lambda batch: {"x": [row["x"] for row in batch]})
    assert collate(rows[:1]) == {"x": [1], "task": "a"}
    with pytest.raises(ValueError, match="rows of a, b"):
        collate(rows)
    with pytest.raises(ValueError, match="columns of different kinds"):
        join_tasks({"a": Dataset.from_dict({"x": [1]}), "b": Dataset.from_dict({"x": ["2"]})})


def test_means_over_tasks():
    metrics = {"eval_a_f1": 0.5, "eval_b_f1": 1.0, "eval_a_accuracy": 1.0, "eval_a_runtime": 3, "eval_b_runtime": 5}
    assert mean_over_tasks(metrics, ["a", "b"], "eval") == {"eval_mean_f1": 0.75}
