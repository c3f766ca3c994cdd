"""Tunes a pretrained model to choose the best of several texts, such as COPA's more plausible cause or effect.

    python examples/run_multiple_choice.py --method deep_prompt --model_name_or_path FacebookAI/roberta-large \
        --dataset_name aps/super_glue --dataset_config_name copa --do_train --do_eval --output_dir outputs/copa

    python examples/run_multiple_choice.py --method lora --dataset_name allenai/swag --context_column_name sent1 \
        --question_column_name sent2 --question_place choice --choice_column_names ending0 ending1 ending2 ending3 \
        --do_train --do_eval --output_dir outputs/swag

All arguments of `transformers.TrainingArguments` work, and `accelerate launch` in the place of `python`.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

from transformers import HfArgumentParser, TrainingArguments

from dpt_peft.tasks.multiple_choice import MultipleChoiceArguments
from dpt_peft.training.methods import METHODS
from dpt_peft.training.multiple_choice import MultipleChoiceMethodArguments, run_multiple_choice
from dpt_peft.training.text_classification import ModelArguments, SamplingArguments


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
            MultipleChoiceArguments,
            MultipleChoiceMethodArguments,
            SamplingArguments,
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
    return run_multiple_choice(model_args, data_args, method_args, sampling_args, training_args)


if __name__ == "__main__":
    main()
