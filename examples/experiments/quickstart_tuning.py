"""How the methods' learning rates and updates were chosen: on the quickstart's training messages alone.

For each seed 8 messages a class are drawn to train on, and the accuracy is measured on the training messages that were
not drawn. The test messages are not read. The seeds differ from those of the quickstart itself.

    python examples/experiments/quickstart_tuning.py fine_tuning:2e-4:15 dpt:1e-4:12 dpt_deep_prompt:4e-2:20
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from statistics import mean

import datasets
from transformers.utils import logging

import dpt_peft
from dpt_peft.tasks import ClassSamplingArguments, TextClassification, TextClassificationArguments
from dpt_peft.training import METHODS, ModelArguments, RunArguments, ScriptTrainingArguments, run

MESSAGES = Path(dpt_peft.__file__).parent / "quickstart" / "data" / "train.csv"
EXAMPLES_PER_CLASS = 8


def parse_candidate(text: str) -> tuple[str, float, int]:
    """Read `method:learning_rate:epochs`."""
    method, learning_rate, epochs = text.split(":")
    if method not in METHODS:
        raise argparse.ArgumentTypeError(f"no method {method!r}; there are {', '.join(METHODS)}")
    return method, float(learning_rate), int(epochs)


def measure(method: str, learning_rate: float, epochs: int, seed: int, model: str) -> float:
    """Train on the messages that a seed draws, and return the accuracy on the others."""
    task = TextClassification()
    source = TextClassificationArguments(train_file=str(MESSAGES))
    data = task.load(source)
    rows = len(data.splits["train"]) - EXAMPLES_PER_CLASS * len(data.label_names)
    with tempfile.TemporaryDirectory() as scratch:
        arguments = RunArguments(
            data=source,
            method=method,
            model=ModelArguments(model),
            # The messages that the sample leaves are held out.
            sampling=ClassSamplingArguments(
                examples_per_class=EXAMPLES_PER_CLASS, sample_seed=seed, validation_size=rows
            ),
            training=ScriptTrainingArguments(
                output_dir=scratch,
                do_train=True,
                do_eval=True,
                seed=seed,
                learning_rate=learning_rate,
                head_learning_rate=METHODS[method].head_learning_rate,
                num_train_epochs=epochs,
                save_strategy="no",
                logging_strategy="no",
                report_to="none",
                disable_tqdm=True,
            ),
        )
        return float(run(task, arguments, data=data, write_files=False).results["eval_accuracy"])


def main(argv: list[str] | None = None) -> None:
    """Measure every candidate and print one line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("candidates", nargs="+", type=parse_candidate, metavar="method:learning_rate:epochs")
    parser.add_argument("--model", help="default: the package's discriminator")
    parser.add_argument("--seeds", nargs="+", type=int, default=[10, 11], metavar="SEED")
    args = parser.parse_args(argv)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    datasets.disable_progress_bars()
    model = args.model or dpt_peft.embedded_discriminator()
    for method, rate, epochs in args.candidates:
        accuracies = [100 * measure(method, rate, epochs, seed, model) for seed in args.seeds]
        each = ", ".join(f"{accuracy:.1f}" for accuracy in accuracies)
        print(f"{method:15} lr {rate:g} epochs {epochs:2}: {mean(accuracies):.1f} % ({each})", flush=True)


if __name__ == "__main__":
    main()
