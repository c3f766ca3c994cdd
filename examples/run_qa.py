"""Tunes a pretrained model to find the piece of a paragraph that answers a question (SQuAD 1.1 and 2.0).

    python examples/run_qa.py --method deep_prompt --model_name_or_path FacebookAI/roberta-large \
        --dataset_name rajpurkar/squad --do_train --do_eval --output_dir outputs/squad

    python examples/run_qa.py --method deep_prompt --dataset_name rajpurkar/squad_v2 --version_2_with_negative \
        --tune_threshold --do_train --do_eval --output_dir outputs/squad_v2

Columns: id, question, context, answers. SQuAD's test sets are not public: its papers and ours report the validation
split. `--validation_size` holds out paragraphs of the training data to tune on, with `--test_file` for the measuring.
All arguments of `transformers.TrainingArguments` work, and `accelerate launch` in the place of `python`.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

from transformers import HfArgumentParser, TrainingArguments

from dpt_peft.tasks.question_answering import QuestionAnsweringArguments
from dpt_peft.training.methods import METHODS
from dpt_peft.training.multi_span_sampling import MultiSpanSamplingArguments
from dpt_peft.training.question_answering import QuestionAnsweringMethodArguments, run_question_answering
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
            QuestionAnsweringArguments,
            QuestionAnsweringMethodArguments,
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
    return run_question_answering(model_args, data_args, method_args, sampling_args, training_args)


if __name__ == "__main__":
    main()
