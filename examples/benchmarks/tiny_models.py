"""Tiny random classifiers of every architecture of the installed transformers, for text, images and audio."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import transformers
from transformers import AutoConfig
from transformers.models.auto import modeling_auto

# Set wherever a configuration has an attribute of that name.
TINY: dict[str, Any] = {
    **dict.fromkeys(("vocab_size",), 99),
    **dict.fromkeys(("hidden_size", "d_model", "n_embd", "dim", "emb_dim", "embed_dim", "embedding_size"), 32),
    **dict.fromkeys(("intermediate_size", "hidden_dim", "d_ff", "d_inner", "ffn_hidden_size"), 40),
    **dict.fromkeys(("encoder_ffn_dim", "decoder_ffn_dim"), 40),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers", "num_decoder_layers"), 2),
    **dict.fromkeys(("encoder_layers", "decoder_layers"), 2),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads"), 4),
    **dict.fromkeys(("encoder_attention_heads", "decoder_attention_heads"), 4),
    **dict.fromkeys(("max_position_embeddings", "n_positions"), 64),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts"), 4),
    "num_key_value_heads": 2,
    "head_dim": 8,
    "d_kv": 8,
    "d_head": 8,
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 4,
    "qk_nope_head_dim": 8,
    "v_head_dim": 8,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
    "n_group": 1,
    "topk_group": 1,
    "first_k_dense_replace": 1,
    "image_size": 32,
    "patch_size": 8,
    "attention_window": 8,
    "block_sizes": [1, 1],
    "entity_vocab_size": 9,
    "entity_emb_size": 8,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "cls_token_id": 1,
    "sep_token_id": 2,
    "decoder_start_token_id": 0,
    "num_labels": 3,
}
# Where that does not make a model that runs.
_MLA = {"head_dim": 4, "num_key_value_heads": 4}
_WINDOWS = {
    "image_size": 32,
    "patch_size": 4,
    "embed_dim": 16,
    "depths": [2, 2],
    "num_heads": [2, 4],
    "window_size": 4,
}
SPECIAL: dict[str, dict[str, Any]] = {
    **dict.fromkeys(("axk1", "axk2", "deepseek_v2", "deepseek_v3", "minicpm3", "mistral4"), _MLA),
    **dict.fromkeys(("donut-swin", "swin", "swinv2"), _WINDOWS),
    "jamba": {"attn_layer_offset": 1, "attn_layer_period": 2},
    "qwen3_5_text": {"layer_types": ["linear_attention", "full_attention"]},
    "qwen3_next": {"layer_types": ["linear_attention", "full_attention"]},
    "hiera": {"image_size": [32, 32], "embed_dim": 16, "depths": [1, 1], "num_heads": [1, 2], "num_query_pool": 1},
    "levit": {"image_size": 64, "hidden_sizes": [16, 32, 48], "depths": [2, 2, 2]},
    "reformer": {"axial_pos_shape": [8, 8], "axial_pos_embds_dim": [16, 16], "attn_layers": ["lsh", "local"]},
    "big_bird": {"attention_type": "original_full"},
    "t5": {"decoder_start_token_id": 0},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "gptj": {"rotary_dim": 4},
    "layoutlmv3": {"coordinate_size": 4, "shape_size": 8, "visual_embed": False},
    "lilt": {"channel_shrink_ratio": 2, "hidden_size": 48},
    "perceiver": {"num_latents": 8, "d_latents": 32, "num_self_attends_per_block": 2},
    "squeezebert": dict.fromkeys(
        ("q_groups", "k_groups", "v_groups", "post_attention_groups", "intermediate_groups", "output_groups"), 1
    )
    | {"intermediate_size": 32},
    "xmod": {"default_language": "en_XX"},
}
# The rest when a configuration refuses one of the above.
PLAIN = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "num_labels")
LARGEST = 30_000_000


@dataclass(frozen=True)
class Family:
    """Classifiers of one kind of input.

    Attributes:
        title: what they take.
        auto_class: name of the auto class.
        mapping: name of its table of model types in transformers.
        task_type: what PEFT calls the task; `None` where it has no name for it.
    """

    title: str
    auto_class: str
    mapping: str
    task_type: str | None = None

    def model_types(self) -> list[str]:
        """All that the auto class knows, but for those that this project registers."""
        return sorted(name for name in getattr(modeling_auto, self.mapping) if not name.startswith("dpt_"))

    def make(
        self, config: transformers.PreTrainedConfig, attn_implementation: str | None = None
    ) -> transformers.PreTrainedModel:
        """The same random classifier at every call, in evaluation mode and frozen.

        Frozen, because matrix products may take another kernel where a weight wants a gradient, even without a graph;
        an adapter freezes its backbone, and is to be compared with that.
        """
        torch.manual_seed(0)
        # where a type has several classes, the auto classes look for theirs here
        config.architectures = config.architectures or []
        auto_class = getattr(transformers, self.auto_class)
        model = auto_class.from_config(config, attn_implementation=attn_implementation).eval()
        if sum(parameter.numel() for parameter in model.parameters()) > LARGEST:
            raise ValueError(f"more than {LARGEST:,} parameters even when configured small")
        if hasattr(model, "set_default_language"):
            model.set_default_language("en_XX")
        return model.requires_grad_(False)

    def make_batch(self, model: transformers.PreTrainedModel) -> dict[str, torch.Tensor]:
        """Two rows of what the model takes."""
        generator = torch.Generator().manual_seed(1)
        config = model.config
        if self.title == "Text":
            # encoder-decoders classify at the end-of-sequence token
            input_ids = torch.randint(5, 90, (2, 8), generator=generator)
            input_ids[:, -1] = 2
            return {"input_ids": input_ids, "attention_mask": torch.ones_like(input_ids)}
        if self.title == "Images":
            size = getattr(getattr(config, "vision_config", config), "image_size", None) or 32
            height, width = (size, size) if isinstance(size, int) else size
            channels = getattr(config, "num_channels", 3)
            return {"pixel_values": torch.randn(2, channels, height, width, generator=generator)}
        if model.main_input_name == "input_features":
            mel_bins = getattr(config, "num_mel_bins", None) or config.feature_projection_input_dim
            if hasattr(config, "max_source_positions") and config.model_type == "whisper":
                return {
                    "input_features": torch.randn(2, mel_bins, 2 * config.max_source_positions, generator=generator)
                }
            return {"input_features": torch.randn(2, 32, mel_bins, generator=generator)}
        if hasattr(config, "num_mel_bins") and hasattr(config, "max_length"):
            return {"input_values": torch.randn(2, config.max_length, config.num_mel_bins, generator=generator)}
        return {"input_values": torch.randn(2, 4000, generator=generator)}


FAMILIES = (
    Family("Text", "AutoModelForSequenceClassification", "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES", "SEQ_CLS"),
    Family("Images", "AutoModelForImageClassification", "MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES"),
    Family("Audio", "AutoModelForAudioClassification", "MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING_NAMES"),
)


def tiny_config(model_type: str) -> transformers.PreTrainedConfig:
    """The type's configuration with every size made small, and those within it."""
    default = AutoConfig.for_model(model_type)
    values = tiny_values(default)
    special = SPECIAL.get(model_type, {})
    try:
        return AutoConfig.for_model(model_type, **values | special)
    except Exception:  # every library of configurations has its own way of refusing
        return AutoConfig.for_model(model_type, **{n: value for n, value in values.items() if n in PLAIN} | special)


def tiny_values(default: transformers.PreTrainedConfig) -> dict[str, Any]:
    """Values of [`TINY`] for what the configuration has; configurations within it as dictionaries."""
    values = {
        name: value
        for name, value in TINY.items()
        if hasattr(default, name)
        and not isinstance(getattr(type(default), name, None), property)
        # sizes by stage are no one number
        and isinstance(getattr(default, name), list | tuple) == isinstance(value, list | tuple)
    }
    for name in type(default).sub_configs:
        within = getattr(default, name, None)
        if isinstance(within, transformers.PreTrainedConfig):
            values[name] = {"model_type": within.model_type} | tiny_values(within) | SPECIAL.get(within.model_type, {})
    return values
