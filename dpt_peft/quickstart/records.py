"""The runs that are done, one JSON line each, so that an interrupted quickstart goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from dpt_peft.training.records import append_json_line, read_json_lines


@dataclass(frozen=True)
class RunRecord:
    """What one run (a method with a seed) gave.

    Attributes:
        method: a name of `dpt_peft.training.methods.METHODS`.
        seed: the seed of the drawn examples and of the training.
        settings: everything else that the result depends on (see `fingerprint`).
        accuracy: share of the test texts that got their right class, 0 to 1.
        trained_parameters: how many numbers were trained.
        saved_bytes: size of the saved weights (a whole model, or an adapter) in bytes.
        seconds: time of training and testing.
    """

    method: str
    seed: int
    settings: str
    accuracy: float
    trained_parameters: int
    saved_bytes: int
    seconds: float


def fingerprint(value: Any) -> str:
    """A short name for a value that `json` can write: equal values give equal names, on every machine."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


class RunLog:
    """`runs.jsonl`: finished runs, appended one by one.

    Args:
        path: the file; its folder must exist. Lines that are no record (half of one, left by a crash) are passed over.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._records: dict[tuple[str, int, str], RunRecord] = {}
        for record in self._read():
            self._remember(record)

    def _read(self) -> list[RunRecord]:
        names = {field.name for field in fields(RunRecord)}
        values = read_json_lines(self.path)
        return [RunRecord(**value) for value in values if isinstance(value, dict) and value.keys() == names]

    def _remember(self, record: RunRecord) -> None:
        self._records[(record.method, record.seed, record.settings)] = record

    def find(self, method: str, seed: int, settings: str) -> RunRecord | None:
        """The newest record of this method, seed and settings, or None."""
        return self._records.get((method, seed, settings))

    def append(self, record: RunRecord) -> None:
        """Adds a record to the file, at once."""
        append_json_line(self.path, asdict(record))
        self._remember(record)

    def clear(self) -> None:
        """Forgets every run, in the file too."""
        self.path.unlink(missing_ok=True)
        self._records.clear()
