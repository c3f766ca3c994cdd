import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.optim import SGD, AdamW
from transformers import ElectraConfig, ElectraForSequenceClassification

import dpt_peft
from dpt_peft.training.trainer import ScriptTrainingArguments, TaskTrainer, head_parameters, set_head_rate


def classifier():
    config = ElectraConfig(
        vocab_size=30,
        embedding_size=8,
        hidden_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=8,
        num_labels=3,
    )
    return ElectraForSequenceClassification(config)


def names(model, parameters):
    wanted = {id(parameter) for parameter in parameters}
    return {name for name, parameter in model.named_parameters() if id(parameter) in wanted}


HEAD = {"classifier.dense.weight", "classifier.dense.bias", "classifier.out_proj.weight", "classifier.out_proj.bias"}


def test_the_head_of_a_model_that_is_trained_in_full():
    model = classifier()
    assert names(model, head_parameters(model)) == HEAD
    model.classifier.dense.requires_grad_(False)
    assert names(model, head_parameters(model)) == {"classifier.out_proj.weight", "classifier.out_proj.bias"}


@pytest.mark.parametrize(
    "config",
    [
        dpt_peft.DeepPromptConfig(task_type="SEQ_CLS", num_virtual_tokens=2),
        LoraConfig(task_type="SEQ_CLS", r=2),
    ],
)
def test_the_head_over_a_frozen_backbone(config):
    model = get_peft_model(classifier(), config)
    found = names(model, head_parameters(model))
    prefix = "base_model.model.classifier.modules_to_save.default."
    assert found == {name.replace("classifier.", prefix) for name in HEAD}


def test_every_parameter_keeps_its_group_settings_and_steps_by_its_own_rate():
    model = classifier()
    body = [p for p in model.electra.parameters() if p.requires_grad]
    decayed, others = [p for p in model.parameters() if p.ndim == 2], [p for p in model.parameters() if p.ndim == 1]
    optimizer = SGD(
        [{"params": decayed, "weight_decay": 0.5}, {"params": others, "weight_decay": 0.0}], lr=0.1, momentum=0.0
    )
    set_head_rate(optimizer, model, 0.001)
    assert [(group["lr"], group["weight_decay"]) for group in optimizer.param_groups] == [
        (0.1, 0.5),
        (0.1, 0.0),
        (0.001, 0.5),
        (0.001, 0.0),
    ]
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(model.parameters()))
    before = {id(p): p.detach().clone() for p in model.parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    inside = {id(p) for p in body}
    for parameter in model.parameters():
        old = before[id(parameter)]
        rate, decay = (0.1 if id(parameter) in inside else 0.001), (0.5 if parameter.ndim == 2 else 0.0)
        torch.testing.assert_close(parameter.detach(), old - rate * (1 + decay * old))


def test_groups_that_are_all_head_go():
    model = classifier()
    optimizer = AdamW([{"params": model.electra.parameters()}, {"params": model.classifier.parameters()}], lr=0.1)
    set_head_rate(optimizer, model, 0.001)
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 0.001]


def test_a_reused_head_is_no_new_head(discriminator):
    model = dpt_peft.DPTForSequenceClassification.from_pretrained(discriminator, label_words=["bad", "good"])
    assert head_parameters(model) == []
    with pytest.raises(ValueError, match="`head_learning_rate` is for models with a new head"):
        set_head_rate(AdamW(model.parameters()), model, 1e-3)
    frozen = get_peft_model(model, dpt_peft.DeepPromptConfig(task_type="SEQ_CLS", num_virtual_tokens=2))
    assert head_parameters(frozen) == []


def test_the_trainer_warms_both_up_and_a_checkpoint_goes_on(tmp_path):
    rows = [{"input_ids": [2, 5, number % 9 + 4, 3], "labels": number % 3} for number in range(12)]

    def trainer(**more):
        torch.manual_seed(0)
        model = get_peft_model(classifier(), dpt_peft.DeepPromptConfig(task_type="SEQ_CLS", num_virtual_tokens=2))
        args = ScriptTrainingArguments(
            output_dir=str(tmp_path),
            use_cpu=True,
            report_to="none",
            learning_rate=1e-2,
            head_learning_rate=1e-3,
            per_device_train_batch_size=3,
            num_train_epochs=2,
            save_steps=3,
            disable_tqdm=True,
            **more,
        )
        return TaskTrainer(model=model, args=args, train_dataset=rows)

    whole = trainer()
    whole.train()
    groups = whole.optimizer.param_groups
    assert {group["initial_lr"] for group in groups} == {1e-2, 1e-3}
    on = trainer()
    on.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    for name, parameter in whole.model.named_parameters():
        torch.testing.assert_close(on.model.get_parameter(name), parameter, rtol=0, atol=0, msg=name)


def test_a_rate_of_zero_is_refused(tmp_path):
    with pytest.raises(ValueError, match="`head_learning_rate` must be above 0"):
        ScriptTrainingArguments(output_dir=str(tmp_path), head_learning_rate=0)
