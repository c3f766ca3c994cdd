"""Tune a pretrained model to choose the best of several texts, such as COPA's more plausible cause or effect.

    python examples/run_multiple_choice.py --method deep_prompt --model_name_or_path FacebookAI/roberta-large \
        --dataset_name aps/super_glue --dataset_config_name copa --do_train --do_eval --output_dir outputs/copa

    python examples/run_multiple_choice.py --method lora --dataset_name allenai/swag --context_column_name sent1 \
        --question_column_name sent2 --question_place choice --choice_column_names ending0 ending1 ending2 ending3 \
        --do_train --do_eval --output_dir outputs/swag

All arguments of `transformers.TrainingArguments` work, and `accelerate launch` in the place of `python`.
"""

from __future__ import annotations

from typing import Any

from dpt_peft.tasks import MultipleChoice
from dpt_peft.training import parse_arguments, run


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Parse the command line and run it."""
    task = MultipleChoice()
    (arguments,) = parse_arguments(task, __doc__, argv)
    return run(task, arguments).results


if __name__ == "__main__":
    main()
