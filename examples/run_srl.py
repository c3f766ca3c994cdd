"""Tune a pretrained model to label semantic roles, with any of the methods of dpt_peft.

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

from typing import Any

from dpt_peft.tasks import SemanticRoleLabeling
from dpt_peft.training import parse_arguments, run


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Parse the command line and run it."""
    task = SemanticRoleLabeling()
    (arguments,) = parse_arguments(task, __doc__, argv)
    return run(task, arguments).results


if __name__ == "__main__":
    main()
