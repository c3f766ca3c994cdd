"""The discriminator that comes with the package, in eight bits a number."""

from __future__ import annotations

import hashlib
import shutil
import uuid
from pathlib import Path

from huggingface_hub.constants import HF_HOME
from transformers import AutoTokenizer

from dpt_peft._compatibility import no_progress_bars
from dpt_peft.pretraining.discriminators import load_packed

PACKED_FOLDER = Path(__file__).parent
"""Config, packed weights and tokenizer; MODEL_CARD.md in it says how they were made and what they measure."""


def embedded_discriminator(cache_dir: str | Path | None = None) -> str:
    """Return a small ready discriminator: 22.7 M parameters, 6 layers, hidden size 384, English, uncased.

    The first call unpacks it into a folder in the cache (about 90 MB, a few seconds), later calls find it. Nothing is
    downloaded.

    Args:
        cache_dir: Where to keep the folder; default `dpt_peft` under the Hugging Face home (`HF_HOME`).

    Returns:
        Path of a transformers folder (`ElectraForPreTraining` in float32 with its tokenizer) for any
        `from_pretrained`.
    """
    parent = Path(cache_dir) if cache_dir is not None else Path(HF_HOME) / "dpt_peft"
    files = sorted(file for file in PACKED_FOLDER.iterdir() if file.suffix in (".json", ".safetensors"))
    key = hashlib.sha256(b"".join(file.read_bytes() for file in files))
    target = parent / f"embedded-discriminator-{key.hexdigest()[:16]}"
    if target.is_dir():
        return str(target)
    unfinished = parent / f".{target.name}-{uuid.uuid4().hex}"
    unfinished.mkdir(parents=True)
    try:
        _build(unfinished)
        for file in unfinished.iterdir():
            # Weights are written for their owner alone; who may read the folder may read what is in it.
            file.chmod(unfinished.stat().st_mode & 0o666)
        # A folder is renamed in one step, so nobody ever sees half of it.
        unfinished.rename(target)
    except OSError:
        # Another process may have been faster; its folder is as good as this one.
        if not target.is_dir():
            raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return str(target)


def _build(folder: Path) -> None:
    with no_progress_bars():
        load_packed(PACKED_FOLDER).save_pretrained(folder)
        AutoTokenizer.from_pretrained(PACKED_FOLDER).save_pretrained(folder)
