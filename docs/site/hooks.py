"""What the site has besides the pages of docs/: README and CHANGELOG, the files that pages link to, the modules.

Pages are written to be read in the repository, where their links lead to files. Here such links are turned to the
site's own pages, so that the site stands alone, wherever it is put.
"""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PACKAGE = ROOT / "dpt_peft"
#: Pages of the site that are files elsewhere in the repository.
FROM_ELSEWHERE = {"index.md": "README.md", "changelog.md": "CHANGELOG.md"}
LANGUAGES = {".py": "python", ".yaml": "yaml", ".yml": "yaml", ".json": "json", ".toml": "toml"}
LINK = re.compile(r"\]\((?!https?://|mailto:|#)([^)#\s]+)(#[^)\s]*)?\)")


def public_modules() -> list[str]:
    """Returns the dotted names of all modules without an underscore, packages before what is in them."""
    files = [path.relative_to(ROOT) for path in PACKAGE.rglob("*.py")]
    names = [path.parent if path.name == "__init__.py" else path.with_suffix("") for path in files]
    return sorted(".".join(name.parts) for name in names if not any(part.startswith("_") for part in name.parts))


def exported_names() -> list[str]:
    """Returns `dpt_peft.__all__`, read and not imported: the site is built without torch."""
    for node in ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", None) == "__all__":
            return list(ast.literal_eval(node.value))
    raise ValueError("dpt_peft/__init__.py has no `__all__`")


def reference_page(module: str) -> str:
    """Returns the Markdown of a module's page: all of its public names but those of the first reference page."""
    filters = ["!^_", *(f"!^{name}$" for name in exported_names())]
    options = "".join(f"\n        - {filter_!r}" for filter_ in filters)
    return f"# `{module}`\n\n::: {module}\n    options:\n      show_root_heading: false\n      filters:{options}\n"


def source_uri(path: Path) -> str:
    """Returns where the site shows a file or folder of the repository."""
    return f"source/{path.relative_to(ROOT).as_posix()}.md"


def source_page(path: Path) -> str:
    """Returns the Markdown that shows a file, or what is in a folder."""
    name = path.relative_to(ROOT).as_posix()
    if path.is_dir():
        rows = sorted(entry.name for entry in path.iterdir() if entry.is_file())
        return "\n".join([f"# `{name}/`", "", *(f"- [`{row}`]({row})" for row in rows), ""])
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        return re.sub(r"\A---\n.*?\n---\n", "", text, flags=re.DOTALL)
    return f"# `{name}`\n\n````{LANGUAGES.get(path.suffix, 'text')}\n{text}````\n"


def linked_files(path: Path, text: str) -> Iterator[Path]:
    """Yields the files and folders that a page links to and that are no pages or files of docs/ themselves."""
    for target, _ in LINK.findall(text):
        found = (path.parent / target).resolve()
        outside = not found.is_relative_to(DOCS) or found.is_dir()
        if found.exists() and outside and found not in {ROOT / other for other in FROM_ELSEWHERE.values()}:
            yield found


def origin_of(src_uri: str) -> Path:
    """Returns the file of the repository that a page of the site is made of; its links are relative to that."""
    if src_uri in FROM_ELSEWHERE:
        return ROOT / FROM_ELSEWHERE[src_uri]
    if src_uri.startswith("source/"):
        path = ROOT / src_uri.removeprefix("source/").removesuffix(".md")
        return path / "folder" if path.is_dir() else path
    return DOCS / src_uri


def page_of(path: Path) -> str:
    """Returns the site's address of a file of the repository."""
    for src_uri, name in FROM_ELSEWHERE.items():
        if path == ROOT / name:
            return src_uri
    if path.is_relative_to(DOCS) and not path.is_dir():
        return path.relative_to(DOCS).as_posix()
    return source_uri(path)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the generated pages, and the modules to the navigation."""
    from mkdocs.structure.files import File, InclusionLevel

    def add(src_uri: str, content: str, **kwargs: Any) -> None:
        files.append(File.generated(config, src_uri, content=content, **kwargs))

    for src_uri, name in FROM_ELSEWHERE.items():
        add(src_uri, (ROOT / name).read_text(encoding="utf-8"))
    waiting = [(origin_of(file.src_uri), file.content_string) for file in files.documentation_pages()]
    shown: set[Path] = set()
    while waiting:
        for found in set(linked_files(*waiting.pop())) - shown:
            shown.add(found)
            content = source_page(found)
            add(source_uri(found), content, inclusion=InclusionLevel.NOT_IN_NAV)
            if found.is_dir():
                waiting.append((found / "folder", content))
            elif found.suffix == ".md":
                waiting.append((found, content))

    sections: dict[str, list[dict[str, str]]] = {}
    for module in public_modules():
        src_uri = f"reference/{module}.md"
        add(src_uri, reference_page(module))
        _, _, within = module.partition(".")
        if within:
            section, _, name = within.partition(".")
            sections.setdefault(section, []).append({name or section: src_uri})
        else:
            files.remove(files.get_file_from_path(src_uri))  # type: ignore[arg-type]
    nav: Any = config.nav
    entries = {title: value for entry in nav for title, value in entry.items()}
    entries["Reference"] += [{section: pages} for section, pages in sections.items()]
    guides = sorted(file.src_uri for file in files if file.src_uri.startswith("how_to/"))
    entries["How to"] += [guide for guide in guides if guide not in entries["How to"]]
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Turns links to files of the repository to the site's pages."""
    origin = origin_of(page.file.src_uri)
    here = Path(page.file.src_uri).parent

    def turn(match: re.Match[str]) -> str:
        found = (origin.parent / match[1]).resolve()
        if not found.exists():
            return match[0]
        return f"]({Path(os.path.relpath(page_of(found), here)).as_posix()}{match[2] or ''})"

    return LINK.sub(turn, markdown)
