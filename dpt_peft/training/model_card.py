"""Model cards that say how a model came about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from dpt_peft.training.records import command_line, software_versions

TEMPLATE = Path(__file__).with_suffix(".md")


@dataclass(frozen=True)
class ModelCardFacts:
    """What a model card states.

    Attributes:
        method: Name of the tuning method.
        base_model: Hub id or folder of the model that was tuned.
        task: Pipeline tag, such as "text-classification".
        dataset: Name of the data set.
        hub_id: The data set's id on the Hub; None: it is not from there.
        rows: Number of examples by split.
        adapter: Whether the folder holds a PEFT adapter and not a whole model.
        details: Further facts for the table: label words, template, learning rate, ...
        usage: Python lines that load the model.
        trained_parameters: Number of trained parameters.
        all_parameters: Number of all parameters.
    """

    method: str
    base_model: str
    task: str
    dataset: str
    hub_id: str | None
    rows: Mapping[str, int]
    adapter: bool
    usage: str
    trained_parameters: int
    all_parameters: int
    details: Mapping[str, Any] = field(default_factory=dict)


def _eval_results(facts: ModelCardFacts, metrics: Mapping[str, float]) -> list[EvalResult]:
    splits = {"eval": "validation", "test": "test"}
    technical = ("runtime", "per_second", "model_preparation_time", "samples")
    results = []
    for key, value in metrics.items():
        prefix, _, name = key.partition("_")
        if prefix in splits and isinstance(value, (int, float)) and not any(word in name for word in technical):
            results.append(
                EvalResult(
                    task_type=facts.task,
                    dataset_type=facts.hub_id or facts.dataset,
                    dataset_name=facts.dataset,
                    dataset_split=splits[prefix],
                    metric_type=name,
                    metric_value=round(float(value), 4),
                )
            )
    return results


def write_model_card(
    output_dir: str | Path, facts: ModelCardFacts, metrics: Mapping[str, float], command: str | None = None
) -> Path:
    """Write the folder's README.md: method, base model, data, metrics, command and versions.

    Call it last: PEFT and the Trainer write cards of their own when they save, and this one replaces them.

    Args:
        output_dir: The model's folder.
        facts: What the card states.
        metrics: Metrics as the Trainer names them ("eval_accuracy", "test_accuracy"); others are left out.
        command: The command that made the model. Default: this process's.

    Returns:
        Path of the card.
    """
    is_folder = Path(facts.base_model).is_dir()
    base_model = Path(facts.base_model).name if is_folder else facts.base_model
    results = _eval_results(facts, metrics)
    data = ModelCardData(
        # The Hub knows ids only; a local base model stands in the text.
        base_model=None if is_folder else base_model,
        datasets=None if facts.hub_id is None else [facts.hub_id],
        library_name="peft" if facts.adapter else "transformers",
        pipeline_tag=facts.task,
        tags=["dpt_peft", facts.method],
        model_name=Path(output_dir).resolve().name,
        eval_results=[result for result in results if result.metric_type != "loss"],
    )
    rows = {
        "Method": facts.method,
        "Base model": f"`{base_model}`",
        "Data": facts.dataset,
        "Examples": ", ".join(f"{split} {count}" for split, count in facts.rows.items()),
        "Trained parameters": f"{facts.trained_parameters:,} of {facts.all_parameters:,}",
        **facts.details,
    }
    card = ModelCard.from_template(
        data,
        template_path=str(TEMPLATE),
        base_model=base_model,
        method=facts.method,
        dataset=facts.dataset,
        rows=rows,
        results=results,
        usage=facts.usage.strip(),
        command=command or command_line(),
        versions=", ".join(f"{name} {version}" for name, version in software_versions().items()),
    )
    path = Path(output_dir) / "README.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    card.save(path)
    return path
