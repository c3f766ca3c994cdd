"""All runs of one call, with what is already done passed over, and the report at the end."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from dpt_peft.training.methods import METHODS
from dpt_peft.training.text_classification import loading_code

from .records import RunLog, RunRecord
from .report import format_table, plot_spread
from .run import Quickstart

KEPT_SEED = 0
"""The seed whose models are kept; the others are only measured."""

SETTINGS_FILE = "quickstart_settings.txt"
"""Says in a kept model's folder which settings it was trained with."""


class Session:
    """The runs that one call asks for.

    Args:
        quickstart: what they have in common.
        methods: the methods to compare.
        seeds: how many runs of each; their seeds are 0, 1, ...
        output_dir: an existing folder for records, picture and models.
        console: where to show progress and report.
    """

    def __init__(
        self, quickstart: Quickstart, methods: Sequence[str], seeds: int, output_dir: Path, console: Console
    ) -> None:
        self.quickstart = quickstart
        self.methods = list(methods)
        self.seeds = seeds
        self.output_dir = output_dir
        self.console = console
        self.log = RunLog(output_dir / "runs.jsonl")

    def model_folder(self, method: str) -> Path:
        """Where the method's model of the kept seed is."""
        return self.output_dir / "models" / method

    def run(self, *, overwrite: bool = False) -> list[RunRecord]:
        """Trains what is not yet done with these settings.

        All methods have their turn with a seed before the next seed, so that what an interrupted call leaves can be
        compared.

        Args:
            overwrite: forget every recorded run first.

        Returns:
            The records of all runs asked for, method by method.
        """
        if overwrite:
            self.log.clear()
        runs = [(method, seed) for seed in range(self.seeds) for method in self.methods]
        found = {(method, seed): self._find(method, seed) for method, seed in runs}
        done = {run: record for run, record in found.items() if record is not None}
        todo = [run for run in runs if run not in done]
        if done:
            self.console.print(
                f"{len(done)} of {len(runs)} runs are already in {self.log.path} (--overwrite trains them again).",
                soft_wrap=True,
            )
        columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
        with Progress(*columns, TextColumn("left"), TimeRemainingColumn(), console=self.console) as progress:
            total = sum(self.quickstart.steps(method) for method, _ in todo)
            bar = progress.add_task("starting", total=total, visible=bool(todo))
            for method, seed in todo:
                progress.update(bar, description=f"{METHODS[method].title}, seed {seed}")
                record = self._train(method, seed, lambda: progress.advance(bar))
                self.log.append(record)
                done[method, seed] = record
                progress.console.print(
                    f"{METHODS[method].title}, seed {seed}: {record.accuracy:.1%} in {record.seconds:.0f} s"
                )
        return [done[method, seed] for method in self.methods for seed in range(self.seeds)]

    def _find(self, method: str, seed: int) -> RunRecord | None:
        record = self.log.find(method, seed, self.quickstart.settings(method))
        if record is None or seed != KEPT_SEED:
            return record
        # A call with other settings may have put its own model there since.
        marker = self.model_folder(method) / SETTINGS_FILE
        return record if marker.exists() and marker.read_text(encoding="utf-8").strip() == record.settings else None

    def _train(self, method: str, seed: int, on_step: Callable[[], None]) -> RunRecord:
        if seed != KEPT_SEED:
            with tempfile.TemporaryDirectory() as scratch:
                return self.quickstart.train(method, seed, Path(scratch) / "model", on_step)
        folder = self.model_folder(method)
        record = self.quickstart.train(method, seed, folder, on_step)
        (folder / SETTINGS_FILE).write_text(record.settings + "\n", encoding="utf-8")
        return record

    def report(self, records: Sequence[RunRecord]) -> None:
        """Prints the table, draws the picture, and loads one kept model again to classify three texts.

        The model is that of DPT (of the first method asked for, if DPT is not among them) and not the best one:
        choosing by test accuracy would make that accuracy look better than it is.
        """
        data, kept = self.quickstart.data, "dpt" if "dpt" in self.methods else self.methods[0]
        count = self.quickstart.examples_per_class
        setting = (
            f"{data.name}: {len(data.label_names)} classes, {count} labelled example{'s' * (count > 1)} a class, "
            f"{self.seeds} seed{'s' * (self.seeds > 1)}"
        )
        picture = plot_spread(records, self.output_dir / "spread.png", setting)
        folder = self.model_folder(kept)
        model = self.quickstart.load(kept, folder)
        predictions = self.quickstart.predict(model, data.new_texts)

        def show(text: str = "") -> None:
            self.console.print(text, soft_wrap=True, markup=False)

        show(f"\n{setting}, {len(data.test)} test texts\n\n{format_table(records)}\n")
        show("accuracy %: mean over the seeds on the test texts; spread: their standard deviation, in points")
        show(f"\nPicture:     {picture}\nSaved model: {folder} ({METHODS[kept].title}, seed {KEPT_SEED})\n")
        show(loading_code(kept, str(folder), model))
        show(f"\nThat model on {data.new_texts_are}:")
        for text, classes in zip(data.new_texts, predictions, strict=True):
            shown = text if len(text) <= 100 else text[:97] + "..."
            likeliest = ", ".join(f"{entry['label']} {entry['score']:.2f}" for entry in classes[:3])
            show(f"  {shown}\n    {likeliest}")
