"""Tunes a pretrained model for many classes in a hierarchy, with any of the methods of dpt_peft.

    python examples/run_hierarchical_classification.py --method dpt --train_file calls.csv --test_file new.csv \
        --level_column_names department topic --do_train --do_predict --measure_cost --output_dir outputs/calls

    python examples/run_hierarchical_classification.py --method dpt --dataset_name CogComp/trec \
        --level_column_names coarse_label fine_label --wordpieces mean --train_fraction 0.1 --do_train --do_predict \
        --output_dir outputs/trec

TREC's names share their first wordpiece (ABBR:abb, ABBR:exp), hence `--wordpieces mean`; `--tree_words_file` gives
proper words instead. Without `--level_column_names` the hierarchy is built of the label words (`--label_column_name`).
`--label_hierarchy none` puts all classes into one template, and `--method fine_tuning` learns a new head: the same
script makes the comparison, `examples/experiments/label_hierarchies.py` all of it at once. All arguments of
`transformers.TrainingArguments` work, and `accelerate launch` in the place of `python`.
"""

from __future__ import annotations

import logging

from dpt_peft.tasks.hierarchical import HierarchicalClassificationArguments
from dpt_peft.training.command_line import parse_arguments
from dpt_peft.training.hierarchical_classification import HierarchyArguments, run_hierarchical_classification
from dpt_peft.training.schedules import ScriptTrainingArguments
from dpt_peft.training.text_classification import MethodArguments, SamplingArguments
from dpt_peft.training.tuned_run import ModelArguments


def main(argv: list[str] | None = None) -> dict[str, object]:
    """Parses the command line and runs it."""
    parsed = parse_arguments(
        (
            ModelArguments,
            HierarchicalClassificationArguments,
            MethodArguments,
            HierarchyArguments,
            SamplingArguments,
            ScriptTrainingArguments,
        ),
        __doc__,
        argv,
    )
    results = run_hierarchical_classification(*parsed)
    for name in ("milliseconds_per_text", "cpu_milliseconds_per_text", "tokens_per_text", "peak_memory_mb"):
        if name in results:
            logging.getLogger(__name__).info("%s: %.1f", name, results[name])
    return results


if __name__ == "__main__":
    main()
