"""Tune a pretrained model for many classes in a hierarchy, with any of the methods of dpt_peft.

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

import json
import logging
from pathlib import Path
from typing import Any

from experiments.costs import CostArguments, check_costs, costs_of

from dpt_peft.tasks import HierarchicalClassification
from dpt_peft.training import parse_arguments, run


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Parse the command line and run it."""
    task = HierarchicalClassification()
    arguments, costs = parse_arguments(task, __doc__, argv, further=(CostArguments,))
    check_costs(costs, arguments)
    outcome = run(task, arguments)
    measured = costs_of(outcome, costs, arguments.training.per_device_eval_batch_size)
    show = logging.getLogger(__name__).info
    for name, value in measured.items():
        for line in value if name == "beams" else [value]:
            show("%s: %s", name, line)
    if (costs.measure_cost or costs.beams) and arguments.training.process_index == 0:
        file = Path(arguments.training.output_dir) / "costs.json"
        file.write_text(json.dumps(measured, indent=1), encoding="utf-8")
    return outcome.results | measured


if __name__ == "__main__":
    main()
