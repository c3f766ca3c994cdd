"""Class prototypes: the mean states of a class's texts, which other texts are compared with (as in Snell et al. 2017).

A discriminator that was made from a sentence encoder still knows which texts are alike. That is knowledge of another
kind than its head's, which judges words in a text, and it is there in the same pass.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn
from transformers import initialization as init

from .loss import check_class_indices
from .templated import TemplateModel


def mean_state(states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return the mean of the states (batch, length, width) where the mask (batch, length) is not zero."""
    weights = mask.unsqueeze(-1).to(states.dtype)
    return (states * weights).sum(1) / weights.sum(1).clamp(min=1)


class PrototypeModel(TemplateModel):
    """Base of the wrappers that can compare texts with trainable prototypes.

    Attributes:
        class_prototypes: One row a class; there with `config.prototypes`. Zeros, which say nothing, until
            `set_prototypes` or training.
    """

    class_prototypes: nn.Linear
    _keys_to_ignore_on_load_missing = [r"^class_prototypes\."]  # noqa: RUF012

    def _make_prototypes(self) -> None:
        width = self.config.get_text_config().hidden_size
        self.class_prototypes = nn.Linear(width, self.config.num_labels, bias=False)

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if module is getattr(self, "class_prototypes", None):
            init.zeros_(module.weight)

    @property
    def new_modules(self) -> list[str]:
        """Modules with parameters that are not pretrained: for PEFT's `modules_to_save`."""
        return ["class_prototypes"] if hasattr(self, "class_prototypes") else []

    def text_states(self, rows: Mapping[str, Any]) -> torch.Tensor:
        """Return the mean state of every text, (batch, width); every wrapper says in which rows it is read."""
        raise NotImplementedError

    def prototype_logits(self, states: torch.Tensor) -> torch.Tensor:
        """Return the scaled cosine of mean states (batch, width) and prototypes: (batch, classes).

        A prototype's length counts: training may make a class more or less likely as a whole.
        """
        return self.config.prototype_scale * self.class_prototypes(nn.functional.normalize(states, dim=-1))

    def prototype_loss(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return the cross entropy of `prototype_logits`, with the config's class weights and label smoothing."""
        config = self.config
        weights = getattr(config, "class_weights", None)
        return nn.functional.cross_entropy(
            logits.float(),
            check_class_indices(labels, *logits.shape),
            weight=None if weights is None else torch.tensor(weights, device=logits.device),
            label_smoothing=config.label_smoothing,
        )

    @torch.no_grad()
    def set_prototypes(self, batches: Iterable[Mapping[str, torch.Tensor]]) -> None:
        """Start every class's prototype from its labelled texts: the mean of their states, of length one.

        Args:
            batches: Tokenizer output with `labels` (class indices), in as many batches as you like.

        Raises:
            ValueError: The model has no prototypes.

        Example:
            >>> rows = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
            >>> model.set_prototypes([{**rows, "labels": torch.tensor(labels)}])
        """
        if not hasattr(self, "class_prototypes"):
            raise ValueError("the model has no prototypes: load it with `prototypes=True`")
        training = self.training
        self.eval()
        weight: Any = self.class_prototypes.weight
        sums = torch.zeros_like(weight, dtype=torch.float32)
        for batch in batches:
            rows = {name: values.to(self.device) for name, values in batch.items() if name != "labels"}
            states = nn.functional.normalize(self.text_states(rows).float(), dim=-1)
            sums.index_add_(0, check_class_indices(batch["labels"].to(self.device), len(states), len(sums)), states)
        weight.copy_(nn.functional.normalize(sums, dim=-1))
        self.train(training)
