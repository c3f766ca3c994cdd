"""One tiny model of every kind that others train: task wrappers, and deep prompts over a plain one or a wrapper."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import get_peft_model
from transformers import (
    AutoModelForSequenceClassification,
    BertTokenizer,
    DataCollatorForTokenClassification,
    DataCollatorWithPadding,
    ElectraConfig,
    ElectraForMaskedLM,
    ElectraForPreTraining,
    PreTrainedTokenizerBase,
    Trainer,
    TrainingArguments,
)

from dpt_peft import (
    DeepPromptConfig,
    DPTForHierarchicalClassification,
    DPTForMultiSpanQuestionAnswering,
    DPTForSequenceClassification,
    VerbalizerForSequenceClassification,
)

WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    ".",
    ",",
    ":",
    "class",
    "it",
    "was",
    "the",
    "a",
    "film",
    "match",
    "news",
    "bad",
    "good",
    "very",
    "fine",
    "sad",
    "new",
]
LABEL_WORDS = ["bad", "good", "very"]
LABEL_TREE = {"bad": ["sad", "very"], "good": ["fine"]}
#: Name of a kind: folder of the language model, and how its model is made.
KINDS: dict[str, tuple[str, Callable[..., Any]]] = {
    "flat": (
        "discriminator",
        lambda path, **further: DPTForSequenceClassification.from_pretrained(
            path, label_words=LABEL_WORDS, template="{text} class: {labels}", **further
        ),
    ),
    "hierarchical": (
        "discriminator",
        lambda path, **further: DPTForHierarchicalClassification.from_pretrained(
            path, label_tree=LABEL_TREE, template="{text} class: {labels}", beam_width=4, **further
        ),
    ),
    "multi-span": ("discriminator", DPTForMultiSpanQuestionAnswering.from_pretrained),
    "verbalizer": (
        "language_model",
        lambda path, **further: VerbalizerForSequenceClassification.from_pretrained(
            path, label_words=LABEL_WORDS, template="{text} it was {mask}", **further
        ),
    ),
    "prompted": (
        "discriminator",
        lambda path, **further: with_prompts(
            AutoModelForSequenceClassification.from_pretrained(path, num_labels=3, **further)
        ),
    ),
    "prompted flat": ("discriminator", lambda path, **further: with_prompts(KINDS["flat"][1](path, **further))),
}
WITHOUT_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def with_prompts(model: Any) -> Any:
    """Deep prompts on a model for one class a row."""
    return get_peft_model(model, DeepPromptConfig(task_type="SEQ_CLS", num_virtual_tokens=3, init_std=0.5))


def make_tokenizer() -> PreTrainedTokenizerBase:
    return BertTokenizer(vocab={word: index for index, word in enumerate(WORDS)}, model_max_length=40)


def write_language_models(folder: Path) -> Path:
    """Folders of a discriminator and of a masked language model, as their authors save them."""
    config = ElectraConfig(
        vocab_size=len(WORDS),
        embedding_size=8,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=40,
        initializer_range=0.5,
    )
    for name, kind in (("discriminator", ElectraForPreTraining), ("language_model", ElectraForMaskedLM)):
        torch.manual_seed(0)
        kind(config).save_pretrained(folder / name)
        make_tokenizer().save_pretrained(folder / name)
    return folder


def make(kind: str, folder: Path, **further: Any) -> Any:
    """The model of a kind, the same at every call and without dropout."""
    torch.manual_seed(0)
    name, build = KINDS[kind]
    return build(folder / name, **{**WITHOUT_DROPOUT, **further})


def make_rows(kind: str, rows: int = 8, seed: int = 0) -> Dataset:
    """Tokenized rows of different lengths with their labels; for the reader of spans one label a token."""
    draw, tokenizer, words = random.Random(seed), make_tokenizer(), WORDS[9:]
    made = []
    for row in range(rows):
        text = " ".join(draw.choices(words, k=draw.randint(2, 9)))
        if kind == "multi-span":
            encoded = tokenizer("it was", text)
            labels = [draw.randint(0, 1) if part == 1 else -100 for part in encoded.sequence_ids()]
            made.append({**encoded, "labels": labels})
        else:
            made.append({**tokenizer(text), "labels": (0, 1, 2, 1)[row % 4]})
    return Dataset.from_list(made)


def make_collator(kind: str) -> Any:
    collator = DataCollatorForTokenClassification if kind == "multi-span" else DataCollatorWithPadding
    return collator(make_tokenizer())


def make_trainer(
    kind: str,
    model: Any,
    folder: Path,
    *,
    trainer: type[Trainer] = Trainer,
    rows: Any = None,
    given: dict[str, Any] | None = None,
    **options: Any,
) -> Trainer:
    """transformers' Trainer with its own defaults, but for a short and quiet run.

    Args:
        kind: Of the model.
        model: The model.
        folder: Where it saves.
        trainer: Its class.
        rows: Default: eight.
        given: Further arguments of the Trainer.
        **options: TrainingArguments.
    """
    rows = make_rows(kind) if rows is None else rows
    defaults = {
        "output_dir": str(folder),
        "max_steps": 2,
        "per_device_train_batch_size": 2,
        "per_device_eval_batch_size": 3,
        "learning_rate": 1e-2,
        "report_to": [],
        "use_cpu": True,
        "dataloader_pin_memory": False,
        "disable_tqdm": True,
        "logging_steps": 1,
        "save_strategy": "no",
        "seed": 0,
    }
    return trainer(
        model,
        TrainingArguments(**{**defaults, **options}),
        train_dataset=rows,
        eval_dataset=rows,
        data_collator=make_collator(kind),
        processing_class=make_tokenizer(),
        **(given or {}),
    )


def trained(model: Any) -> dict[str, torch.Tensor]:
    """Copies of what is trained."""
    return {name: values.detach().clone() for name, values in model.named_parameters() if values.requires_grad}


def losses(trainer: Trainer) -> list[float]:
    """The loss of every logged step."""
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def assert_same(ours: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], within: float = 1e-10) -> None:
    assert ours.keys() == expected.keys()
    for name, values in expected.items():
        torch.testing.assert_close(ours[name], values, rtol=0, atol=within, msg=name)
