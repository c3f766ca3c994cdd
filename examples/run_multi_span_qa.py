"""Tunes a pretrained model to find all spans of a paragraph that answer a question, with any of the methods.

    python examples/run_multi_span_qa.py --method dpt --dataset_name allenai/quoref --train_fraction 0.1 \
        --do_train --do_eval --output_dir outputs/quoref_dpt

    python examples/run_multi_span_qa.py --method fine_tuning --train_file train.jsonl --validation_size 200 \
        --tune_threshold --test_file test.jsonl --do_train --do_predict --output_dir outputs/reader

Columns as in SQuAD (id, question, context, answers), with several answers a question. The methods without "dpt" are IO
tagging with a new head. All arguments of `transformers.TrainingArguments` work, and `accelerate launch` in the place
of `python`.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

from transformers import HfArgumentParser, TrainingArguments

from dpt_peft.tasks.multi_span_qa import MultiSpanQAArguments
from dpt_peft.training.methods import METHODS
from dpt_peft.training.multi_span_qa import MultiSpanMethodArguments, run_multi_span_qa
from dpt_peft.training.multi_span_sampling import MultiSpanSamplingArguments
from dpt_peft.training.text_classification import ModelArguments


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
            MultiSpanQAArguments,
            MultiSpanMethodArguments,
            MultiSpanSamplingArguments,
            ScriptTrainingArguments,
        ),
        description=__doc__,
    )
    model_args, data_args, method_args, sampling_args, training_args = parser.parse_args_into_dataclasses(argv)
    if training_args.learning_rate is None:
        training_args.learning_rate = METHODS[method_args.method].learning_rate
    if not (training_args.do_train or training_args.do_eval or training_args.do_predict):
        parser.error("nothing to do: give --do_train, --do_eval or --do_predict")
    logging.basicConfig(level=logging.INFO if training_args.should_log else logging.WARNING, format="%(message)s")
    return run_multi_span_qa(model_args, data_args, method_args, sampling_args, training_args)


if __name__ == "__main__":
    main()
