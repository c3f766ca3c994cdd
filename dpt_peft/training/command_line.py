"""What the example scripts share in reading their command lines."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from dataclasses import fields
from typing import Any, get_args, get_type_hints

from transformers import HfArgumentParser

from dpt_peft.tasks.data_sets import DATA_SETS
from dpt_peft.training.methods import METHODS, options_without_use
from dpt_peft.training.presets import PRESETS

_SOURCES = ("dataset_name", "train_file", "validation_file", "test_file")


def _names_data(argv: Sequence[str] | None) -> bool:
    finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for source in _SOURCES:
        finder.add_argument(f"--{source}")
    return any(vars(finder.parse_known_args(argv)[0]).values())


def _use_preset(parser: argparse.ArgumentParser, presets: list[str], argv: Sequence[str] | None) -> None:
    """Adds `--preset`, and makes the values of the one that is asked for the parser's defaults."""
    chooser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, prog=parser.prog)
    for each in (chooser, parser):
        each.add_argument(
            "--preset",
            choices=presets,
            help="What the papers used for a data set and a model; what else is given goes before it.",
        )
    name = chooser.parse_known_args(argv)[0].preset
    if name is None:
        return
    data = DATA_SETS[PRESETS[name].data_set]
    values = {**data.columns, **data.options, **PRESETS[name].values}
    if not _names_data(argv):
        if data.hub_id is None:
            parser.error(f"--preset {name} needs --train_file and so on: {data.obtain}")
        values |= {"dataset_name": data.hub_id, **data.hub}
    parser.set_defaults(**values)


def _refuse_options_without_use(parser: argparse.ArgumentParser, method_args: Any, parsed: Sequence[Any]) -> None:
    """Ends with an error if the command line gives an option that the method does not read.

    What a preset sets is not given: it is for the preset's own method, and the method may be another.
    """
    of_script = get_args(get_type_hints(type(method_args))["method"])
    for part in (part for part in parsed if hasattr(part, "readers")):
        for name, methods in options_without_use(method_args.method, part).items():
            if getattr(part, name) != parser.get_default(name):
                those = ", ".join(method for method in methods if method in of_script) or "no method of this script"
                parser.error(f"--{name} has no use with --method {method_args.method}: it is for {those}")


def parse_arguments(
    dataclasses: Sequence[Any],
    description: str | None,
    argv: Sequence[str] | None = None,
    *,
    family: str | None = None,
) -> tuple[Any, ...]:
    """Parses a script's command line.

    `--preset` sets what the papers used for a data set and a model, and the data set on the Hub; what else the command
    line gives goes before it. A learning rate that neither gives is the method's own.

    Args:
        dataclasses: The arguments' dataclasses; one has `method`, the last is the Trainer's.
        description: For `--help`.
        argv: The words of the command line. Default: those of this process.
        family: The task family; its presets can be asked for.

    Returns:
        An instance of every dataclass.

    Raises:
        SystemExit: If a word is not understood, the preset is for another script, an option has no use with the
            method, or there is nothing to do.
    """
    parser = HfArgumentParser(tuple(dataclasses), description=description)
    presets = [name for name, preset in PRESETS.items() if preset.family == family]
    if presets:
        _use_preset(parser, presets, argv)
    parsed = parser.parse_args_into_dataclasses(argv)[: len(dataclasses)]
    method_args = next(part for part in parsed if any(field.name == "method" for field in fields(part)))
    _refuse_options_without_use(parser, method_args, parsed)
    training_args = parsed[-1]
    if training_args.learning_rate is None:
        training_args.learning_rate = METHODS[method_args.method].learning_rate
    if not (training_args.do_train or training_args.do_eval or training_args.do_predict):
        parser.error("nothing to do: give --do_train, --do_eval or --do_predict")
    logging.basicConfig(level=logging.INFO if training_args.should_log else logging.WARNING, format="%(message)s")
    return tuple(parsed)
