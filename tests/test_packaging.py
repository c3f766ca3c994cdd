"""What the wheel takes along beside Python files."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from dpt_peft.quickstart.run import PACKAGED, load_data

tomllib = pytest.importorskip("tomllib", reason="part of Python from 3.11 on")
ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "dpt_peft"


def test_every_data_file_is_packaged():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    packaged = {path for pattern in settings["package-data"]["dpt_peft"] for path in PACKAGE.glob(pattern)}
    listed = subprocess.run(["git", "ls-files", "dpt_peft"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    data = {ROOT / name for name in listed.stdout.split() if not name.endswith(".py")}
    assert PACKAGE / "py.typed" in data
    assert {path.suffix for path in data} >= {".csv", ".json", ".md", ".safetensors"}
    assert data <= packaged


def test_every_folder_with_python_files_is_a_package():
    folders = {path.parent for path in PACKAGE.rglob("*.py")}
    assert [folder for folder in folders if not (folder / "__init__.py").exists()] == []


def test_packaged_data_is_read_from_the_package():
    assert len(load_data(PACKAGED).label_names) == 8
