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


def pair_loss(states: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Draw texts of one class together, and others apart: all pairs of a batch (SetFit, Tunstall et al. 2022).

    Args:
        states: (batch, width).
        labels: (batch,), class indices.

    Returns:
        The mean of (1 - cosine)^2 over pairs of one class, plus that of cosine^2 over pairs of two; 0 for no pairs.
    """
    directions = nn.functional.normalize(states.float(), dim=-1)
    cosines = directions @ directions.T
    same = labels[:, None].eq(labels[None])
    pairs = torch.ones_like(same).triu(1)
    total = cosines.new_zeros(())
    for chosen, target in ((same & pairs, 1.0), (~same & pairs, 0.0)):
        total = total + ((cosines - target).square() * chosen).sum() / chosen.sum().clamp(min=1)
    return total


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

    def prototype_loss(self, states: torch.Tensor, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return the loss of what prototypes are made of: the cross entropy of the logits, and that of pairs.

        Args:
            states: (batch, width), the texts' mean states.
            logits: (batch, classes), from `prototype_logits`.
            labels: (batch,), class indices.

        Returns:
            The cross entropy, with the config's class weights and label smoothing, plus `pair_weight` * `pair_loss`.
        """
        config = self.config
        labels = check_class_indices(labels, *logits.shape)
        weights = getattr(config, "class_weights", None)
        loss = nn.functional.cross_entropy(
            logits.float(),
            labels,
            weight=None if weights is None else torch.tensor(weights, device=logits.device),
            label_smoothing=config.label_smoothing,
        )
        return loss + config.pair_weight * pair_loss(states, labels)

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
