"""Tunes a pretrained model to label semantic roles, with any of the methods of dpt_peft.

    python examples/run_srl.py --preset conll12-roberta-large --train_file train.gold_conll \
        --validation_file dev.gold_conll --test_file test.gold_conll --do_train --do_eval --do_predict \
        --output_dir outputs/conll12

    python examples/run_srl.py --method deep_prompt --train_file up/train.jsonl --validation_size 500 \
        --do_train --do_eval --output_dir outputs/roles

One row a predicate: words, the predicate's position, and a role for every word, of whole arguments (IOB2, or the
brackets of CoNLL-2005 and CoNLL-2012 files) or of their heads (Universal Propositions). The predicate stands once more
behind the sentence, as the second text of a pair. All arguments of `transformers.TrainingArguments` work, and
`accelerate launch` in the place of `python`.
"""

from __future__ import annotations

from dpt_peft.tasks.tagging.task import SemanticRoleArguments
from dpt_peft.training.command_line import parse_arguments
from dpt_peft.training.schedules import ScriptTrainingArguments
from dpt_peft.training.text_classification import SamplingArguments
from dpt_peft.training.tuned_run import ModelArguments
from dpt_peft.training.word_tagging import WordTaggingMethodArguments, run_semantic_roles


def main(argv: list[str] | None = None) -> dict[str, object]:
    """Parses the command line and runs it."""
    parsed = parse_arguments(
        (
            ModelArguments,
            SemanticRoleArguments,
            WordTaggingMethodArguments,
            SamplingArguments,
            ScriptTrainingArguments,
        ),
        __doc__,
        argv,
        family="semantic-role-labeling",
    )
    return run_semantic_roles(*parsed)


if __name__ == "__main__":
    main()
