"""Tune a pretrained model to say which relation holds between two marked spans of a sentence.

    python examples/run_relation_extraction.py --method deep_prompt --model_name_or_path FacebookAI/roberta-base \
        --train_file train.json --validation_file dev.json --do_train --do_eval --output_dir outputs/tacred

    python examples/run_relation_extraction.py --method dpt --train_file relations.jsonl \
        --examples_per_class 16 --validation_size 100 --do_train --do_eval --output_dir outputs/relations

All arguments of `transformers.TrainingArguments` work, and `accelerate launch` in the place of `python`.
"""

from __future__ import annotations

from typing import Any

from dpt_peft.tasks import RelationExtraction
from dpt_peft.training import parse_arguments, run


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Parse the command line and run it."""
    task = RelationExtraction()
    (arguments,) = parse_arguments(task, __doc__, argv)
    return run(task, arguments).results


if __name__ == "__main__":
    main()
