"""The example scripts of transformers and PEFT with the lines that docs/how_to/existing_pipelines.md changes.

The loops here make the calls that those scripts make, in their order; the model is made by the documented lines, as they
stand in the page.
"""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from accelerate import Accelerator
from datasets import Dataset
from peft import AutoPeftModelForQuestionAnswering, PeftModel, get_peft_model
from torch.optim import AdamW
from torch.utils.data import DataLoader
from transformers import (
    AutoConfig,
    AutoModelForMultipleChoice,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorForMultipleChoice,
    DataCollatorForTokenClassification,
    DataCollatorWithPadding,
    EvalPrediction,
    Trainer,
    TrainingArguments,
    default_data_collator,
    get_linear_schedule_with_warmup,
    get_scheduler,
)

import dpt_peft
from tests.processes import run_in_processes

from .models import (
    KINDS,
    assert_same,
    losses,
    make,
    make_rows,
    make_tokenizer,
    make_trainer,
    trained,
    with_prompts,
    write_language_models,
)

PAGE = Path(__file__).parents[2] / "docs" / "how_to" / "existing_pipelines.md"
BLOCKS = re.findall(r"```diff\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
DPT, PROMPTS, NER, QA, SWAG, PEFT = BLOCKS
SENTENCES = ["a good film", "the news was very bad", "it was fine", "a sad match"] * 2


def model_of(block: str, folder: Path, **names: Any) -> Any:
    """What a documented block makes of the folder: its lines without those that it takes away."""
    kept = [line[1:] for line in block.splitlines() if not line.startswith("-")]
    # the label words of the page are not in the vocabulary here
    code = textwrap.dedent("\n".join(kept)).replace('["negative", "positive"]', '["bad", "good"]')
    model_args = SimpleNamespace(
        model_name_or_path=str(folder),
        cache_dir=None,
        revision=None,
        token=None,
        trust_remote_code=False,
        ignore_mismatched_sizes=False,
    )
    args = SimpleNamespace(model_name_or_path=str(folder), num_virtual_tokens=20)
    scope = {**vars(transformers), "get_peft_model": get_peft_model, "model_args": model_args, "args": args, **names}
    exec(code, scope)
    return scope["model"]


def changed_lines(block: str) -> int:
    """Lines that are new, a call counted once."""
    return sum(line.startswith("+") for line in block.splitlines())


def test_two_to_five_lines_change():
    assert [changed_lines(block) for block in BLOCKS] == [3, 3, 3, 3, 4, 3]


@pytest.fixture
def training_args(tmp_path) -> TrainingArguments:
    return TrainingArguments(
        str(tmp_path / "out"),
        do_train=True,
        do_eval=True,
        max_steps=4,
        per_device_train_batch_size=2,
        learning_rate=1e-2,
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        logging_steps=1,
        dataloader_pin_memory=False,
    )


def train_and_evaluate(trainer: Trainer, model: Any, steps: int = 4) -> None:
    """The scripts' calls from training to the saved model."""
    before = trained(model)
    result = trainer.train(resume_from_checkpoint=None)
    trainer.save_model()
    trainer.log_metrics("train", result.metrics)
    trainer.save_metrics("train", result.metrics)
    trainer.save_state()
    metrics = trainer.evaluate(eval_dataset=trainer.eval_dataset)
    trainer.save_metrics("eval", metrics)
    assert trainer.state.global_step == steps
    assert len(losses(trainer)) == steps
    assert np.isfinite(losses(trainer)).all()
    assert np.isfinite(metrics["eval_loss"])
    assert any(not torch.equal(values, before[name]) for name, values in trained(model).items())


@pytest.mark.parametrize(("block", "inside"), [(DPT, False), (PROMPTS, True)], ids=["DPT", "prompts"])
def test_run_glue(block, inside, plain, training_args):
    folder = plain / "discriminator"
    config = AutoConfig.from_pretrained(folder, num_labels=2, finetuning_task="sst2")
    tokenizer = AutoTokenizer.from_pretrained(folder, use_fast=True)
    model = model_of(block, folder, config=config)
    model.config.label2id = {"negative": 0, "positive": 1}
    model.config.id2label = {index: label for label, index in config.label2id.items()}

    def preprocess_function(examples: Any) -> Any:
        return tokenizer(examples["sentence"], padding="max_length", max_length=16, truncation=True)

    rows = Dataset.from_dict({"sentence": SENTENCES, "label": [1, 0] * 4}).map(preprocess_function, batched=True)

    def compute_metrics(p: EvalPrediction) -> dict[str, float]:
        preds = p.predictions[0] if isinstance(p.predictions, tuple) else p.predictions
        return {"accuracy": float((np.argmax(preds, axis=1) == p.label_ids).mean())}

    trainer = Trainer(
        model=model,
        args=training_args,
        train_dataset=rows,
        eval_dataset=rows,
        compute_metrics=compute_metrics,
        processing_class=tokenizer,
        data_collator=default_data_collator,
    )
    train_and_evaluate(trainer, model)
    predictions = trainer.predict(rows.remove_columns("label"), metric_key_prefix="predict").predictions
    assert predictions.shape == (8, 2)
    loaded = (
        dpt_peft.AutoPeftModelForSequenceClassification.from_pretrained(training_args.output_dir)
        if inside
        else AutoModelForSequenceClassification.from_pretrained(training_args.output_dir)
    )
    again = Trainer(loaded, training_args, data_collator=default_data_collator).predict(rows.remove_columns("label"))
    np.testing.assert_allclose(again.predictions, predictions, atol=1e-6)


@pytest.mark.parametrize(("block", "inside"), [(DPT, False), (PROMPTS, True)], ids=["DPT", "prompts"])
def test_run_glue_no_trainer(block, inside, plain, tmp_path):
    folder = plain / "discriminator"
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=1)
    config = AutoConfig.from_pretrained(folder, num_labels=2, finetuning_task=None)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    config.pad_token_id = tokenizer.pad_token_id
    model = model_of(block, folder, config=config)
    rows = [{**tokenizer(text), "labels": label} for text, label in zip(SENTENCES, [1, 0] * 4, strict=True)]
    loader = DataLoader(rows, shuffle=True, collate_fn=DataCollatorWithPadding(tokenizer), batch_size=2)
    no_decay = ["bias", "LayerNorm.weight"]
    groups = [
        {
            "params": [p for n, p in model.named_parameters() if any(part in n for part in no_decay) is without],
            "weight_decay": 0.0 if without else 0.01,
        }
        for without in (False, True)
    ]
    optimizer = AdamW(groups, lr=1e-2)
    schedule = get_scheduler(name="linear", optimizer=optimizer, num_warmup_steps=0, num_training_steps=4)
    model, optimizer, loader, schedule = accelerator.prepare(model, optimizer, loader, schedule)
    before = trained(model)
    model.train()
    for batch in loader:
        loss = model(**batch).loss
        accelerator.backward(loss)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        assert loss.isfinite()
    assert any(not torch.equal(values, before[name]) for name, values in trained(model).items())
    model.eval()
    with torch.no_grad():
        for batch in loader:
            predictions, references = accelerator.gather_for_metrics(
                (model(**batch).logits.argmax(dim=-1), batch["labels"])
            )
            assert predictions.shape == references.shape
    accelerator.wait_for_everyone()
    unwrapped = accelerator.unwrap_model(model)
    unwrapped.save_pretrained(tmp_path, is_main_process=accelerator.is_main_process, save_function=accelerator.save)
    auto = dpt_peft.AutoPeftModelForSequenceClassification if inside else AutoModelForSequenceClassification
    assert_same(
        trained(auto.from_pretrained(tmp_path, **({"is_trainable": True} if inside else {}))), trained(unwrapped)
    )


def test_run_ner(plain, training_args):
    folder = plain / "discriminator"
    config = AutoConfig.from_pretrained(folder, num_labels=3, finetuning_task="ner")
    tokenizer = AutoTokenizer.from_pretrained(folder, use_fast=True, add_prefix_space=False)
    model = model_of(NER, folder, config=config)
    words = [text.split() for text in SENTENCES]

    def tokenize_and_align_labels(row: Any) -> Any:
        encoded = tokenizer(row["tokens"], truncation=True, is_split_into_words=True)
        previous, labels = None, []
        for word in encoded.word_ids():
            labels.append(-100 if word is None or word == previous else row["ner_tags"][word])
            previous = word
        return {**encoded, "labels": labels}

    rows = Dataset.from_dict({"tokens": words, "ner_tags": [[len(word) % 3 for word in text] for text in words]})
    rows = rows.map(tokenize_and_align_labels)
    trainer = Trainer(
        model=model,
        args=training_args,
        train_dataset=rows,
        eval_dataset=rows,
        processing_class=tokenizer,
        data_collator=DataCollatorForTokenClassification(tokenizer, pad_to_multiple_of=None),
    )
    train_and_evaluate(trainer, model)
    loaded = dpt_peft.AutoPeftModelForTokenClassification.from_pretrained(training_args.output_dir, is_trainable=True)
    assert_same(trained(loaded), trained(model))


def test_run_qa(plain, training_args):
    folder = plain / "discriminator"
    tokenizer = AutoTokenizer.from_pretrained(folder, use_fast=True)
    model = model_of(QA, folder, config=AutoConfig.from_pretrained(folder))
    encoded = tokenizer(
        ["it was"] * 8,
        SENTENCES,
        truncation="only_second",
        max_length=12,
        stride=4,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
        padding="max_length",
    )
    names = ("input_ids", "token_type_ids", "attention_mask")
    rows = Dataset.from_dict(
        {**{name: encoded[name] for name in names}, "start_positions": [5] * 8, "end_positions": [6] * 8}
    )
    trainer = Trainer(
        model=model,
        args=training_args,
        train_dataset=rows,
        eval_dataset=rows,
        processing_class=tokenizer,
        data_collator=default_data_collator,
    )
    train_and_evaluate(trainer, model)
    start, end = trainer.predict(rows.remove_columns(["start_positions", "end_positions"])).predictions
    assert start.shape == end.shape == (8, 12)
    loaded = AutoPeftModelForQuestionAnswering.from_pretrained(training_args.output_dir, is_trainable=True)
    assert_same(trained(loaded), trained(model))


def test_run_swag(plain, training_args):
    folder = plain / "discriminator"
    tokenizer = AutoTokenizer.from_pretrained(folder, use_fast=True)
    model = model_of(SWAG, folder, config=AutoConfig.from_pretrained(folder))
    rows = []
    for number, text in enumerate(SENTENCES):
        encoded = tokenizer([text] * 4, ["good", "bad", "fine", "sad"], truncation=True)
        rows.append({**encoded, "label": number % 4})
    trainer = Trainer(
        model=model,
        args=training_args,
        train_dataset=Dataset.from_list(rows),
        eval_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        data_collator=DataCollatorForMultipleChoice(tokenizer=tokenizer),
    )
    train_and_evaluate(trainer, model)
    base = AutoModelForMultipleChoice.from_pretrained(folder)
    loaded = PeftModel.from_pretrained(base, training_args.output_dir, is_trainable=True)
    assert_same(trained(loaded), trained(model))
    assert any("sequence_summary" in name for name in trained(loaded))


def test_pefts_no_trainer_example(plain, tmp_path):
    folder = plain / "discriminator"
    accelerator = Accelerator(cpu=True)
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="right")
    rows = [tokenizer(text, "a film", truncation=True, max_length=None) for text in SENTENCES]
    rows = [{**row, "labels": number % 2} for number, row in enumerate(rows)]
    loader = DataLoader(
        rows,
        shuffle=True,
        collate_fn=lambda examples: tokenizer.pad(examples, padding="longest", return_tensors="pt"),
        batch_size=2,
    )
    model = model_of(PEFT, folder)
    model.print_trainable_parameters()
    optimizer = AdamW(params=model.parameters(), lr=1e-3)
    schedule = get_linear_schedule_with_warmup(optimizer=optimizer, num_warmup_steps=0, num_training_steps=4)
    model, loader, optimizer, schedule = accelerator.prepare(model, loader, optimizer, schedule)
    before = trained(model)
    model.train()
    for batch in loader:
        loss = model(**batch).loss
        accelerator.backward(loss)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    assert all(not torch.equal(values, before[name]) for name, values in trained(model).items())
    accelerator.wait_for_everyone()
    unwrapped = accelerator.unwrap_model(model)
    unwrapped.save_pretrained(tmp_path, state_dict=accelerator.get_state_dict(model))
    loaded = dpt_peft.AutoPeftModelForSequenceClassification.from_pretrained(tmp_path, is_trainable=True)
    assert_same(trained(loaded), trained(unwrapped))


def train_in_processes(folder: str, processes: int) -> dict[str, dict[str, np.ndarray]]:
    """Four steps of every wrapper with transformers' Trainer; the processes together see the same batches."""
    weights = {}
    for kind in ("flat", "hierarchical", "multi-span", "verbalizer", "prompted flat"):
        model = make(kind, Path(folder), dtype=torch.float64)
        options = {
            "max_steps": 4,
            "optim": "sgd",
            "max_grad_norm": 0.0,
            "train_sampling_strategy": "sequential",
            "per_device_train_batch_size": 4 // processes,
        }
        trainer = make_trainer(kind, model, Path(folder) / f"out{processes}", rows=make_rows(kind, rows=16), **options)
        assert trainer.args.world_size == processes
        trainer.train()
        weights[kind] = {name: values.numpy() for name, values in trained(model).items()}
    return weights


def test_two_processes_train_the_weights_of_one(tmp_path):
    write_language_models(tmp_path)
    (expected,) = run_in_processes(train_in_processes, str(tmp_path), 1, processes=1)
    first, second = run_in_processes(train_in_processes, str(tmp_path), 2, processes=2)
    for kind, weights in expected.items():
        untrained = trained(make(kind, tmp_path, dtype=torch.float64))
        assert max(abs(weights[name] - values.numpy()).max() for name, values in untrained.items()) > 1e-5
        for name, values in weights.items():
            np.testing.assert_allclose(first[kind][name], values, rtol=0, atol=1e-9, err_msg=f"{kind} {name}")
            assert np.array_equal(second[kind][name], first[kind][name])


@pytest.mark.parametrize("kind", ["flat", "prompted flat", "prompted"])
def test_hyperparameters_are_searched_with_optuna(kind, plain, tmp_path):
    made = []

    def model_init(trial: Any = None) -> Any:
        made.append(trial)
        return make(kind, plain)

    trainer = Trainer(
        args=make_trainer(kind, make(kind, plain), tmp_path, max_steps=1).args,
        model_init=model_init,
        train_dataset=make_rows(kind),
        eval_dataset=make_rows(kind),
        data_collator=DataCollatorWithPadding(make_tokenizer()),
    )
    best = trainer.hyperparameter_search(
        direction="minimize",
        backend="optuna",
        n_trials=2,
        hp_space=lambda trial: {"learning_rate": trial.suggest_categorical("learning_rate", [1e-3, 1e-1])},
        compute_objective=lambda metrics: metrics["eval_loss"],
    )
    assert best.hyperparameters["learning_rate"] in (1e-3, 1e-1)
    assert np.isfinite(best.objective)
    assert len(made) >= 3


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_that_was_cut_off_goes_on(kind, plain, tmp_path):
    whole = make(kind, plain)
    make_trainer(kind, whole, tmp_path, max_steps=4, save_strategy="steps", save_steps=2).train()
    resumed = make(kind, plain)
    make_trainer(kind, resumed, tmp_path, max_steps=4).train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert_same(trained(resumed), trained(whole), within=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_streamed_rows_train_the_same(kind, plain, tmp_path):
    weights, measured = [], []
    for stream in (False, True):
        model = make(kind, plain)
        rows = make_rows(kind)
        rows = rows.to_iterable_dataset() if stream else rows
        strategy = {} if stream else {"train_sampling_strategy": "sequential"}
        trainer = make_trainer(kind, model, tmp_path, rows=rows, max_steps=4, optim="sgd", **strategy)
        trainer.train()
        weights.append(trained(model))
        measured.append(trainer.evaluate()["eval_loss"])
    assert_same(*weights, within=1e-6)
    assert measured[0] == pytest.approx(measured[1], rel=1e-5)


def test_prompts_on_a_compiled_backbone_are_saved(plain, tmp_path):
    """As people do who compile by hand: PEFT's verbs stay outside."""
    torch.compiler.reset()
    base = AutoModelForSequenceClassification.from_pretrained(plain / "discriminator", num_labels=3)
    model = with_prompts(base)
    model.get_base_model().compile(backend="eager")
    make_trainer("prompted", model, tmp_path / "out", max_steps=1).train()
    model.save_pretrained(tmp_path / "adapter")
    loaded = dpt_peft.AutoPeftModelForSequenceClassification.from_pretrained(tmp_path / "adapter", is_trainable=True)
    assert_same(trained(loaded), trained(model), within=0)
