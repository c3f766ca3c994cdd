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
    """Return the mean of the states (batch, length, width) where the mask (batch, length) is not zero.

    It is in single precision at least: sums over a long text overflow in half precision.
    """
    states = states.to(torch.promote_types(states.dtype, torch.float32))
    weights = mask.unsqueeze(-1).to(states.dtype)
    return (states * weights).sum(1) / weights.sum(1).clamp(min=1)


def _full_precision(tensor: torch.Tensor) -> torch.autocast:
    """Switch autocast off: cosines that are nearly equal would tie in half precision."""
    return torch.autocast(tensor.device.type, enabled=False)


def pair_loss(states: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Draw texts of one class together, and others apart: all pairs of a batch (SetFit, Tunstall et al. 2022).

    Args:
        states: (batch, width).
        labels: (batch,), class indices.

    Returns:
        The mean of (1 - cosine)^2 over pairs of one class, plus that of cosine^2 over pairs of two; 0 for no pairs.
    """
    with _full_precision(states):
        directions = nn.functional.normalize(states, dim=-1)
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
        """Return `prototype_scale` times the product of directions of states and prototypes, (batch, classes).

        Prototypes have length one when they are set: then the product is the cosine. Training may change the length,
        and with it how likely a class is as a whole.

        Args:
            states: (batch, width), from `mean_state`.
        """
        directions = nn.functional.normalize(states, dim=-1)
        with _full_precision(states):
            similar = self.class_prototypes(directions.to(self.class_prototypes.weight.dtype))
        return self.config.prototype_scale * similar.to(states.dtype)

    def prototype_loss(self, states: torch.Tensor, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return the loss that trains states and prototypes.

        Args:
            states: (batch, width), the texts' mean states.
            logits: (batch, classes), from `prototype_logits`.
            labels: (batch,), class indices.

        Returns:
            The cross entropy, with the config's class weights and label smoothing, plus `pair_weight` * `pair_loss`.
        """
        config = self.config
        labels = check_class_indices(labels, *logits.shape)
        rows = nn.functional.cross_entropy(logits, labels, reduction="none", label_smoothing=config.label_smoothing)
        weights = torch.ones_like(rows)
        if config.class_weights is not None:
            weights = torch.tensor(config.class_weights, device=rows.device, dtype=rows.dtype)[labels]
        # As in `dpt_loss`: a batch of nothing but classes of weight zero has the loss zero.
        loss = (rows * weights).sum() / weights.sum().clamp(min=torch.finfo(rows.dtype).tiny)
        return loss + config.pair_weight * pair_loss(states, labels)

    @torch.no_grad()
    def set_prototypes(self, batches: Iterable[Mapping[str, torch.Tensor]]) -> None:
        """Set the prototypes of classes from labelled texts.

        A class's prototype becomes the direction of the mean of its texts' directions. A class without a text keeps
        its prototype.

        Args:
            batches: Tokenizer output with `labels` (class indices), in as many batches as you like.

        Raises:
            ValueError: The model has no prototypes, or a label is no class.

        Example:
            >>> rows = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
            >>> model.set_prototypes([{**rows, "labels": torch.tensor(labels)}])
        """
        if not hasattr(self, "class_prototypes"):
            raise ValueError("the model has no prototypes: load it with `prototypes=True`")
        weight: Any = self.class_prototypes.weight
        sums = torch.zeros_like(weight, dtype=torch.float32)
        training = self.training
        self.eval()
        try:
            for batch in batches:
                rows = {name: values.to(self.device) for name, values in batch.items() if name != "labels"}
                directions = nn.functional.normalize(self.text_states(rows).float(), dim=-1)
                labels = check_class_indices(batch["labels"].to(self.device), len(directions), len(sums))
                sums.index_add_(0, labels, directions)
        finally:
            self.train(training)
        seen = sums.any(1, keepdim=True)
        weight.copy_(torch.where(seen, nn.functional.normalize(sums, dim=-1), weight))
