"""The papers' hyper-parameters, as data: what `--preset` sets. A new one is one row.

P-tuning v2: the released scripts (`run_script/` of github.com/THUDM/P-tuning-v2). Their `hidden_dropout_prob` stands
here as the dropout on the prompts; the backbone's own dropout stays what its configuration says (0.1 for BERT and
RoBERTa). Their 128 tokens cut sentences; here those become several rows. The schedule is linear without warm-up for
classification, and 0.95 per epoch for names, roles and answers.

DPT: section 4.1 of the paper, with the label words of its released code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dpt_peft.tasks.data_sets import DATA_SETS

BERT_CASED, BERT_UNCASED = "google-bert/bert-large-cased", "google-bert/bert-large-uncased"
ROBERTA = "FacebookAI/roberta-large"
ELECTRA_BASE, ELECTRA_LARGE = "google/electra-base-discriminator", "google/electra-large-discriminator"


@dataclass(frozen=True)
class Preset:
    """Values of a script's arguments.

    Attributes:
        data_set: Key of `DATA_SETS`.
        values: Argument -> value.
    """

    data_set: str
    values: dict[str, Any]

    @property
    def family(self) -> str:
        """The task family whose script takes this preset."""
        return DATA_SETS[self.data_set].family


def _deep_prompt(
    data_set: str,
    model: str,
    learning_rate: float,
    length: int,
    epochs: int,
    batch: int,
    dropout: float = 0.1,
    *,
    tokens: int = 128,
    decay: float | None = None,
) -> Preset:
    return Preset(
        data_set,
        {
            "method": "deep_prompt",
            "model_name_or_path": model,
            "learning_rate": learning_rate,
            "warmup_steps": 0,
            "num_virtual_tokens": length,
            "prompt_dropout": dropout,
            "num_train_epochs": epochs,
            "per_device_train_batch_size": batch,
            "max_seq_length": tokens,
        }
        | ({} if decay is None else {"lr_decay_per_epoch": decay}),
    )


def _dpt(data_set: str, model: str, batch: int) -> Preset:
    return Preset(
        data_set,
        {
            "method": "dpt",
            "model_name_or_path": model,
            "learning_rate": 2e-5,
            "warmup_steps": 0,
            "num_train_epochs": 10,
            "per_device_train_batch_size": batch,
            "max_seq_length": 128,
            "label_words": list(DATA_SETS[data_set].label_words),
        },
    )


PRESETS: dict[str, Preset] = {
    # data set, model, learning rate, prompt length, epochs, batch size
    "boolq-roberta-large": _deep_prompt("boolq", ROBERTA, 7e-3, 8, 100, 32),
    "boolq-bert-large": _deep_prompt("boolq", BERT_CASED, 5e-3, 40, 100, 32),
    "rte-roberta-large": _deep_prompt("rte", ROBERTA, 5e-3, 128, 100, 32),
    "rte-bert-large": _deep_prompt("rte", BERT_CASED, 1e-2, 20, 60, 32),
    "conll03-roberta-large": _deep_prompt("conll03", ROBERTA, 3e-2, 11, 30, 16, tokens=152, decay=0.95),
    "conll04-roberta-large": _deep_prompt("conll04", ROBERTA, 6e-2, 144, 80, 32, decay=0.95),
    "conll04-bert-large": _deep_prompt("conll04", BERT_UNCASED, 2e-2, 128, 40, 32, 0.2, decay=0.95),
    "ontonotes-roberta-large": _deep_prompt("ontonotes", ROBERTA, 7e-3, 48, 60, 16, decay=0.95),
    "ontonotes-bert-large": _deep_prompt("ontonotes", BERT_UNCASED, 1e-2, 16, 30, 16, decay=0.95),
    "conll05-roberta-large": _deep_prompt("conll05", ROBERTA, 6e-3, 224, 15, 16, decay=0.95),
    "conll12-roberta-large": _deep_prompt("conll12", ROBERTA, 5e-3, 64, 45, 32, decay=0.95),
    "copa-roberta-large": _deep_prompt("copa", ROBERTA, 9e-3, 8, 120, 16),
    "squad_v1-roberta-large": _deep_prompt("squad_v1", ROBERTA, 5e-3, 16, 30, 8, 0.2, tokens=384, decay=0.95),
    "squad_v2-roberta-large": _deep_prompt("squad_v2", ROBERTA, 5e-3, 8, 10, 8, 0.2, tokens=384, decay=0.95),
    **{f"{name}-electra-base": _dpt(name, ELECTRA_BASE, 32) for name in ("sst2", "sst5", "trec", "ag_news")},
    **{f"{name}-electra-large": _dpt(name, ELECTRA_LARGE, 8) for name in ("sst2", "sst5", "trec", "ag_news")},
}
"""Preset by name, `<data set>-<model>`."""
