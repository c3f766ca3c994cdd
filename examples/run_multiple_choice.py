"""Tunes a pretrained model to choose the best of several texts, such as COPA's more plausible cause or effect.

    python examples/run_multiple_choice.py --method deep_prompt --model_name_or_path FacebookAI/roberta-large \
        --dataset_name aps/super_glue --dataset_config_name copa --do_train --do_eval --output_dir outputs/copa

    python examples/run_multiple_choice.py --method lora --dataset_name allenai/swag --context_column_name sent1 \
        --question_column_name sent2 --question_place choice --choice_column_names ending0 ending1 ending2 ending3 \
        --do_train --do_eval --output_dir outputs/swag

All arguments of `transformers.TrainingArguments` work, and `accelerate launch` in the place of `python`.
"""

from __future__ import annotations

from dpt_peft.tasks.multiple_choice import MultipleChoiceArguments
from dpt_peft.training.command_line import parse_arguments
from dpt_peft.training.multiple_choice import MultipleChoiceMethodArguments, run_multiple_choice
from dpt_peft.training.schedules import ScriptTrainingArguments
from dpt_peft.training.text_classification import SamplingArguments
from dpt_peft.training.tuned_run import ModelArguments


def main(argv: list[str] | None = None) -> dict[str, object]:
    """Parses the command line and runs it."""
    parsed = parse_arguments(
        (
            ModelArguments,
            MultipleChoiceArguments,
            MultipleChoiceMethodArguments,
            SamplingArguments,
            ScriptTrainingArguments,
        ),
        __doc__,
        argv,
        family="multiple-choice",
    )
    return run_multiple_choice(*parsed)


if __name__ == "__main__":
    main()
