"""Loads the example scripts, which are no package."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from dpt_peft.tasks import TASKS
from dpt_peft.training.methods import methods_of, option_names

EXAMPLES = Path(__file__).parents[2] / "examples"


def load_script(name: str) -> ModuleType:
    """The script `examples/<name>.py`, which finds the modules beside it as it does when Python runs it."""
    path = EXAMPLES / f"{name}.py"
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def options_of(method: str, **options: list[object]) -> list[object]:
    """The words of those options that the method has, such as `num_virtual_tokens=[3]`; scripts refuse others."""
    known = {name for task in TASKS.values() if method in methods_of(task) for name in option_names(task, method)}
    return [word for name, words in options.items() if name in known for word in (f"--{name}", *words)]
