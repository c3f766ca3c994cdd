"""Lets the reference read this package's docstrings.

Fields and constants are documented by `metadata={"help": ...}` or a `#:` comment. Types that docstrings in the style
of transformers repeat are left to the signature, and their links in brackets to the reader. What stands under
"Example:" is code.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import griffe


def _text_of(node: ast.expr) -> str | None:
    """Returns a string's text; what an f-string puts in when it runs is left out."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(part.value if isinstance(part, ast.Constant) else "..." for part in node.values)
    return None


def help_of(value: ast.expr | None) -> str | None:
    """Returns the help of `field(metadata={"help": ...})`."""
    if not isinstance(value, ast.Call):
        return None
    for keyword in value.keywords:
        if keyword.arg == "metadata" and isinstance(keyword.value, ast.Dict):
            for key, text in zip(keyword.value.keys, keyword.value.values, strict=True):
                if isinstance(key, ast.Constant) and key.value == "help":
                    return _text_of(text)
    return None


def comment_above(lines: list[str], lineno: int) -> str | None:
    """Returns the `#:` comment that ends right above a line (counted from 1)."""
    found: list[str] = []
    for line in reversed(lines[: lineno - 1]):
        if not line.lstrip().startswith("#:"):
            break
        found.insert(0, line.lstrip().removeprefix("#:").strip())
    return "\n".join(found) or None


def plain(text: str) -> str:
    """Takes types out of "name (`int`, defaults to 20):", brackets off "[`Name`]", and makes one example several."""
    # only the plural is read as code
    text = re.sub(r"^Example:$", "Examples:", text, flags=re.MULTILINE)
    text = re.sub(r"^(\s+\w+) \(`.*\):$", r"\1:", text, flags=re.MULTILINE)
    return re.sub(r"\[(`[\w.]+`)\](?![\[(])", r"\1", text)


class DocumentedFields(griffe.Extension):
    """Gives such fields and constants a docstring, unless they have one."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Called for everything that has a docstring."""
        if obj.docstring is not None:
            obj.docstring.value = plain(obj.docstring.value)

    def on_attribute(self, *, attr: griffe.Attribute, **kwargs: Any) -> None:
        """Called once everything is loaded and docstrings are attached."""
        if attr.docstring is not None or attr.lineno is None or not isinstance(attr.filepath, Path):
            return
        value = None if attr.value is None else ast.parse(str(attr.value), mode="eval").body
        text = help_of(value) or comment_above(attr.filepath.read_text(encoding="utf-8").splitlines(), attr.lineno)
        if text is not None:
            attr.docstring = griffe.Docstring(text, parent=attr, lineno=attr.lineno)
