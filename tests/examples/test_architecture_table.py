"""The script behind docs/architectures.md, on a few types."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "examples" / "benchmarks" / "architecture_table.py"


def test_table_of_a_few_types(monkeypatch, tmp_path):
    page = tmp_path / "page.md"
    monkeypatch.syspath_prepend(SCRIPT.parent)
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), "--only", "bert", "fnet", "vit", "--output", str(page)])
    runpy.run_path(str(SCRIPT), run_name="__main__")
    text = page.read_text()
    assert "| bert | yes | yes | yes | yes | yes | yes |" in text
    assert "| vit | yes | yes | yes | yes | yes | no |" in text
    assert "Deep prompts work on 1 of the 2 that start" in text
    assert re.search(r"- `fnet`: .*no attention modules", text)


def test_the_page_and_the_readme_tell_the_same_counts():
    page, readme = (ROOT / "docs" / "architectures.md").read_text(), (ROOT / "README.md").read_text()
    ours, all_types, prefix = re.search(r"work on (\d+) of the (\d+) that start, .* on (\d+)\.", page).groups()
    assert f"| {prefix} of {all_types} | {ours} of {all_types} (" in readme
    # every row that works says so in every column, every other one is refused with a reason
    refused = re.findall(r"^\| (\S+) \| \*\*no\*\* \|", page, re.MULTILINE)
    assert all(f"- `{name}`: " in page for name in refused)
