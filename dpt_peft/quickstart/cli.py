"""The quickstart's command line: what is asked for, checked before anything is trained, then run and reported."""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Sequence
from pathlib import Path

import datasets
from rich.console import Console
from transformers import AutoConfig
from transformers.utils import logging

import dpt_peft

from .data import QuickstartData, own_data, packaged_data
from .run import TUNING, Quickstart
from .session import Session

DEFAULT_METHODS = ("fine_tuning", "dpt", "dpt_deep_prompt")

DESCRIPTION = """\
Trains a small text classifier on a few labelled examples in several ways and compares them.

Without options: 8 classes of customer messages that come with the package, 8 labelled examples a class, 3 seeds, on
the small discriminator that comes with the package. Nothing is downloaded. Each run draws its own examples, trains on
them with fixed settings (no run sees the test texts), and is measured on the test texts.
"""

EPILOG = """\
examples:
  python -m dpt_peft.quickstart
  python -m dpt_peft.quickstart --data tickets.csv --text-column body --label-column team
  python -m dpt_peft.quickstart --model google/electra-small-discriminator --seeds 5
  python -m dpt_peft.quickstart --data reviews.tsv --label-words "terrible,okay,great" --examples-per-class 16

written to the output folder:
  runs.jsonl            one line a finished run; an interrupted quickstart goes on from there
  spread.png            the accuracy of every seed
  models/<method>       the model or adapter of seed 0
"""


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {number}")
    return number


def _fraction(text: str) -> float:
    number = float(text)
    if not 0 < number < 1:
        raise argparse.ArgumentTypeError(f"must be between 0 and 1, got {number}")
    return number


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",")]


def _methods(text: str) -> list[str]:
    names = list(dict.fromkeys(_words(text)))
    unknown = [name for name in names if name not in TUNING]
    if unknown:
        raise argparse.ArgumentTypeError(f"no method {', '.join(map(repr, unknown))}; there are {', '.join(TUNING)}")
    return names


def make_parser() -> argparse.ArgumentParser:
    """The command line's parser."""
    parser = argparse.ArgumentParser(
        prog="python -m dpt_peft.quickstart",
        usage="%(prog)s [options]",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    data = parser.add_argument_group("your own data (default: the package's customer messages)")
    data.add_argument("--data", metavar="FILE", help="csv, tsv, json or jsonl file, one text and one label a row")
    data.add_argument("--text-column", metavar="NAME", help="column of the text (default: text)")
    data.add_argument(
        "--label-column", metavar="NAME", help="column of the label, names or whole numbers (default: label)"
    )
    data.add_argument(
        "--test-data", metavar="FILE", help="test texts with the same columns (default: hold out part of --data)"
    )
    data.add_argument(
        "--test-fraction", metavar="SHARE", type=_fraction, help="share of --data to hold out (default: 0.3)"
    )

    what = parser.add_argument_group("what is trained")
    what.add_argument("--model", metavar="MODEL", help="Hub id or folder of a discriminator (default: the package's)")
    what.add_argument(
        "--methods",
        metavar="NAMES",
        type=_methods,
        default=list(DEFAULT_METHODS),
        help=f"with commas between, of {', '.join(TUNING)} (default: {','.join(DEFAULT_METHODS)})",
    )
    what.add_argument(
        "--label-words",
        metavar="WORDS",
        type=_words,
        help='DPT\'s word for each class, "bad,good", in the order of the sorted labels (default: the labels)',
    )
    what.add_argument(
        "--num-virtual-tokens", metavar="N", type=_positive, default=20, help="prompts a layer (default: 20)"
    )
    what.add_argument(
        "--max-length", metavar="N", type=_positive, default=128, help="tokens of a text that are read (default: 128)"
    )

    how = parser.add_argument_group("how")
    how.add_argument(
        "--examples-per-class", metavar="N", type=_positive, default=8, help="labelled examples (default: 8)"
    )
    how.add_argument("--seeds", metavar="N", type=_positive, default=3, help="runs of each method (default: 3)")
    epochs = ", ".join(f"{method} {TUNING[method].epochs}" for method in TUNING)
    how.add_argument("--epochs", metavar="N", type=_positive, help=f"passes over the examples (default: {epochs})")
    how.add_argument("--output-dir", metavar="DIR", default="outputs/quickstart", help="default: outputs/quickstart")
    how.add_argument("--overwrite", action="store_true", help="forget the runs in the output folder, train all again")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the quickstart.

    Args:
        argv: the arguments; default those of the process.

    Returns:
        The exit status: 0, or 130 if the user interrupted it. Arguments that cannot work end the process with status 2
        and a message before anything is trained.
    """
    parser = make_parser()
    args = parser.parse_args(argv)
    _quiet()
    console = Console(highlight=False)
    try:
        output_dir = _make_folder(args.output_dir)
        quickstart = _prepare(args, console)
    except (OSError, ValueError, TypeError, ImportError) as error:
        parser.exit(2, f"{parser.prog}: error: {_with_option_names(str(error))}\n")
    session = Session(quickstart, args.methods, args.seeds, output_dir, console)
    try:
        session.report(session.run(overwrite=args.overwrite))
    except KeyboardInterrupt:
        console.print(
            f"Interrupted. Finished runs are kept in {session.log.path}; the same command goes on from there.",
            soft_wrap=True,
        )
        return 130
    return 0


def _quiet() -> None:
    """One progress bar is enough, and no library's advice is about something that the user could change here."""
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    datasets.disable_progress_bars()
    # peft 0.21.2 reads an attribute that transformers 5.23 has renamed.
    warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)


def _make_folder(name: str) -> Path:
    folder = Path(name)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"`output_dir` {name!r} is a file; name a folder.")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _with_option_names(message: str) -> str:
    """Names options as they are typed: the functions below name their arguments as Python does."""
    options = {"train_file": "--data", "test_file": "--test-data", "text_column_name": "--text-column"}
    options |= {
        "label_column_name": "--label-column",
        "test_fraction": "--test-fraction",
        "output_dir": "--output-dir",
    }
    options |= {
        "examples_per_class": "--examples-per-class",
        "label_words": "--label-words",
        "max_length": "--max-length",
    }
    for name, option in options.items():
        message = message.replace(f"`{name}`", option)
    return message


def _load_data(args: argparse.Namespace) -> QuickstartData:
    own = {"text_column": args.text_column, "label_column": args.label_column, "test_file": args.test_data}
    own = {name: value for name, value in {**own, "test_fraction": args.test_fraction}.items() if value is not None}
    if args.data is not None:
        return own_data(args.data, **own)
    if own:
        raise ValueError("--text-column, --label-column, --test-data and --test-fraction go with --data.")
    return packaged_data()


def _prepare(args: argparse.Namespace, console: Console) -> Quickstart:
    """Loads the data and builds every method's model once, so that what cannot work shows before any training."""
    data = _load_data(args)
    data.check_examples_per_class(args.examples_per_class)
    if args.model is None:
        with console.status("Building the small discriminator (the first time only) ..."):
            model = dpt_peft.embedded_discriminator()
    else:
        model = args.model
    quickstart = Quickstart(
        data=data,
        model=model,
        label_words=args.label_words or data.label_names,
        examples_per_class=args.examples_per_class,
        epochs=args.epochs,
        max_length=args.max_length,
        num_virtual_tokens=args.num_virtual_tokens,
    )
    try:
        positions = getattr(AutoConfig.from_pretrained(model), "max_position_embeddings", None)
        if positions is not None and args.max_length > positions:
            raise ValueError(f"`max_length` is {args.max_length}, but {model} reads at most {positions} tokens.")
        quickstart.tokenizer()
        for method in args.methods:
            quickstart.build(method)
    except OSError as error:
        raise OSError(f"--model: {model!r} is no model folder, and the Hub did not give it: {error}") from error
    return quickstart
