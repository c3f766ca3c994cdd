"""What a result needs beside it to be believed and repeated: command, versions, fingerprint of the data; its log."""

from __future__ import annotations

import hashlib
import json
import platform
import shlex
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

from datasets import Dataset

_PACKAGES = ("dpt_peft", "torch", "transformers", "peft", "accelerate", "datasets", "tokenizers")


def software_versions(*others: str) -> dict[str, str]:
    """Return the versions of Python and of the packages that decide a result.

    Args:
        *others: Further packages, of a peer that is compared.
    """
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in (*_PACKAGES, *others)}}


def command_line(argv: Sequence[str] | None = None) -> str:
    """Write a command as it can be pasted into a shell.

    Args:
        argv: Script and arguments. Default: those of this process.

    Returns:
        `python <script> <arguments>`, with the script's path relative to the current folder where it is below it.
    """
    script, *arguments = sys.argv if argv is None else argv
    path = Path(script)
    if path.is_absolute() and path.is_relative_to(Path.cwd()):
        path = path.relative_to(Path.cwd())
    return shlex.join(["python", str(path), *arguments])


def data_fingerprint(dataset: Dataset) -> str:
    """Compute a fingerprint of what a data set holds, wherever it came from.

    Args:
        dataset: Rows of values that JSON can write.

    Returns:
        16 hexadecimal digits of the SHA-256 of column names and rows, in order.
    """
    digest = hashlib.sha256(json.dumps(sorted(dataset.column_names)).encode())
    for row in dataset:
        digest.update(json.dumps(row, sort_keys=True, ensure_ascii=False).encode())
    return digest.hexdigest()[:16]


def read_json_lines(path: Path) -> list[Any]:
    """Read a file of JSON lines; a line that a crash cut short is passed over, a missing file has none."""
    if not path.exists():
        return []
    values = []
    for line in path.read_text(encoding="utf-8").splitlines():
        with suppress(json.JSONDecodeError):
            values.append(json.loads(line))
    return values


def append_json_line(path: Path, value: Any) -> None:
    """Add a value to a file of JSON lines, at once, on a line of its own even behind one that a crash cut short."""
    cut_off = path.exists() and path.stat().st_size > 0 and not path.read_bytes().endswith(b"\n")
    with path.open("a", encoding="utf-8") as file:
        file.write(("\n" if cut_off else "") + json.dumps(value) + "\n")
