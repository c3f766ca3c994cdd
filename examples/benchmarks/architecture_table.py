"""Try deep prompts on every classification architecture of the installed transformers and write the tables.

    python examples/benchmarks/architecture_table.py --output docs/architectures.md

Every model type of the auto classes for classifying text, images and audio is made with a tiny random configuration.
What does not start is left out of the count and named below its table. `--only bert t5` tries a few and prints them.
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

import peft
import torch
import transformers
from peft import PeftModel, PrefixTuningConfig, get_peft_model
from tiny_models import FAMILIES, Family, tiny_config
from tqdm import tqdm
from transformers.utils import logging

import dpt_peft
from dpt_peft.deep_prompt.targets import find_attention_modules

CHECKS = ("output changes", "gradients", "exact disable", "save and load", "sdpa = eager")
LIMIT_SECONDS = 60


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


def with_prompts(model: torch.nn.Module, task_type: str | None) -> PeftModel:
    """Wide prompts, drawn the same at every call."""
    torch.manual_seed(2)
    config = dpt_peft.DeepPromptConfig(task_type=task_type, num_virtual_tokens=5, init_std=0.5)
    return get_peft_model(model, config).eval()


def logits(model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """The model's logits, without a graph: kernels may differ where gradients are needed."""
    with torch.no_grad():
        return model(**batch).logits


def differ(ours: torch.Tensor, plain: torch.Tensor) -> bool:
    """Whether logits differ by more than rounding, at the size that a random model's have."""
    return bool((ours - plain).abs().max() > 1e-4 * plain.abs().max())


def train_once(model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> None:
    """Leave the gradients of one batch on the model."""
    model.train()
    model(**batch, labels=torch.tensor([0, 1])).loss.backward()
    model.eval()


def gradients_everywhere(model: PeftModel, batch: dict[str, torch.Tensor], unused: set[str]) -> bool:
    """Whether every prompt gets a gradient, but for those of modules whose output the head never sees."""
    train_once(model, batch)
    return all(
        parameter.grad is not None and bool(parameter.grad.abs().sum() > 0)
        for name, parameter in model.named_parameters()
        if "deep_prompt_" in name and not any(module in name for module in unused)
    )


def modules_without_gradient(model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> set[str]:
    """Attention modules of the plain backbone that training does not reach."""
    train_once(model.requires_grad_(True), batch)
    reached = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    modules = [a.name for a in find_attention_modules(model)]
    return {module for module in modules if not any(name.startswith(f"{module}.") for name in reached)}


def try_architecture(family: Family, config: transformers.PreTrainedConfig) -> Row:
    """Run all checks on one architecture; raise if the plain model does not run."""
    base = family.make(config)
    batch = family.make_batch(base)
    plain = logits(base, batch)
    row = Row(prefix_tuning=prefix_tuning_works(family, config, batch, plain))
    try:
        model = with_prompts(base, family.task_type)
        prompted = logits(model, batch)
        row.checks["output changes"] = differ(prompted, plain)
        with model.disable_adapter():
            row.checks["exact disable"] = torch.equal(logits(model, batch), plain)
        with tempfile.TemporaryDirectory() as folder:
            model.save_pretrained(folder)
            loaded = PeftModel.from_pretrained(family.make(config), folder).eval()
            row.checks["save and load"] = torch.equal(logits(loaded, batch), prompted)
        unused = modules_without_gradient(family.make(config), batch)
        row.checks["gradients"] = gradients_everywhere(model, batch, unused)
        row.checks["sdpa = eager"] = None
        if base._supports_sdpa:
            pair = [with_prompts(family.make(config, kernel), family.task_type) for kernel in ("sdpa", "eager")]
            row.checks["sdpa = eager"] = torch.allclose(*(logits(model, batch) for model in pair), atol=1e-4)
    except TooSlowError:
        raise
    except Exception as error:
        row.checks, row.refusal = {}, f"{type(error).__name__}: {error}"
    return row


def prefix_tuning_works(
    family: Family, config: transformers.PreTrainedConfig, batch: dict[str, torch.Tensor], plain: torch.Tensor
) -> bool:
    """Whether PEFT's own prefix tuning runs and does something."""
    try:
        prefix = PrefixTuningConfig(task_type=family.task_type, num_virtual_tokens=5)
        model = get_peft_model(family.make(config), prefix).eval()
        return differ(logits(model, batch), plain)
    except TooSlowError:
        raise
    except Exception:
        return False


INTRODUCTION = """# Architectures

Made by `make architectures` with transformers {transformers} and peft {peft}: tiny random models of every type that
the auto classes for classifying text, images and audio know.

- Output changes: with prompts, the logits are others.
- Gradients: every prompt gets one, except in modules that the task's own loss does not reach.
- Exact disable: with the adapter disabled, the logits are those of the frozen backbone, bit for bit.
- Save and load: a saved adapter gives the same logits on a new backbone, bit for bit.
- sdpa = eager: both kernels give the same logits, up to 1e-4; one kernel: the architecture has no second one.
- PEFT prefix tuning: whether it runs and changes the logits, for comparison.
"""


def as_markdown(family: Family, rows: dict[str, Row], not_started: dict[str, str]) -> str:
    """The family's section of the page."""
    marks: Callable[[bool | None], str] = {True: "yes", False: "**no**", None: "one kernel"}.__getitem__
    working, prefix = sum(row.works for row in rows.values()), sum(row.prefix_tuning for row in rows.values())
    lines = [
        f"## {family.title}: `{family.auto_class}`",
        "",
        f"**Deep prompts work on {working} of the {len(rows)} that start, PEFT's prefix tuning runs on {prefix}.**",
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
            lines += ["", f"### {title}", ""]
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
    page = [INTRODUCTION.format(transformers=transformers.__version__, peft=peft.__version__)]
    for family in FAMILIES:
        rows: dict[str, Row] = {}
        not_started: dict[str, str] = {}
        types = [name for name in family.model_types() if args.only is None or name in args.only]
        progress = tqdm(types, desc=family.title)
        for model_type in progress:
            progress.set_postfix_str(model_type)
            try:
                with time_limit(LIMIT_SECONDS):
                    rows[model_type] = try_architecture(family, tiny_config(model_type))
            except Exception as error:
                not_started[model_type] = f"{type(error).__name__}: {error}"
        if types:
            page.append(as_markdown(family, rows, not_started))
    if args.output:
        args.output.write_text("\n".join(page))
    else:
        print("\n".join(page))


if __name__ == "__main__":
    main()
