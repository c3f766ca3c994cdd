"""The house: what is public, which way imports run, and what the docs and examples may use."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import dpt_peft
import dpt_peft.tasks
import dpt_peft.training

ROOT = Path(__file__).parents[1]
PUBLIC = (dpt_peft, dpt_peft.tasks, dpt_peft.training)
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
SCRIPTS = sorted((ROOT / "examples").rglob("*.py"))
#: Examples that look inside on purpose: they measure the machinery itself.
INSIDE = {"architecture_table.py", "attention_join.py", "operation_counts.py", "deep_prompt_cost.py"}


def imports_of(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Module and name of what is imported from the package."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level == 0 and (node.module or "").startswith("dpt_peft"):
            yield from ((node.module or "", alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names if alias.name.startswith("dpt_peft."))


@pytest.mark.parametrize("module", PUBLIC, ids=lambda module: module.__name__)
def test_every_public_name_is_there(module):
    assert len(set(module.__all__)) == len(module.__all__)
    for name in module.__all__:
        getattr(module, name)


def check(found: Iterator[tuple[str, str]], where: str) -> None:
    public = {module.__name__: set(module.__all__) for module in PUBLIC}
    deeper = [f"{module}: {name}" for module, name in found if name not in public.get(module, set())]
    assert not deeper, f"{where} uses what is not public: {', '.join(deeper)}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_docs_teach_public_names(page):
    for snippet in re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
        check(imports_of(ast.parse(snippet)), page.name)


@pytest.mark.parametrize("script", [s for s in SCRIPTS if s.name not in INSIDE], ids=lambda script: script.stem)
def test_examples_use_public_names(script):
    check(imports_of(ast.parse(script.read_text(encoding="utf-8"))), script.name)


def module_graph() -> dict[str, set[str]]:
    """Module -> the modules of the package that it imports, in functions and for type checkers too."""
    package = ROOT / "dpt_peft"
    names = {}
    for path in package.rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    graph: dict[str, set[str]] = {}
    for module, path in names.items():
        base = module if path.name == "__init__.py" else module.rpartition(".")[0]
        found = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.ImportFrom):
                continue
            start = base.rsplit(".", node.level - 1)[0] if node.level > 1 else base
            source = f"{start}.{node.module}" if node.level and node.module else start if node.level else node.module
            for alias in node.names:
                target = f"{source}.{alias.name}"
                found.add(target if target in names else source)
        graph[module] = {target for target in found if target in names and target != module}
    return graph


def test_imports_go_in_no_circle():
    graph = module_graph()
    done: set[str] = set()

    def visit(module: str, way: tuple[str, ...]) -> None:
        assert module not in way, f"a circle: {' -> '.join((*way[way.index(module) :], module))}"
        if module not in done:
            for target in sorted(graph[module]):
                visit(target, (*way, module))
            done.add(module)

    for module in sorted(graph):
        visit(module, ())


def test_rooms_import_downwards():
    order = ["_compatibility", "deep_prompt", "pretrained_heads", "auto", "pretraining", "tasks", "training"]
    order.append("quickstart")
    for module, targets in module_graph().items():
        for target in targets:
            rooms = [name.split(".")[1] for name in (module, target) if "." in name]
            if len(rooms) == 2 and rooms[0] != rooms[1]:
                assert order.index(rooms[1]) < order.index(rooms[0]), f"{module} imports {target}"
