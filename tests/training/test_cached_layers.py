"""Training with cached lower layers ends with the weights of training without."""

import copy
import json
import logging
import os

import numpy as np
import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    DataCollatorWithPadding,
    DebertaV2Config,
    DistilBertConfig,
    GPT2Config,
    LlamaConfig,
    ModernBertConfig,
    RobertaConfig,
    Trainer,
    TrainingArguments,
)

from dpt_peft import DeepPromptConfig, DPTForSequenceClassification
from dpt_peft.training.cached_layers import ROW_COLUMN, LowerLayerCache, StatesFile
from tests.training.tiny import write_discriminator

SIZES = {"vocab_size": 20, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32, "pad_token_id": 0}
CONFIGS = {
    "bert": BertConfig(
        **SIZES,
        num_hidden_layers=4,
        max_position_embeddings=64,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    ),
    "roberta": RobertaConfig(
        **SIZES,
        num_hidden_layers=4,
        max_position_embeddings=64,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    ),
    "deberta-v2": DebertaV2Config(
        **SIZES,
        num_hidden_layers=4,
        max_position_embeddings=64,
        relative_attention=True,
        pos_att_type="c2p|p2c",
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    ),
    "distilbert": DistilBertConfig(
        vocab_size=20,
        dim=16,
        n_layers=4,
        n_heads=2,
        hidden_dim=32,
        max_position_embeddings=64,
        pad_token_id=0,
        dropout=0.0,
        attention_dropout=0.0,
        seq_classif_dropout=0.0,
    ),
    "modernbert": ModernBertConfig(
        **SIZES, num_hidden_layers=4, max_position_embeddings=64, global_attn_every_n_layers=2
    ),
    "gpt2": GPT2Config(
        vocab_size=20,
        n_embd=16,
        n_layer=4,
        n_head=2,
        n_positions=64,
        pad_token_id=0,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
    ),
    "llama": LlamaConfig(**SIZES, num_hidden_layers=4, num_key_value_heads=1, max_position_embeddings=64),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return write_discriminator(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def collator(files):
    return DataCollatorWithPadding(AutoTokenizer.from_pretrained(files))


def rows(count, seed=0):
    draw = np.random.default_rng(seed)
    ids = [draw.integers(5, 18, size=draw.integers(2, 12)).tolist() for _ in range(count)]
    return Dataset.from_dict(
        {"input_ids": ids, "attention_mask": [[1] * len(i) for i in ids], "labels": [len(i) % 2 for i in ids]}
    )


def prompted(base, **kwargs):
    torch.manual_seed(1)
    config = DeepPromptConfig(
        **{"task_type": "SEQ_CLS", "num_virtual_tokens": 3, "layers_to_transform": "last 2", **kwargs}
    )
    return get_peft_model(copy.deepcopy(base), config)


def train(model, dataset, evaluation, collator, folder):
    arguments = TrainingArguments(
        str(folder),
        num_train_epochs=3,
        per_device_train_batch_size=4,
        learning_rate=1e-2,
        seed=3,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=False,
    )
    trainer = Trainer(model, arguments, train_dataset=dataset, eval_dataset=evaluation, data_collator=collator)
    trainer.train()
    metrics = trainer.evaluate()
    return {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}, metrics["eval_loss"]


def assert_same_training(base, dataset, evaluation, collator, tmp_path):
    plain_model, cached_model = prompted(base), prompted(base)
    plain, plain_loss = train(plain_model, dataset, evaluation, collator, tmp_path / "plain")
    calls = []
    with LowerLayerCache(cached_model, tmp_path / "cache") as cache:
        lower = cache._removed[0]
        lower.register_forward_hook(lambda *_: calls.append(1))
        cached_rows = cache.add(dataset, collator, batch_size=4), cache.add(evaluation, collator, batch_size=4)
        filled = len(calls)
        cached, cached_loss = train(cached_model, *cached_rows, collator, tmp_path / "cached")
        assert len(calls) == filled > 0  # the lower layers did not run again
    assert plain.keys() == cached.keys()
    for name, weight in plain.items():
        torch.testing.assert_close(cached[name], weight, rtol=1e-4, atol=1e-5, msg=name)
    assert cached_loss == pytest.approx(plain_loss, rel=1e-4)
    assert not any((tmp_path / "cache").iterdir())
    # The model is whole again.
    batch = collator([dataset[i] for i in range(3)])
    torch.testing.assert_close(
        cached_model.eval()(**batch).logits, plain_model.eval()(**batch).logits, rtol=1e-3, atol=1e-4
    )


@pytest.mark.parametrize("kind", CONFIGS)
def test_training_ends_with_the_same_weights(kind, collator, tmp_path):
    torch.manual_seed(0)
    base = AutoModelForSequenceClassification.from_config(CONFIGS[kind])
    assert_same_training(base, rows(16), rows(6, seed=1), collator, tmp_path)


def test_a_wrapper_that_splices_its_template(files, collator, tmp_path):
    base = DPTForSequenceClassification.from_pretrained(
        files, label_words=["negative", "positive"], hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0
    )
    dataset, evaluation = rows(12), rows(5, seed=1)
    plain, cached_model = prompted(base, layers_to_transform="last 1"), prompted(base, layers_to_transform="last 1")
    expected, loss = train(plain, dataset, evaluation, collator, tmp_path / "plain")
    with LowerLayerCache(cached_model, tmp_path / "cache") as cache:
        got, cached_loss = train(
            cached_model, cache.add(dataset, collator), cache.add(evaluation, collator), collator, tmp_path / "cached"
        )
    for name, weight in expected.items():
        torch.testing.assert_close(got[name], weight, rtol=1e-4, atol=1e-5, msg=name)
    assert cached_loss == pytest.approx(loss, rel=1e-4)


def test_dropout_of_the_lower_layers_is_off_and_that_of_the_upper_ones_is_not(collator, tmp_path):
    config = copy.deepcopy(CONFIGS["bert"])
    config.hidden_dropout_prob = 0.5
    model = prompted(AutoModelForSequenceClassification.from_config(config)).train()
    with LowerLayerCache(model, tmp_path) as cache:
        batch = collator([cache.add(rows(4), collator)[0]])
        first, second = (model(**batch).logits for _ in range(2))
        assert not torch.equal(first, second)
        kept = cache._states_of(0)
    model.eval()
    hidden = model(**collator([rows(4)[0]]), output_hidden_states=True).hidden_states[2][0]
    torch.testing.assert_close(kept, hidden.detach())


@pytest.mark.parametrize(
    ("dtype", "bytes_a_number", "tolerance"),
    [(torch.float32, 4, 1e-6), (torch.float16, 2, 2e-3), (torch.bfloat16, 2, 2e-2)],
)
def test_files_are_announced_of_the_size_said_and_used_again(
    collator, tmp_path, caplog, dtype, bytes_a_number, tolerance
):
    dataset = rows(9)
    tokens = sum(len(ids) for ids in dataset["input_ids"])
    base = AutoModelForSequenceClassification.from_config(CONFIGS["bert"])
    model = prompted(base).eval()
    batch = collator([dataset[i] for i in range(9)])
    expected = model(**batch).logits
    caplog.set_level(logging.INFO, logger="dpt_peft.training.cached_layers")
    with LowerLayerCache(model, tmp_path, dtype=dtype, keep=True) as cache:
        cached = cache.add(dataset, collator)
        torch.testing.assert_close(
            model(**collator([cached[i] for i in range(9)])).logits, expected, rtol=tolerance, atol=tolerance
        )
    assert f"Writing 9 rows ({tokens} tokens)" in caplog.text
    (file,) = tmp_path.glob("*.states")
    assert file.stat().st_size == tokens * 16 * bytes_a_number

    written = file.stat().st_mtime_ns
    with LowerLayerCache(prompted(base, num_virtual_tokens=5), tmp_path, dtype=dtype, keep=True) as cache:
        cache.add(dataset, collator)  # another trial of a search
    assert file.stat().st_mtime_ns == written
    with LowerLayerCache(model, tmp_path, dtype=dtype, keep=True) as cache:
        cache.add(rows(9, seed=5), collator)  # other data, another file
    next(model.get_base_model().bert.encoder.layer[0].parameters()).data += 1
    with LowerLayerCache(model, tmp_path, dtype=dtype, keep=True) as cache:
        cache.add(dataset, collator)  # another model, another file
    assert len(list(tmp_path.glob("*.states"))) == 3


def test_files_go_also_after_an_error(collator, tmp_path):
    model = prompted(AutoModelForSequenceClassification.from_config(CONFIGS["bert"]))
    layers = list(model.get_base_model().bert.encoder.layer)
    with pytest.raises(KeyboardInterrupt), LowerLayerCache(model, tmp_path) as cache:  # noqa: PT012
        cache.add(rows(4), collator)
        raise KeyboardInterrupt
    assert not any(tmp_path.iterdir())
    assert list(model.get_base_model().bert.encoder.layer) == layers


def test_what_cannot_be_cached_is_refused(collator, tmp_path):
    base = AutoModelForSequenceClassification.from_config(CONFIGS["bert"])
    with pytest.raises(ValueError, match="has no deep prompts"):
        LowerLayerCache(base, tmp_path)
    with pytest.raises(ValueError, match="lowest layer has prompts"):
        LowerLayerCache(prompted(base, layers_to_transform=None), tmp_path)
    model = prompted(base)
    model.get_base_model().bert.encoder.layer[1].output.dense.weight.requires_grad = True
    with (
        LowerLayerCache(model, tmp_path) as cache,
        pytest.raises(ValueError, match="layer.1.output.dense.weight is trained below"),
    ):
        cache.add(rows(4), collator)
    with pytest.raises(ValueError, match="has no deep prompts"):
        LowerLayerCache(get_peft_model(copy.deepcopy(base), LoraConfig(task_type="SEQ_CLS")), tmp_path)


@pytest.mark.parametrize("use_reentrant", [True, False])
def test_a_frozen_model_with_checkpoints_is_cached(collator, tmp_path, use_reentrant):
    """PEFT lets gradients flow into the embeddings' outputs of such a model, although nothing there is trained."""
    base = AutoModelForSequenceClassification.from_config(CONFIGS["bert"])
    base.gradient_checkpointing_enable({"use_reentrant": use_reentrant})
    config = DeepPromptConfig(task_type="SEQ_CLS", num_virtual_tokens=3, layers_to_transform="last 1")
    with LowerLayerCache(get_peft_model(base, config), tmp_path) as cache:
        assert len(cache.add(rows(4), collator)) == 4


def test_label_tokens_that_are_trained_are_not_cached(tmp_path):
    folder = write_discriminator(tmp_path / "model")
    base = DPTForSequenceClassification.from_pretrained(folder, label_words=["bad", "good"], preset="released")
    model = prompted(base, layers_to_transform="last 1", modules_to_save=base.new_modules)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    data = Dataset.from_dict(dict(tokenizer(["the film was good", "the film"])))
    trained = LowerLayerCache(model, tmp_path / "cache")
    with trained, pytest.raises(ValueError, match="label_tokens.*is trained below"):
        trained.add(data, DataCollatorWithPadding(tokenizer))


def test_rows_that_are_not_those_cached_are_refused(collator, tmp_path):
    model = prompted(AutoModelForSequenceClassification.from_config(CONFIGS["bert"]))
    with LowerLayerCache(model, tmp_path) as cache:
        cached = cache.add(rows(4), collator)
        with pytest.raises(ValueError, match="use the data set that `add` returned"):
            model(**collator([rows(4)[0]]))
        longer = {**cached[0], "input_ids": [5] * 13, "attention_mask": [1] * 13}
        with pytest.raises(ValueError, match="was cached with"):
            model(**collator([longer]))
        with pytest.raises(ValueError, match="no cached row 9"):
            model(**collator([{**cached[0], ROW_COLUMN: 9}]))


def test_a_file_may_be_larger_than_the_memory(tmp_path):
    path = tmp_path / "states.bin"
    path.touch()
    os.truncate(path, 2**40)
    path.with_suffix(".json").write_text(json.dumps([0, 2**29, 2**30]))
    assert len(StatesFile(path, torch.bfloat16)) == 2
