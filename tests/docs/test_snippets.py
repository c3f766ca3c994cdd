"""Every Python snippet of README and docs runs, as it stands there.

The Hub names in them lead to tiny local folders: transformers takes a folder of that name in the working directory for
the model.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from transformers import AutoModelForMaskedLM, AutoModelForPreTraining, BertTokenizer

from dpt_peft.pretrained_heads import discriminators
from tests.architectures import make_config, make_model

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
# name in the docs: architecture, and the number of labels that the docs use it with
BACKBONES = {"FacebookAI/roberta-base": ("roberta", 3), "google-bert/bert-base-uncased": ("bert", 2)}
DISCRIMINATOR = "google/electra-base-discriminator"
LANGUAGE_MODEL = "google-bert/bert-base-cased"
# room for the template and for "last 8"
SIZES = {"num_hidden_layers": 8, "vocab_size": 60}


def python_snippets(page: Path) -> list[tuple[int, str]]:
    text = page.read_text()
    return [
        (text[: match.start(1)].count("\n"), match[1])
        for match in re.finditer(r"```python\n(.*?)```", text, re.DOTALL)
    ]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory in which the docs' Hub names are folders."""
    words = ["a", "the", "movie", "graceful", "dull", "one", "class", "negative", "positive", ":", ",", "."]
    words += ["number", "date", "distance", "money", "human", "person", "group", "location", "or"]
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]
    (tmp_path / "vocab.txt").write_text("\n".join(vocabulary))
    tokenizer = BertTokenizer(str(tmp_path / "vocab.txt"))
    for name, (architecture, num_labels) in BACKBONES.items():
        make_model(architecture, num_labels=num_labels, **SIZES).save_pretrained(tmp_path / name)
    AutoModelForPreTraining.from_config(make_config("electra", **SIZES)).save_pretrained(tmp_path / DISCRIMINATOR)
    AutoModelForMaskedLM.from_config(make_config("bert", **SIZES)).save_pretrained(tmp_path / LANGUAGE_MODEL)
    for name in (DISCRIMINATOR, LANGUAGE_MODEL):
        tokenizer.save_pretrained(tmp_path / name)
    # what a page registers is forgotten after it
    monkeypatch.setattr(discriminators, "_CLASSES", dict(discriminators._CLASSES))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", [page for page in PAGES if python_snippets(page)], ids=lambda page: page.stem)
def test_snippets_run(page, hub, capsys):
    namespace: dict[str, object] = {}
    for line, code in python_snippets(page):
        # blank lines in front: a traceback then names the line of the page
        exec(compile("\n" * line + code, str(page), "exec"), namespace)


def anchors(page: Path) -> set[str]:
    """The headings of a page as addresses GitHub and the site share: the site joins two dashes, GitHub does not."""
    titles = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL), re.MULTILINE)
    addresses = {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}
    return {address for address in addresses if "--" not in address}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page):
    missing = []
    for target, anchor in re.findall(r"\]\((?!https?://)([^)#]*)(?:#([^)]*))?\)", page.read_text()):
        path = page.parent / target if target else page
        if not path.exists() or (anchor and anchor not in anchors(path)):
            missing.append(f"{target}#{anchor}")
    assert not missing
