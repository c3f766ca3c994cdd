"""Short runs of the Trainer on a tiny classifier, for tests that start them in processes of their own."""

from __future__ import annotations

import os
import signal
from typing import Any

import numpy as np
import torch
from accelerate.state import PartialState
from accelerate.utils import DistributedType
from datasets import Dataset
from torch.distributed.tensor import DTensor
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments
from transformers.utils import logging

from tests.architectures import NUM_LABELS, VOCAB_SIZE, make_model
from tests.deep_prompt.test_common import prompted

ROWS, STEPS, GLOBAL_BATCH = 24, 6, 4
Weights = dict[str, np.ndarray]


def make_trainer(
    folder: str, encoder: str, processes: int = 1, dropout: float = 0.0, as_gpus: bool = False, **values: Any
) -> Trainer:
    """Six steps of AdamW; the batch of all processes together is the same for any number of them."""
    logging.set_verbosity_error()
    base = make_model("bert", hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout)
    model = prompted("bert", encoder, base, prompt_dropout=dropout)
    defaults = {
        "per_device_train_batch_size": GLOBAL_BATCH // processes,
        "max_steps": STEPS,
        "learning_rate": 1e-2,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": True,
        "dataloader_pin_memory": False,
        "ddp_find_unused_parameters": False,
        # BERT's loss is a mean over its own rows; the Trainer would multiply it by the number of processes
        "average_tokens_across_devices": False,
    }
    args = TrainingArguments(folder, **defaults | values)
    assert args.world_size == processes
    if as_gpus:
        PartialState().distributed_type = DistributedType.MULTI_GPU
    trainer = Trainer(model, args, train_dataset=make_data())
    trainer.remove_callback(PrinterCallback)
    return trainer


def make_data() -> Dataset:
    draw = torch.Generator().manual_seed(3)
    input_ids = torch.randint(3, VOCAB_SIZE, (ROWS, 7), generator=draw)
    labels = torch.randint(0, NUM_LABELS, (ROWS,), generator=draw)
    return Dataset.from_dict({"input_ids": input_ids.tolist(), "labels": labels.tolist()})


def trained_weights(model: torch.nn.Module) -> Weights:
    """The trained parameters, put together from all processes where they are sharded."""
    parameters = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
    whole = {name: p.full_tensor() if isinstance(p, DTensor) else p for name, p in parameters.items()}
    return {name: tensor.numpy().copy() for name, tensor in whole.items()}


def train(folder: str, encoder: str, processes: int = 1) -> Weights:
    """In one process, or in several with DDP."""
    trainer = make_trainer(folder, encoder, processes)
    trainer.train()
    return trained_weights(trainer.model)


def train_sharded(folder: str, encoder: str) -> tuple[Weights, dict[str, tuple[int, int]]]:
    """FSDP2 through the Trainer. accelerate shards on GPUs only, so it is told that the CPU processes are some.

    Returns:
        The trained weights, and for every parameter the numbers in it and those that this process holds.
    """
    os.environ |= {
        "ACCELERATE_USE_FSDP": "true",
        "FSDP_VERSION": "2",
        "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
        # BERT also lists its embeddings, which accelerate shards a second time on its own, and fails
        "FSDP_TRANSFORMER_CLS_TO_WRAP": "BertLayer",
        "FSDP_STATE_DICT_TYPE": "FULL_STATE_DICT",
        "FSDP_RESHARD_AFTER_FORWARD": "true",
    }
    trainer = make_trainer(folder, encoder, processes=2, as_gpus=True)
    trainer.train()
    trainer.save_model()
    sizes = {
        name: (p.numel(), p.to_local().numel() if isinstance(p, DTensor) else p.numel())
        for name, p in trainer.model.named_parameters()
    }
    return trained_weights(trainer.model), sizes


class _Kill(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == STEPS // 2:
            os.kill(os.getpid(), signal.SIGKILL)


def train_with_checkpoints(folder: str, encoder: str, killed: bool = False, resume: bool = False) -> Weights:
    """Saves after each second step, with dropout everywhere, so that the state of the random numbers counts.

    Args:
        folder: for checkpoints.
        encoder: of the prompts.
        killed: the process kills itself after the third step, before it can save that.
        resume: go on from the last checkpoint.
    """
    trainer = make_trainer(folder, encoder, dropout=0.1, save_strategy="steps", save_steps=2)
    if killed:
        trainer.add_callback(_Kill())
    trainer.train(resume_from_checkpoint=resume)
    return trained_weights(trainer.model)
