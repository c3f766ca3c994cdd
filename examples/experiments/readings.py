"""More than one reading of a text: other orders of the candidates, and other words for the classes.

    python examples/experiments/readings.py --data_dir ../shared/data --output_dir runs/readings

DPT is trained as `few_labels.py` trains it, on one label list. Then it reads every text with other lists too: with the
same words in other orders, and with other words of the same meaning. A record holds the accuracy of its own list, of
each other list alone, and of the mean of their logits with its own. Nothing is trained for the other lists.
"""

from __future__ import annotations

import math
import random
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import few_labels
import torch
from few_labels import FewLabelsArguments, label_words, prefix_of, tune
from plan import ExperimentArguments, Record, Run, run_missing, values_of, write_results
from plots import plot_boxes
from tables import markdown_table, mean_and_spread
from torch.utils.data import DataLoader
from transformers import HfArgumentParser

from dpt_peft.tasks import DATA_SETS
from dpt_peft.training import Outcome

#: Words of the same meaning as a data set's own label words, class by class.
OTHER_WORDS = {
    "sst2": [("bad", "good"), ("awful", "great"), ("terrible", "wonderful")],
    "trec": [
        ("acronym", "definition", "thing", "person", "place", "amount"),
        ("short form", "explanation", "object", "people", "country", "quantity"),
        ("letters", "meaning", "animal", "name", "city", "date"),
    ],
    "ag_news": [
        ("politics", "sport", "economy", "technology"),
        ("government", "games", "companies", "computers"),
        ("international", "football", "market", "research"),
    ],
}
#: What a record measures -> what the table calls it. "{}" is the number of lists, with the model's own.
READINGS = {
    "accuracy": "its own list",
    "accuracy_of_orders": "mean over up to {} orders",
    "accuracy_of_best_order": "the best of the orders",
    "accuracy_of_worst_order": "the worst of the orders",
    "accuracy_of_words": "mean over {} words a class",
    "accuracy_of_best_words": "the best of the other words",
    "accuracy_of_worst_words": "the worst of the other words",
}


@dataclass
class ReadingsArguments(FewLabelsArguments):
    """What this experiment can be told."""

    datasets: list[str] = field(
        default_factory=lambda: list(OTHER_WORDS),
        metadata={"help": "Names of data sets of texts.", "choices": list(OTHER_WORDS)},
    )
    methods: list[str] = field(
        default_factory=lambda: ["dpt"], metadata={"help": "What is trained.", "choices": ["dpt"]}
    )
    seeds: list[int] = field(
        default_factory=lambda: [100, 101, 102], metadata={"help": "Of the choice of examples and of training."}
    )
    orders: int = field(default=8, metadata={"help": "Most orders of the candidates, the model's own among them."})

    def __post_init__(self) -> None:
        """Check what can be checked before anything is loaded.

        Raises:
            ValueError: See `ExperimentArguments`; or if there is no other order to read.
        """
        super().__post_init__()
        if self.orders < 2:
            raise ValueError(f"`orders` must be 2 or more, the model's own among them; got {self.orders}.")

    def is_mine(self, record: Record) -> bool:
        """Return whether a record is of this kind of experiment."""
        return "accuracy_of_orders" in record["metrics"]


def plan(arguments: ReadingsArguments) -> list[Run]:
    """Return the runs, seed by seed; how many orders are read is part of them."""
    return [run | {"orders": arguments.orders} for run in few_labels.plan(arguments)]


def train(run: Run, arguments: ExperimentArguments, model_path: str) -> dict[str, Any]:
    """Do one run: train on the model's own list, then read with the others."""
    with TemporaryDirectory() as folder:
        outcome = tune(run, arguments, model_path, folder)
    prefix = prefix_of(run)
    name = run["dataset"]
    words = label_words(name)["label_words"]
    measured = {
        **compare(
            outcome, run["split"], "order", [(words, order) for order in other_orders(len(words), run["orders"])]
        ),
        **compare(outcome, run["split"], "words", [(list(other), None) for other in OTHER_WORDS[name]]),
    }
    return {**outcome.results, **{f"{prefix}{metric}": value for metric, value in measured.items()}}


def other_orders(classes: int, most: int) -> list[list[int]]:
    """Return orders of the candidates, each another one: `most` or all there are, but for that of the classes."""
    draw = random.Random(0)
    orders = [list(range(classes))]
    while len(orders) < min(most, math.factorial(classes)):
        order = draw.sample(range(classes), classes)
        orders += [order] * (order not in orders)
    return orders[1:]


@torch.no_grad()
def compare(
    outcome: Outcome, split: str, kind: str, lists: list[tuple[list[str], list[int] | None]]
) -> dict[str, float]:
    """Read a split with the model's own list and others.

    Args:
        outcome: A trained DPT model.
        split: Name of the split.
        kind: What differs between the lists, for the names of what is measured.
        lists: The others: their words, and their order.

    Returns:
        Accuracy of the mean of all lists' logits, of the best and of the worst of the others alone.
    """
    model = outcome.model.eval()
    names = [f"{kind} {number}" for number in range(len(lists))]
    for name, (words, order) in zip(names, lists, strict=True):
        model.add_label_list(name, words, outcome.tokenizer, label_order=order)
    readings: dict[str, list[torch.Tensor]] = defaultdict(list)
    labels = []
    rows = outcome.features[split].dataset
    for batch in DataLoader(rows, batch_size=64, collate_fn=few_labels.TASK.collator(outcome.tokenizer)):
        batch = {name: values.to(model.device) for name, values in batch.items()}
        labels.append(batch.pop("labels"))
        for name in ("default", *names):
            readings[name].append(model(**batch, list_names=[name] * len(labels[-1])).logits)
    right = torch.cat(labels)
    logits = {name: torch.cat(parts) for name, parts in readings.items()}

    def accuracy(scores: torch.Tensor) -> float:
        return scores.argmax(-1).eq(right).double().mean().item()

    alone = [accuracy(logits[name]) for name in names]
    plural = kind if kind.endswith("s") else f"{kind}s"
    return {
        f"accuracy_of_{plural}": accuracy(torch.stack([*logits.values()]).mean(0)),
        f"accuracy_of_best_{kind}": max(alone),
        f"accuracy_of_worst_{kind}": min(alone),
    }


def table(records: list[Record]) -> str:
    """Make a table: a row a reading, a column a data set."""
    names = [name for name in OTHER_WORDS if any(record["run"]["dataset"] == name for record in records)]
    orders = ", ".join(str(count) for count in sorted({record["run"]["orders"] for record in records}))
    words = 1 + len(next(iter(OTHER_WORDS.values())))
    lines = []
    for metric, title in READINGS.items():
        mine = [[record for record in records if record["run"]["dataset"] == name] for name in names]
        cells = [mean_and_spread(values_of(part, metric)) for part in mine]
        lines.append([title.format(orders if "order" in metric else words), *cells])
    heading = "accuracy in %: mean ± sample standard deviation (seeds)"
    return f"{heading}\n\n{markdown_table(['reading', *(DATA_SETS[name].title for name in names)], lines)}"


def draw(records: list[Record], arguments: ReadingsArguments, path: Path) -> None:
    """Draw a box for each reading."""
    boxes: Any = defaultdict(lambda: defaultdict(list))
    for record in records:
        for metric, title in READINGS.items():
            panel = DATA_SETS[record["run"]["dataset"]].title
            boxes[panel][title.format("several")] += values_of([record], metric)
    plot_boxes(boxes, path, title="more than one reading", y_label=f"{arguments.split} accuracy in %", columns=2)


def main(argv: list[str] | None = None) -> None:
    """Run what is missing, write table and picture."""
    (arguments,) = HfArgumentParser(ReadingsArguments, description=__doc__).parse_args_into_dataclasses(argv)
    records = run_missing(plan(arguments), arguments, train)
    write_results(arguments, records, table(records), lambda path: draw(records, arguments, path))


if __name__ == "__main__":
    main()
