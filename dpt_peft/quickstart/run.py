"""One run of the quickstart: a method and a seed, from drawing the examples to the saved model."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    PreTrainedTokenizerBase,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    pipeline,
    set_seed,
)

import dpt_peft
from dpt_peft.auto import save_wrapper_config
from dpt_peft.tasks.text_classification import classification_metrics, tokenize_texts
from dpt_peft.training.families import TEXT_CLASSIFICATION
from dpt_peft.training.low_resource import sample_per_class
from dpt_peft.training.methods import build_model, count_parameters
from dpt_peft.training.records import data_fingerprint

from .data import QuickstartData
from .records import RunRecord, fingerprint

BATCH_SIZE = 8
TEST_BATCH_SIZE = 32


@dataclass(frozen=True)
class Tuning:
    """Learning rate and number of epochs of a method."""

    learning_rate: float
    epochs: int


TUNING = {
    "fine_tuning": Tuning(2e-4, 15),
    "dpt": Tuning(1e-4, 12),
    "deep_prompt": Tuning(6e-2, 15),
    "dpt_deep_prompt": Tuning(6e-2, 15),
    "lora": Tuning(2e-3, 15),
}
"""What each method trains with, chosen with the package's discriminator and messages, without their test part.

Candidates for the three default methods, two seeds each, measured on the training messages that a seed does not draw
(`examples/experiments/quickstart_tuning.py`; accuracy in %, mean of the two seeds, so one point is about three texts):

| fine_tuning | | dpt | | dpt_deep_prompt | |
|--|--|--|--|--|--|
| 1e-4, 12 epochs | 54.7 | 1e-4, 10 | 59.1 | 1e-2, 15 | 47.5 |
| 2e-4, 12 | 56.2 | 1e-4, 12 | 61.0 | 2e-2, 15 | 52.5 |
| 2e-4, 15 | 57.8 | 2e-4, 12 | 59.0 | 2e-2, 20 | 57.2 |
| 4e-4, 12 | 50.3 | 2e-4, 15 | 58.8 | 4e-2, 15 | 56.5 |
| | | 4e-4, 12 | 58.1 | 4e-2, 20 | 59.7 |
| | | | | 6e-2, 15 | 60.6 |

Longer training was not tried, to keep the whole short. `deep_prompt` takes over
what was found for prompts on DPT; `lora` has a customary rate and was not searched.
"""


@dataclass(frozen=True)
class Quickstart:
    """What all runs of one call have in common.

    Attributes:
        data: the texts.
        model: folder or Hub id of a discriminator.
        label_words: DPT's word of each class, by class id.
        examples_per_class: how many labelled examples of each class a run may see.
        epochs: passes over them; None takes each method's own (`TUNING`).
        max_length: longest text in tokens; what is beyond is cut.
        num_virtual_tokens: prompts in every layer (deep prompts).
    """

    data: QuickstartData
    model: str
    label_words: list[str]
    examples_per_class: int = 8
    epochs: int | None = None
    max_length: int = 128
    num_virtual_tokens: int = 20

    def tuning(self, method: str) -> Tuning:
        """The method's learning rate and epochs in this call."""
        chosen = TUNING[method]
        return chosen if self.epochs is None else Tuning(chosen.learning_rate, self.epochs)

    def settings(self, method: str) -> str:
        """A name for all that a run of this method depends on besides its seed; a different setting, another name."""
        facts: dict[str, Any] = {
            "version": dpt_peft.__version__,
            "model": _identity(self.model),
            "tuning": asdict(self.tuning(method)),
            "batch_size": BATCH_SIZE,
            "label_names": self.data.label_names,
            "train": data_fingerprint(self.data.train),
            "test": data_fingerprint(self.data.test),
            "examples_per_class": self.examples_per_class,
            "max_length": self.max_length,
        }
        if method.startswith("dpt"):
            facts["label_words"] = self.label_words
        if method.endswith("deep_prompt"):
            facts["num_virtual_tokens"] = self.num_virtual_tokens
        return fingerprint(facts)

    def steps(self, method: str) -> int:
        """Training steps and test batches of one run: what `on_step` of `train` is called for."""
        examples = self.examples_per_class * len(self.data.label_names)
        return -(-examples // BATCH_SIZE) * self.tuning(method).epochs + -(-len(self.data.test) // TEST_BATCH_SIZE)

    def build(self, method: str) -> Any:
        """The method's model before training.

        Raises:
            ValueError: if the method cannot work with this model or these label words.
            OSError: if there is no such model.
        """
        return build_model(
            TEXT_CLASSIFICATION,
            method,
            self.model,
            self.data.label_names,
            label_words=self.label_words,
            num_virtual_tokens=self.num_virtual_tokens,
        )

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The model's tokenizer."""
        return AutoTokenizer.from_pretrained(self.model)

    def train(self, method: str, seed: int, folder: Path, on_step: Callable[[], None] = lambda: None) -> RunRecord:
        """Draws the examples, trains, measures on the test texts, and saves model (or adapter) and tokenizer.

        Args:
            method: one of `TUNING`.
            seed: of the drawn examples, of what is initialised, and of the order of training.
            folder: where to save; replaced if it exists.
            on_step: called after every training step and every test batch.

        Returns:
            The run's record.
        """
        start = time.perf_counter()
        tuning = self.tuning(method)
        drawn = sample_per_class(self.data.train_labels, examples_per_class=self.examples_per_class, seed=seed)
        tokenizer = self.tokenizer()
        set_seed(seed)
        model = self.build(method)
        with tempfile.TemporaryDirectory() as scratch:
            trainer = Trainer(
                model=model,
                args=TrainingArguments(
                    output_dir=scratch,
                    learning_rate=tuning.learning_rate,
                    num_train_epochs=tuning.epochs,
                    warmup_steps=0.1,
                    per_device_train_batch_size=BATCH_SIZE,
                    per_device_eval_batch_size=TEST_BATCH_SIZE,
                    seed=seed,
                    label_names=["labels"],
                    save_strategy="no",
                    logging_strategy="no",
                    report_to="none",
                    disable_tqdm=True,
                    dataloader_pin_memory=torch.cuda.is_available(),
                ),
                train_dataset=tokenize_texts(self.data.train.select(drawn), tokenizer, self.max_length),
                data_collator=DataCollatorWithPadding(tokenizer),
                compute_metrics=classification_metrics(),
                callbacks=[_OnStep(on_step)],
            )
            trainer.remove_callback(PrinterCallback)
            trainer.train()
            metrics = trainer.predict(tokenize_texts(self.data.test, tokenizer, self.max_length)).metrics
        seconds = time.perf_counter() - start
        shutil.rmtree(folder, ignore_errors=True)
        model.save_pretrained(folder)
        save_wrapper_config(model, folder)
        tokenizer.save_pretrained(folder)
        return RunRecord(
            method=method,
            seed=seed,
            settings=self.settings(method),
            accuracy=metrics["test_accuracy"],
            trained_parameters=count_parameters(model)[0],
            saved_bytes=sum(file.stat().st_size for file in folder.rglob("*.safetensors")),
            seconds=seconds,
        )

    def load(self, method: str, folder: Path) -> Any:
        """Loads a model that `train` saved."""
        if method in ("fine_tuning", "dpt"):
            return AutoModelForSequenceClassification.from_pretrained(folder)
        base = self.build("dpt" if method == "dpt_deep_prompt" else "fine_tuning")
        return PeftModel.from_pretrained(base, folder)

    def predict(self, model: Any, texts: Sequence[str]) -> list[list[dict[str, Any]]]:
        """Classifies texts.

        Returns:
            For each text all classes with their probabilities, the likeliest first: `{"label": ..., "score": ...}`.
        """
        classify = pipeline("text-classification", model=model, tokenizer=self.tokenizer(), top_k=None)
        return classify(list(texts), truncation=True, max_length=self.max_length)


class _OnStep(TrainerCallback):
    """Calls a function after every training step and every test batch."""

    def __init__(self, on_step: Callable[[], None]) -> None:
        self.on_step = on_step

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        self.on_step()

    def on_prediction_step(self, *args: Any, **kwargs: Any) -> None:
        self.on_step()


def _identity(model: str) -> list[Any]:
    """A model's id and, of a local folder, its weights' sizes and times: weights trained further are another model."""
    weights = sorted([*Path(model).glob("*.safetensors"), *Path(model).glob("*.bin")]) if Path(model).is_dir() else []
    return [model, *([file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in weights)]
