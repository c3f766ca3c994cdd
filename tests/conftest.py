"""Settings for every test: no network, no threads fighting each other, the same numbers every time."""

from __future__ import annotations

import os
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# With two threads the last bit of a product can depend on where in memory a weight lies.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import warnings
from collections.abc import Iterator

import datasets
import pytest
import torch
from transformers.utils import logging

#: Tests that take a few minutes together and touch every room (file, and what the test's name has in it).
CORE = (
    ("test_auto.py", ""),
    ("test_compatibility.py", ""),
    ("test_import.py", ""),
    ("deep_prompt/test_attention.py", ""),
    ("deep_prompt/test_common.py", "[bert-none]"),
    ("deep_prompt/test_common.py", "[bert]"),
    ("deep_prompt/test_common.py", "[deberta-v2"),
    ("deep_prompt/test_common.py", "[modernbert"),
    ("deep_prompt/test_config.py", ""),
    ("deep_prompt/test_generation.py", "encoder_decoders_generate"),
    ("deep_prompt/test_model.py", ""),
    ("pretrained_heads/test_discriminators.py", ""),
    ("pretrained_heads/test_loading.py", ""),
    ("pretrained_heads/test_modeling.py", ""),
    ("pretrained_heads/test_verbalizer.py", ""),
    ("pretraining/test_conversion.py", ""),
    ("tasks/question_answering/test_extractive.py", ""),
    ("tasks/tagging/test_task.py", ""),
    ("tasks/test_data.py", ""),
    ("tasks/test_text_classification.py", ""),
    ("training/test_fit.py", ""),
    ("training/test_methods.py", ""),
    ("examples/test_run_text_classification.py", "test_every_method_trains"),
)
#: Tests whose json files have values of several types in one column, written the same way.
MIXED = (
    ("tasks/test_labels.py", "test_labels_of_files"),
    ("tasks/test_multiple_choice.py", "test_labels_in_every_spelling"),
    *(("tasks/test_multiple_choice.py", f"test_bad_data[rows{row}-") for row in (19, 21)),
    *(("tasks/test_regression.py", f"test_what_is_no_number_is_named[labels{row}-") for row in range(2, 8)),
    *(("tasks/test_relation_extraction.py", f"test_what_does_not_fit_is_named[row{row}-") for row in (4, 6, 8)),
)
#: Tests of what an older torch cannot do: the first that can, why the others cannot, and which tests they are.
NEEDS_TORCH = (
    (
        "2.7",
        "cannot compile transformers' own decorators",
        ("", "compile"),
        ("docs/test_snippets.py", "test_snippets_run[deep_prompts]"),
        ("examples/test_deep_prompt_cost.py", "test_the_script_for_a_gpu_measures_every_aim_once"),
    ),
    (
        "2.8",
        "takes sizes of a batch for constants when it exports a model",
        ("deep_prompt/test_model.py", "test_export_takes_batches_of_other_sizes[deberta-v2"),
        ("pretrained_heads/test_export.py", "test_torch_export"),
        ("pretrained_heads/test_export.py", "test_onnx"),
    ),
    (
        "2.9",
        "adds gradients up between CPU processes where FSDP2 asks for their mean",
        ("deep_prompt/test_distributed.py", "test_fsdp2_"),
    ),
)
SHARED = Path(os.environ.get("DPT_PEFT_SHARED", Path(__file__).parents[2] / "shared"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    # how such a file is refused is tested in test_compatibility.py
    refused = pytest.mark.skip(reason=f"datasets {datasets.__version__} refuses a column of several types")
    lacking = [(why, tests) for first, why, *tests in NEEDS_TORCH if torch.__version__ < first]
    for item in items:
        file = item.path.relative_to(here).as_posix() if item.path.is_relative_to(here) else ""
        if any(file == path and part in item.name for path, part in CORE):
            item.add_marker("core")
        if not hasattr(datasets, "Json") and any(file == path and part in item.name for path, part in MIXED):
            item.add_marker(refused)
        for why, tests in lacking:
            if any(path in ("", file) and part in item.name for path, part in tests):
                item.add_marker(pytest.mark.skip(reason=f"torch {torch.__version__} {why}"))


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _as_talkative_as_ever() -> Iterator[None]:
    """Commands that quieten the libraries for their process must not quieten the tests behind them."""
    verbosity, progress = logging.get_verbosity(), logging.is_progress_bar_enabled()
    with warnings.catch_warnings():
        yield
    logging.set_verbosity(verbosity)
    if progress:
        logging.enable_progress_bar()


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder with public data and models beside the checkout; tests that need it skip where it is missing."""
    if not SHARED.is_dir():
        pytest.skip(f"no shared data at {SHARED} (set DPT_PEFT_SHARED to its path)")
    return SHARED
