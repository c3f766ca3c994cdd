"""What a frozen backbone saves: cached lower layers, and several trials in one batch.

    python examples/benchmarks/frozen_backbone.py --output docs/results/frozen_backbone.json

Counts for prompts in the last third of the layers, in units of one forward pass through all layers (a backward pass
to activations costs as much): uncached 1 + 1/3; cached 1/3 + 1/3 = 0.50 of that; PEFT's prefix tuning over all layers
1 + 1 = 2, so cached is 0.33 of it. Trials together do the same arithmetic as one after the other; what they save is
idle hardware and Python's share.

All peers stand in this process; rounds of one epoch each alternate between them, and the medians are compared.
"""

from __future__ import annotations

import argparse
import json
import logging
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from datasets import Dataset
from peft import PrefixTuningConfig, get_peft_model
from torch import nn
from transformers import AutoModelForSequenceClassification, BertConfig

from dpt_peft import DeepPromptConfig
from dpt_peft.training import LowerLayerCache, Trial, command_line, join_trials, software_versions

sys.path.append(str(Path(__file__).parents[1] / "experiments"))  # tables.py lies beside the experiments

from deep_prompt_cost import take_turns
from tables import markdown_table

PROMPTS = 20


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, help="JSON file; a table is written beside it (.md).")
    parser.add_argument("--hidden_size", type=int, default=768, help="768: BERT-base.")
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--length", type=int, default=64, help="Tokens a text.")
    parser.add_argument("--batch_size", type=int, default=16, help="Rows of one trial.")
    parser.add_argument("--steps", type=int, default=4, help="Updates an epoch.")
    parser.add_argument("--rounds", type=int, default=5, help="Epochs of every peer, alternating.")
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return parser.parse_args(argv)


def backbone(arguments: argparse.Namespace) -> Any:
    """A BERT with random weights."""
    torch.manual_seed(0)
    config = BertConfig(
        hidden_size=arguments.hidden_size,
        num_hidden_layers=arguments.layers,
        num_attention_heads=max(1, arguments.hidden_size // 64),
        intermediate_size=4 * arguments.hidden_size,
    )
    return AutoModelForSequenceClassification.from_config(config)


def deep_prompts(arguments: argparse.Namespace, layers: str | None = None) -> Any:
    """The backbone with deep prompts."""
    config = DeepPromptConfig(task_type="SEQ_CLS", num_virtual_tokens=PROMPTS, layers_to_transform=layers)
    return get_peft_model(backbone(arguments), config).to(arguments.device).train()


def collate(rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """Rows of one length to a batch."""
    return {name: torch.tensor([row[name] for row in rows]) for name in rows[0]}


def epoch(model: nn.Module, data: Dataset, arguments: argparse.Namespace) -> Callable[[], None]:
    """One epoch of training: forward, backward and update of every batch."""
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    size = arguments.batch_size
    batches = [[data[i] for i in range(start, start + size)] for start in range(0, len(data), size)]

    def run() -> None:
        for rows in batches:
            batch = {name: value.to(arguments.device) for name, value in collate(rows).items()}
            model(**batch).loss.backward()
            optimizer.step()
            optimizer.zero_grad()

    return run


def together(arguments: argparse.Namespace, data: Dataset) -> Callable[[], None]:
    """One epoch of all trials in one batch."""
    trials = [Trial(f"t{index}", index, 1e-3) for index in range(arguments.trials)]
    model = join_trials(trials, lambda _trial: deep_prompts(arguments)).to(arguments.device).train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    size = arguments.batch_size
    names = [trial.name for trial in trials for _ in range(size)]

    def run() -> None:
        for start in range(0, len(data), size):
            rows = [data[i] for i in range(start, start + size)] * len(trials)
            batch = {name: value.to(arguments.device) for name, value in collate(rows).items()}
            (model(**batch, adapter_names=names).loss * len(trials)).backward()
            optimizer.step()
            optimizer.zero_grad()

    return run


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Measures, writes JSON and table."""
    arguments = parse_arguments(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    rows = arguments.batch_size * arguments.steps
    torch.manual_seed(1)
    ids = torch.randint(5, 20000, (rows, arguments.length)).tolist()
    data = Dataset.from_dict(
        {"input_ids": ids, "attention_mask": [[1] * arguments.length] * rows, "labels": [i % 2 for i in range(rows)]}
    )
    third = f"last {max(1, arguments.layers // 3)}"
    cached = deep_prompts(arguments, third)
    prefix = get_peft_model(
        backbone(arguments), PrefixTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=PROMPTS)
    ).to(arguments.device)
    with tempfile.TemporaryDirectory() as folder, LowerLayerCache(cached, folder) as cache:
        filling = time.perf_counter()
        numbered = cache.add(data, collate)
        filling = time.perf_counter() - filling
        peers = {
            "PEFT prefix tuning, all layers": epoch(prefix.train(), data, arguments),
            f"deep prompts, {third}": epoch(deep_prompts(arguments, third), data, arguments),
            f"deep prompts, {third}, cached": epoch(cached, numbered, arguments),
        }
        seconds = take_turns(peers, arguments.rounds, arguments.device, wall=True)
    medians = {name: median(values) for name, values in seconds.items()}
    full, plain, fast = medians.values()

    one = epoch(deep_prompts(arguments), data, arguments)

    def one_after_another() -> None:
        for _ in range(arguments.trials):
            one()

    trials = take_turns(
        {"one after the other": one_after_another, "in one batch": together(arguments, data)},
        max(1, arguments.rounds // 2),
        arguments.device,
        wall=True,
    )
    trial_medians = {name: median(values) for name, values in trials.items()}
    result = {
        "command": command_line(),
        "versions": software_versions(),
        "device": torch.cuda.get_device_name() if arguments.device == "cuda" else platform.machine(),
        "threads": torch.get_num_threads(),
        "settings": {key: value for key, value in vars(arguments).items() if key != "output"},
        "cache": {"seconds": seconds, "seconds_to_fill": filling},
        "trials": {"seconds": trials},
        "ratios": {
            "cached / uncached": fast / plain,
            "cached / PEFT prefix tuning": fast / full,
            "trials in one batch / one after the other": trial_medians["in one batch"]
            / trial_medians["one after the other"],
        },
    }
    aims = {"cached / uncached": 0.55, "cached / PEFT prefix tuning": 0.38}
    table = markdown_table(
        ["epoch of", "seconds, median"],
        [[name, f"{value:.2f}"] for name, value in {**medians, **trial_medians}.items()],
    )
    table += "\n\n" + markdown_table(
        ["ratio", "measured", "aim"],
        [
            [name, f"{value:.2f}", f"{aims[name]:.2f}" if name in aims else "-"]
            for name, value in result["ratios"].items()
        ],
    )
    print(f"{table}\n\nfilling the cache, once: {filling:.2f} s")
    if arguments.output:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        arguments.output.with_suffix(".md").write_text(table + "\n", encoding="utf-8")
    return result


if __name__ == "__main__":
    main()
