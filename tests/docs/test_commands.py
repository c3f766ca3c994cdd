"""Every command in README and docs names a script that is there, and options that some script or the Trainer has."""

from __future__ import annotations

import ast
import importlib.util
import re
from dataclasses import fields
from pathlib import Path

import pytest
from transformers import TrainingArguments

from tests.docs.test_snippets import PAGES, ROOT

#: Options of the programs around our scripts.
OF_OTHERS = {"config_file", "cpu", "num_processes", "nproc_per_node", "constraint", "editable", "help"}
COMMAND = re.compile(r"(?:python|accelerate launch|torchrun)\s+((?:[^\n`]|\\\n)*)")


def options_of_scripts() -> set[str]:
    """Field names of dataclasses, and what `add_argument` is told."""
    names = {field.name for field in fields(TrainingArguments)}
    for path in [*(ROOT / "dpt_peft").rglob("*.py"), *(ROOT / "examples").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                names.add(node.target.id)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("--"):
                names.add(node.value.removeprefix("--").replace("-", "_"))
    return names


OPTIONS = options_of_scripts() | OF_OTHERS


def commands(page: Path) -> list[str]:
    """What follows `python` and its kind, continued lines joined."""
    return [re.sub(r"\\\n\s*", " ", match) for match in COMMAND.findall(page.read_text())]


def mistakes(command: str) -> list[str]:
    """The script and the options of a command that do not exist."""
    wrong = [script for script in re.findall(r"\bexamples/[\w/]+\.py", command) if not (ROOT / script).exists()]
    wrong += [
        module for module in re.findall(r"-m (dpt_peft[\w.]*)", command) if importlib.util.find_spec(module) is None
    ]
    options = re.findall(r"(?<!\S)--([a-zA-Z][\w-]*)", command)
    return wrong + [f"--{name}" for name in options if name.replace("-", "_").removeprefix("no_") not in OPTIONS]


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)], ids=lambda page: page.stem)
def test_commands_name_what_there_is(page):
    assert [mistake for command in commands(page) for mistake in mistakes(command)] == []


def test_mistakes_are_noticed():
    command = (
        "examples/run_text_classification.py --method dpt --metod dpt examples/run_nothing.py --num_train_epochs 1"
    )
    assert mistakes(command) == ["examples/run_nothing.py", "--metod"]


def test_paper_index_is_complete():
    """Every numbered equation, table and figure of both papers, each in the part of its paper."""
    _, dpt, p_tuning_v2 = re.split(r"^## ", (ROOT / "docs" / "paper_index.md").read_text(), flags=re.MULTILINE)
    numbered = {
        dpt: {"Equation": 3, "Table": 3, "Figure": 3},
        p_tuning_v2: {"Equation": 2, "Table": 5, "Figure": 4},
    }
    for part, counts in numbered.items():
        in_first_column = "\n".join(re.findall(r"^\| ([^|]*) \|", part, re.MULTILINE))
        for kind, count in counts.items():
            found = set(re.findall(rf"{kind} (\d)", in_first_column))
            assert found == {str(number) for number in range(1, count + 1)}, f"{kind} in {part.splitlines()[0]}"


def test_paper_index_names_files_that_exist():
    """Paths stand as links (which another test follows); a name alone in backticks would not be checked."""
    text = (ROOT / "docs" / "paper_index.md").read_text()
    assert re.findall(r"(?<!\[)`[\w/]+\.py`", text) == []
