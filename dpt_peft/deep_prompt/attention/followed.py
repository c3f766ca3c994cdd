"""Prompts for attention modules that compute scores, softmax and context themselves, without transformers' interface.

Such a module runs unchanged while `scores` watches it. One row a class of modules.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from .base import DeepPromptLayer
from .scores import Mixer

_USUAL: frozenset[str] = frozenset()
# scores of later tokens are multiplied by zero, the others by one, before the masked ones get their large negative
_MASKED_BY_PRODUCT = frozenset({"mul"})

# Attention classes of transformers that are known to work this way, each with its test, and what may happen to their
# scores besides the usual. Names that several architectures use are told apart by the modeling file.
MODULES: dict[str, frozenset[str]] = {
    "BigBirdSelfAttention": _USUAL,
    "BloomAttention": _USUAL,
    "CanineSelfAttention": _USUAL,
    "ConvBertSelfAttention": _USUAL,
    "Data2VecVisionSdpaSelfAttention": _USUAL,
    "Data2VecVisionSelfAttention": _USUAL,
    "DonutSwinSelfAttention": _USUAL,
    "FalconAttention": _USUAL,
    "FunnelRelMultiheadAttention": _USUAL,
    "GPTJAttention": _USUAL,
    "GPTNeoSelfAttention": _USUAL,
    "IBertSelfAttention": _USUAL,
    "LEDDecoderAttention": _USUAL,
    "LayoutLMv3SelfAttention": _USUAL,
    "LukeSelfAttention": _USUAL,
    "MPNetSelfAttention": _USUAL,
    "MegatronBertSelfAttention": _USUAL,
    "MobileViTSelfAttention": _USUAL,
    "MptAttention": _USUAL,
    "MvpAttention": _USUAL,
    "PvtEfficientSelfAttention": _USUAL,
    "PvtV2SelfAttention": _USUAL,
    "RemBertSelfAttention": _USUAL,
    "RoFormerSelfAttention": _USUAL,
    "SqueezeBertSelfAttention": _USUAL,
    "TapasSelfAttention": _USUAL,
    "XLNetRelativeAttention": _USUAL,
    "deberta.modeling_deberta.DisentangledSelfAttention": _USUAL,
    "flaubert.modeling_flaubert.MultiHeadAttention": _USUAL,
    "openai.modeling_openai.Attention": _MASKED_BY_PRODUCT,
    "xlm.modeling_xlm.MultiHeadAttention": _USUAL,
}


class FollowedAttentionLayer(DeepPromptLayer):
    """Prompts for one of the modules named above."""

    can_be_gated = True

    @classmethod
    def supports(cls, module: nn.Module) -> bool:
        """Return whether the module's class is named above."""
        return _row(module) is not None

    # a compiled graph would drop the mode without a word
    @torch.compiler.disable
    def attend(self, *args: Any, **kwargs: Any) -> Any:
        """Run the module with the prompts mixed into its context.

        Raises:
            RuntimeError: if the module's scores could not be followed from product to context.
        """
        mixer = Mixer(self, _row(self.base_layer) or _USUAL)
        with mixer:
            output = self.base_layer(*args, **kwargs)
        if not mixer.contexts:
            raise RuntimeError(
                f"Deep prompts could not follow the attention of {type(self.base_layer).__name__}: no softmax over "
                "products of queries and keys was seen. Please report the architecture and its configuration."
            )
        return output


def _row(module: nn.Module) -> frozenset[str] | None:
    kind = type(module)
    qualified = f"{kind.__module__.removeprefix('transformers.models.')}.{kind.__name__}"
    return MODULES.get(qualified, MODULES.get(kind.__name__))
