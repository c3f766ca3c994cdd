"""Tunes a pretrained model for many classes in a hierarchy, with any of the methods of dpt_peft.

    python examples/run_hierarchical_classification.py --method dpt --train_file calls.csv --test_file new.csv \
        --level_column_names department topic --do_train --do_predict --measure_cost --output_dir outputs/calls

    python examples/run_hierarchical_classification.py --method dpt --dataset_name CogComp/trec \
        --level_column_names coarse_label fine_label --train_fraction 0.1 --do_train --do_predict \
        --output_dir outputs/trec

Without `--level_column_names` the hierarchy is built of the label words (`--label_column_name`). `--label_hierarchy
none` puts all classes into one template, and `--method fine_tuning` learns a new head: the same script makes the
comparison, `examples/experiments/label_hierarchies.py` all of it at once. All arguments of
`transformers.TrainingArguments` work, and `accelerate launch` in the place of `python`.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

from transformers import HfArgumentParser, TrainingArguments

from dpt_peft.tasks.hierarchical_classification import HierarchicalClassificationArguments
from dpt_peft.training.hierarchical_classification import HierarchyArguments, run_hierarchical_classification
from dpt_peft.training.methods import METHODS
from dpt_peft.training.text_classification import MethodArguments, ModelArguments, SamplingArguments


@dataclass
class ScriptTrainingArguments(TrainingArguments):
    """The Trainer's arguments; the learning rate's default depends on the method."""

    learning_rate: float | None = field(  # type: ignore[assignment]
        default=None, metadata={"help": "Default: by method, see dpt_peft.training.methods.METHODS."}
    )


def main(argv: list[str] | None = None) -> dict[str, object]:
    """Parses the command line (or a json / yaml file of arguments) and runs it."""
    parser = HfArgumentParser(
        (
            ModelArguments,
            HierarchicalClassificationArguments,
            MethodArguments,
            HierarchyArguments,
            SamplingArguments,
            ScriptTrainingArguments,
        ),
        description=__doc__,
    )
    model_args, data_args, method_args, hierarchy_args, sampling_args, training_args = (
        parser.parse_args_into_dataclasses(argv)
    )
    if training_args.learning_rate is None:
        training_args.learning_rate = METHODS[method_args.method].learning_rate
    if not (training_args.do_train or training_args.do_eval or training_args.do_predict):
        parser.error("nothing to do: give --do_train, --do_eval or --do_predict")
    logging.basicConfig(level=logging.INFO if training_args.should_log else logging.WARNING, format="%(message)s")
    results = run_hierarchical_classification(
        model_args, data_args, method_args, hierarchy_args, sampling_args, training_args
    )
    for name in ("milliseconds_per_text", "cpu_milliseconds_per_text", "tokens_per_text", "peak_memory_mb"):
        if name in results:
            logging.getLogger(__name__).info("%s: %.1f", name, results[name])
    return results


if __name__ == "__main__":
    main()
