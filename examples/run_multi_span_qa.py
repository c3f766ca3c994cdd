"""Tune a pretrained model to find all spans of a paragraph that answer a question, with any of the methods.

    python examples/run_multi_span_qa.py --method dpt --dataset_name allenai/quoref --train_fraction 0.1 \
        --do_train --do_eval --output_dir outputs/quoref_dpt

    python examples/run_multi_span_qa.py --method fine_tuning --train_file train.jsonl --validation_size 200 \
        --tune_threshold --test_file test.jsonl --do_train --do_predict --output_dir outputs/reader

Columns as in SQuAD (id, question, context, answers), with several answers a question. The methods without "dpt" are IO
tagging with a new head. All arguments of `transformers.TrainingArguments` work, and `accelerate launch` in the place
of `python`.
"""

from __future__ import annotations

from typing import Any

from dpt_peft.tasks import MultiSpanQuestionAnswering
from dpt_peft.training import parse_arguments, run


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Parse the command line and run it."""
    task = MultiSpanQuestionAnswering()
    (arguments,) = parse_arguments(task, __doc__, argv, default_method="dpt")
    return run(task, arguments).results


if __name__ == "__main__":
    main()
