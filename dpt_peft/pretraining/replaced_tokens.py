"""Replaced-token detection (ELECTRA, Clark et al. 2020): sources of replacements, and the model trained on them."""

from __future__ import annotations

from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.models.electra.modeling_electra import ElectraForPreTrainingOutput

from dpt_peft.pretrained_heads.prototypes import mean_state

IGNORED = -100
"""Label of positions that are not scored: special tokens, padding, the visible text of a candidate list."""


class Replacements(NamedTuple):
    """What a source proposes for the positions it was asked for.

    Attributes:
        tokens: Token ids, shape (number of True positions,), in row-major order of the positions.
        loss: The source's own training loss (scalar), or None where it does not learn.
    """

    tokens: torch.Tensor
    loss: torch.Tensor | None = None


@runtime_checkable
class ReplacementSource(Protocol):
    """Anything that proposes plausible tokens; a `torch.nn.Module` in practice, so that it moves with the model."""

    def __call__(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, positions: torch.Tensor) -> Replacements:
        """Propose one token for every True in `positions`.

        Args:
            input_ids: Original tokens, shape (batch, length).
            attention_mask: 1 for tokens, 0 for padding, shape (batch, length).
            positions: Boolean, shape (batch, length).
        """
        ...


class CorpusReplacements(nn.Module):
    """Replacements from corpus statistics and an embedding table: nothing is trained, a draw costs next to nothing.

    Each position uses one of three sources with equal probability: the unigram frequencies of the corpus; a token that
    followed the same left neighbour somewhere in the corpus (in proportion to how often it did); one of the tokens
    nearest to the original in embedding space (cosine). None of the three is ELECTRA's generator; they are a cheap
    stand-in with the same interface.

    Args:
        corpus: Token ids of the training text in reading order, shape (tokens,), without special tokens.
        embeddings: Word embeddings to look for neighbours in, shape (vocabulary, dimensions).
        nearest: Neighbours per token. Tokens that the corpus lacks are never proposed.

    Raises:
        ValueError: The corpus has fewer than two tokens or ids outside the embedding table, or `nearest` is not
            between 1 and the number of distinct tokens - 1.
    """

    frequency: torch.Tensor
    followers: torch.Tensor
    first_follower: torch.Tensor
    neighbours: torch.Tensor

    def __init__(self, corpus: torch.Tensor, embeddings: torch.Tensor, nearest: int = 16) -> None:
        super().__init__()
        vocabulary = embeddings.shape[0]
        if corpus.numel() < 2 or int(corpus.min()) < 0 or int(corpus.max()) >= vocabulary:
            raise ValueError(f"corpus must hold at least two token ids between 0 and {vocabulary - 1}.")
        counts = torch.bincount(corpus, minlength=vocabulary)
        known = counts.nonzero().squeeze(1)
        if not 1 <= nearest < known.numel():
            raise ValueError(f"nearest={nearest} must be between 1 and {known.numel() - 1} (distinct tokens - 1).")
        # Sorted by left neighbour, the right neighbours of token t lie in followers[first[t] : first[t + 1]]: a
        # uniform draw from that range is a draw in proportion to the bigram counts, without any table of counts.
        left, right = corpus[:-1], corpus[1:]
        starts = torch.bincount(left, minlength=vocabulary).cumsum(0)
        # Not persistent: a checkpoint need not hold the corpus, which is read again anyway when a run is resumed.
        self.register_buffer("frequency", counts.double().cumsum(0) / corpus.numel(), persistent=False)
        self.register_buffer("followers", right[left.argsort(stable=True)].int(), persistent=False)
        self.register_buffer("first_follower", torch.cat([starts.new_zeros(1), starts]), persistent=False)
        self.register_buffer("neighbours", _nearest_tokens(embeddings, known, nearest), persistent=False)

    @torch.no_grad()
    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, positions: torch.Tensor) -> Replacements:
        """See `ReplacementSource`; the attention mask is not needed."""
        original = input_ids[positions]
        left = torch.cat([torch.zeros_like(input_ids[:, :1]), input_ids[:, :-1]], dim=1)[positions]
        kind = torch.randint(3, original.shape, device=original.device)

        chance = torch.rand(original.shape, device=original.device, dtype=torch.float64)
        tokens = torch.searchsorted(self.frequency, chance, right=True).clamp(max=self.frequency.numel() - 1)

        first, last = self.first_follower[left], self.first_follower[left + 1]
        place = first + (chance * (last - first)).long()
        # A left neighbour that the corpus never continues ([CLS] above all) leaves the unigram draw in place.
        followed = (kind == 1) & (last > first)
        tokens = torch.where(followed, self.followers[place.clamp(max=self.followers.numel() - 1)].long(), tokens)

        choice = torch.randint(self.neighbours.shape[1], original.shape, device=original.device)
        return Replacements(torch.where(kind == 2, self.neighbours[original, choice].long(), tokens))


def _nearest_tokens(embeddings: torch.Tensor, known: torch.Tensor, nearest: int) -> torch.Tensor:
    """Find the `nearest` other known tokens of every token by cosine; shape (vocabulary, nearest)."""
    directions = nn.functional.normalize(embeddings.detach().float(), dim=-1)
    targets = directions[known]
    column = torch.full((embeddings.shape[0],), -1, dtype=torch.long)
    column[known] = torch.arange(known.numel())
    rows = []
    for chunk, own in zip(directions.split(1024), column.split(1024), strict=True):
        similarity = chunk @ targets.T
        similarity[(own >= 0).nonzero().squeeze(1), own[own >= 0]] = -torch.inf
        rows.append(known[similarity.topk(nearest, dim=1).indices])
    return torch.cat(rows).int()


class GeneratorReplacements(nn.Module):
    """ELECTRA's own source: a small masked language model trained along, whose samples are the replacements.

    Args:
        generator: A masked language model over the discriminator's vocabulary (about a quarter of its size works best,
            ELECTRA section 3.2). Weights that it ties are untied, because Trainer's checkpoints cannot hold shared
            tensors.
        mask_token_id: What the generator sees at the positions to fill.
    """

    def __init__(self, generator: PreTrainedModel, mask_token_id: int) -> None:
        super().__init__()
        self.generator = generator
        self.mask_token_id = mask_token_id
        generator.config.tie_word_embeddings = False
        seen: set[int] = set()
        for module in generator.modules():
            for name, parameter in list(module.named_parameters(recurse=False)):
                if id(parameter) in seen:
                    setattr(module, name, nn.Parameter(parameter.detach().clone()))
                seen.add(id(parameter))

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, positions: torch.Tensor) -> Replacements:
        """See `ReplacementSource`; the loss is masked language modelling over the same positions."""
        masked = input_ids.masked_fill(positions, self.mask_token_id)
        logits = self.generator(input_ids=masked, attention_mask=attention_mask).logits[positions].float()
        loss = nn.functional.cross_entropy(logits, input_ids[positions])
        # Gradients do not flow through sampling (ELECTRA section 3.1).
        return Replacements(torch.distributions.Categorical(logits=logits.detach()).sample(), loss)


def draw_positions(replaceable: torch.Tensor, share: float) -> torch.Tensor:
    """Draw `share` of each row's True positions, at least one where there is any; boolean, shape as `replaceable`."""
    counts = replaceable.sum(1, keepdim=True)
    wanted = (counts * share).round().clamp(min=1).minimum(counts)
    order = (
        torch.rand(replaceable.shape, device=replaceable.device).masked_fill(~replaceable, 2.0).argsort(1).argsort(1)
    )
    return order < wanted


class CorruptedRows(NamedTuple):
    """Rows after replacement.

    Attributes:
        input_ids: Shape (batch, length).
        labels: 1 where the token really changed, 0 where it is the original, `IGNORED` outside `replaceable`.
        loss: The source's own loss, or None.
    """

    input_ids: torch.Tensor
    labels: torch.Tensor
    loss: torch.Tensor | None


def corrupt(
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor,
    replaceable: torch.Tensor,
    source: ReplacementSource,
    share: float = 0.15,
) -> CorruptedRows:
    """Replace a share of the tokens; a proposal equal to the original counts as original (ELECTRA section 3.1).

    Args:
        input_ids: Original tokens, shape (batch, length).
        attention_mask: 1 for tokens, 0 for padding, shape (batch, length).
        replaceable: Boolean, shape (batch, length): never True at special tokens or padding.
        source: Where the replacements come from.
        share: Share of the replaceable positions that are drawn, between 0 and 1.

    Returns:
        The corrupted rows with their labels.
    """
    positions = draw_positions(replaceable, share)
    tokens, loss = source(input_ids, attention_mask, positions)
    corrupted = input_ids.masked_scatter(positions, tokens)
    labels = (corrupted != input_ids).long().masked_fill(~replaceable, IGNORED)
    return CorruptedRows(corrupted, labels, loss)


def replaced_token_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Compute the binary cross entropy, the mean over each row's labelled positions, then over rows.

    ELECTRA's mean over all positions of the batch is the same thing when rows are equally long; by rows, a candidate
    list with its few labelled words counts as much as a row of text.

    Args:
        logits: Discriminator outputs, high = replaced, shape (batch, length).
        labels: 1 replaced, 0 original, `IGNORED` elsewhere, same shape.

    Returns:
        Scalar loss; 0 where nothing is labelled.
    """
    labelled = labels != IGNORED
    losses = nn.functional.binary_cross_entropy_with_logits(
        logits, labels.clamp(min=0).to(logits.dtype), reduction="none"
    )
    counts = labelled.sum(1)
    rows = (losses * labelled).sum(1) / counts.clamp(min=1)
    return rows.sum() / (counts > 0).sum().clamp(min=1)


class ReplacedTokenPretraining(nn.Module):
    """A discriminator and its source of replacements as one model for `transformers.Trainer`.

    Args:
        discriminator: `ElectraForPreTraining`, or a PEFT model around it.
        source: Where replacements come from.
        share: Share of the replaceable positions that are drawn (ELECTRA: 0.15).
        teacher: A sentence encoder with the same vocabulary, whose mean states of clean text the discriminator is held
            near to. None: none. Replaced-token detection by itself forgets what a sentence encoder knew.
        teacher_weight: Weight of that term, which is 1 - cosine.
    """

    def __init__(
        self,
        discriminator: nn.Module,
        source: nn.Module,
        share: float = 0.15,
        teacher: nn.Module | None = None,
        teacher_weight: float = 3.0,
    ) -> None:
        super().__init__()
        if not 0 < share < 1:
            raise ValueError(f"share={share} must lie between 0 and 1 (ELECTRA uses 0.15).")
        self.discriminator = discriminator
        self.source = source
        self.share = share
        self.teacher = None if teacher is None else teacher.requires_grad_(False)
        self.teacher_weight = teacher_weight

    def train(self, mode: bool = True) -> ReplacedTokenPretraining:
        """Switch all but the teacher, which never drops anything out."""
        super().train(mode)
        if self.teacher is not None:
            self.teacher.eval()
        return self

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        labels: torch.Tensor,
        replaceable: torch.Tensor | None = None,
        text_mask: torch.Tensor | None = None,
    ) -> ElectraForPreTrainingOutput:
        """Corrupt where `replaceable` says so, and score every position.

        Args:
            input_ids: Shape (batch, length).
            attention_mask: Shape (batch, length).
            labels: What is already known: 1 replaced, 0 original, `IGNORED` elsewhere; shape (batch, length).
            replaceable: Boolean, shape (batch, length): rows of clean text to corrupt here. None (evaluation on rows
                that were corrupted once and for all) corrupts nothing.
            text_mask: Boolean, shape (batch, length): the text of each row, without the words listed behind it, over
                which states are averaged for the teacher.

        Returns:
            Loss and logits (batch, length); the loss includes the source's own where it learns, and the teacher's
            term. Source and discriminator share no parameter, so ELECTRA's weight of 50 between them would only
            change what Adam normalises away.
        """
        source_loss, clean = None, input_ids
        if replaceable is not None and bool(replaceable.any()):
            rows = corrupt(input_ids, attention_mask, replaceable, self.source, self.share)
            input_ids, source_loss = rows.input_ids, rows.loss
            labels = torch.where(replaceable, rows.labels, labels)
        taught = self.teacher is not None and text_mask is not None
        outputs = self.discriminator(
            input_ids=input_ids, attention_mask=attention_mask, output_hidden_states=taught or None
        )
        loss = replaced_token_loss(outputs.logits, labels)
        if source_loss is not None:
            loss = loss + source_loss
        if self.teacher is not None and text_mask is not None:
            with torch.no_grad():
                # The text alone: the teacher knows no lists of words.
                target = self.teacher(input_ids=clean, attention_mask=text_mask.long()).last_hidden_state
            own, target = (mean_state(states, text_mask) for states in (outputs.hidden_states[-1], target))
            loss = loss + self.teacher_weight * (1 - nn.functional.cosine_similarity(own, target)).mean()
        return ElectraForPreTrainingOutput(loss=loss, logits=outputs.logits)
