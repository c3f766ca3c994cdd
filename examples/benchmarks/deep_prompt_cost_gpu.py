"""What deep prompts cost on a GPU, in one short run: steps, mixed batches, compiling, trials, generation.

    python examples/benchmarks/deep_prompt_cost_gpu.py --output cost_gpu.json

Milliseconds, medians of steps that take turns. Every part is written when it is done, and the aims are printed last
with what was measured for each. `--small` tries the script on any machine.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from statistics import median
from typing import Any

import torch
from deep_prompt_cost import (
    METHODS,
    environment,
    make_backbone,
    make_batch,
    make_inference,
    make_model,
    make_training_step,
    measure_generation,
    measure_mixed,
    milliseconds,
)
from peft import get_peft_model
from torch import nn

from dpt_peft import DeepPromptConfig

# size, rows, longest text, prompts
SHAPES = [
    ("base", 32, 128, 20),
    ("base", 32, 32, 20),
    ("base", 32, 128, 128),
    ("large", 32, 128, 20),
    ("large", 32, 128, 128),
]
SMALL = [("tiny", 4, 8, 2)]
TRIALS = 8


@contextmanager
def precision(name: str, device: str) -> Iterator[None]:
    """Compute matrix products in `tf32`, or everything that may be in `bf16`."""
    torch.backends.cuda.matmul.allow_tf32 = name == "tf32"
    context: AbstractContextManager = torch.autocast(device, torch.bfloat16) if name == "bf16" else nullcontext()
    with context:
        yield


def measure_steps(shape: tuple[str, int, int, int], rounds: int, device: str) -> dict[str, Any]:
    """Return training steps and inference of all methods."""
    size, rows, text, prompts = shape
    backbone, batch = make_backbone(size, text, prompts).to(device), make_batch(rows, text, device)
    models = {method: make_model(method, backbone, prompts).to(device) for method in METHODS}
    return {
        "train_ms": milliseconds({n: make_training_step(m, batch) for n, m in models.items()}, rounds, device),
        "infer_ms": milliseconds({n: make_inference(m, batch) for n, m in models.items()}, rounds, device),
    }


def measure_compiled(shape: tuple[str, int, int, int], rounds: int, device: str, backend: str) -> dict[str, Any]:
    """Return forward passes and training steps of the compiled backbone, bare (its head trained) and with prompts."""
    size, rows, text, prompts = shape
    backbone, batch = make_backbone(size, text, prompts).to(device), make_batch(rows, text, device)
    bare = make_model("fine_tuning", backbone, prompts).requires_grad_(False)
    bare.get_submodule("classifier").requires_grad_(True)
    # the gradient goes through the whole backbone, as it does to prompts
    bare.get_submodule("bert.embeddings.LayerNorm").requires_grad_(True)
    prompted: Any = make_model("deep_prompt", backbone, prompts).to(device)
    models: dict[str, nn.Module] = {"bare": bare, "deep_prompt": prompted}
    bare.compile(backend=backend)
    prompted.get_base_model().compile(backend=backend)
    return {
        "infer_ms": milliseconds({n: make_inference(m, batch) for n, m in models.items()}, rounds, device),
        "train_ms": milliseconds({n: make_training_step(m, batch) for n, m in models.items()}, rounds, device),
    }


def measure_trials(size: str, rows: int, text: int, rounds: int, device: str) -> dict[str, float]:
    """Return steps of eight trials, in one batch and one after the other, each with rows and an adapter of its own."""
    config = DeepPromptConfig(task_type="SEQ_CLS", num_virtual_tokens=20)
    model: Any = get_peft_model(make_backbone(size, text, 20), config, "0")
    for number in range(1, TRIALS):
        model.add_adapter(str(number), config)
    model.to(device).train()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("deep_prompt_" in name or ".modules_to_save." in name)
    batch = make_batch(TRIALS * rows, text, device)
    names = [str(number) for number in range(TRIALS) for _ in range(rows)]
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4, fused=True)

    def step(of: slice) -> None:
        part = {key: value[of] for key, value in batch.items()}
        model(**part, adapter_names=names[of]).loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    def apart() -> None:
        for number in range(TRIALS):
            step(slice(number * rows, (number + 1) * rows))

    runs = {"in one batch": lambda: step(slice(None)), "one after the other": apart}
    return milliseconds(runs, rounds, device)


def report(found: dict[str, Any]) -> list[str]:
    """Return each aim with what was measured."""
    lines = []
    for name, steps in found.items():
        if "train_ms" in steps and "prefix_tuning" in steps["train_ms"]:
            train, infer = steps["train_ms"], steps["infer_ms"]
            lines.append(
                f"{name}: training step / prefix tuning {train['deep_prompt'] / train['prefix_tuning']:.2f} (0.93), "
                f"inference / bare {infer['deep_prompt'] / infer['fine_tuning']:.2f} (1.05 at 32 x 128, 20 prompts)"
            )
        elif name.startswith("compiled"):
            ratios = [steps[key]["deep_prompt"] / steps[key]["bare"] for key in ("infer_ms", "train_ms")]
            lines.append(f"{name}: forward / bare {ratios[0]:.2f}, step / bare {ratios[1]:.2f} (1.03)")
        elif name == "trials":
            ratio = steps["in one batch"] / steps["one after the other"]
            lines.append(f"{name}: one batch / one after the other {ratio:.2f} (0.50)")
        elif name.startswith("mixed"):
            one, many = (median(steps["seconds"][key]) for key in ("one adapter", "16 adapters"))
            lines.append(f"{name}: throughput of 16 adapters / one {one / many:.2f} (0.90)")
        elif name.startswith("generation"):
            bare, ours = (median(steps["seconds"][key]) for key in ("bare backbone", "deep prompts"))
            lines.append(f"{name}: / bare {ours / bare:.2f} (1.05)")
    return lines


def main(argv: list[str] | None = None) -> None:
    """Measure part by part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="JSON file; parts that stand in it are left out")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--small", action="store_true", help="tiny models, two rounds, nothing compiled by inductor")
    arguments = parser.parse_args(argv)
    device, rounds = arguments.device, 2 if arguments.small else arguments.rounds
    size, text, shapes = ("tiny", 8, SMALL) if arguments.small else ("base", 128, SHAPES)
    backend = "eager" if arguments.small else "inductor"
    tasks: dict[str, Callable[[], dict[str, Any]]] = {}
    for shape in shapes:
        for kind in ("tf32", "bf16"):
            name = f"{shape[0]}, {shape[1]} x {shape[2]} tokens, {shape[3]} prompts, {kind}"
            tasks[name] = lambda shape=shape: measure_steps(shape, rounds, device)
    tasks["mixed, bf16"] = lambda: measure_mixed(size, text, rounds, device)
    tasks["compiled, bf16"] = lambda: measure_compiled(shapes[0], rounds, device, backend)
    tasks["trials"] = lambda: measure_trials(size, 4 if arguments.small else 16, text, rounds, device)
    tasks["generation, bf16"] = lambda: measure_generation(size, 2 if arguments.small else 5, device)
    output: Path = arguments.output
    found = json.loads(output.read_text()) if output.exists() else {"parts": {}}
    found["environment"] = environment(device)
    for name, run in tasks.items():
        if name not in found["parts"]:
            with precision("bf16" if name.endswith("bf16") else "tf32", device):
                found["parts"][name] = run()
            output.write_text(json.dumps(found, indent=1) + "\n")
            print(name, flush=True)
    print("\n".join(report(found["parts"])))


if __name__ == "__main__":
    main()
