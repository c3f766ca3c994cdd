"""What changes the tasks of a finished model: another task, or a calibration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from .label_lists import OWN_TASK, resolve_task

if TYPE_CHECKING:
    from .dpt import DPTForSequenceClassification


def add_task(
    model: DPTForSequenceClassification,
    name: str,
    label_words: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    **choices: Any,
) -> None:
    """See `DPTForSequenceClassification.add_task`."""
    config = model.config
    if name == OWN_TASK:
        raise ValueError(f"`name` {OWN_TASK!r} is the wrapper's own task; load the wrapper with other label words")
    extras = model.new_modules
    for part in extras:
        if not isinstance(getattr(model, part), nn.Embedding) or name in model.task_names:
            raise ValueError(
                f"a task with trainable `{part}` must be new, and be added before get_peft_model, which copies them"
            )
    task = resolve_task(
        tokenizer,
        label_words,
        **choices,
        wordpieces=config.wordpieces,
        vocab_size=config.discriminator_config.vocab_size,
        minimum=1 if config.problem_type == "multi_label_classification" else 2,
    )
    former, tokens = config.tasks, len(model.task_bank.label_token_ids)
    config.tasks = [other for other in former if other["name"] != name] + [{"name": name, **task}]
    try:
        model._set_tasks()
    except ValueError:
        config.tasks = former
        raise
    model.task_bank.to(model.device)
    model.splicer.to(model.device)
    if "label_bias" in extras:
        model.label_bias = _grown(model.label_bias, model.task_bank.num_classes)
    if "label_tokens" in extras:
        model.label_tokens = _grown(model.label_tokens, len(model.task_bank.label_token_ids))
        words: Any = model.get_input_embeddings()
        with torch.no_grad():
            model.label_tokens.weight[tokens:] = words.weight[model.task_bank.label_token_ids[tokens:]]


def _grown(table: nn.Embedding, rows: int) -> nn.Embedding:
    weight = table.weight
    grown = nn.Embedding(rows, table.embedding_dim, device=weight.device, dtype=weight.dtype)
    with torch.no_grad():
        grown.weight.zero_()
        grown.weight[: len(weight)] = weight
    grown.weight.requires_grad_(weight.requires_grad)
    return grown


def calibrate(
    model: DPTForSequenceClassification, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], task: str
) -> torch.Tensor:
    """See `DPTForSequenceClassification.calibrate`."""
    config = model.config
    if task not in model.task_names:
        raise ValueError(f"`task` {task!r} does not exist; there are {', '.join(map(repr, model.task_names))}")
    if isinstance(texts, str):
        raise TypeError(f"`texts` must be a list of texts, got the string {texts!r}")
    _set_calibration(model, task, None)
    if not texts:
        return torch.zeros(config.all_tasks[task].num_classes)
    rows = tokenizer(list(texts), padding=True, truncation=True, return_tensors="pt").to(model.device)
    training = model.training
    model.eval()
    with torch.no_grad():
        logits = model(**rows, task_names=[task] * len(texts)).logits
    model.train(training)
    means = logits.float().mean(0)
    _set_calibration(model, task, means.tolist())
    return means


def _set_calibration(model: DPTForSequenceClassification, task: str, values: list[float] | None) -> None:
    if task == OWN_TASK:
        model.config.calibration = values
    else:
        model.config.tasks = [
            {**other, "calibration": values} if other["name"] == task else other for other in model.config.tasks
        ]
    model._set_tasks()
    model.task_bank.to(model.device)
    model.splicer.to(model.device)
