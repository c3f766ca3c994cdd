"""Tunes a pretrained model for text classification, with any of the methods of dpt_peft.

    python examples/run_text_classification.py --method dpt --dataset_name stanfordnlp/sst2 \
        --text_column_name sentence --label_words negative positive --train_fraction 0.1 \
        --do_train --do_eval --output_dir outputs/sst2_dpt

    python examples/run_text_classification.py --method dpt_deep_prompt --train_file mails.csv --test_file new.csv \
        --examples_per_class 16 --do_train --do_predict --output_dir outputs/mails

    python examples/run_text_classification.py --preset rte-bert-large --do_train --do_eval --output_dir outputs/rte

All arguments of `transformers.TrainingArguments` work, and `accelerate launch` in the place of `python`.
"""

from __future__ import annotations

from dpt_peft.tasks.text_classification import TextClassificationArguments
from dpt_peft.training.cached_layers import CacheArguments
from dpt_peft.training.command_line import parse_arguments
from dpt_peft.training.schedules import ScriptTrainingArguments
from dpt_peft.training.text_classification import MethodArguments, SamplingArguments, run_text_classification
from dpt_peft.training.tuned_run import ModelArguments


def main(argv: list[str] | None = None) -> dict[str, object]:
    """Parses the command line and runs it."""
    *parsed, cache_args, training_args = parse_arguments(
        (
            ModelArguments,
            TextClassificationArguments,
            MethodArguments,
            SamplingArguments,
            CacheArguments,
            ScriptTrainingArguments,
        ),
        __doc__,
        argv,
        family="text-classification",
    )
    return run_text_classification(*parsed, training_args, cache_args=cache_args)


if __name__ == "__main__":
    main()
