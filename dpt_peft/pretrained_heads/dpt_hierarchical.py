"""DPT for hundreds of classes: a text is asked a few names at a time, down a tree of labels (DPT paper, section 5)."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedTokenizerBase, initialization as init
from transformers.modeling_outputs import SequenceClassifierOutput
from transformers.utils import can_return_tuple

from .base import DiscriminatorWrapper
from .beam import Branches, beam_search, groups_of_like_length
from .dpt_hierarchical_config import DPTForHierarchicalClassificationConfig
from .label_clusters import build_label_tree
from .label_tree import LabelTree
from .loading import HUB_ARGUMENTS
from .scoring import class_scores
from .splice import TemplateSplicer


class _Texts(NamedTuple):
    """What the tokenizer gave, (batch, length) each, and further arguments of the discriminator."""

    input_ids: torch.Tensor
    attention_mask: torch.Tensor | None
    token_type_ids: torch.Tensor | None
    further: dict[str, Any]

    def lengths(self, pad_token_id: int) -> torch.Tensor:
        """Tokens of every text, padding left out, (batch,)."""
        visible = self.input_ids.ne(pad_token_id) if self.attention_mask is None else self.attention_mask.ne(0)
        return visible.sum(1)


class _Asked(NamedTuple):
    """What was asked of the discriminator, and its answers: (pairs,), (pairs,) and (pairs, most children)."""

    rows: torch.Tensor
    branches: torch.Tensor
    logits: torch.Tensor


class _BranchTables(nn.Module):
    """The arrays of `Branches`, and every template's length, on the model's device; the config holds what they say."""

    targets: torch.Tensor
    gold_branches: torch.Tensor
    gold_children: torch.Tensor
    lengths: torch.Tensor

    def __init__(self, branches: Branches, lengths: list[int]) -> None:
        super().__init__()
        self._values: dict[str, Any] = {
            "targets": branches.targets,
            "gold_branches": branches.gold_branches,
            "gold_children": branches.gold_children,
            "lengths": lengths,
        }
        for name, values in self._values.items():
            setattr(self, name, nn.Buffer(torch.tensor(values), persistent=False))

    def reset_buffers(self) -> None:
        """Fill the buffers again after transformers has made the model on the meta device."""
        for name, values in self._values.items():
            init.copy_(getattr(self, name), torch.tensor(values))


class DPTForHierarchicalClassification(DiscriminatorWrapper):
    """Classifies texts into the leaves of a label tree, level by level, with the pretrained head of a discriminator.

    Every branch of the tree has a template of its own with the names right below it. A text is read with the template
    of the root, then with those of the branches that look best, and so on down (a beam). Where `DPTForSequence-
    Classification` reads one row as long as all its classes, this reads a few short ones: the cost grows with the
    logarithm of the number of classes. There is no new parameter.

    The score of a class is the product of the scores (Eq. 2) of the names on the path to it; names without a sibling
    count as 1. `logits` (batch, classes) are the logits of these products: `sigmoid(logits)` is the score, the highest
    logit is the class, and a tree of one level gives the logits of `DPTForSequenceClassification`. Classes that the
    beam did not reach have the score zero and the lowest number of the type as their logit.

    Trained are all branches on the path to the right class, together. The loss is Eq. 3 of every such branch (the
    binary cross entropy, summed over its names), summed over the levels, mean over the rows. In training mode, with
    labels, the loss is all that is computed: `logits` is `None`.

    `config.beam_width`, `config.beam_threshold` and `config.path_score` may be changed at any time.

    Example:
        >>> model = DPTForHierarchicalClassification.from_pretrained(
        ...     "google/electra-base-discriminator",
        ...     label_tree={"number": ["date", "distance"], "human": ["person", "group"]},
        ... )
    """

    config_class = DPTForHierarchicalClassificationConfig

    def __init__(self, config: DPTForHierarchicalClassificationConfig) -> None:
        super().__init__(config)
        if config.label_tree is None:
            raise ValueError(
                f"the config has no label tree: make it with {type(config).__name__}.from_discriminator_config, or "
                f"the model with {type(self).__name__}.from_pretrained(discriminator, label_tree=...)"
            )
        self.num_labels = config.num_labels
        templates = config.resolved_templates
        self.tables = _BranchTables(Branches.of(config.tree), [len(template.ids) for template in templates])
        self.splicer = TemplateSplicer(
            templates,
            max_length=config.max_length,
            cls_token_id=config.cls_token_id,
            sep_token_id=config.sep_token_id,
            pad_token_id=config.pad_token_id,
        )
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, _BranchTables):
            module.reset_buffers()

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike[str],
        *model_args: Any,
        label_tree: LabelTree | Mapping[str, Any] | None = None,
        label_words: Sequence[str] | None = None,
        template: str | None = None,
        tokenizer: PreTrainedTokenizerBase | str | os.PathLike[str] | None = None,
        label_separator: str | None = None,
        wordpieces: str | None = None,
        max_length: int | None = None,
        config: PreTrainedConfig | str | os.PathLike[str] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Load a plain discriminator and put the wrapper around it, or load a saved wrapper.

        Args:
            pretrained_model_name_or_path: Folder or Hub id of a discriminator, or of a saved wrapper.
            *model_args: Passed on to `__init__`.
            label_tree: The tree of the classes: a `LabelTree`, or nested dicts as `LabelTree.from_nested` takes them.
                Given for a saved wrapper, it replaces its own.
            label_words: In place of a tree: one word a class, of which `LabelTree.from_label_words` builds one with
                the discriminator's own embeddings.
            template: Template string, default `"{text} Class: {labels}."`.
            tokenizer: Tokenizer of the discriminator, or where to read it; default: the same place as the weights. A
                saved wrapper needs none unless tree, template, separator, wordpieces or length change.
            label_separator: What stands between two names, default `", "`.
            wordpieces: Which wordpieces of a name are read: `"first"` (default), `"mean"` or `"max"`.
            max_length: Longest row in tokens, template included; default: what model and tokenizer allow.
            config: Config in place of the one read from the folder.
            **kwargs: As everywhere in transformers (`dtype`, `revision`, `cache_dir`, `attn_implementation`, ...);
                `beam_width`, `beam_threshold`, `path_score`, `id2label`, `label2id` go to the wrapper's config, other
                config attributes (`hidden_dropout_prob`, ...) to the discriminator's.

        Returns:
            The model, in evaluation mode; with `output_loading_info=True` the pair (model, loading info).

        Raises:
            TypeError, ValueError: Tree or template cannot work, both `label_tree` and `label_words` are given, or the
                checkpoint has no pretrained replaced-token head.
        """
        if label_words is not None:
            if label_tree is not None:
                raise ValueError(
                    "give `label_tree`, or `label_words` to build one of; the words of a tree's names are an argument "
                    "of LabelTree"
                )
            hub_arguments = {name: kwargs[name] for name in HUB_ARGUMENTS if name in kwargs}
            label_tree = build_label_tree(
                label_words, pretrained_model_name_or_path, tokenizer=tokenizer, **hub_arguments
            )
        return super().from_pretrained(
            pretrained_model_name_or_path,
            *model_args,
            tokenizer=tokenizer,
            config=config,
            label_tree=label_tree,
            template=template,
            label_separator=label_separator,
            wordpieces=wordpieces,
            max_length=max_length,
            **kwargs,
        )

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        **kwargs: Any,
    ) -> SequenceClassifierOutput:
        """Search the classes of a batch of texts, or compute the loss.

        Args:
            input_ids: (batch, length), ordinary tokenizer output: single texts or pairs, padded on either side, with
                or without special tokens. Texts too long are cut here, as `TemplateSplicer` says.
            attention_mask: (batch, length), zero = padding. Default: all but the padding id is visible.
            token_type_ids: (batch, length). Template words take the type of their neighbour in the text.
            position_ids: Refused: the splice moves tokens, so positions are counted inside.
            inputs_embeds: Refused: the splice needs token ids.
            labels: (batch,) class indices.
            output_attentions: Refused: a text is read several times, in rows of its own.
            output_hidden_states: Refused likewise.
            **kwargs: Passed on to the discriminator.

        Returns:
            `loss` and `logits` (batch, classes) as described for the class; in training mode with labels the loss
            alone. With `return_dict=False` a tuple of those that exist.

        Raises:
            ValueError: An argument is refused, or labels have the wrong shape, type or range.
        """
        if input_ids is None or inputs_embeds is not None or position_ids is not None:
            raise ValueError(
                "DPT splices its templates into `input_ids`: pass these, and neither `inputs_embeds` nor "
                "`position_ids`"
            )
        if output_attentions or output_hidden_states:
            raise ValueError(
                "a label tree reads a text several times, so there is no one set of attentions or hidden states: "
                "leave `output_attentions` and `output_hidden_states` out"
            )
        texts = _Texts(input_ids, attention_mask, token_type_ids, kwargs)
        if labels is None:
            return SequenceClassifierOutput(logits=self._search(texts))
        loss, asked = self._loss(texts, labels)
        return SequenceClassifierOutput(loss=loss, logits=None if self.training else self._search(texts, asked))

    def _ask(self, texts: _Texts, rows: torch.Tensor, branches: torch.Tensor) -> torch.Tensor:
        """Read rows with branches' templates: (pairs, most children), minus infinity where there is no child."""

        def of_rows(values: torch.Tensor | None) -> torch.Tensor | None:
            return None if values is None else values.index_select(0, rows)

        spliced = self.splicer(
            texts.input_ids.index_select(0, rows),
            of_rows(texts.attention_mask),
            of_rows(texts.token_type_ids),
            template_index=branches,
        )
        further = dict(texts.further)
        if spliced.token_type_ids is not None:
            further["token_type_ids"] = spliced.token_type_ids
        outputs = self.discriminator(
            input_ids=spliced.input_ids, attention_mask=spliced.attention_mask, return_dict=True, **further
        )
        logits = class_scores(-outputs.logits, spliced, self.config.wordpieces, self.splicer.num_wordpieces)
        # Half precision is too coarse for products along a path and sums over names.
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        return logits.masked_fill(~spliced.label_mask, -torch.inf)

    def _ask_by_length(
        self, texts: _Texts, rows: torch.Tensor, branches: torch.Tensor, most_rows: int
    ) -> torch.Tensor:
        """As `_ask`, in batches of rows of like length: the templates of branches differ much."""
        lengths = self.tables.lengths[branches] + texts.lengths(self.config.pad_token_id)[rows]
        # A batch more costs a GPU the start of all its kernels, for which it could read thousands of tokens.
        overhead = 64 if rows.device.type == "cpu" else 4096
        groups = groups_of_like_length(lengths.tolist(), most_rows, overhead=overhead)
        if len(groups) == 1:
            return self._ask(texts, rows, branches)
        parts = [torch.tensor(group, device=rows.device) for group in groups]
        answers = torch.cat([self._ask(texts, rows[part], branches[part]) for part in parts])
        return answers[torch.cat(parts).argsort()]

    def _loss(self, texts: _Texts, labels: torch.Tensor) -> tuple[torch.Tensor, _Asked]:
        batch = texts.input_ids.shape[0]
        labels = _checked(labels, batch, self.num_labels)
        gold = self.tables.gold_branches[labels]
        rows, levels = gold.ge(0).nonzero(as_tuple=True)
        branches, children = gold[rows, levels], self.tables.gold_children[labels[rows], levels]
        if _several_processes():
            # Weights that are shared out (FSDP, ZeRO 3) are gathered at every call, by all processes together.
            logits = self._ask(texts, rows, branches)
        else:
            logits = self._ask_by_length(texts, rows, branches, most_rows=rows.numel())
        targets = nn.functional.one_hot(children, logits.shape[1]).to(logits.dtype)
        there = logits.ne(-torch.inf)
        losses = nn.functional.binary_cross_entropy_with_logits(
            logits.masked_fill(~there, 0.0), targets, weight=there.to(logits.dtype), reduction="sum"
        )
        return losses / batch, _Asked(rows, branches, logits)

    def _search(self, texts: _Texts, asked: _Asked | None = None) -> torch.Tensor:
        batch = texts.input_ids.shape[0]
        places = None
        if asked is not None:
            # What the loss has asked already is not asked again.
            places = asked.rows.new_full((batch, self.tables.targets.shape[0]), -1)
            places[asked.rows, asked.branches] = torch.arange(asked.rows.numel(), device=asked.rows.device)

        def ask(rows: torch.Tensor, branches: torch.Tensor) -> torch.Tensor:
            return self._ask_by_length(texts, rows, branches, most_rows=batch)

        def score(rows: torch.Tensor, branches: torch.Tensor) -> torch.Tensor:
            if asked is None or places is None:
                logits = ask(rows, branches)
            else:
                place = places[rows, branches]
                logits = asked.logits[place]
                new = place.lt(0)
                if bool(new.any()):
                    logits = logits.index_put((new.nonzero().squeeze(1),), ask(rows[new], branches[new]))
            if self.config.path_score == "softmax":
                return logits.log_softmax(1)
            return nn.functional.logsigmoid(logits)

        scores = beam_search(
            score,
            self.tables.targets,
            rows=batch,
            classes=self.num_labels,
            beam_width=self.config.beam_width,
            beam_threshold=self.config.beam_threshold,
        )
        limits = torch.finfo(scores.dtype)
        return (scores - torch.log(-torch.expm1(scores))).clamp(limits.min, limits.max)


def _several_processes() -> bool:
    distributed = torch.distributed
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1


def _checked(labels: torch.Tensor, batch: int, classes: int) -> torch.Tensor:
    if labels.is_floating_point() or labels.numel() != batch:
        raise ValueError(
            f"`labels` must be {batch} class indices, one a row, got {labels.dtype} of shape {tuple(labels.shape)}"
        )
    low, high = torch.stack(labels.aminmax()).tolist()
    if low < 0 or high >= classes:
        raise ValueError(f"`labels` must be class indices from 0 to {classes - 1}, got values from {low} to {high}")
    return labels.reshape(batch)
