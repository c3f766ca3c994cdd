"""Tunes a pretrained model to find named entities, with any of the methods of dpt_peft.

    python examples/run_ner.py --preset conll03-roberta-large --do_train --do_eval --output_dir outputs/conll03

    python examples/run_ner.py --method deep_prompt --model_name_or_path FacebookAI/roberta-base \
        --num_virtual_tokens 100 --train_file eng.train --validation_file eng.testa --test_file eng.testb \
        --do_train --do_eval --do_predict --lr_decay_per_epoch 0.95 --output_dir outputs/names

Data: columns of words and tags (IOB1, IOB2, BIOES; strings or classes) on the Hub or in json files, or files in CoNLL
columns. All arguments of `transformers.TrainingArguments` work, and `accelerate launch` in the place of `python`.
"""

from __future__ import annotations

from dpt_peft.tasks.tagging.task import TokenClassificationArguments
from dpt_peft.training.command_line import parse_arguments
from dpt_peft.training.schedules import ScriptTrainingArguments
from dpt_peft.training.text_classification import SamplingArguments
from dpt_peft.training.tuned_run import ModelArguments
from dpt_peft.training.word_tagging import WordTaggingMethodArguments, run_token_classification


def main(argv: list[str] | None = None) -> dict[str, object]:
    """Parses the command line and runs it."""
    parsed = parse_arguments(
        (
            ModelArguments,
            TokenClassificationArguments,
            WordTaggingMethodArguments,
            SamplingArguments,
            ScriptTrainingArguments,
        ),
        __doc__,
        argv,
        family="token-classification",
    )
    return run_token_classification(*parsed)


if __name__ == "__main__":
    main()
