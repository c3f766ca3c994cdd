"""Tune a pretrained model to give a text or a pair of texts a number.

    python examples/run_regression.py --method deep_prompt --model_name_or_path FacebookAI/roberta-base \
        --dataset_name nyu-mll/glue --dataset_config_name stsb --do_train --do_eval --output_dir outputs/stsb

    python examples/run_regression.py --method lora --train_file reviews.csv --text_column_name review \
        --label_column_name stars --validation_size 100 --do_train --do_eval --output_dir outputs/stars

All arguments of `transformers.TrainingArguments` work, and `accelerate launch` in the place of `python`.
"""

from __future__ import annotations

from typing import Any

from dpt_peft.tasks import Regression
from dpt_peft.training import parse_arguments, run


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Parse the command line and run it."""
    task = Regression()
    (arguments,) = parse_arguments(task, __doc__, argv)
    return run(task, arguments).results


if __name__ == "__main__":
    main()
