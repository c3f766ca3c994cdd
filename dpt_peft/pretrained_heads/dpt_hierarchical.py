"""DPT for hundreds of classes: a text is asked a few names at a time, down a tree of labels (DPT paper, section 5)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedTokenizerBase
from transformers.modeling_outputs import SequenceClassifierOutput

from dpt_peft._compatibility import take_names_of_rows

from .base import Check, hub_arguments, one_of
from .beam import Branches, beam_search, groups_of_like_length
from .label_tree import LabelTree
from .loss import NO_CLASS, check_class_indices, dpt_loss
from .splice import Tables, class_scores
from .template import DEFAULT_SEPARATOR, DEFAULT_TEMPLATE, ResolvedTemplate, choose_wordpieces, resolve_template
from .templated import TemplateConfig, TemplateModel


class DPTForHierarchicalClassificationConfig(TemplateConfig):
    """Configuration of `DPTForHierarchicalClassification`, usually made by its `from_pretrained`.

    Attributes:
        label_tree: The tree, as `LabelTree.to_dict` writes it; `tree` is the object.
        template: Template string with `{labels}` and `{text}`, or `{text_a}` and `{text_b}` (paper, Eq. 1), the same
            for all branches.
        label_separator: What stands between two names.
        wordpieces: Which logit stands for a name of several wordpieces: that of the `"first"` one (paper, footnote 1),
            the `"mean"` or the `"max"` of all. Names read at the first one must differ there within a branch.
        templates: For every branch (see `Branches`) the template with the names below it, in token ids.
        path_score: Factor of a name on the path to a class: `"sigmoid"`, its score of Eq. 2, or `"softmax"`, that
            score's softmax over the names of the same branch.
        beam_width: Most branches of a row that are followed at a level; `None`: all.
        beam_threshold: A branch is followed only if its score is at least this share of the row's best (0 to 1). With
            0 and all branches the search is exhaustive.
    """

    model_type = "dpt_hierarchical_classification"
    classes_option: ClassVar[str] = "label_tree"
    classes_example: ClassVar[str] = (
        "a dpt_peft.LabelTree or nested dicts, or one word a class as `label_words`, and a tree is built of them"
    )

    checks: ClassVar[Mapping[str, Check]] = {
        **TemplateConfig.checks,
        "path_score": one_of("sigmoid", "softmax"),
        "beam_width": (
            lambda value: value is None or (isinstance(value, int) and value >= 1),
            "a whole number from 1, or None for all branches",
        ),
        "beam_threshold": (lambda value: 0 <= value <= 1, "between 0 and 1"),
    }

    label_tree: dict[str, Any] | None = None
    label_separator: str = DEFAULT_SEPARATOR
    path_score: str = "sigmoid"
    beam_width: int | None = 2
    beam_threshold: float = 0.3

    def __post_init__(self, **kwargs: Any) -> None:
        """Derive the labels from the tree."""
        if self.problem_type not in (None, "single_label_classification"):
            raise ValueError(
                f"`problem_type` {self.problem_type!r} is not for a label tree, where a text has one path; "
                "DPTForSequenceClassification takes several labels a text"
            )
        if self.label_tree is not None:
            self._name_classes(
                self.label_tree["classes"], "classes in the label tree", num_labels=kwargs.pop("num_labels", None)
            )
        super().__post_init__(**kwargs)

    @property
    def tree(self) -> LabelTree:
        """The label tree as an object."""
        if self.label_tree is None:
            raise ValueError("the config has no label tree")
        return LabelTree.from_dict(self.label_tree)

    @classmethod
    def expand_arguments(cls, arguments: dict[str, Any], path: Any, tokenizer: Any) -> dict[str, Any]:
        """Build a `label_tree` of `label_words`.

        Raises:
            ValueError: Both are given.
        """
        label_words = arguments.pop("label_words", None)
        if label_words is None:
            return arguments
        if arguments.get("label_tree") is not None:
            raise ValueError(
                "give `label_tree`, or `label_words` to build one of; the words of a tree's names are an argument "
                "of LabelTree"
            )
        where = hub_arguments(arguments)
        return {**arguments, "label_tree": LabelTree.from_label_words(label_words, path, tokenizer=tokenizer, **where)}

    def kept_options(self) -> dict[str, Any]:
        """Return the arguments that make this config again, with the tree as an object."""
        return super().kept_options() | {"label_tree": self.tree}

    @classmethod
    def from_language_model_config(
        cls,
        language_model_config: PreTrainedConfig,
        tokenizer: PreTrainedTokenizerBase,
        label_tree: LabelTree | Mapping[str, Any] | None = None,
        *,
        template: str = DEFAULT_TEMPLATE,
        label_separator: str = DEFAULT_SEPARATOR,
        wordpieces: str | None = None,
        max_length: int | None = None,
        **kwargs: Any,
    ) -> DPTForHierarchicalClassificationConfig:
        """Turn a label tree into templates in token ids, and everything into a config.

        Args:
            language_model_config: Config of the discriminator.
            tokenizer: Its tokenizer.
            label_tree: The tree, or nested dicts as `LabelTree.from_nested` takes them.
            template: Template string with `{labels}` and `{text}`, or with `{labels}`, `{text_a}` and `{text_b}`.
            label_separator: What stands between two names.
            wordpieces: Which wordpieces of a name are read: `"first"`, `"mean"` or `"max"`. Default: `"first"`, unless
                names of one branch begin with the same token; then `"mean"`, in all branches.
            max_length: Longest row in tokens; default and upper bound: what model and tokenizer allow.
            **kwargs: Further attributes of the config, such as `beam_width` or `id2label`.

        Raises:
            TypeError, ValueError: Tree, words, template, length or tokenizer cannot work together; what is wrong with
                the words of one branch is said with its path.
        """
        tree = label_tree if isinstance(label_tree, LabelTree) else LabelTree.from_nested(label_tree)
        branches = Branches.of(tree)

        def resolve(wordpieces: str) -> list[ResolvedTemplate]:
            templates = []
            for words, path in zip(branches.words, branches.paths, strict=True):
                try:
                    resolved = resolve_template(
                        template, words, tokenizer, label_separator=label_separator, wordpieces=wordpieces
                    )
                except ValueError as error:
                    where = " > ".join(path) or "the top"
                    raise type(error)(f"below {where} of the label tree: {error}") from error
                templates.append(resolved)
            return templates

        wordpieces, templates = choose_wordpieces(wordpieces, resolve)
        kwargs |= {"label_tree": tree.to_dict(), "template": template, "label_separator": label_separator}
        kwargs |= {"wordpieces": wordpieces, "templates": [resolved.to_dict() for resolved in templates]}
        return cls._make(language_model_config, tokenizer, max_length, **kwargs)


class _Batch(NamedTuple):
    """What the tokenizer gave, tensors (batch, length) by name or `None`, and further arguments of the model."""

    given: dict[str, Any]
    further: dict[str, Any]

    def rows(self, chosen: torch.Tensor) -> dict[str, torch.Tensor | None]:
        """Return some rows, by their indices (pairs,)."""
        return {name: None if value is None else value.index_select(0, chosen) for name, value in self.given.items()}

    def lengths(self, pad_token_id: int) -> torch.Tensor:
        """Return the tokens of every text, padding left out, (batch,)."""
        mask = self.given["attention_mask"]
        return (self.given["input_ids"].ne(pad_token_id) if mask is None else mask.ne(0)).sum(1)


class _Asked(NamedTuple):
    """What was asked of the discriminator, and its answers: (pairs,), (pairs,) and (pairs, most children)."""

    rows: torch.Tensor
    branches: torch.Tensor
    logits: torch.Tensor


class DPTForHierarchicalClassification(TemplateModel):
    """Classifies texts into the leaves of a label tree, level by level, with the pretrained head of a discriminator.

    Every branch of the tree has a template of its own with the names right below it. A text is read with the template
    of the root, then with those of the branches that look best, and so on down (a beam). Where `DPTForSequence-
    Classification` reads one row as long as all its classes, this reads a few short ones: the cost grows with the
    logarithm of the number of classes. There is no new parameter.

    The score of a class is the product of the scores (Eq. 2) of the names on the path to it; names without a sibling
    count as 1. `logits` (batch, classes) are the logits of these products: `sigmoid(logits)` is the score, the highest
    logit is the class, and a tree of one level gives the logits of `DPTForSequenceClassification`. Classes that the
    beam did not reach have the score zero and `NO_CLASS` (-16384) as their logit.

    Trained are all branches on the path to the right class, together. The loss is Eq. 3 of every such branch (the
    binary cross entropy, summed over its names), summed over the levels, mean over the rows. In training mode, with
    labels, the loss is all that is computed: `logits` is `None`.

    `from_pretrained` takes the arguments of `DPTForHierarchicalClassificationConfig.from_language_model_config`, the
    config's attributes, and `label_words` in place of a tree: one word a class, of which `LabelTree.from_label_words`
    builds one with the discriminator's own embeddings.

    `config.beam_width`, `config.beam_threshold` and `config.path_score` may be changed at any time.

    Example:
        >>> model = DPTForHierarchicalClassification.from_pretrained(
        ...     "google/electra-base-discriminator",
        ...     label_tree={"number": ["date", "distance"], "human": ["person", "group"]},
        ... )
    """

    config_class = DPTForHierarchicalClassificationConfig
    tables: Any

    def __init__(self, config: DPTForHierarchicalClassificationConfig) -> None:
        super().__init__(config)
        templates = config.resolved_templates
        branches = Branches.of(config.tree)
        self.tables = Tables(
            targets=branches.targets,
            gold_branches=branches.gold_branches,
            gold_children=branches.gold_children,
            lengths=[len(template.ids) for template in templates],
        )
        self.splicer = self._make_splicer(templates)
        self.post_init()

    def _answer(self, rows: dict[str, Any], labels: torch.Tensor | None, **further: Any) -> SequenceClassifierOutput:
        if further["output_attentions"] or further["output_hidden_states"]:
            raise ValueError(
                "a label tree reads a text several times, so there is no one set of attentions or hidden states: "
                "leave `output_attentions` and `output_hidden_states` out"
            )
        if not torch.compiler.is_compiling() and take_names_of_rows(self):
            raise ValueError(
                "`adapter_names`: a label tree reads its own selection of the rows in every pass, so they cannot have "
                "adapters of their own. Activate one for all: `model.set_adapter(name)`"
            )
        texts = _Batch(rows, further)
        if labels is None:
            return SequenceClassifierOutput(logits=self._search(texts))
        loss, asked = self._loss(texts, labels)
        return SequenceClassifierOutput(loss=loss, logits=None if self.training else self._search(texts, asked))

    def _ask(self, texts: _Batch, rows: torch.Tensor, branches: torch.Tensor) -> torch.Tensor:
        """Read rows with branches' templates: (pairs, most children), minus infinity where there is no child."""
        outputs, spliced = self._read(texts.rows(rows), branches, **texts.further)
        logits = class_scores(-outputs.logits, spliced, self.config.wordpieces, self.splicer.longest_label)
        # Half precision is too coarse for products along a path and sums over names.
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        return logits.masked_fill(~spliced.label_mask, -torch.inf)

    def _ask_by_length(
        self, texts: _Batch, rows: torch.Tensor, branches: torch.Tensor, most_rows: int
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

    def _loss(self, texts: _Batch, labels: torch.Tensor) -> tuple[torch.Tensor, _Asked]:
        batch = len(texts.given["input_ids"])
        labels = check_class_indices(labels, batch, self.num_labels)
        gold = self.tables.gold_branches[labels]
        rows, levels = gold.ge(0).nonzero(as_tuple=True)
        branches, children = gold[rows, levels], self.tables.gold_children[labels[rows], levels]
        if _several_processes():
            # Weights that are shared out (FSDP, ZeRO 3) are gathered at every call, by all processes together.
            logits = self._ask(texts, rows, branches)
        else:
            logits = self._ask_by_length(texts, rows, branches, most_rows=rows.numel())
        smoothing = self.config.label_smoothing
        loss = dpt_loss(logits, children, multi_label=False, label_smoothing=smoothing) * (rows.numel() / batch)
        return self._checked(loss), _Asked(rows, branches, logits)

    def _search(self, texts: _Batch, asked: _Asked | None = None) -> torch.Tensor:
        batch = len(texts.given["input_ids"])
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
        # A score of exactly 1 has no finite logit (and no gradient), one of 0 stands for what was not reached.
        scores = scores.clamp(max=-torch.finfo(scores.dtype).tiny)
        return (scores - torch.log(-torch.expm1(scores))).clamp(min=NO_CLASS)


def _several_processes() -> bool:
    distributed = torch.distributed
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1
