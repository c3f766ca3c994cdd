"""Few labelled examples, four ways to train on them, one table.

Without options: 8 classes of customer messages that come with the package, 8 labelled examples a class, 3 seeds, on
the small discriminator that comes with the package; nothing is downloaded. Each run draws its own examples, trains on
them (no run sees the test texts), and is measured on the test texts. An interrupted quickstart goes on where it was.

    python -m dpt_peft.quickstart --train_file tickets.csv --text_column_name body --label_column_name team
    python -m dpt_peft.quickstart --model_name_or_path google/electra-small-discriminator --seeds 5
"""

from __future__ import annotations

import os

# Read when the libraries are imported: the tokenizer's threads would warn when the Trainer forks.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING

from transformers import HfArgumentParser
from transformers.utils import logging

from dpt_peft._compatibility import no_progress_bars, quiet_peft
from dpt_peft.quickstart.run import Quickstart, QuickstartArguments
from dpt_peft.tasks.text_classification import TextClassificationArguments
from dpt_peft.training.given_model import ModelArguments

if TYPE_CHECKING:
    from rich.console import Console


def make_console() -> Console:
    """Return what the quickstart prints to.

    Raises:
        ImportError: If the extra that the quickstart needs is not installed.
    """
    try:
        for package in ("matplotlib", "sklearn"):
            import_module(package)
        from rich.console import Console
    except ImportError as error:
        raise ImportError(
            f'{error}: `pip install "dpt_peft[quickstart]"` installs what the quickstart needs'
        ) from error
    return Console(highlight=False)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the quickstart, and return the exit status: 0, or 130 if the user interrupted it.

    Arguments that cannot work end the process with status 2 and a message before anything is trained.
    """
    groups = (QuickstartArguments, TextClassificationArguments, ModelArguments)
    parser = HfArgumentParser(groups, prog="python -m dpt_peft.quickstart", description=__doc__)
    logging.set_verbosity_error()
    with no_progress_bars(), quiet_peft():
        try:
            arguments, source, model = parser.parse_args_into_dataclasses(argv)
            console = make_console()
            quickstart = Quickstart(arguments, source, model, console)
        except (OSError, ValueError, TypeError, ImportError) as error:
            parser.exit(2, f"{parser.prog}: error: {error}\n")
        try:
            quickstart.report(quickstart.run())
        except KeyboardInterrupt:
            kept = f"Interrupted. Finished runs are kept in {quickstart.log}; the same command goes on from there."
            console.print(kept, soft_wrap=True)
            return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
