import pytest
import torch
from torch.optim import SGD
from torch.optim.lr_scheduler import ExponentialLR
from transformers import TrainingArguments

from dpt_peft.training.trainer import ScriptTrainingArguments, TaskTrainer, decay_by_epochs


def optimizer(learning_rate=0.5):
    return SGD([torch.nn.Parameter(torch.zeros(1))], lr=learning_rate)


def rates(schedule, updates):
    found = []
    for _ in range(updates):
        found.append(schedule.get_last_lr()[0])
        schedule.optimizer.step()
        schedule.step()
    return found


def test_the_rate_is_that_of_the_released_code_epoch_by_epoch():
    # the released code steps torch's ExponentialLR at the end of every epoch
    theirs = rates(ExponentialLR(optimizer(), gamma=0.95), 4)
    ours = rates(decay_by_epochs(optimizer(), 0.95, updates_per_epoch=3), 12)
    assert ours == pytest.approx([rate for rate in theirs for _ in range(3)])


def test_warmup_comes_before():
    assert rates(decay_by_epochs(optimizer(1), 0.5, 4, warmup_updates=2), 6) == [0, 0.5, 1, 1, 0.5, 0.5]


def test_a_checkpoint_within_an_epoch_goes_on():
    whole = decay_by_epochs(optimizer(), 0.9, 4)
    expected = rates(whole, 10)
    first = decay_by_epochs(optimizer(), 0.9, 4)
    rates(first, 5)
    second = decay_by_epochs(optimizer(), 0.9, 4)
    second.load_state_dict(first.state_dict())
    second.optimizer.param_groups[0]["lr"] = first.get_last_lr()[0]
    assert rates(second, 5) == pytest.approx(expected[5:])


def trainer(tmp_path, model=None, rows=10, **more):
    args = ScriptTrainingArguments(
        output_dir=str(tmp_path), use_cpu=True, report_to="none", learning_rate=1e-2, warmup_steps=0, **more
    )
    return TaskTrainer(model=model or torch.nn.Linear(1, 1), args=args, train_dataset=[{"x": 0.0}] * rows)


@pytest.mark.parametrize(
    ("more", "updates"),
    [({}, 4), ({"gradient_accumulation_steps": 3}, 2), ({"dataloader_drop_last": True}, 3)],
)
def test_updates_of_an_epoch(tmp_path, more, updates):
    ours = trainer(tmp_path, per_device_train_batch_size=3, lr_decay_per_epoch=0.5, **more)
    assert ours.updates_per_epoch() == updates
    ours.create_optimizer_and_scheduler(num_training_steps=3 * updates)
    assert ours.lr_scheduler.get_last_lr()[0] == 1e-2
    assert rates(ours.lr_scheduler, updates + 1)[-1] == pytest.approx(5e-3)


def test_without_it_the_schedule_is_that_of_transformers(tmp_path):
    ours = trainer(tmp_path)
    ours.create_optimizer_and_scheduler(num_training_steps=4)
    assert rates(ours.lr_scheduler, 4) == pytest.approx([1e-2, 7.5e-3, 5e-3, 2.5e-3])


class Doubled(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))

    def forward(self, x, labels=None):
        return {"loss": (self.weight * x).mean(), "logits": self.weight * x}


def test_a_second_training_begins_the_schedule_anew(tmp_path):
    ours = trainer(
        tmp_path,
        Doubled(),
        per_device_train_batch_size=5,
        num_train_epochs=2,
        lr_decay_per_epoch=0.5,
        logging_steps=1,
        disable_tqdm=True,
        save_strategy="no",
    )
    for _ in range(2):
        ours.train()
        assert [entry["learning_rate"] for entry in ours.state.log_history[:-1]] == [1e-2, 1e-2, 5e-3, 5e-3]


def test_a_function_may_make_the_model(tmp_path):
    args = TrainingArguments(output_dir=str(tmp_path), use_cpu=True, report_to="none", max_steps=1)
    made = TaskTrainer(model_init=Doubled, args=args, train_dataset=[{"x": 1.0}])
    made.train()
    assert made.model.weight.item() != 1
    assert not made.model_accepts_loss_kwargs


@pytest.mark.parametrize("decay", [0, -1, 1.5])
def test_impossible_decays(tmp_path, decay):
    with pytest.raises(ValueError, match="`lr_decay_per_epoch` must be above 0 and at most 1"):
        ScriptTrainingArguments(output_dir=str(tmp_path), lr_decay_per_epoch=decay)
