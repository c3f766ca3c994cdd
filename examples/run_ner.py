"""Tune a pretrained model to find named entities, with any of the methods of dpt_peft.

    python examples/run_ner.py --preset conll03-roberta-large --do_train --do_eval --output_dir outputs/conll03

    python examples/run_ner.py --method deep_prompt --model_name_or_path FacebookAI/roberta-base \
        --num_virtual_tokens 100 --train_file eng.train --validation_file eng.testa --test_file eng.testb \
        --do_train --do_eval --do_predict --lr_decay_per_epoch 0.95 --output_dir outputs/names

Data: columns of words and tags (IOB1, IOB2, BIOES and others; strings or classes) on the Hub or in json files, or
files in CoNLL columns. All arguments of `transformers.TrainingArguments` work, and `accelerate launch` in the place of
`python`.
"""

from __future__ import annotations

from typing import Any

from dpt_peft.tasks import TokenClassification
from dpt_peft.training import parse_arguments, run


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Parse the command line and run it."""
    task = TokenClassification()
    (arguments,) = parse_arguments(task, __doc__, argv)
    return run(task, arguments).results


if __name__ == "__main__":
    main()
