"""Few labels: every method beside what users would pick instead, from the same encoder and the same examples.

    python examples/experiments/few_labels.py --data_dir ../shared/data --output_dir runs/few_labels
    python examples/experiments/few_labels.py --data_dir ../shared/data --output_dir runs/few_labels \
        --methods dpt setfit --examples_per_class 4 8 16 32 --seeds 1 2 3

Each seed draws examples of its own, the same for all methods. A record holds, beside the accuracy, the CPU seconds of
training and the bytes that have to be saved for the task. The peers (`probe`, `setfit`) need the extra `peers`. What
is done is not run again, so the command can be repeated with more methods, seeds or amounts.
"""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory
from typing import Any

import torch
from comparison import amount_of, least_data_first, models_of
from hierarchical_data_sets import HIERARCHIES
from peers import ENCODER_PACKAGE, PEER_PACKAGES, PEERS, Labelled, default_encoder, train_peer
from peft import PeftModel
from plan import (
    ExperimentArguments,
    Record,
    Run,
    read_numbers,
    read_options,
    run_arguments,
    run_missing,
    values_of,
    write_results,
)
from plots import plot_boxes, plot_curves
from tables import markdown_table, mean_and_spread
from torch.utils.data import DataLoader
from transformers import HfArgumentParser, TrainerCallback

from dpt_peft.tasks import DATA_SETS, DISCRIMINATOR, ClassSamplingArguments, TextClassification, data_arguments
from dpt_peft.training import METHODS, Outcome, data_fingerprint, run as run_task

TASK = TextClassification()
TEXT_DATA_SETS = [
    name
    for name, data in DATA_SETS.items()
    if data.family == TASK.pipeline_tag and "text_pair_column_name" not in data.arguments
]
#: The methods of this package among those that are compared.
OURS = ["dpt", "dpt_prototypes", "dpt_prototypes_deep_prompt"]


@dataclass
class FewLabelsArguments(ExperimentArguments):
    """What this experiment can be told."""

    datasets: list[str] = field(
        default_factory=lambda: ["sst2", "sst5", "trec", "ag_news", "hwu64_scenarios", "messages"],
        metadata={"help": "Names of data sets of texts.", "choices": TEXT_DATA_SETS},
    )
    methods: list[str] = field(
        default_factory=lambda: ["probe", "setfit", "fine_tuning", "lora", "prefix_tuning", *OURS],
        metadata={"help": "Tuning methods and peers.", "choices": [*PEERS, *METHODS]},
    )
    examples_per_class: list[int] = field(
        default_factory=lambda: [8], metadata={"help": "Numbers of labelled examples of each class."}
    )
    seeds: list[int] = field(
        default_factory=lambda: [1, 2, 3, 4, 5], metadata={"help": "Of the choice of examples and of training."}
    )
    sample_seed: int | None = field(default=-1, metadata={"help": "-1: each seed draws examples of its own."})
    epochs: float | None = field(  # type: ignore[assignment]
        default=None, metadata={"help": "Passes over the examples. Default: each method's own number of updates."}
    )
    batch_size: int = field(default=16, metadata={"help": "Examples an update."})
    learning_rates: list[str] = field(
        default_factory=list, metadata={"help": "method=rate, as in dpt=2e-4. Default: each method's own."}
    )
    options: list[str] = field(
        default_factory=list, metadata={"help": "method.option=value, as in dpt_deep_prompt.use_gate=true."}
    )
    encoder: str | None = field(
        default=None, metadata={"help": "Of the peers. Default: that of the package's discriminator."}
    )
    max_test_examples: int | None = field(default=1000, metadata={"help": "Measure on the first rows only."})

    def is_mine(self, record: Record) -> bool:
        """Return whether a record is of this kind of experiment."""
        return "cpu_seconds" in record["metrics"]


def title_of(run: Run) -> str:
    """A row's name: the method, and the options that were set."""
    title = PEERS.get(run["method"]) or METHODS[run["method"]].title
    options = [f"{name}={value}" for name, value in run["options"].items()]
    rate = [] if run["learning_rate"] is None else [f"rate {run['learning_rate']:g}"]
    return ", ".join([title, *rate, *options])


def plan(arguments: FewLabelsArguments) -> list[Run]:
    """Return the runs, seed by seed, so that what is finished early is already a table."""
    rates = read_numbers(arguments.learning_rates, list(METHODS), "learning_rates")
    options = read_options(arguments.options, arguments.methods)
    runs = []
    for seed in arguments.seeds:
        for count in arguments.examples_per_class:
            for method in arguments.methods:
                rest = {"examples_per_class": count, "options": options[method]}
                if method in PEERS:
                    encoder = Path(arguments.encoder).name if arguments.encoder else ENCODER_PACKAGE
                    rest |= {"model": encoder, "epochs": None, "batch_size": None}
                for rate in rates.get(method, [None]):
                    runs += [arguments.run(name, method, seed, rate, **rest) for name in arguments.datasets]
    return runs


def label_words(name: str) -> dict[str, list[str]]:
    """Return `label_words` for a data set whose names of classes are no words."""
    if name == "trec_fine":
        words = HIERARCHIES["trec"].words
        return {"label_words": [word for key, word in sorted(words.items()) if ":" in key]}
    return {"label_words": list(DATA_SETS[name].label_words)} if DATA_SETS[name].label_words else {}


class CpuClock(TrainerCallback):
    """Measures the CPU seconds of training, which other processes on the machine change little.

    The first setting of prototypes counts, the second does not: it is a pass over the labelled texts, about a second.
    """

    seconds = 0.0

    def on_init_end(self, *args: Any, **kwargs: Any) -> None:
        """Start."""
        self.seconds = -time.process_time()

    def on_train_end(self, *args: Any, **kwargs: Any) -> None:
        """Stop."""
        self.seconds += time.process_time()


def train(run: Run, arguments: ExperimentArguments, model_path: str) -> dict[str, Any]:
    """Do one run: a method as its script does it, or a peer."""
    assert isinstance(arguments, FewLabelsArguments)
    if run["method"] in PEERS:
        return train_the_peer(run, arguments)
    clock = CpuClock()
    with TemporaryDirectory() as folder:
        outcome = tune(run, arguments, model_path, folder, clock)
        outcome.model.save_pretrained(folder)
        size = sum(file.stat().st_size for file in Path(folder).glob("*.safetensors"))
    prefix = prefix_of(run)
    measured = {"cpu_seconds": clock.seconds, "saved_bytes": size, **recall_of_lists(outcome, run["split"])}
    return {**outcome.results, **{f"{prefix}{name}": value for name, value in measured.items()}}


def tune(
    run: Run, arguments: ExperimentArguments, model_path: str, folder: str, *callbacks: TrainerCallback
) -> Outcome:
    """Train and measure one of the package's methods; `folder` is for what the Trainer writes."""
    if METHODS[run["method"]].head == DISCRIMINATOR:
        run = run | {"options": {**label_words(run["dataset"]), **run["options"]}}
    data = DATA_SETS[run["dataset"]]
    source = data_arguments(run["dataset"], arguments.data_dir)
    asked = run_arguments(run, TASK, source, model_path, folder, data.held_out)
    return run_task(TASK, asked, write_files=False, callbacks=[*callbacks])


@torch.no_grad()
def recall_of_lists(outcome: Outcome, split: str) -> dict[str, float]:
    """Return in how many texts' short lists the right class is (recall@k), where the model has short lists."""
    model = outcome.model.get_base_model() if isinstance(outcome.model, PeftModel) else outcome.model
    count = getattr(model.config, "short_list", None)
    if count is None:
        return {}
    found: list[bool] = []
    rows = outcome.features[split].dataset
    for batch in DataLoader(rows, batch_size=64, collate_fn=TASK.collator(outcome.tokenizer)):
        batch = {name: values.to(model.device) for name, values in batch.items()}
        labels = batch.pop("labels")
        nearest = model.prototype_logits(model.text_states(batch)).topk(min(count, model.num_labels)).indices
        found += nearest.eq(labels[:, None]).any(1).tolist()
    return {"recall_of_lists": mean(found)}


def prefix_of(run: Run) -> str:
    """What metrics of the run's split begin with."""
    return "eval_" if run["split"] == "validation" else "test_"


def train_the_peer(run: Run, arguments: FewLabelsArguments) -> dict[str, Any]:
    """Train a peer on the rows that the methods have, and measure it on the same rows."""
    name, data = run["dataset"], DATA_SETS[run["dataset"]]
    rows = TASK.load(TASK.arguments(**data_arguments(name, arguments.data_dir)))
    sampling = ClassSamplingArguments(
        examples_per_class=run["examples_per_class"],
        sample_seed=run["sample_seed"],
        validation_size=data.held_out if run["split"] == "validation" else None,
        max_eval_samples=run["max_test_examples"],
        max_predict_samples=run["max_test_examples"],
    )
    splits = TASK.select(rows, sampling)
    measured = splits[run["split"]]
    examples = Labelled(splits["train"]["text"][:], splits["train"]["labels"][:])
    answers = train_peer(
        run["method"], arguments.encoder or default_encoder(), examples, measured["text"][:], run["seed"]
    )
    right = mean(int(answer == label) for answer, label in zip(answers.labels, measured["labels"][:], strict=True))
    prefix = prefix_of(run)
    return {
        f"{prefix}accuracy": right,
        f"{prefix}cpu_seconds": answers.cpu_seconds,
        f"{prefix}saved_bytes": answers.saved_bytes,
        "packages": PEER_PACKAGES,
        "trained_parameters": answers.saved_bytes // 4,
        "rows": {split: len(part) for split, part in splits.items()},
        "data_fingerprint": {split: data_fingerprint(part) for split, part in splits.items()},
    }


def table(records: list[Record], metric: str) -> str:
    """Make a table for each amount of examples: a row a method, a column a data set, then their mean and the cost."""
    parts = []
    for amount in dict.fromkeys(amount_of(record["run"]) for record in sorted(records, key=least_data_first)):
        mine = [record for record in records if amount_of(record["run"]) == amount]
        rows: dict[str, dict[str, list[Record]]] = defaultdict(lambda: defaultdict(list))
        for record in mine:
            rows[title_of(record["run"])][record["run"]["dataset"]].append(record)
        names = [name for name in DATA_SETS if any(name in row for row in rows.values())]
        lines = []
        for title, row in rows.items():
            cells = [values_of(row.get(name, []), metric) for name in names]
            every = [record for runs in row.values() for record in runs]
            seconds = mean(record["metrics"]["cpu_seconds"] for record in every)
            size = mean(record["metrics"]["saved_bytes"] for record in every)
            whole = f"{mean(map(mean, cells)):.1f}" if all(cells) else "-"
            lines.append([title, *map(mean_and_spread, cells), whole, f"{seconds:.0f}", f"{size / 1e6:.1f}"])
        header = ["method", *(DATA_SETS[name].title for name in names), "mean", "CPU s", "MB"]
        heading = f"{amount}, {metric} in %: mean ± sample standard deviation (seeds)"
        parts.append(f"{heading}\n\n{markdown_table(header, lines)}")
    return "\n\n".join(parts)


def draw(records: list[Record], arguments: FewLabelsArguments, path: Path) -> None:
    """Draw accuracy over the number of examples, or a box for each method where there is one number."""
    curves: Any = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    boxes: Any = defaultdict(lambda: defaultdict(list))
    for record in sorted(records, key=least_data_first):
        run, values = record["run"], values_of([record], arguments.metric)
        panel, title = DATA_SETS[run["dataset"]].title, title_of(run)
        curves[panel][title][run["examples_per_class"]] += values
        boxes[panel][title] += values
    y_label = f"{arguments.split} {arguments.metric} in %"
    amounts = {amount_of(record["run"]) for record in records}
    if len(amounts) == 1:
        plot_boxes(boxes, path, title=f"{amounts.pop()}, methods and peers", y_label=y_label, columns=2)
        return
    plot_curves(
        curves,
        path,
        title=f"{models_of(records)}: {arguments.metric} with few labels (bars: standard deviation over seeds)",
        x_label="examples a class",
        y_label=y_label,
        log_x=True,
        ticks={count: str(count) for count in sorted({record["run"]["examples_per_class"] for record in records})},
    )


def main(argv: list[str] | None = None) -> None:
    """Run what is missing, write tables and picture."""
    (arguments,) = HfArgumentParser(FewLabelsArguments, description=__doc__).parse_args_into_dataclasses(argv)
    records = run_missing(plan(arguments), arguments, train)
    write_results(arguments, records, table(records, arguments.metric), lambda path: draw(records, arguments, path))


if __name__ == "__main__":
    main()
