"""Tune a pretrained model to find the piece of a paragraph that answers a question (SQuAD 1.1 and 2.0).

    python examples/run_qa.py --method deep_prompt --model_name_or_path FacebookAI/roberta-large \
        --dataset_name rajpurkar/squad --do_train --do_eval --output_dir outputs/squad

    python examples/run_qa.py --method deep_prompt --dataset_name rajpurkar/squad_v2 --version_2_with_negative \
        --tune_threshold --do_train --do_eval --output_dir outputs/squad_v2

Columns: id, question, context, answers. SQuAD's test sets are not public: its papers and ours report the validation
split. `--validation_size` holds out paragraphs of the training data to tune on, with `--test_file` for the measuring.
All arguments of `transformers.TrainingArguments` work, and `accelerate launch` in the place of `python`.
"""

from __future__ import annotations

from typing import Any

from dpt_peft.tasks import QuestionAnswering
from dpt_peft.training import parse_arguments, run


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Parse the command line and run it."""
    task = QuestionAnswering()
    (arguments,) = parse_arguments(task, __doc__, argv)
    return run(task, arguments).results


if __name__ == "__main__":
    main()
