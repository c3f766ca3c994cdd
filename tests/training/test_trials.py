"""Trials trained together end as each does alone, checked against a plain loop over one adapter."""

import pytest
import torch
from datasets import Dataset
from transformers import (
    AutoTokenizer,
    DataCollatorWithPadding,
    TrainingArguments,
    get_linear_schedule_with_warmup,
    set_seed,
)

from dpt_peft.tasks import TASKS
from dpt_peft.training.methods import build_model
from dpt_peft.training.trials import Trial, join_trials, train_together
from tests.training.tiny import write_discriminator

TRIALS = [Trial("first", 1, 1e-2), Trial("second", 2, 1e-2), Trial("fast", 1, 3e-2)]
EPOCHS, BATCH, NORM, DECAY = 2, 4, 0.5, 0.1


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return write_discriminator(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def collator(files):
    return DataCollatorWithPadding(AutoTokenizer.from_pretrained(files))


def rows(count):
    torch.manual_seed(count)
    ids = [torch.randint(5, 18, (int(torch.randint(2, 9, ())),)).tolist() for _ in range(count)]
    return Dataset.from_dict(
        {"input_ids": ids, "attention_mask": [[1] * len(i) for i in ids], "labels": [i[0] % 2 for i in ids]}
    )


def builder(files, method, **options):
    def build(trial):
        set_seed(trial.seed)
        config = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
        if method in ("deep_prompt", "lora"):
            config["classifier_dropout"] = 0.0
        return build_model(
            TASKS["text-classification"],
            method,
            str(files),
            ["bad", "good"],
            model_kwargs=config,
            num_virtual_tokens=3,
            **options,
        )

    return build


def alone(build, trial, dataset, collator):
    """The same training of one trial, written out."""
    model = build(trial).train()
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    no_decay = [p for name, p in named if name.endswith("bias") or "norm" in name.lower()]
    others = [p for _, p in named if all(p is not q for q in no_decay)]
    groups = [{"params": others, "weight_decay": DECAY}, {"params": no_decay, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=trial.learning_rate)
    steps = EPOCHS * -(-len(dataset) // BATCH)
    schedule = get_linear_schedule_with_warmup(optimizer, 2, steps)
    generator = torch.Generator().manual_seed(trial.seed)
    for _ in range(EPOCHS):
        order = torch.randperm(len(dataset), generator=generator).tolist()
        for start in range(0, len(order), BATCH):
            batch = collator([dataset[i] for i in order[start : start + BATCH]])
            model(**batch).loss.backward()
            torch.nn.utils.clip_grad_norm_([p for _, p in named], NORM)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
    return {name.replace("default", trial.name): p.detach() for name, p in named}


def together(build, dataset, evaluation, collator, tmp_path, trials=TRIALS, **kwargs):
    args = TrainingArguments(
        str(tmp_path),
        num_train_epochs=EPOCHS,
        per_device_train_batch_size=BATCH,
        warmup_steps=2,
        max_grad_norm=NORM,
        weight_decay=DECAY,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=False,
        **kwargs,
    )
    return train_together(trials, build, args, dataset, evaluation, collator)


@pytest.mark.parametrize(
    ("method", "options"),
    [("deep_prompt", {}), ("dpt_deep_prompt", {}), ("deep_prompt", {"encoder_reparameterization": "mlp"})],
)
def test_each_trial_ends_as_it_does_alone(files, collator, tmp_path, method, options):
    build, dataset, evaluation = builder(files, method, **options), rows(10), rows(7)  # 10: a short last batch
    model, metrics = together(build, dataset, evaluation, collator, tmp_path)
    parameters = dict(model.named_parameters())
    for trial in TRIALS:
        for name, weight in alone(build, trial, dataset, collator).items():
            torch.testing.assert_close(parameters[name].detach(), weight, rtol=1e-4, atol=1e-5, msg=name)
        model.set_adapter(trial.name)
        with torch.no_grad():
            loss = model.eval()(**collator([evaluation[i] for i in range(7)])).loss.item()
        assert metrics[trial.name]["eval_loss"] == pytest.approx(loss, rel=1e-4)
    assert len({round(values["eval_loss"], 6) for values in metrics.values()}) == 3


def test_a_trial_is_saved_as_an_adapter_of_its_own(files, collator, tmp_path):
    model, _ = together(builder(files, "dpt_deep_prompt"), rows(8), rows(4), collator, tmp_path)
    model.save_pretrained(tmp_path, selected_adapters=["fast"])
    assert (tmp_path / "fast" / "adapter_model.safetensors").exists()


def test_what_cannot_be_trained_together_is_refused(files, collator, tmp_path):
    build = builder(files, "deep_prompt")
    with pytest.raises(ValueError, match="names of their own"):
        join_trials([TRIALS[0], TRIALS[0]], build)
    with pytest.raises(ValueError, match="gradient_accumulation_steps"):
        together(build, rows(8), rows(4), collator, tmp_path, gradient_accumulation_steps=2)

    def trains_more(trial):
        model = build(trial)
        model.get_base_model().electra.encoder.layer[0].output.dense.weight.requires_grad_(True)
        return model

    with pytest.raises(ValueError, match="trains more than its adapter holds"):
        join_trials(TRIALS, trains_more)


@pytest.mark.parametrize("name", ["0", "weight", "electra"])
def test_trials_are_not_called_like_something_in_the_model(files, name):
    with pytest.raises(ValueError, match=f"something in the model is called '{name}'.*'seed_4'"):
        join_trials([Trial(name, 4, 1e-2)], builder(files, "deep_prompt"))


@pytest.mark.parametrize("name", ["lr=0.01", "items", "training", "copy", ""])
def test_names_that_torch_cannot_have_are_refused(files, name):
    with pytest.raises(ValueError, match="`adapter_name` cannot be"):
        join_trials([Trial(name, 1, 1e-2)], builder(files, "deep_prompt"))


def test_there_must_be_trials(files):
    with pytest.raises(ValueError, match="`trials` need names of their own.*got none"):
        join_trials([], builder(files, "deep_prompt"))


@pytest.mark.parametrize(
    "option",
    [
        {"load_best_model_at_end": True, "save_strategy": "epoch", "eval_strategy": "epoch"},
        {"train_sampling_strategy": "group_by_length"},
        {"data_seed": 1},
    ],
)
def test_options_for_one_model_alone_are_refused(files, collator, tmp_path, option):
    args = TrainingArguments(str(tmp_path), report_to="none", use_cpu=True, **option)
    with pytest.raises(ValueError, match=f"`{next(iter(option))}` is not possible with trials"):
        train_together(TRIALS, builder(files, "deep_prompt"), args, rows(4), rows(4), collator)
