"""Trains deep prompts on several tasks at once: shared prompts, a head for every task (P-tuning v2's MPT-2).

    python examples/run_multi_task.py --tasks conll03 wikiann_en --model_name_or_path FacebookAI/roberta-base \
        --num_virtual_tokens 100 --do_train --do_eval --output_dir outputs/names

    # then each task for itself, from the shared prompts
    python examples/run_ner.py --dataset_name lukasgarbas/conll-03 --model_name_or_path FacebookAI/roberta-base \
        --num_virtual_tokens 100 --init_from outputs/names/conll03 --do_train --do_eval --output_dir outputs/conll03

Tasks of your own stand in a json file (`--tasks_file`): name -> family and data arguments of the single-task script.
Any tasks with a label for every word (names, roles) go together, and any text classification tasks. All arguments of
`transformers.TrainingArguments` work, and `accelerate launch` in the place of `python`.
"""

from __future__ import annotations

from dpt_peft.training.command_line import parse_arguments
from dpt_peft.training.joint_tasks import MultiTaskArguments
from dpt_peft.training.multi_task import MultiTaskMethodArguments, run_multi_task
from dpt_peft.training.schedules import ScriptTrainingArguments
from dpt_peft.training.text_classification import SamplingArguments
from dpt_peft.training.tuned_run import ModelArguments


def main(argv: list[str] | None = None) -> dict[str, object]:
    """Parses the command line and runs it."""
    parsed = parse_arguments(
        (ModelArguments, MultiTaskArguments, MultiTaskMethodArguments, SamplingArguments, ScriptTrainingArguments),
        __doc__,
        argv,
    )
    return run_multi_task(*parsed)


if __name__ == "__main__":
    main()
