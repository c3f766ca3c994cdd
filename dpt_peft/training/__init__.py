"""Training: any task with any method as one call, and the parts of it for scripts of your own."""

from __future__ import annotations

from dpt_peft.pretraining.candidate_lists import DocumentCollator, WholeWords
from dpt_peft.pretraining.discriminators import (
    PACKED_WEIGHTS,
    discriminator_from_encoder,
    load_packed,
    low_rank_discriminator,
    save_packed,
)
from dpt_peft.pretraining.replaced_tokens import (
    CorpusReplacements,
    GeneratorReplacements,
    ReplacedTokenPretraining,
    corrupt,
)

from .cached_layers import CacheArguments, LowerLayerCache
from .command_line import parse_arguments
from .fit import fit, load
from .given_model import ModelArguments
from .methods import METHODS, Method, build_model, count_parameters, methods_of
from .model_card import ModelCardFacts, write_model_card
from .multi_task import MultiTaskArguments, SharedPrompts, run_multi_task
from .presets import PRESETS
from .records import append_json_line, command_line, data_fingerprint, read_json_lines, software_versions
from .run import Outcome, RunArguments, run
from .shared_prompts import SharedPromptModel
from .trainer import ScriptTrainingArguments, TaskTrainer
from .trials import Trial, join_trials, train_together

__all__ = [
    "METHODS",
    "PACKED_WEIGHTS",
    "PRESETS",
    "CacheArguments",
    "CorpusReplacements",
    "DocumentCollator",
    "GeneratorReplacements",
    "LowerLayerCache",
    "Method",
    "ModelArguments",
    "ModelCardFacts",
    "MultiTaskArguments",
    "Outcome",
    "ReplacedTokenPretraining",
    "RunArguments",
    "ScriptTrainingArguments",
    "SharedPromptModel",
    "SharedPrompts",
    "TaskTrainer",
    "Trial",
    "WholeWords",
    "append_json_line",
    "build_model",
    "command_line",
    "corrupt",
    "count_parameters",
    "data_fingerprint",
    "discriminator_from_encoder",
    "fit",
    "join_trials",
    "load",
    "load_packed",
    "low_rank_discriminator",
    "methods_of",
    "parse_arguments",
    "read_json_lines",
    "run",
    "run_multi_task",
    "save_packed",
    "software_versions",
    "train_together",
    "write_model_card",
]
