"""The reference has every public name, each with a docstring; what is not there cannot be read on the site."""

from __future__ import annotations

import ast
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import dpt_peft

ROOT = Path(__file__).parents[2]
SITE = ROOT / "docs" / "site"
SOURCES = [
    path
    for path in sorted((ROOT / "dpt_peft").rglob("*.py"))
    if not any(part.startswith("_") and part != "__init__.py" for part in path.relative_to(ROOT).parts)
]


def load(path: Path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


hooks = load(SITE / "hooks.py")


def undocumented(body: list[ast.stmt], owner: str) -> Iterator[str]:
    """Public classes, functions and methods without a docstring. (Attributes without one are not shown.)"""
    for statement in body:
        if not isinstance(statement, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if statement.name.startswith("_") or any(ast.unparse(d).endswith(".setter") for d in statement.decorator_list):
            continue
        name = f"{owner}.{statement.name}"
        if ast.get_docstring(statement) is None:
            yield name
        if isinstance(statement, ast.ClassDef):
            yield from undocumented(statement.body, name)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT / "dpt_peft")))
def test_every_public_name_has_a_docstring(path):
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree), "the module has none"
    assert list(undocumented(tree.body, path.stem)) == []


def test_a_missing_docstring_is_noticed():
    text = (
        'class Public:\n    """Text."""\n    def method(self): ...\n    def _hidden(self): ...\ndef function(): ...\n'
    )
    assert list(undocumented(ast.parse(text).body, "module")) == ["module.Public.method", "module.function"]


def test_exported_names_stand_on_the_first_page():
    page = (ROOT / "docs" / "reference" / "index.md").read_text()
    assert set(re.findall(r"^::: dpt_peft\.(\w+)$", page, re.MULTILINE)) == set(dpt_peft.__all__)
    assert hooks.exported_names() == dpt_peft.__all__


def test_every_public_module_has_a_page():
    modules = hooks.public_modules()
    assert "dpt_peft.training.methods" in modules
    assert "dpt_peft.deep_prompt" in modules
    assert "dpt_peft._compatibility" not in modules
    assert len(modules) == len(SOURCES)
    assert "\n::: dpt_peft.training.methods\n" in hooks.reference_page("dpt_peft.training.methods")


def test_links_to_files_lead_to_pages_of_the_site():
    page = ROOT / "docs" / "how_to" / "x.md"
    text = "[a](../../examples/run_text_classification.py) [b](../results.md) [c](../../README.md) [d](https://x.org)"
    assert list(hooks.linked_files(page, text)) == [ROOT / "examples" / "run_text_classification.py"]
    uri = hooks.source_uri(ROOT / "examples" / "run_text_classification.py")
    assert uri == "source/examples/run_text_classification.py.md"
    assert hooks.origin_of(uri) == ROOT / "examples" / "run_text_classification.py"
    assert hooks.page_of(ROOT / "README.md") == "index.md"
    assert hooks.page_of(ROOT / "docs" / "results.md") == "results.md"


def test_the_reference_reads_help_and_comments(tmp_path):
    griffe = pytest.importorskip("griffe", reason="comes with the extra docs")
    fields = load(SITE / "documented_fields.py")
    (tmp_path / "sample.py").write_text(
        "#: Why.\nA = 1\nclass B:\n"
        '    """Text.\n\n    Args:\n        c (`int`, *optional*):\n            Of [`A`].\n    """\n'
        '    c: int = field(default=1, metadata={"help": "How many."})\n    d = 2\n'
    )
    module = griffe.load(
        "sample",
        search_paths=[tmp_path],
        extensions=griffe.Extensions(fields.DocumentedFields()),
        resolve_aliases=False,
    )
    assert module["A"].docstring.value == "Why."
    assert module["B"].docstring.value == "Text.\n\nArgs:\n    c:\n        Of `A`."
    assert module["B.c"].docstring.value == "How many."
    assert module["B.d"].docstring is None
    assert fields.help_of(ast.parse('field(metadata={"help": f"one {1} two"})', mode="eval").body) == "one ... two"
