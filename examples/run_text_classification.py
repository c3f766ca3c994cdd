"""Tunes a pretrained model for text classification, with any of the methods of dpt_peft.

    python examples/run_text_classification.py --method dpt --dataset_name stanfordnlp/sst2 \
        --text_column_name sentence --label_words negative positive --train_fraction 0.1 \
        --do_train --do_eval --output_dir outputs/sst2_dpt

    python examples/run_text_classification.py --method dpt_deep_prompt --train_file mails.csv --test_file new.csv \
        --examples_per_class 16 --do_train --do_predict --output_dir outputs/mails

All arguments of `transformers.TrainingArguments` work, and `accelerate launch` in the place of `python`.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

from transformers import HfArgumentParser, TrainingArguments

from dpt_peft.tasks.text_classification import TextClassificationArguments
from dpt_peft.training.cached_layers import CacheArguments
from dpt_peft.training.methods import METHODS
from dpt_peft.training.text_classification import (
    MethodArguments,
    ModelArguments,
    SamplingArguments,
    run_text_classification,
)


@dataclass
class ScriptTrainingArguments(TrainingArguments):
    """The Trainer's arguments; the learning rate's default depends on the method."""

    learning_rate: float | None = field(  # type: ignore[assignment]
        default=None, metadata={"help": "Default: by method, see dpt_peft.training.methods.METHODS."}
    )


def main(argv: list[str] | None = None) -> dict[str, object]:
    """Parses the command line (or a json / yaml file of arguments) and runs it."""
    parser = HfArgumentParser(
        (
            ModelArguments,
            TextClassificationArguments,
            MethodArguments,
            SamplingArguments,
            CacheArguments,
            ScriptTrainingArguments,
        ),
        description=__doc__,
    )
    model_args, data_args, method_args, sampling_args, cache_args, training_args = parser.parse_args_into_dataclasses(
        argv
    )
    if training_args.learning_rate is None:
        training_args.learning_rate = METHODS[method_args.method].learning_rate
    if not (training_args.do_train or training_args.do_eval or training_args.do_predict):
        parser.error("nothing to do: give --do_train, --do_eval or --do_predict")
    logging.basicConfig(level=logging.INFO if training_args.should_log else logging.WARNING, format="%(message)s")
    return run_text_classification(
        model_args, data_args, method_args, sampling_args, training_args, cache_args=cache_args
    )


if __name__ == "__main__":
    main()
