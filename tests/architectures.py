"""Tiny random backbones, one row each: the shared tests of deep prompts run over all of them."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import torch
from transformers import AutoConfig, AutoModelForSequenceClassification, PretrainedConfig, PreTrainedModel

VOCAB_SIZE = 99
NUM_LAYERS = 3
NUM_LABELS = 3

_SIZES = {
    "vocab_size": VOCAB_SIZE,
    "hidden_size": 32,
    "num_hidden_layers": NUM_LAYERS,
    "num_attention_heads": 4,
    "intermediate_size": 37,
    "max_position_embeddings": 64,
}
_SPECIAL_TOKENS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
_CLS_SEP = {"cls_token_id": 1, "sep_token_id": 2}
_DISENTANGLED = {"relative_attention": True, "position_buckets": 8, "norm_rel_ebd": "layer_norm"}

CONFIGS: dict[str, tuple[str, dict]] = {
    "bert": ("bert", _SIZES),
    "roberta": ("roberta", _SIZES | {"pad_token_id": 1}),
    "xlm-roberta": ("xlm-roberta", _SIZES | {"pad_token_id": 1}),
    "electra": ("electra", _SIZES | {"embedding_size": 32}),
    "electra-small-embedding": ("electra", _SIZES | {"embedding_size": 16}),
    "distilbert": (
        "distilbert",
        {
            "vocab_size": VOCAB_SIZE,
            "dim": 32,
            "n_layers": NUM_LAYERS,
            "n_heads": 4,
            "hidden_dim": 37,
            "max_position_embeddings": 64,
        },
    ),
    "albert": ("albert", _SIZES | {"embedding_size": 16}),
    "albert-groups": ("albert", _SIZES | {"embedding_size": 16, "num_hidden_layers": 4, "num_hidden_groups": 2}),
    "modernbert": (
        "modernbert",
        _SIZES | _SPECIAL_TOKENS | _CLS_SEP | {"local_attention": 4, "global_attn_every_n_layers": 2},
    ),
    "deberta-v2": ("deberta-v2", _SIZES | _DISENTANGLED | {"pos_att_type": ["p2c", "c2p"], "share_att_key": True}),
    "deberta-v2-own-keys": ("deberta-v2", _SIZES | _DISENTANGLED | {"pos_att_type": ["c2p"]}),
    "deberta-v2-no-positions": ("deberta-v2", _SIZES | {"pos_att_type": []}),
    "deberta": ("deberta", _SIZES | {"relative_attention": True, "pos_att_type": ["c2p", "p2c"]}),
    "mpnet": ("mpnet", _SIZES | {"pad_token_id": 1}),
    "roformer": ("roformer", _SIZES | {"embedding_size": 32}),
    "convbert": ("convbert", _SIZES | {"embedding_size": 32, "head_ratio": 2, "conv_kernel_size": 3}),
    "funnel": (
        "funnel",
        {
            "vocab_size": VOCAB_SIZE,
            "d_model": 32,
            "n_head": 4,
            "d_head": 8,
            "d_inner": 37,
            "block_sizes": [1, 2],
            "num_decoder_layers": 1,
        },
    ),
    "bloom": (
        "bloom",
        {"vocab_size": VOCAB_SIZE, "hidden_size": 32, "n_layer": NUM_LAYERS, "n_head": 4} | _SPECIAL_TOKENS,
    ),
    "gpt2": (
        "gpt2",
        {"vocab_size": VOCAB_SIZE, "n_embd": 32, "n_layer": NUM_LAYERS, "n_head": 4, "n_positions": 64}
        | _SPECIAL_TOKENS,
    ),
    "llama": ("llama", _SIZES | _SPECIAL_TOKENS | {"num_key_value_heads": 2}),
    "glm": ("glm", _SIZES | _SPECIAL_TOKENS | {"num_key_value_heads": 2, "head_dim": 8}),
}


@dataclass(frozen=True)
class Batch:
    """Two rows of seven tokens, the second one padded."""

    input_ids: torch.Tensor
    attention_mask: torch.Tensor

    def asdict(self) -> dict[str, torch.Tensor]:
        return {"input_ids": self.input_ids, "attention_mask": self.attention_mask}


def make_config(name: str, **overrides: object) -> PretrainedConfig:
    model_type, values = CONFIGS[name]
    return AutoConfig.for_model(model_type, **{"num_labels": NUM_LABELS} | values | overrides)


def make_model(name: str, attn_implementation: str | None = None, **overrides: object) -> PreTrainedModel:
    """A random classifier in evaluation mode; the same weights for the same name."""
    torch.manual_seed(0)
    config = make_config(name, **overrides)
    return AutoModelForSequenceClassification.from_config(config, attn_implementation=attn_implementation).eval()


def make_batch(name: str, padding_side: str = "right") -> Batch:
    generator = torch.Generator().manual_seed(1)
    input_ids = torch.randint(3, VOCAB_SIZE, (2, 7), generator=generator)
    mask = torch.ones_like(input_ids)
    padded = slice(5, None) if padding_side == "right" else slice(0, 2)
    mask[1, padded] = 0
    input_ids[1, padded] = make_config(name).pad_token_id or 0
    return Batch(input_ids, mask)


def _tiny_models() -> ModuleType:
    """`examples/benchmarks/tiny_models.py`, which makes one of every architecture for the table of architectures."""
    path = Path(__file__).parents[1] / "examples" / "benchmarks" / "tiny_models.py"
    spec = importlib.util.spec_from_file_location("tiny_models", path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_TINY_MODELS = _tiny_models()
TEXT, IMAGES, AUDIO = _TINY_MODELS.FAMILIES
tiny_config = _TINY_MODELS.tiny_config
