"""What a classifier costs when it is used: time a text, tokens a text, peak memory; and what a tree's beams cost."""

from __future__ import annotations

import multiprocessing
import resource
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import torch
from datasets import Dataset
from peft import PeftModel
from transformers import DataCollatorWithPadding, PreTrainedTokenizerBase

from dpt_peft import (
    DPTForHierarchicalClassification,
    DPTForHierarchicalClassificationConfig,
    DPTForSequenceClassification,
    DPTForSequenceClassificationConfig,
)
from dpt_peft.tasks import DISCRIMINATOR
from dpt_peft.training import METHODS, Outcome, RunArguments


@dataclass
class CostArguments:
    """What is measured after a run over a hierarchy of labels."""

    measure_cost: bool = field(
        default=False,
        metadata={"help": "Also measure time and tokens a text, on the test data or else on the validation data."},
    )
    max_cost_samples: int | None = field(
        default=None, metadata={"help": "Measure costs on this many texts of all lengths. Default: 300."}
    )
    beams: list[str] | None = field(
        default=None,
        metadata={
            "help": "dpt* with a hierarchy: also compare these beams on the same data, written width:threshold:score, "
            "such as 2:0.3:sigmoid or all:0:softmax."
        },
    )
    max_beam_samples: int | None = field(default=None, metadata={"help": "Compare beams on this many rows."})


def check_costs(costs: CostArguments, arguments: RunArguments) -> None:
    """Check before a run that what is to be measured after it can be.

    Raises:
        ValueError: If a beam is written wrongly, the model has none, there is nothing to measure on, or an argument is
            of no use; the message names the argument.
    """
    for beam in costs.beams or []:
        read_beam(beam)
    if costs.beams and METHODS[arguments.method].head != DISCRIMINATOR:
        raise ValueError(f"`beams` are for a discriminator's own head (dpt*), got method {arguments.method!r}.")
    if costs.beams and arguments.options.get("label_hierarchy") == "none":
        raise ValueError("`beams` are for a hierarchy, but `label_hierarchy` is 'none'.")
    if costs.max_beam_samples is not None and not costs.beams:
        raise ValueError("`max_beam_samples` is for `beams`, and there are none.")
    if costs.max_cost_samples is not None and not (costs.measure_cost or costs.beams):
        raise ValueError("`max_cost_samples` is for `measure_cost` and `beams`; give one of them.")
    wanted = "measure_cost" if costs.measure_cost else "beams" if costs.beams else None
    if wanted and not (arguments.training.do_eval or arguments.training.do_predict):
        raise ValueError(f"`{wanted}` needs test or validation data: give `do_predict` or `do_eval`.")


def costs_of(outcome: Outcome, costs: CostArguments, batch_size: int) -> dict[str, Any]:
    """Measure a run's model.

    Args:
        outcome: The run.
        costs: What to measure, checked by `check_costs`.
        batch_size: Texts a batch.

    Raises:
        ValueError: If there are beams to compare and the model, which was trained before, has no hierarchy.

    Returns:
        `peak_memory_mb` of the process; with `measure_cost` what `inference_cost` returns, and for a hierarchy also
        that of `all_in_one_template`, beginning with `flat_` (the time of another process at another hour would not
        compare); with `beams` what `compare_beams` returns.
    """
    results: dict[str, Any] = {"peak_memory_mb": peak_memory_mb()}
    model, tokenizer = outcome.model, outcome.tokenizer
    if costs.beams and not hasattr(model.config, "beam_width"):
        raise ValueError("`beams` are for a hierarchy, and the model that was named has all classes in one template.")
    features = outcome.features.get("test", outcome.features.get("validation"))
    if features is None:
        return results
    texts, max_texts = features.dataset, costs.max_cost_samples or 300
    if costs.measure_cost:
        for prefix, each in {"": model, "flat_": all_in_one_template(model, tokenizer)}.items():
            if each is not None:
                cost = inference_cost(each, texts, tokenizer, batch_size=batch_size, max_texts=costs.max_cost_samples)
                results.update({f"{prefix}{name}": value for name, value in cost.items()})
    if costs.beams:
        labelled = (outcome.features.get(split) for split in ("test", "validation"))
        texts = next((part.dataset for part in labelled if part and "labels" in part.dataset.column_names), texts)
        # Evenly spaced, as test data may be sorted by class.
        count = min(costs.max_beam_samples or len(texts), len(texts))
        rows = texts.select([index * len(texts) // count for index in range(count)])
        results["beams"] = compare_beams(model, rows, tokenizer, costs.beams, max_cost_texts=max_texts)
    return results


def all_in_one_template(
    model: torch.nn.Module, tokenizer: PreTrainedTokenizerBase
) -> DPTForSequenceClassification | None:
    """Put flat DPT with the same words around a hierarchical model's own discriminator, to compare their costs.

    Args:
        model: The model.
        tokenizer: Its tokenizer.

    Returns:
        The flat model; None if the model is none of hierarchies (or has an adapter), or its classes do not go into one
        template.
    """
    if not isinstance(model, DPTForHierarchicalClassification):
        return None
    try:
        config = DPTForSequenceClassificationConfig.from_language_model_config(
            model.config.language_model_config,
            tokenizer,
            model.config.tree.class_words,
            template=model.config.template,
            wordpieces=model.config.wordpieces,
            max_length=model.config.max_length,
        )
        flat = DPTForSequenceClassification(config)
    except ValueError:
        return None
    flat.language_model = model.language_model
    return flat.to(model.device)


def read_beam(beam: str) -> dict[str, Any]:
    """Read a beam written width:threshold:score, such as "2:0.3:sigmoid" or "all:0:softmax".

    Returns:
        The values of `beam_width`, `beam_threshold` and `path_score`.

    Raises:
        ValueError: It is written otherwise.
    """
    width, _, rest = beam.partition(":")
    threshold, _, score = rest.partition(":")
    try:
        values = {"beam_width": None if width == "all" else int(width), "beam_threshold": float(threshold)}
        DPTForHierarchicalClassificationConfig(**values, path_score=score)
    except ValueError as error:
        raise ValueError(
            f"`beams` must be written as in 2:0.3:sigmoid or all:0:softmax, got {beam!r}: {error}"
        ) from None
    return {**values, "path_score": score}


def compare_beams(
    model: Any,
    features: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    beams: Sequence[str],
    *,
    max_cost_texts: int | None = 300,
) -> list[dict[str, Any]]:
    """Search the same texts with several beams.

    Args:
        model: A `DPTForHierarchicalClassification`, with an adapter or without. Its beam is set back afterwards.
        features: Tokenized texts with labels.
        tokenizer: Pads.
        beams: "width:threshold:score", such as "2:0.3:sigmoid" or "all:0:softmax".
        max_cost_texts: Measure the cost on this many of them.

    Returns:
        For every beam `beam`, `accuracy`, `reached` (how often the right class was among those reached), and what
        `inference_cost` says.
    """
    if "labels" not in features.column_names:
        raise ValueError("`beams` are compared on rows with labels, and the data has none.")
    config, pad = model.config, DataCollatorWithPadding(tokenizer)
    before = (config.beam_width, config.beam_threshold, config.path_score)
    device = next(model.parameters()).device
    order = sorted(range(len(features)), key=lambda row: len(features[row]["input_ids"]))
    compared = []
    model.eval()
    for beam in beams:
        for name, value in read_beam(beam).items():
            setattr(config, name, value)
        right = reached = 0
        for start in range(0, len(order), 32):
            batch = pad([features[row] for row in order[start : start + 32]]).to(device)
            labels = batch.pop("labels")
            with torch.no_grad():
                logits = model(**batch).logits
            right += int(logits.argmax(-1).eq(labels).sum())
            of_gold = logits.gather(1, labels[:, None])
            reached += int(of_gold.gt(torch.finfo(logits.dtype).min).sum())
        accuracy = {"beam": beam, "accuracy": right / len(order), "reached": reached / len(order)}
        compared.append({**accuracy, **inference_cost(model, features, tokenizer, max_texts=max_cost_texts)})
    config.beam_width, config.beam_threshold, config.path_score = before
    return compared


def inference_cost(
    model: torch.nn.Module,
    features: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    *,
    batch_size: int = 32,
    max_texts: int | None = None,
) -> dict[str, float]:
    """Measure one pass over texts, rows of like length in a batch, after one batch to warm up.

    Args:
        model: The classifier; a PEFT model too. Put in evaluation mode.
        features: Tokenized texts; labels are left out.
        tokenizer: Pads.
        batch_size: Texts a batch.
        max_texts: Measure on this many texts, evenly spaced by length. Default: all.

    Returns:
        `milliseconds_per_text` by the clock; `cpu_milliseconds_per_text` of this process over all its threads, which
        other work on the machine hardly changes (on a GPU: of the host alone); `tokens_per_text` that the backbone
        reads, templates included and padding left out, summed over all passes over a text; `padded_tokens_per_text`
        with padding.
    """
    columns = [name for name in features.column_names if name in tokenizer.model_input_names]
    rows = sorted(features.select_columns(columns), key=lambda row: len(row["input_ids"]))
    if max_texts is not None and max_texts < len(rows):
        rows = [rows[index * len(rows) // max_texts] for index in range(max_texts)]
    device = next(model.parameters()).device
    batches = [
        tokenizer.pad(rows[start : start + batch_size], return_tensors="pt").to(device)
        for start in range(0, len(rows), batch_size)
    ]
    counts = _TokenCounts()
    hook = _backbone(model).register_forward_pre_hook(counts, with_kwargs=True)
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            for batch in batches:
                model(**batch)
            hook.remove()
            _wait(device)
            clock, cpu = time.perf_counter(), time.process_time()
            for batch in batches:
                model(**batch)
            _wait(device)
            clock, cpu = time.perf_counter() - clock, time.process_time() - cpu
    finally:
        hook.remove()
        model.train(was_training)
    return {
        "milliseconds_per_text": 1000 * clock / len(rows),
        "cpu_milliseconds_per_text": 1000 * cpu / len(rows),
        "tokens_per_text": counts.visible / len(rows),
        "padded_tokens_per_text": counts.all / len(rows),
    }


class _TokenCounts:
    def __init__(self) -> None:
        self.visible = self.all = 0

    def __call__(self, _module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        ids = kwargs["input_ids"] if "input_ids" in kwargs else args[0]
        mask = kwargs.get("attention_mask")
        self.all += ids.numel()
        self.visible += ids.numel() if mask is None else int(mask.ne(0).sum())


def _backbone(model: torch.nn.Module) -> torch.nn.Module:
    """Find what reads the spliced rows: the language model in a wrapper, or else the model itself."""
    base = model.get_base_model() if isinstance(model, PeftModel) else model
    return getattr(base, "language_model", model)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_memory_mb() -> float:
    """Return the most memory so far in MB: allocated on the GPU if there is one, else of this process.

    The peak of a process never goes down, so runs to be compared need a process each (`in_new_process`).
    """
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak / 1e3  # bytes there, kilobytes on Linux


def in_new_process(function: Callable[..., Any], *args: Any) -> Any:
    """Call a module's function in a process of its own, so that its memory can be told from what ran before.

    Args:
        function: Importable by name.
        *args: Its arguments, which can be pickled.

    Returns:
        Its result. Its exceptions are raised here.
    """
    with ProcessPoolExecutor(max_workers=1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *args).result()
