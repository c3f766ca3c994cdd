"""Training: any task with any method as one call, and the parts of it for scripts of your own."""

from __future__ import annotations

from .cached_layers import CacheArguments, LowerLayerCache
from .command_line import parse_arguments
from .methods import METHODS, Method, build_model, count_parameters, methods_of
from .multi_task import MultiTaskArguments, SharedPrompts, run_multi_task
from .presets import PRESETS
from .run import ModelArguments, Outcome, RunArguments, run
from .shared_prompts import SharedPromptModel
from .trainer import ScriptTrainingArguments, TaskTrainer
from .trials import Trial, train_together

__all__ = [
    "METHODS",
    "PRESETS",
    "CacheArguments",
    "LowerLayerCache",
    "Method",
    "ModelArguments",
    "MultiTaskArguments",
    "Outcome",
    "RunArguments",
    "ScriptTrainingArguments",
    "SharedPromptModel",
    "SharedPrompts",
    "TaskTrainer",
    "Trial",
    "build_model",
    "count_parameters",
    "methods_of",
    "parse_arguments",
    "run",
    "run_multi_task",
    "train_together",
]
