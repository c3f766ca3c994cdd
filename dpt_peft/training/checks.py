"""What of a model and its tokenizer cannot be trained, found before training and said plainly."""

from __future__ import annotations

from typing import Any

from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from transformers import PreTrainedTokenizerBase


def check_no_adapter(model: Any) -> None:
    """Refuse a model that has an adapter already: a second one around it would be saved without the first.

    Args:
        model: What an adapter is to be put on.

    Raises:
        ValueError: If it is a `PeftModel`, or transformers has loaded an adapter into it.
    """
    has_adapter = isinstance(model, PeftModel) or getattr(model, "_hf_peft_config_loaded", False)
    if has_adapter or any(isinstance(module, BaseTunerLayer) for module in model.modules()):
        name = getattr(getattr(model, "config", None), "name_or_path", "") or type(model).__name__
        raise ValueError(
            f"`model_name_or_path`: {name!r} has an adapter already. Name the model that it was trained on, or merge "
            "the adapter first: PeftModel.from_pretrained(...).merge_and_unload().save_pretrained(folder)."
        )


def check_can_pad(tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse a tokenizer that cannot fill the rows of a batch up to one length (GPT-2's).

    Raises:
        ValueError: If it has no padding token.
    """
    if tokenizer.pad_token_id is None:
        raise ValueError(
            f"`model_name_or_path`: the tokenizer of {tokenizer.name_or_path!r} has no padding token, which batches "
            "need. Save a copy of model and tokenizer that has one, and name that: tokenizer.pad_token = "
            "tokenizer.eos_token, model.config.pad_token_id = tokenizer.eos_token_id, save_pretrained(folder) of both."
        )
