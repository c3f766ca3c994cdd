"""Count the operations that deep prompts add, which no clock and no load on the machine can change.

    OMP_NUM_THREADS=1 python examples/benchmarks/operation_counts.py --page docs/cost.md

Every operation that torch dispatches in a forward pass, a training step, a mixed batch and a decoding step is counted
on tiny models of 12 layers, beside the bare backbone, PEFT's prefix tuning and LoRA. Kernels are those that are no
views: on an accelerator each of them is a launch. The last column of the first table is a clock all the same:
the process time of a forward pass over that of the bare backbone, medians of interleaved runs. On models this small
most of it is Python and dispatch.
"""

from __future__ import annotations

import argparse
import re
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from deep_prompt_cost import make_inference, milliseconds
from peft import LoraConfig, PeftModel, PrefixTuningConfig, get_peft_model
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import (
    AttentionInterface,
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
)
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.utils import logging

from dpt_peft import DeepPromptConfig
from dpt_peft._compatibility import asks_attention_interface, config_with_attention

LAYERS, PROMPTS, VOCABULARY = 12, 20, 99
ROWS, TOKENS = 4, 16
MIXED_ROWS = 64

# fmt: off
_VIEWS = frozenset({
    "view", "_unsafe_view", "expand", "transpose", "permute", "t", "unsqueeze", "squeeze", "slice", "select", "detach",
    "alias", "reshape", "unflatten", "split", "split_with_sizes", "unbind", "as_strided", "_reshape_alias",
    "lift_fresh",
})
# fmt: on
_SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "pad_token_id": 0,
}
_SPECIAL = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
_DISENTANGLED = {"relative_attention": True, "position_buckets": 8, "pos_att_type": ["p2c", "c2p"]}
BACKBONES: dict[str, dict[str, Any]] = {
    "bert": _SIZES,
    "albert": _SIZES | {"embedding_size": 16},
    "deberta-v2": _SIZES | _DISENTANGLED | {"share_att_key": True},
    "gpt2": {"vocab_size": VOCABULARY, "n_embd": 32, "n_layer": LAYERS, "n_head": 4} | _SPECIAL,
    "llama": _SIZES | {"num_key_value_heads": 2} | _SPECIAL,
}


@dataclass(frozen=True)
class Count:
    """Dispatched operations, and kernels among them."""

    operations: int
    kernels: int

    def added_by(self, other: Count, layers: int = 1) -> tuple[float, float]:
        """Return how many more operations and kernels the other has, per layer."""
        return (other.operations - self.operations) / layers, (other.kernels - self.kernels) / layers


class Counting(TorchDispatchMode):
    """Counts what torch dispatches within it."""

    def __init__(self) -> None:
        super().__init__()
        self.names: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))


def count(run: Callable[[], Any]) -> Count:
    """Count a second run: what is made once for all is not counted."""
    run()
    with Counting() as counting:
        run()
    kernels = sum(number for name, number in counting.names.items() if name not in _VIEWS)
    return Count(counting.names.total(), kernels)


def backbone(name: str, causal: bool = False) -> Any:
    """Return a tiny random model; the same one at every call."""
    torch.manual_seed(0)
    auto = AutoModelForCausalLM if causal else AutoModelForSequenceClassification
    return auto.from_config(AutoConfig.for_model(name, **BACKBONES[name])).eval()


def with_method(base: Any, method: str, prompts: int = PROMPTS, **options: Any) -> Any:
    """Return the backbone with one of the methods: `bare`, `prefix_tuning`, `lora` or `deep_prompt`."""
    task_type = "SEQ_CLS" if "Classification" in type(base).__name__ else "CAUSAL_LM"
    configs: dict[str, Callable[[], Any]] = {
        "prefix_tuning": lambda: PrefixTuningConfig(task_type=task_type, num_virtual_tokens=prompts),
        "lora": lambda: LoraConfig(task_type=task_type, r=8),
        "deep_prompt": lambda: DeepPromptConfig(task_type=task_type, num_virtual_tokens=prompts, **options),
    }
    return base if method == "bare" else get_peft_model(base, configs[method]()).eval()


def make_batch(rows: int = ROWS, padded: bool = True) -> dict[str, torch.Tensor]:
    """Return random tokens, one row shorter than the others if it is to be padded."""
    ids = torch.randint(3, VOCABULARY, (rows, TOKENS), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    if padded:
        mask[1, TOKENS // 2 :] = 0
    return {"input_ids": ids * mask, "attention_mask": mask}


def count_forward(model: nn.Module, batch: dict[str, torch.Tensor], **kwargs: Any) -> Count:
    """Count a forward pass without gradients."""
    with torch.no_grad():
        return count(lambda: model(**batch, **kwargs))


def count_training_step(model: nn.Module, batch: dict[str, torch.Tensor]) -> Count:
    """Count forward and backward in training mode."""
    model.train()
    labels = torch.zeros(len(batch["input_ids"]), dtype=torch.long)

    def step() -> None:
        model.zero_grad()
        model(**batch, labels=labels).loss.backward()

    counted = count(step)
    model.eval()
    return counted


def several_adapters(name: str, adapters: int, **options: Any) -> PeftModel:
    """Return a classifier with so many adapters, named by numbers."""
    config = DeepPromptConfig(task_type="SEQ_CLS", num_virtual_tokens=PROMPTS, **options)
    model = get_peft_model(backbone(name), config, "0")
    for number in range(1, adapters):
        model.add_adapter(str(number), config)
    return model.eval()


def count_mixed(name: str, adapters: int, **options: Any) -> tuple[Count, Count]:
    """Count a batch of 64 rows with one adapter, and with its rows spread over several."""
    model, batch = several_adapters(name, adapters, **options), make_batch(MIXED_ROWS)
    names = [str(row % adapters) for row in range(MIXED_ROWS)]
    return count_forward(model, batch), count_forward(model, batch, adapter_names=names)


def count_decoding(model: nn.Module, padded: bool) -> Count:
    """Count the decoding step of one token after the text, whose keys and values are in the cache."""
    batch = make_batch(padded=False)
    if padded:
        batch["attention_mask"][1, : TOKENS // 2] = 0
    with torch.no_grad():
        cache = model(**batch, use_cache=True).past_key_values
        one = {"input_ids": batch["input_ids"][:, :1]}

        def step() -> None:
            mask = torch.ones(ROWS, cache.get_seq_length() + 1, dtype=torch.long)
            mask[:, :TOKENS] = batch["attention_mask"]
            model(**one, attention_mask=mask, past_key_values=cache, use_cache=True)

        return count(step)


def process_times(models: dict[str, nn.Module], batch: dict[str, torch.Tensor], rounds: int) -> dict[str, float]:
    """Return process times of a forward pass over that of the bare backbone, medians of interleaved runs."""
    times = milliseconds(
        {name: make_inference(model, batch) for name, model in models.items()}, rounds, "cpu", warm_up=5
    )
    return {name: time / times["bare backbone"] for name, time in times.items()}


def joins_alone(batch: dict[str, torch.Tensor], prompts: int) -> nn.Module:
    """Return BERT with two joins a layer and nothing else: keys, values and the mask of `batch` are made beforehand.

    Whatever puts prompts before keys and values costs as much at least.
    """
    model = backbone("bert")
    rows, heads = len(batch["input_ids"]), model.config.num_attention_heads
    made = torch.randn(rows, heads, prompts, model.config.hidden_size // heads)
    seen = nn.functional.pad(batch["attention_mask"].bool(), (prompts, 0), value=True)[:, None, None, :]
    mask = torch.zeros(seen.shape).masked_fill(~seen, float("-inf")).expand(-1, -1, TOKENS, -1)
    kernel = ALL_ATTENTION_FUNCTIONS["sdpa"]

    def attend(module: nn.Module, query: Any, key: Any, value: Any, _: Any, **kwargs: Any) -> Any:
        return kernel(module, query, torch.cat([made, key], 2), torch.cat([made, value], 2), mask, **kwargs)

    AttentionInterface.register(f"joins_{prompts}", attend)
    for module in model.modules():
        if asks_attention_interface(module):
            module.config = config_with_attention(module.config, f"joins_{prompts}")
    return model


def methods(batch: dict[str, torch.Tensor], prompts: int) -> dict[str, nn.Module]:
    """Return BERT with each of the peers, by what tables call them."""
    last_third = {"layers_to_transform": f"last {LAYERS // 3}"}
    kinds: dict[str, tuple[str, dict[str, Any]]] = {
        "bare backbone": ("bare", {}),
        "PEFT prefix tuning": ("prefix_tuning", {}),
        "LoRA, r=8": ("lora", {}),
        "deep prompts": ("deep_prompt", {}),
        "deep prompts, gated": ("deep_prompt", {"use_gate": True}),
        "deep prompts, last third": ("deep_prompt", last_third),
    }
    models = {
        name: with_method(backbone("bert"), method, prompts, **options) for name, (method, options) in kinds.items()
    }
    return models | {"two joins alone": joins_alone(batch, prompts)}


def method_table(rounds: int) -> str:
    """Return the peers side by side on BERT."""
    batch = make_batch()
    models = methods(batch, PROMPTS)
    ratios = [process_times(each, batch, rounds) for each in (models, methods(batch, 1))]
    forward = {name: count_forward(model, batch) for name, model in models.items()}
    training = {name: f"{count_training_step(model, batch).kernels}" for name, model in models.items()}
    training["two joins alone"] = "-"  # there is nothing to train
    rows = []
    for name, counted in forward.items():
        operations, kernels = forward["bare backbone"].added_by(counted, LAYERS)
        row = [name, f"{counted.operations}", f"{operations:+.1f}", f"{kernels:+.1f}", training[name]]
        rows.append(row + [f"{ratio[name]:.2f}" for ratio in ratios])
    head = ["BERT, 12 layers", "forward", "a layer adds", "kernels", "kernels of a step"]
    return _markdown([*head, "process time / bare", "with one prompt"], rows)


def architecture_table() -> str:
    """Return what a prompted layer adds on other architectures."""
    rows = []
    for name in BACKBONES:
        for padded in (True, False):
            batch = make_batch(padded=padded)
            cells = [name, "padded" if padded else "full"]
            bare = count_forward(backbone(name), batch)
            for options in ({}, {"use_gate": True}):
                added = bare.added_by(
                    count_forward(with_method(backbone(name), "deep_prompt", **options), batch), LAYERS
                )
                cells += [f"{number:+.1f}" for number in added]
            rows.append(cells)
    return _markdown(["backbone", "batch", "a layer adds", "kernels", "gated: a layer adds", "kernels"], rows)


def mixed_table() -> str:
    """Return what a batch of many adapters takes over a batch of one."""
    rows = []
    for name in ("bert", "albert", "deberta-v2"):
        for adapters in (2, 16, 32):
            one, many = count_mixed(name, adapters)
            ratio = many.operations / one.operations
            rows.append([name, f"{adapters}", f"{one.operations}", f"{many.operations}", f"{ratio:.2f}"])
    return _markdown(["backbone", "adapters", "one adapter", "all of them", "ratio"], rows)


def decoding_table() -> str:
    """Return what prompts add to a decoding step as a whole."""
    rows = []
    for name in ("gpt2", "llama"):
        for padded in (False, True):
            bare, ours = (
                count_decoding(with_method(backbone(name, causal=True), method), padded)
                for method in ("bare", "deep_prompt")
            )
            text = "padded" if padded else "full"
            rows.append([name, text, f"{bare.operations}", f"{ours.operations}", f"{ours.kernels - bare.kernels:+d}"])
    return _markdown(["backbone", "text", "bare backbone", "deep prompts", "kernels more"], rows)


def _markdown(head: list[str], rows: list[list[str]]) -> str:
    rule = ["--" if index == 0 else "--:" for index in range(len(head))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rule, *rows))


def main() -> None:
    """Print the tables, and put them into a page between their markers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--page", type=Path, help="page with `<!-- counts: NAME -->` ... `<!-- end -->` around tables")
    parser.add_argument("--rounds", type=int, default=60, help="runs of each model on the clock")
    arguments = parser.parse_args()
    logging.set_verbosity_error()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    tables = {
        "methods": method_table(arguments.rounds),
        "architectures": architecture_table(),
        "mixed": mixed_table(),
        "decoding": decoding_table(),
    }
    print("\n\n".join(tables.values()))
    if arguments.page:
        text = arguments.page.read_text()
        for name, table in tables.items():
            block = re.compile(rf"(<!-- counts: {name} -->\n).*?(<!-- end -->)", re.DOTALL)
            text = block.sub(lambda match, table=table: f"{match[1]}{table}\n{match[2]}", text)
        arguments.page.write_text(text)


if __name__ == "__main__":
    main()
