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

from dpt_peft.tasks.question_answering.multi_span import MultiSpanQAArguments
from dpt_peft.training.command_line import parse_arguments
from dpt_peft.training.multi_span_qa import MultiSpanMethodArguments, run_multi_span_qa
from dpt_peft.training.question_sampling import QuestionSamplingArguments
from dpt_peft.training.schedules import ScriptTrainingArguments
from dpt_peft.training.tuned_run import ModelArguments


def main(argv: list[str] | None = None) -> dict[str, object]:
    """Parses the command line and runs it."""
    parsed = parse_arguments(
        (
            ModelArguments,
            MultiSpanQAArguments,
            MultiSpanMethodArguments,
            QuestionSamplingArguments,
            ScriptTrainingArguments,
        ),
        __doc__,
        argv,
    )
    return run_multi_span_qa(*parsed)


if __name__ == "__main__":
    main()
