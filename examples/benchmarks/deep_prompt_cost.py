"""What deep prompts cost beside their peers: time, memory, parameters, bytes.

    python examples/benchmarks/deep_prompt_cost.py --output docs/results/cost_cpu.json --page docs/cost.md
    python examples/benchmarks/deep_prompt_cost.py --output docs/results/cost_cuda.json --device cuda --grid full

Full fine-tuning, LoRA (r=8), PEFT's prefix tuning, deep prompts in all layers and in the last third, on BERT with
random weights. All peers stand in one process and take turns, one step each; the figures are medians over the rounds.
Memory is that of one training step in a process of its own. Each setting is written to the output when it is done, and
a run that is started again goes on behind the last one. Counts of operations stand beside what was measured.
"""

from __future__ import annotations

import copy
import json
import multiprocessing
import platform
import tempfile
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import peft
import torch
import transformers
from deep_prompt_cost_memory import step_memory
from deep_prompt_cost_report import write_report
from peft import LoraConfig, PrefixTuningConfig, get_peft_model
from torch import nn
from transformers import AutoModelForSequenceClassification, BertConfig, GPT2Config, GPT2LMHeadModel

from dpt_peft import DeepPromptConfig

SIZES = {
    "tiny": {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 64},
    "base": {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072},
    "large": {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096},
}
METHODS = ("fine_tuning", "lora", "prefix_tuning", "deep_prompt", "deep_prompt_last_third")
ADAPTERS, ROWS = 16, 64


@dataclass(frozen=True)
class Setting:
    """One measurement: which backbone, and how much of everything.

    Attributes:
        size: Key of `SIZES`.
        rows: Batch size. The rows' lengths go from half of `text_length` to all of it.
        text_length: Longest row, in tokens.
        prompt_length: Prompts per layer.
        rounds: Steps of each method that count; one more comes before.
    """

    size: str
    rows: int
    text_length: int
    prompt_length: int
    rounds: int = 7

    @property
    def name(self) -> str:
        """Key of the setting in the output."""
        return f"{self.size}, {self.rows} x {self.text_length} tokens, {self.prompt_length} prompts"


def settings(grid: str) -> list[Setting]:
    """The settings of `--grid`: `tiny` for trying, `cpu` for half an hour on one core, or `full`."""
    if grid == "tiny":
        return [Setting("tiny", 2, 8, 4, 2)]
    if grid == "full":
        return [
            Setting(size, 32, text, prompt, 20)
            for size in ("base", "large")
            for text in (32, 64, 128, 256, 512)
            for prompt in (8, 20, 64, 128)
        ]
    base = [(4, 128, 20), (8, 32, 20), (8, 32, 128), (4, 128, 128), (1, 512, 20), (4, 128, 8)]
    rounds = [5, 5, 3, 3, 3, 3]
    shapes = [Setting("base", *shape, count) for shape, count in zip(base, rounds, strict=True)]
    return [*shapes[:4], Setting("large", 2, 128, 20, 3), *shapes[4:]]


def make_backbone(size: str, text_length: int, prompt_length: int) -> nn.Module:
    """BERT with random weights and room for PEFT's prefixes, which use up positions."""
    torch.manual_seed(0)
    positions = max(512, text_length + prompt_length)
    return AutoModelForSequenceClassification.from_config(BertConfig(**SIZES[size], max_position_embeddings=positions))


def make_model(method: str, backbone: nn.Module, prompt_length: int) -> nn.Module:
    """The backbone made ready for training with one of `METHODS`; all but fine-tuning share its frozen weights."""
    if method == "fine_tuning":
        return copy.deepcopy(backbone).requires_grad_(True)
    shared = copy.deepcopy(backbone, {id(p): p for p in backbone.parameters()})
    third = shared.config.num_hidden_layers // 3
    configs: dict[str, Callable[[], peft.PeftConfig]] = {
        "lora": lambda: LoraConfig(task_type="SEQ_CLS", r=8),
        "prefix_tuning": lambda: PrefixTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=prompt_length),
        "deep_prompt": lambda: DeepPromptConfig(task_type="SEQ_CLS", num_virtual_tokens=prompt_length),
        "deep_prompt_last_third": lambda: DeepPromptConfig(
            task_type="SEQ_CLS", num_virtual_tokens=prompt_length, layers_to_transform=f"last {third}"
        ),
    }
    return get_peft_model(shared, configs[method]())


def make_batch(rows: int, text_length: int, device: str) -> dict[str, torch.Tensor]:
    """Random tokens, rows from half the length to all of it."""
    lengths = torch.linspace(text_length, text_length // 2, rows).long()
    mask = (torch.arange(text_length) < lengths[:, None]).long()
    input_ids = torch.randint(1000, 2000, (rows, text_length)) * mask
    batch = {"input_ids": input_ids, "attention_mask": mask, "labels": torch.arange(rows) % 2}
    return {name: tensor.to(device) for name, tensor in batch.items()}


def make_training_step(model: nn.Module, batch: dict[str, torch.Tensor]) -> Callable[[], None]:
    """Forward, backward and AdamW (as the Trainer makes it) of the parameters that train."""
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4, fused=True)

    def step() -> None:
        model.train()
        model(**batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def make_inference(model: nn.Module, batch: dict[str, torch.Tensor], **kwargs: Any) -> Callable[[], None]:
    """A forward pass without gradients."""
    inputs = {name: tensor for name, tensor in batch.items() if name != "labels"}

    @torch.no_grad()
    def forward() -> None:
        if model.training:
            model.eval()
        model(**inputs, **kwargs)

    return forward


def take_turns(
    runs: dict[str, Callable[[], None]], rounds: int, device: str, *, warm_up: int = 1, wall: bool = False
) -> dict[str, list[float]]:
    """Seconds of each run in each round. The order turns by one place a round; the `warm_up` rounds do not count."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    names = list(runs)
    for turn in range(rounds + warm_up):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            start = read_clock(device, wall)
            runs[name]()
            if turn >= warm_up:
                times[name].append(read_clock(device, wall) - start)
    return times


def milliseconds(runs: dict[str, Callable[[], None]], rounds: int, device: str, **options: Any) -> dict[str, float]:
    """Median of each run, see `take_turns`."""
    return {name: 1e3 * median(times) for name, times in take_turns(runs, rounds, device, **options).items()}


def read_clock(device: str, wall: bool = False) -> float:
    """Seconds. On one CPU thread those of the process, which others disturb less, unless waiting for files counts."""
    if device == "cuda":
        torch.cuda.synchronize()
    of_process = device == "cpu" and torch.get_num_threads() == 1 and not wall
    return time.process_time() if of_process else time.perf_counter()


def operations(setting: Setting, method: str) -> float:
    """Floating-point operations of one training step on the full length: matrix products, 2 per multiplication.

    A layer's linear maps take 24 n H^2 forward for n tokens (with an intermediate size of 4 H), as much for the
    gradient of their input, and as much for that of their weights; attention over k columns takes 4 n k H forward and
    twice that backward. Frozen weights need no gradient, nor do the inputs of the lowest layer that trains, and below
    it nothing goes backward. In that layer the three maps to query, key and value (6 n H^2) are spared.
    """
    width, layers = SIZES[setting.size]["hidden_size"], SIZES[setting.size]["num_hidden_layers"]
    inner = SIZES[setting.size]["intermediate_size"]
    tokens, text = setting.rows * setting.text_length, setting.text_length
    linear = 2 * tokens * (4 * width**2 + 2 * width * inner)
    to_attention = 6 * tokens * width**2
    plain = 4 * tokens * text * width
    prompted = 4 * tokens * (text + setting.prompt_length) * width
    if method == "fine_tuning":
        return layers * (3 * linear + 3 * plain)
    if method == "lora":  # the rank's own products are left out: 8 / H of the maps to query and value
        return layers * (2 * linear + 3 * plain) - to_attention
    with_prompts = layers // 3 if method == "deep_prompt_last_third" else layers
    forward = layers * linear + (layers - with_prompts) * plain + with_prompts * prompted
    return forward + with_prompts * (linear + 2 * prompted) - to_attention


def measure(setting: Setting, device: str) -> dict[str, Any]:
    """Times, memory, parameters, bytes and counts of all methods in one setting."""
    backbone = make_backbone(setting.size, setting.text_length, setting.prompt_length).to(device)
    batch = make_batch(setting.rows, setting.text_length, device)
    models = {method: make_model(method, backbone, setting.prompt_length).to(device) for method in METHODS}
    steps = {method: make_training_step(model, batch) for method, model in models.items()}
    training = take_turns(steps, setting.rounds, device)
    # a fine-tuned model is the bare backbone
    inference = take_turns({name: make_inference(m, batch) for name, m in models.items()}, setting.rounds, device)
    record: dict[str, Any] = {"setting": asdict(setting), "methods": {}}
    for method, model in models.items():
        record["methods"][method] = {
            "training_seconds": training[method],
            "inference_seconds": inference[method],
            "operations": operations(setting, method),
            "trained_parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
            "saved_bytes": saved_bytes(model),
        }
    del models, steps
    for method, figures in memory_in_processes(setting, device).items():
        record["methods"][method] |= figures
    return record


def saved_bytes(model: nn.Module) -> int:
    """Size of the weights that `save_pretrained` writes."""
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        return sum(path.stat().st_size for path in Path(folder).rglob("*.safetensors"))


def memory_in_processes(setting: Setting, device: str) -> dict[str, dict[str, int]]:
    """`step_memory` of each method, each in a process of its own, forked when the libraries are loaded."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    figures = {}
    for method in METHODS:
        with ProcessPoolExecutor(max_workers=1, mp_context=context) as pool:
            figures[method] = pool.submit(memory_of, setting, method, device).result()
    return figures


def memory_of(setting: Setting, method: str, device: str) -> dict[str, int]:
    """`step_memory` of one method, in this process."""
    backbone = make_backbone(setting.size, setting.text_length, setting.prompt_length).to(device)
    model = make_model(method, backbone, setting.prompt_length).to(device)
    del backbone
    batch = make_batch(setting.rows, setting.text_length, device)
    return step_memory(model, batch, make_training_step(model, batch), device)


def measure_mixed(size: str, text_length: int, rounds: int, device: str) -> dict[str, Any]:
    """Inference of 64 rows: all with one adapter, and spread over 16 adapters by `adapter_names`."""
    model = get_peft_model(
        make_backbone(size, text_length, 20), DeepPromptConfig(task_type="SEQ_CLS", num_virtual_tokens=20), "0"
    )
    for number in range(1, ADAPTERS):
        model.add_adapter(str(number), DeepPromptConfig(task_type="SEQ_CLS", num_virtual_tokens=20))
    model.to(device)
    batch = make_batch(ROWS, text_length, device)
    names = [str(row % ADAPTERS) for row in range(ROWS)]
    runs = {
        "one adapter": make_inference(model, batch),
        "16 adapters": make_inference(model, batch, adapter_names=names),
    }
    return {"size": size, "text_length": text_length, "seconds": take_turns(runs, rounds, device)}


def measure_generation(size: str, rounds: int, device: str) -> dict[str, Any]:
    """Generation of 64 tokens after 64 by GPT-2 of that size with random weights: bare, and with 20 prompts."""
    widths = SIZES[size]
    config = GPT2Config(
        n_embd=widths["hidden_size"],
        n_layer=widths["num_hidden_layers"],
        n_head=widths["num_attention_heads"],
        n_inner=widths["intermediate_size"],
    )
    torch.manual_seed(0)
    bare: Any = GPT2LMHeadModel(config).to(device).eval()
    shared = copy.deepcopy(bare, {id(p): p for p in bare.parameters()})
    ours: Any = get_peft_model(shared, DeepPromptConfig(task_type="CAUSAL_LM", num_virtual_tokens=20)).eval()
    text = torch.randint(1000, 2000, (4, 64), device=device)
    arguments = {"attention_mask": torch.ones_like(text), "max_new_tokens": 64, "min_new_tokens": 64}
    arguments |= {"do_sample": False, "pad_token_id": config.eos_token_id}
    models = {"bare backbone": bare, "deep prompts": ours}
    runs = {name: lambda model=model: model.generate(input_ids=text, **arguments) for name, model in models.items()}
    return {"size": size, "seconds": take_turns(runs, rounds, device)}


def environment(device: str) -> dict[str, Any]:
    """What the figures hold for."""
    return {
        "device": torch.cuda.get_device_name() if device == "cuda" else f"CPU, {torch.get_num_threads()} thread(s)",
        "machine": platform.machine(),
        "versions": {m.__name__: m.__version__ for m in (torch, transformers, peft)},
    }


def parse_arguments(argv: list[str] | None = None) -> Namespace:
    """Command line."""
    parser = ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--output", type=Path, required=True, help="JSON file; settings that stand in it are not measured again."
    )
    parser.add_argument(
        "--page", type=Path, help="Markdown page whose tables are replaced; the plot goes beside JSON."
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--grid", choices=("tiny", "cpu", "full"), default="cpu")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Measures what is not yet in the output, and writes the report."""
    arguments = parse_arguments(argv)
    output: Path = arguments.output
    found = {"settings": {}, "mixed": {}, "generation": {}}
    found |= json.loads(output.read_text()) if output.exists() else {}
    found["environment"] = environment(arguments.device)
    small = arguments.grid == "tiny"
    tasks: list[tuple[str, str, Callable[[], dict[str, Any]]]] = []
    for text_length in (8,) if small else (32,) if arguments.device == "cpu" else (32, 128):
        size, rounds = ("tiny", 2) if small else ("base", 3)
        name = f"{size}, {ROWS} x {text_length} tokens, {ADAPTERS} adapters of 20 prompts"
        arguments_of = (size, text_length, rounds, arguments.device)
        tasks.append(("mixed", name, lambda arguments_of=arguments_of: measure_mixed(*arguments_of)))
    size, rounds = ("tiny", 2) if small else ("base", 5)
    name = f"GPT-2, {size}, 4 x 64 tokens and 64 more, 20 prompts"
    tasks.append(("generation", name, lambda: measure_generation(size, rounds, arguments.device)))
    tasks += [
        ("settings", setting.name, lambda setting=setting: measure(setting, arguments.device))
        for setting in settings(arguments.grid)
    ]
    for kind, name, run in tasks:
        if name in found[kind]:
            continue
        start = time.perf_counter()
        found[kind][name] = run()
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(json.dumps(found, indent=1) + "\n")
        print(f"{name}: {time.perf_counter() - start:.0f} s", flush=True)
    print(write_report(found, output.with_suffix(".png"), arguments.page))


if __name__ == "__main__":
    main()
