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

from dpt_peft.tasks.question_answering.extractive import QuestionAnsweringArguments
from dpt_peft.training.command_line import parse_arguments
from dpt_peft.training.question_answering import QuestionAnsweringMethodArguments, run_question_answering
from dpt_peft.training.question_sampling import QuestionSamplingArguments
from dpt_peft.training.schedules import ScriptTrainingArguments
from dpt_peft.training.tuned_run import ModelArguments


def main(argv: list[str] | None = None) -> dict[str, object]:
    """Parses the command line and runs it."""
    parsed = parse_arguments(
        (
            ModelArguments,
            QuestionAnsweringArguments,
            QuestionAnsweringMethodArguments,
            QuestionSamplingArguments,
            ScriptTrainingArguments,
        ),
        __doc__,
        argv,
        family="question-answering",
    )
    return run_question_answering(*parsed)


if __name__ == "__main__":
    main()
