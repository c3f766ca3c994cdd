"""How the quickstart's learning rates and epochs were chosen: on its training messages alone.

For each seed 8 messages a class are drawn to train on, and the accuracy is measured on the training messages that were
not drawn. The test messages are not read. The seeds differ from those of the quickstart itself.

    python examples/experiments/quickstart_tuning.py fine_tuning:2e-4:15 dpt:1e-4:12 dpt_deep_prompt:4e-2:20
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path
from statistics import mean

import datasets
from transformers.utils import logging

import dpt_peft
from dpt_peft.quickstart.data import packaged_data
from dpt_peft.quickstart.run import TUNING, Quickstart, Tuning
from dpt_peft.training.low_resource import sample_per_class

EXAMPLES_PER_CLASS = 8


def parse_candidate(text: str) -> tuple[str, Tuning]:
    """Read `method:learning_rate:epochs`."""
    method, learning_rate, epochs = text.split(":")
    if method not in TUNING:
        raise argparse.ArgumentTypeError(f"no method {method!r}; there are {', '.join(TUNING)}")
    return method, Tuning(float(learning_rate), int(epochs))


def main() -> None:
    """Measure every candidate and prints one line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("candidates", nargs="+", type=parse_candidate, metavar="method:learning_rate:epochs")
    parser.add_argument("--model", help="default: the package's discriminator")
    parser.add_argument("--seeds", nargs="+", type=int, default=[10, 11], metavar="SEED")
    args = parser.parse_args()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    datasets.disable_progress_bars()

    data = packaged_data()
    model = args.model or dpt_peft.embedded_discriminator()
    for method, tuning in args.candidates:
        TUNING[method] = tuning
        accuracies = []
        for seed in args.seeds:
            drawn = set(sample_per_class(data.train_labels, examples_per_class=EXAMPLES_PER_CLASS, seed=seed))
            rest = data.train.select([index for index in range(len(data.train)) if index not in drawn])
            quickstart = Quickstart(
                replace(data, test=rest), model, data.label_names, examples_per_class=EXAMPLES_PER_CLASS
            )
            with tempfile.TemporaryDirectory() as scratch:
                accuracies.append(100 * quickstart.train(method, seed, Path(scratch) / "model").accuracy)
        each = ", ".join(f"{accuracy:.1f}" for accuracy in accuracies)
        print(
            f"{method:15} lr {tuning.learning_rate:g} epochs {tuning.epochs:2}: {mean(accuracies):.1f} % ({each})",
            flush=True,
        )


if __name__ == "__main__":
    main()
