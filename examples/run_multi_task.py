"""Train deep prompts on several tasks at once: shared prompts, a head for every task (P-tuning v2's MPT-2).

    python examples/run_multi_task.py --tasks conll03 wikiann_en --model_name_or_path FacebookAI/roberta-base \
        --num_virtual_tokens 100 --do_train --do_eval --output_dir outputs/names

    # then each task for itself, from the shared prompts
    python examples/run_ner.py --dataset_name lukasgarbas/conll-03 --model_name_or_path FacebookAI/roberta-base \
        --num_virtual_tokens 100 --init_from outputs/names/conll03 --do_train --do_eval --output_dir outputs/conll03

Tasks of your own stand in a json file (`--tasks_file`): name -> family and data arguments of the single-task script.
Any tasks with a label for every word (names, roles) go together, and any text classification tasks. Arguments of
`transformers.TrainingArguments` work, and `accelerate launch` in the place of `python`; those that would act on the
tasks as if they were one model are refused by name. Batches are drawn task by task, not grouped by length.
"""

from __future__ import annotations

from typing import Any

from dpt_peft.training import SharedPrompts, parse_arguments, run_multi_task


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Parse the command line and run it."""
    (arguments,) = parse_arguments(SharedPrompts(), __doc__, argv, methods=["deep_prompt"])
    return run_multi_task(arguments)


if __name__ == "__main__":
    main()
