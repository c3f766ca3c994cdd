"""Config of DPT over a label tree: the tree, and one template in token ids for every branch of it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import field
from typing import Any, ClassVar

from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from .base import DiscriminatorWrapperConfig
from .beam import Branches
from .label_tree import LabelTree
from .template import DEFAULT_SEPARATOR, DEFAULT_TEMPLATE, WORDPIECES, ResolvedTemplate, resolve_template

PATH_SCORES = ("sigmoid", "softmax")


class DPTForHierarchicalClassificationConfig(DiscriminatorWrapperConfig):
    """Configuration of `DPTForHierarchicalClassification`, usually made by its `from_pretrained`.

    It holds the templates in token ids, so that a saved model is loaded without a tokenizer.

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
        max_length: Longest row the discriminator sees, in tokens, template and special tokens included.
        cls_token_id: Id of the first token of every row.
        sep_token_id: Id of the last token of every row and between the texts of a pair.
        pad_token_id: Id that fills short rows.
    """

    model_type = "dpt_hierarchical_classification"
    tokenizer_options: ClassVar[tuple[str, ...]] = (
        "label_tree",
        "template",
        "label_separator",
        "wordpieces",
        "max_length",
    )
    task_attributes: ClassVar[tuple[str, ...]] = (
        *DiscriminatorWrapperConfig.task_attributes,
        "path_score",
        "beam_width",
        "beam_threshold",
    )

    label_tree: dict[str, Any] | None = None
    template: str = DEFAULT_TEMPLATE
    label_separator: str = DEFAULT_SEPARATOR
    wordpieces: str = "first"
    templates: list[dict[str, Any]] = field(default_factory=list)
    path_score: str = "sigmoid"
    beam_width: int | None = 2
    beam_threshold: float = 0.3
    # The numbers of the public ELECTRA checkpoints, as in transformers' ElectraConfig.
    max_length: int = 512
    cls_token_id: int = 101
    sep_token_id: int = 102
    pad_token_id: int = 0
    id2label: dict[int, str] | dict[str, str] | None = None
    label2id: dict[str, int] | dict[str, str] | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        """Derive the labels from the tree and check the choices."""
        if self.path_score not in PATH_SCORES:
            raise ValueError(f"`path_score` must be one of {PATH_SCORES}, got {self.path_score!r}")
        if self.wordpieces not in WORDPIECES:
            raise ValueError(f"`wordpieces` must be one of {WORDPIECES}, got {self.wordpieces!r}")
        if self.beam_width is not None and not (isinstance(self.beam_width, int) and self.beam_width >= 1):
            raise ValueError(
                f"`beam_width` must be a whole number from 1, or None for all branches, got {self.beam_width!r}"
            )
        if not 0 <= self.beam_threshold <= 1:
            raise ValueError(f"`beam_threshold` must be between 0 and 1, got {self.beam_threshold}")
        if self.problem_type not in (None, "single_label_classification"):
            raise ValueError(
                f"`problem_type` {self.problem_type!r} is not for a label tree, where a text has one path; "
                "DPTForSequenceClassification takes several labels a text"
            )
        if self.label_tree is not None:
            classes = self.label_tree["classes"]
            id2label = self.id2label or dict(enumerate(classes))
            for name, count in (("num_labels", kwargs.pop("num_labels", None)), ("id2label", len(id2label))):
                if count not in (None, len(classes)):
                    raise ValueError(f"`{name}` says {count} classes, but the label tree has {len(classes)}")
            self.id2label = id2label
            self.label2id = self.label2id or {label: int(index) for index, label in id2label.items()}
        super().__post_init__(**kwargs)

    @property
    def tree(self) -> LabelTree:
        """The label tree as an object."""
        if self.label_tree is None:
            raise ValueError("the config has no label tree")
        return LabelTree.from_dict(self.label_tree)

    @property
    def resolved_templates(self) -> list[ResolvedTemplate]:
        """`templates` as objects."""
        return [ResolvedTemplate.from_dict(template) for template in self.templates]

    @classmethod
    def check_options(cls, options: dict[str, Any], path: str | os.PathLike[str]) -> None:
        """Raise a `ValueError` if there is no label tree."""
        if "label_tree" not in options:
            raise ValueError(
                f"`label_tree` is missing: {path} is a discriminator without a task. Pass a dpt_peft.LabelTree or "
                "nested dicts, or one word a class as `label_words`, and a tree is built of them"
            )

    def choices_to_keep(self, changed: set[str]) -> dict[str, Any]:
        """Arguments of `from_discriminator_config` that make this config again, but for those in `changed`."""
        names = {*self.tokenizer_options, "path_score", "beam_width", "beam_threshold"}
        if "label_tree" not in changed:
            names |= {"id2label"}
        kept = {name: getattr(self, name) for name in names - changed}
        if "label_tree" in kept:
            kept["label_tree"] = self.tree
        return kept

    @classmethod
    def from_discriminator_config(
        cls,
        discriminator_config: PreTrainedConfig,
        tokenizer: PreTrainedTokenizerBase | None,
        label_tree: LabelTree | Mapping[str, Any] | None = None,
        *,
        template: str = DEFAULT_TEMPLATE,
        label_separator: str = DEFAULT_SEPARATOR,
        wordpieces: str = "first",
        max_length: int | None = None,
        **kwargs: Any,
    ) -> DPTForHierarchicalClassificationConfig:
        """Turn a label tree into templates in token ids, and everything into a config.

        Args:
            discriminator_config: Config of the discriminator.
            tokenizer: Its tokenizer.
            label_tree: The tree, or nested dicts as `LabelTree.from_nested` takes them.
            template: Template string with `{labels}` and `{text}`, or with `{labels}`, `{text_a}` and `{text_b}`.
            label_separator: What stands between two names.
            wordpieces: Which wordpieces of a name are read: `"first"`, `"mean"` or `"max"`.
            max_length: Longest row in tokens; default and upper bound: what model and tokenizer allow.
            **kwargs: Further attributes of the config, such as `beam_width` or `id2label`.

        Raises:
            TypeError, ValueError: Tree, words, template, length or tokenizer cannot work together; what is wrong with
                the words of one branch is said with its path.
        """
        assert tokenizer is not None
        tree = label_tree if isinstance(label_tree, LabelTree) else LabelTree.from_nested(label_tree)
        branches = Branches.of(tree)
        templates = []
        for words, path in zip(branches.words, branches.paths, strict=True):
            try:
                resolved = resolve_template(
                    template, words, tokenizer, label_separator=label_separator, wordpieces=wordpieces
                )
            except ValueError as error:
                raise ValueError(f"below {' > '.join(path) or 'the top'} of the label tree: {error}") from error
            templates.append(resolved)
        highest = max(max(resolved.ids) for resolved in templates)
        if highest >= discriminator_config.vocab_size:
            raise ValueError(
                f"`tokenizer` gives the id {highest}, but the discriminator knows {discriminator_config.vocab_size} "
                "tokens: it is not the tokenizer of this discriminator"
            )
        return cls(
            discriminator_config=discriminator_config,
            label_tree=tree.to_dict(),
            template=template,
            label_separator=label_separator,
            wordpieces=wordpieces,
            templates=[resolved.to_dict() for resolved in templates],
            max_length=cls.longest_row(max_length, discriminator_config, tokenizer),
            **cls.special_token_ids(tokenizer),
            **kwargs,
        )
