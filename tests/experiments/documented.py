"""The commands that docs/results.md gives, as a shell reads them, and the runs that they stand for."""

from __future__ import annotations

import json
import re
import subprocess
from importlib import import_module
from pathlib import Path
from typing import Any

from plan import ExperimentArguments
from transformers import HfArgumentParser

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "results.md"
#: In the place of `python`: write the words down, and say where the encoder of the names is.
PYTHON = """
python() {
    if [ "$1" = -c ]; then echo "package/model"; return; fi
    printf '%s\\0' "$@" >> words; printf '\\n' >> words
}
"""


def commands(folder: Path) -> list[list[str]]:
    """Return the words of every command on the page that starts a script: variables, loops and braces done by bash.

    Args:
        folder: Where bash may write.
    """
    blocks = re.findall(r"^```bash\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    subprocess.run(["bash", "-e"], input="\n".join([PYTHON, *blocks]), text=True, cwd=folder, check=True, timeout=60)
    lines = (folder / "words").read_text(encoding="utf-8").split("\0\n")
    return [line.split("\0") for line in lines if line.startswith("examples/")]


def planned(words: list[str]) -> tuple[ExperimentArguments, list[dict[str, Any]]]:
    """Return the arguments of an experiment's command, and its runs: none if it runs nothing.

    Raises:
        SystemExit, ValueError: If the script has no such arguments.
    """
    module = import_module(Path(words[0]).stem)
    (kind,) = [
        value
        for value in vars(module).values()
        if getattr(value, "__module__", None) == module.__name__
        and isinstance(value, type)
        and issubclass(value, ExperimentArguments)
    ]
    (arguments,) = HfArgumentParser(kind).parse_args_into_dataclasses(words[1:])
    # Folders go by their name, and these folders are not here.
    arguments.model_name_or_path = Path(arguments.model_name_or_path or "embedded").name
    return arguments, [] if arguments.only_table else module.plan(arguments)


def stored(name: str) -> list[dict[str, Any]]:
    """Return the records of `docs/results/<name>.jsonl`."""
    return [json.loads(line) for line in (PAGE.parent / "results" / f"{name}.jsonl").read_text().splitlines()]
