"""Try deep prompts on every text-classification architecture of the installed transformers and write the table.

    python examples/benchmarks/architecture_table.py --output docs/architectures.md

Every model type of `AutoModelForSequenceClassification` is made with a tiny random configuration. What does not start
is left out of the count and named below the table. `--only bert t5` tries a few and prints them.
"""

from __future__ import annotations

import argparse
import signal
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import peft
import torch
import transformers
from peft import PeftModel, PrefixTuningConfig, get_peft_model
from tqdm import tqdm
from transformers import AutoConfig, AutoModelForSequenceClassification
from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES
from transformers.utils import logging

import dpt_peft

# Set wherever a configuration has an attribute of that name.
TINY: dict[str, Any] = {
    **dict.fromkeys(("vocab_size",), 99),
    **dict.fromkeys(("hidden_size", "d_model", "n_embd", "dim", "emb_dim", "embed_dim", "embedding_size"), 32),
    **dict.fromkeys(("intermediate_size", "hidden_dim", "d_ff", "d_inner", "ffn_hidden_size"), 37),
    **dict.fromkeys(("encoder_ffn_dim", "decoder_ffn_dim"), 37),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers", "num_decoder_layers"), 2),
    **dict.fromkeys(("encoder_layers", "decoder_layers"), 2),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads"), 4),
    **dict.fromkeys(("encoder_attention_heads", "decoder_attention_heads"), 4),
    **dict.fromkeys(("max_position_embeddings", "n_positions"), 64),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts"), 4),
    "num_key_value_heads": 2,
    "head_dim": 8,
    "d_kv": 8,
    "d_head": 8,
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 4,
    "qk_nope_head_dim": 8,
    "v_head_dim": 8,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
    "n_group": 1,
    "topk_group": 1,
    "first_k_dense_replace": 1,
    "attention_window": 8,
    "block_sizes": [1, 1],
    "entity_vocab_size": 9,
    "entity_emb_size": 8,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "cls_token_id": 1,
    "sep_token_id": 2,
    "decoder_start_token_id": 0,
    "num_labels": 3,
}
# Where that does not make a model that runs.
SPECIAL: dict[str, dict[str, Any]] = {
    "big_bird": {"attention_type": "original_full"},
    "t5": {"decoder_start_token_id": 0},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "gptj": {"rotary_dim": 4},
    "layoutlmv3": {"coordinate_size": 4, "shape_size": 8, "visual_embed": False},
    "lilt": {"channel_shrink_ratio": 2, "hidden_size": 48},
    "perceiver": {"num_latents": 8, "d_latents": 32, "num_self_attends_per_block": 2},
    "squeezebert": dict.fromkeys(
        ("q_groups", "k_groups", "v_groups", "post_attention_groups", "intermediate_groups", "output_groups"), 1
    )
    | {"intermediate_size": 32},
    "xmod": {"default_language": "en_XX"},
}
# The rest when a configuration refuses one of the above.
PLAIN = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "num_labels")

CHECKS = ("output changes", "gradients", "exact disable", "save and load", "sdpa = eager")
LIMIT_SECONDS = 60
LARGEST = 30_000_000


@dataclass
class Row:
    """What was found out about one architecture.

    Attributes:
        checks: outcome by name: True, False, or None where it does not apply.
        prefix_tuning: whether PEFT's prefix tuning runs and changes the output.
        refusal: why deep prompts do not run, if they do not.
    """

    checks: dict[str, bool | None] = field(default_factory=dict)
    prefix_tuning: bool = False
    refusal: str = ""

    @property
    def works(self) -> bool:
        """Whether every check that applies is passed."""
        return bool(self.checks) and all(outcome is not False for outcome in self.checks.values())


class TooSlowError(Exception):
    """The time for one architecture is over."""


@contextmanager
def time_limit(seconds: int) -> Iterator[None]:
    """Raise `TooSlowError` in the main thread after so many seconds."""

    def stop(*_: object) -> None:
        raise TooSlowError(f"more than {seconds} seconds")

    signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)


def tiny_config(model_type: str) -> transformers.PreTrainedConfig:
    """The type's configuration with every size made small."""
    default = AutoConfig.for_model(model_type)
    names = [n for n in TINY if hasattr(default, n) and not isinstance(getattr(type(default), n, None), property)]
    special = SPECIAL.get(model_type, {})
    try:
        return AutoConfig.for_model(model_type, **{n: TINY[n] for n in names} | special)
    except Exception:  # every library of configurations has its own way of refusing
        return AutoConfig.for_model(model_type, **{n: TINY[n] for n in names if n in PLAIN} | special)


def make(config: transformers.PreTrainedConfig, attn_implementation: str | None = None) -> torch.nn.Module:
    """The same random classifier at every call."""
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_config(config, attn_implementation=attn_implementation).eval()
    if sum(parameter.numel() for parameter in model.parameters()) > LARGEST:
        raise ValueError(f"more than {LARGEST:,} parameters even when configured small")
    if hasattr(model, "set_default_language"):
        model.set_default_language("en_XX")
    return model


def make_batch() -> dict[str, torch.Tensor]:
    """Two rows of eight tokens that end in the end-of-sequence token, which encoder-decoders classify at."""
    input_ids = torch.randint(5, 90, (2, 8), generator=torch.Generator().manual_seed(1))
    input_ids[:, -1] = 2
    return {"input_ids": input_ids, "attention_mask": torch.ones_like(input_ids)}


def with_prompts(model: torch.nn.Module) -> PeftModel:
    """Wide prompts, drawn the same at every call."""
    torch.manual_seed(1)
    config = dpt_peft.DeepPromptConfig(task_type="SEQ_CLS", num_virtual_tokens=5, init_std=0.5)
    return get_peft_model(model, config).eval()


def logits(model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """The model's logits, without a graph: kernels may differ where gradients are needed."""
    with torch.no_grad():
        return model(**batch).logits


def gradients_everywhere(model: PeftModel, batch: dict[str, torch.Tensor], unused: set[str]) -> bool:
    """Whether every prompt gets a gradient, but for those of modules whose output the head never sees."""
    model.train()
    model(**batch, labels=torch.tensor([0, 1])).loss.backward()
    model.eval()
    return all(
        parameter.grad is not None and bool(parameter.grad.abs().sum() > 0)
        for name, parameter in model.named_parameters()
        if "deep_prompt_" in name and not any(module in name for module in unused)
    )


def modules_without_gradient(model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> set[str]:
    """Attention modules of the plain backbone that training does not reach."""
    model.train()
    model(**batch, labels=torch.tensor([0, 1])).loss.backward()
    reached = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    modules = [a.name for a in dpt_peft.deep_prompt.architectures.find_attention_modules(model)]
    return {module for module in modules if not any(name.startswith(f"{module}.") for name in reached)}


def try_architecture(config: transformers.PreTrainedConfig) -> Row:
    """Run all checks on one architecture; raise if the plain model does not run."""
    base, batch = make(config), make_batch()
    plain = logits(base, batch)
    row = Row(prefix_tuning=prefix_tuning_works(config, batch, plain))
    try:
        model = with_prompts(base)
        prompted = logits(model, batch)
        row.checks["output changes"] = not torch.allclose(prompted, plain, atol=1e-6)
        with model.disable_adapter():
            row.checks["exact disable"] = torch.equal(logits(model, batch), plain)
        with tempfile.TemporaryDirectory() as folder:
            model.save_pretrained(folder)
            loaded = PeftModel.from_pretrained(make(config), folder).eval()
            row.checks["save and load"] = torch.equal(logits(loaded, batch), prompted)
        unused = modules_without_gradient(make(config), batch)
        row.checks["gradients"] = gradients_everywhere(model, batch, unused)
        row.checks["sdpa = eager"] = None
        if base._supports_sdpa:
            outputs = [logits(with_prompts(make(config, kernel)), batch) for kernel in ("sdpa", "eager")]
            row.checks["sdpa = eager"] = torch.allclose(*outputs, atol=1e-4)
    except TooSlowError:
        raise
    except Exception as error:
        row.checks, row.refusal = {}, f"{type(error).__name__}: {error}"
    return row


def prefix_tuning_works(
    config: transformers.PreTrainedConfig, batch: dict[str, torch.Tensor], plain: torch.Tensor
) -> bool:
    """Whether PEFT's own prefix tuning runs and does something."""
    try:
        model = get_peft_model(make(config), PrefixTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=5)).eval()
        return not torch.allclose(logits(model, batch), plain, atol=1e-6)
    except TooSlowError:
        raise
    except Exception:
        return False


def as_markdown(rows: dict[str, Row], not_started: dict[str, str]) -> str:
    """The page."""
    marks: Callable[[bool | None], str] = {True: "yes", False: "**no**", None: "one kernel"}.__getitem__
    working, prefix = sum(row.works for row in rows.values()), sum(row.prefix_tuning for row in rows.values())
    lines = [
        "# Architectures",
        "",
        f"Made by `make architectures` with transformers {transformers.__version__} and peft {peft.__version__}.",
        "Tiny random models of every type that `AutoModelForSequenceClassification` knows.",
        "",
        f"**Deep prompts work on {working} of the {len(rows)} that start, PEFT's prefix tuning runs on {prefix}.**",
        "",
        "Gradients: every prompt gets one, except in modules that the task's own loss does not reach.",
        "One kernel: the architecture has no second attention implementation to compare.",
        "",
        "| model type | " + " | ".join(CHECKS) + " | PEFT prefix tuning |",
        "|--|" + "--|" * (len(CHECKS) + 1),
    ]
    for name, row in sorted(rows.items()):
        cells = [marks(row.checks.get(check)) for check in CHECKS] if row.checks else ["**no**"] + [""] * 4
        lines.append(f"| {name} | " + " | ".join([*cells, "yes" if row.prefix_tuning else "no"]) + " |")
    refused = {name: row.refusal for name, row in sorted(rows.items()) if row.refusal}
    for title, reasons in (("Refused, and why", refused), ("Not started with a tiny configuration", not_started)):
        if reasons:
            lines += ["", f"## {title}", ""]
            lines += [f"- `{name}`: {' '.join(reason.split())[:300]}" for name, reason in sorted(reasons.items())]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Try all, write or print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, help="markdown file to write; default: print")
    parser.add_argument("--only", nargs="+", help="model types to try")
    args = parser.parse_args()
    logging.set_verbosity_error()
    warnings.simplefilter("ignore")
    own = {"dpt_sequence_classification"}
    types = args.only or sorted(set(MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES) - own)
    rows: dict[str, Row] = {}
    not_started: dict[str, str] = {}
    progress = tqdm(types, desc="architectures")
    for model_type in progress:
        progress.set_postfix_str(model_type)
        try:
            with time_limit(LIMIT_SECONDS):
                rows[model_type] = try_architecture(tiny_config(model_type))
        except Exception as error:
            not_started[model_type] = f"{type(error).__name__}: {error}"
    page = as_markdown(rows, not_started)
    if args.output:
        args.output.write_text(page)
    else:
        print(page)


if __name__ == "__main__":
    main()
