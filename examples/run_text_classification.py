"""Tune a pretrained model for text classification, with any of the methods of dpt_peft.

    python examples/run_text_classification.py --method dpt --dataset_name stanfordnlp/sst2 \
        --text_column_name sentence --label_words negative positive --train_fraction 0.1 \
        --do_train --do_eval --output_dir outputs/sst2_dpt

    python examples/run_text_classification.py --method dpt_deep_prompt --train_file mails.csv --test_file new.csv \
        --examples_per_class 16 --do_train --do_predict --output_dir outputs/mails

    python examples/run_text_classification.py --preset rte-bert-large --do_train --do_eval --output_dir outputs/rte

All arguments of `transformers.TrainingArguments` work, and `accelerate launch` in the place of `python`.
"""

from __future__ import annotations

from typing import Any

from dpt_peft.tasks import TextClassification
from dpt_peft.training import parse_arguments, run


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Parse the command line and run it."""
    task = TextClassification()
    (arguments,) = parse_arguments(task, __doc__, argv, default_method="dpt")
    return run(task, arguments).results


if __name__ == "__main__":
    main()
