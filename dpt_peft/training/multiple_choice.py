"""One multiple choice run: what `examples/run_multiple_choice.py` and the experiments call."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import DataCollatorForMultipleChoice, PreTrainedTokenizerBase, TrainingArguments

from dpt_peft.tasks.multiple_choice import MultipleChoiceArguments, load_multiple_choice, tokenize_choices
from dpt_peft.tasks.text_classification import classification_metrics
from dpt_peft.training.families import MULTIPLE_CHOICE
from dpt_peft.training.methods import METHODS, MethodOptions
from dpt_peft.training.runner import run_training
from dpt_peft.training.text_classification import (
    SamplingArguments,
    longest_row,
    select_rows,
    write_predictions,
)
from dpt_peft.training.tuned_run import (
    ModelArguments,
    card_facts,
    facts_of_run,
    majority_shares,
    prepare_model,
    splits_in_use,
)


@dataclass
class MultipleChoiceMethodArguments(MethodOptions):
    """Which tuning method, and its options."""

    method: Literal["fine_tuning", "deep_prompt", "lora"] = field(
        default="deep_prompt", metadata={"help": "Tuning method."}
    )


class ChoiceCollator:
    """Pads the choices of a batch as `DataCollatorForMultipleChoice` does, with labels or without.

    Args:
        tokenizer: Its `pad` does the work.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._collate = DataCollatorForMultipleChoice(tokenizer)

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Returns (batch, choices, length) of every column, and `labels` (batch,) if the examples have them."""
        if "labels" in examples[0]:
            return self._collate(examples)
        batch = self._collate([{**example, "labels": 0} for example in examples])
        return {name: values for name, values in batch.items() if name != "labels"}


def _loading_code(method: str, folder: str, model: Any) -> str:
    lines = ["from transformers import AutoModelForMultipleChoice, AutoTokenizer", ""]
    if METHODS[method].adapter is None:
        lines += [f'model = AutoModelForMultipleChoice.from_pretrained("{folder}")']
    else:
        name = model.get_base_model().config.name_or_path
        lines = ["import dpt_peft", "from peft import PeftModel", *lines]
        lines += [
            f"base = AutoModelForMultipleChoice.from_pretrained({name!r})",
            f'model = PeftModel.from_pretrained(base, "{folder}")',
        ]
    lines += [
        f'tokenizer = AutoTokenizer.from_pretrained("{folder}")',
        'context, choices = "...", ["...", "..."]',
        'rows = tokenizer([context] * len(choices), choices, padding=True, return_tensors="pt")',
        "best = model(**{name: rows[name][None] for name in rows}).logits.argmax(-1).item()",
    ]
    return "\n".join(lines)


def run_multiple_choice(
    model_args: ModelArguments,
    data_args: MultipleChoiceArguments,
    method_args: MultipleChoiceMethodArguments,
    sampling_args: SamplingArguments,
    training_args: TrainingArguments,
    *,
    write_files: bool = True,
    command: str | None = None,
) -> dict[str, Any]:
    """Trains, evaluates and predicts as the arguments ask, and writes model, tokenizer, metrics, predictions and card.

    Args:
        model_args: Pretrained model.
        data_args: Data.
        method_args: Tuning method.
        sampling_args: How much of the training data; a "class" is the place of the right choice.
        training_args: The Trainer's arguments; `do_train`, `do_eval`, `do_predict` say what is done.
        write_files: Whether anything is written to `output_dir` after training.
        command: For the model card; default: this process's command.

    Returns:
        The metrics (`*_majority_share` is the accuracy of always choosing the same place), and what
        `facts_of_run` returns.

    Raises:
        ValueError: If arguments, data or labels do not fit; the message names the argument.
    """
    data = load_multiple_choice(data_args)
    splits = select_rows(data, sampling_args)
    prepared = prepare_model(MULTIPLE_CHOICE, model_args, method_args.method, method_args, seed=training_args.seed)
    model, tokenizer = prepared.model, prepared.tokenizer
    max_length = longest_row(data_args.max_seq_length, tokenizer, model)
    used = splits_in_use(training_args)
    features = {split: tokenize_choices(rows, tokenizer, max_length) for split, rows in splits.items() if used[split]}
    card = card_facts(
        prepared,
        "multiple-choice",
        data_args,
        splits,
        training_args,
        usage=_loading_code(method_args.method, Path(training_args.output_dir or ".").name, model),
        details={"Choices": len(data.label_names)},
    )
    result = run_training(
        model,
        training_args,
        tokenizer=tokenizer,
        card=card,
        compute_metrics=classification_metrics(),
        train_dataset=features.get("train"),
        eval_dataset=features.get("validation"),
        test_dataset=features.get("test"),
        data_collator=ChoiceCollator(tokenizer),
        write_files=write_files,
        command=command,
    )
    if write_files and result.predictions is not None and training_args.process_index == 0:
        numbers = [str(number) for number in range(len(data.label_names))]
        write_predictions(Path(training_args.output_dir or ".") / "predictions.tsv", result.predictions, numbers)
    return {**result.metrics, **majority_shares(splits, used), **facts_of_run(prepared, splits)}
