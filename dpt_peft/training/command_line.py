"""The command lines of the example scripts: a task's arguments, a method and its options, the Trainer's arguments."""

from __future__ import annotations

import logging
import sys
import types
from collections.abc import Mapping, Sequence
from dataclasses import Field, field, fields, make_dataclass
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from transformers import HfArgumentParser
from transformers.hf_argparser import HfArg

from dpt_peft.tasks.base import Task
from dpt_peft.tasks.data_sets import DATA_SETS
from dpt_peft.training.cached_layers import CacheArguments
from dpt_peft.training.given_model import ModelArguments
from dpt_peft.training.methods import METHODS, methods_of, option_names, split_options, users_of_options
from dpt_peft.training.presets import PRESETS
from dpt_peft.training.run import RunArguments
from dpt_peft.training.trainer import ScriptTrainingArguments

_SOURCES = ("dataset_name", "train_file", "validation_file", "test_file")


def parse_arguments(
    task: Task,
    description: str | None,
    argv: Sequence[str] | None = None,
    *,
    default_method: str = "deep_prompt",
    methods: Sequence[str] | None = None,
    further: Sequence[type[Any]] = (),
) -> tuple[Any, ...]:
    """Parse a script's command line.

    `--preset` sets what the papers used for a data set and a model, and the data set on the Hub; what else the command
    line gives goes before it.

    Args:
        task: The task family.
        description: For `--help`.
        argv: The words of the command line. Default: those of this process.
        default_method: The method where none is named.
        methods: The methods that the script has. Default: `methods_of(task)`.
        further: Dataclasses of what else the script takes.

    Returns:
        The run's arguments, and an instance of each of `further`.

    Raises:
        SystemExit: If a word is not understood, an option has no use with the method, or there is nothing to do.
    """
    methods = tuple(methods or methods_of(task))
    method_arguments = make_dataclass(
        "MethodArguments",
        [("method", Literal[methods], HfArg(default=default_method, help="Tuning method."))],
    )
    parts: list[Any] = [ModelArguments, task.arguments, task.sampling, ScriptTrainingArguments]
    parts += [CacheArguments] if task.can_cache else []
    groups = (method_arguments, _options(task, methods), *parts, *further)
    parser = HfArgumentParser(groups, description=description)
    preset = _use_preset(parser, task, argv)
    *parsed, unknown = parser.parse_args_into_dataclasses(argv, return_remaining_strings=True)
    if unknown:
        parser.error(f"no argument of this script: {' '.join(unknown)}")
    method, given, model, data, sampling, training, *rest = parsed[: len(groups)]
    options = {name: value for name, value in vars(given).items() if value is not None and value is not False}
    mine = option_names(task, method.method)
    for name in options.keys() - set(mine):
        users = ", ".join(users_of_options(task)[name])
        parser.error(f"--{name} has no use with --method {method.method}: it is for {users}")
    # What a preset sets is for the preset's own method, and the method may be another.
    options = {name: preset[name] for name in mine if name in preset} | options
    try:
        split_options(task, method.method, options)
    except ValueError as error:
        parser.error(str(error))
    if not (training.do_train or training.do_eval or training.do_predict):
        parser.error("nothing to do: give --do_train, --do_eval or --do_predict")
    logging.basicConfig(level=logging.INFO if training.should_log else logging.WARNING, format="%(message)s")
    cache = rest.pop(0) if task.can_cache else CacheArguments()
    return (RunArguments(data, method.method, training, options, model, sampling, cache), *rest)


def _options(task: Task, allowed: Sequence[str]) -> type[Any]:
    """Return a dataclass of the methods' options: None, or False of a switch, is what was not given."""
    rows = []
    for name, users in users_of_options(task).items():
        methods = [method for method in users if method in allowed]
        if not methods:
            continue
        option, hint = _declaration(task, methods[0], name)
        details = dict(option.metadata)
        details["help"] = f"{', '.join(methods)}: {details.get('help', '')}"
        kind = _plain_type(hint)
        # A switch needs no value: False is what it is without being given.
        rows.append(
            (name, bool, field(default=False, metadata=details))
            if kind is bool
            else (name, kind | None, field(default=None, metadata=details))
        )
    return make_dataclass("Options", rows)


def _declaration(task: Task, method: str, name: str) -> tuple[Field[Any], Any]:
    """Return the field that declares an option, in the head's options or the PEFT config, and its type."""
    chosen = METHODS[method]
    for owner in (task.heads[chosen.head].options, chosen.adapter):
        for option in fields(owner) if owner is not None else ():
            if option.name == name:
                return option, get_type_hints(owner)[name]
    raise AssertionError(f"{method} has no option {name}")


def _plain_type(hint: Any) -> Any:
    """Reduce a type to what a command line can say: of several, a list, else the first; a list of words."""
    if get_origin(hint) in (Union, types.UnionType):
        choices = [_plain_type(part) for part in get_args(hint) if part is not type(None)]
        return next((choice for choice in choices if get_origin(choice) is list), choices[0])
    return list[str] if get_origin(hint) is list else hint


#: What a preset says of the Trainer that is for its own method.
_OF_THE_METHOD = ("learning_rate", "head_learning_rate", "num_train_epochs", "lr_decay_per_epoch")


def _use_preset(parser: HfArgumentParser, task: Task, argv: Sequence[str] | None) -> Mapping[str, Any]:
    """Add `--preset`, make its values the parser's defaults, and return those that are options of methods."""
    presets = [name for name, preset in PRESETS.items() if preset.family == task.name]
    if not presets:
        return {}
    parser.add_argument(
        "--preset",
        choices=presets,
        help="What the papers used for a data set and a model; what else is given goes before it.",
    )
    words = sys.argv[1:] if argv is None else argv
    asked = [word for word in words if word not in ("-h", "--help")]
    given, _ = parser.parse_known_args(asked)
    if given.preset is None:
        return {}
    data = DATA_SETS[PRESETS[given.preset].data_set]
    values = {**data.arguments, **PRESETS[given.preset].values}
    if not any(getattr(given, source) for source in _SOURCES):
        if data.hub_id is None:
            parser.error(f"--preset {given.preset} needs --train_file and so on: {data.obtain}")
        values |= {"dataset_name": data.hub_id, **data.hub}
    of_methods = users_of_options(task)
    own = {name: parser.get_default(name) for name in _OF_THE_METHOD}
    parser.set_defaults(**{key: value for key, value in values.items() if key not in of_methods})
    if parser.parse_known_args(asked)[0].method != values.get("method"):
        parser.set_defaults(**own)
    return {key: value for key, value in values.items() if key in of_methods}
