"""Label lists that one model serves: label words in templates, and where every class's score comes from.

A label list is some label words and their template in token ids: one template with all classes, or several that share
the classes out, for a list too long for one row (each of them is one pass over the text; Eq. 2 scores every class by
itself). A `LabelListBank` puts the templates of all lists into one bank and knows, for every template, which class of
which list each of its columns is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from .splice import Tables, padded
from .template import (
    DEFAULT_SEPARATOR,
    DEFAULT_TEMPLATE,
    ResolvedTemplate,
    check_label_words,
    choose_wordpieces,
    resolve_label_order,
    resolve_template,
)

OWN_LIST = "default"
"""Name of the label list that a wrapper was made for, beside those added later."""


def resolve_label_list(
    tokenizer: PreTrainedTokenizerBase,
    label_words: Sequence[str],
    *,
    template: str = DEFAULT_TEMPLATE,
    label_order: Sequence[int] | int | None = None,
    label_separator: str = DEFAULT_SEPARATOR,
    wordpieces: str | None = None,
    classes_per_pass: int | None = None,
    minimum: int = 2,
) -> dict[str, Any]:
    """Turn the choices for a label list into what a config keeps of it.

    Args:
        tokenizer: Tokenizer of the discriminator.
        label_words: One word a class.
        template: Template string.
        label_order: `None`, a seed, or a permutation.
        label_separator: What stands between two classes.
        wordpieces: `"first"`, `"mean"`, `"max"`, or `None`, see `choose_wordpieces`.
        classes_per_pass: Classes in one template at most; `None`: all.
        minimum: Fewest classes allowed.

    Returns:
        The choices, with the order as a permutation and the wordpieces as chosen, and the `templates` in token ids.

    Raises:
        TypeError, ValueError: They cannot work together.
    """
    words = check_label_words(label_words, minimum=minimum)
    order = resolve_label_order(label_order, len(words))
    if classes_per_pass is not None and (not isinstance(classes_per_pass, int) or classes_per_pass < 1):
        raise ValueError(f"`classes_per_pass` must be a positive number of classes, got {classes_per_pass!r}")

    def resolve(wordpieces: str) -> list[dict[str, Any]]:
        templates = []
        for classes in _classes_of_templates(order, classes_per_pass):
            # Words in class order, where each template keeps the order that was chosen.
            in_order = [classes.index(index) for index in order if index in set(classes)]
            resolved = resolve_template(
                template,
                [words[index] for index in classes],
                tokenizer,
                in_order,
                label_separator=label_separator,
                wordpieces=wordpieces,
            )
            templates.append(resolved.to_dict())
        return templates

    wordpieces, templates = choose_wordpieces(wordpieces, resolve)
    return {
        "label_words": words,
        "template": template,
        "label_order": order,
        "label_separator": label_separator,
        "wordpieces": wordpieces,
        "classes_per_pass": classes_per_pass,
        "templates": templates,
    }


def _classes_of_templates(order: Sequence[int], classes_per_pass: int | None) -> list[list[int]]:
    """The classes of every template, in the order of its columns."""
    size = classes_per_pass or len(order)
    return [sorted(order[start : start + size]) for start in range(0, len(order), size)]


@dataclass(frozen=True)
class LabelList:
    """One label list.

    Attributes:
        num_classes: Number of its classes.
        templates: Its templates, one a pass.
        classes: For every template, the classes of its columns.
        calibration: For every class what is taken from its logit (see `DPTForSequenceClassification.calibrate`).
    """

    num_classes: int
    templates: tuple[ResolvedTemplate, ...]
    classes: tuple[tuple[int, ...], ...]
    calibration: tuple[float, ...]

    @classmethod
    def from_config(cls, values: Mapping[str, Any]) -> LabelList:
        """Make the object of what `resolve_label_list` has described."""
        count = len(values["label_words"])
        return cls(
            num_classes=count,
            templates=tuple(ResolvedTemplate.from_dict(template) for template in values["templates"]),
            classes=tuple(map(tuple, _classes_of_templates(values["label_order"], values.get("classes_per_pass")))),
            calibration=tuple(values.get("calibration") or [0.0] * count),
        )


class LabelListBank(Tables):
    """The templates of all label lists as one bank, and the way from their columns to the classes of each list.

    Args:
        lists: Label lists by name; the first one is the wrapper's own.

    Attributes:
        names: Names of the lists.
        templates: All templates, list by list.
        label_token_ids: The wordpieces of all lists (separators between classes too), template by template.
        label_token_index: For every template and every id in it, its index in `label_token_ids`, -1 outside of the
            list.
        num_classes: Number of classes of all lists together.
        is_calibrated: Whether anything is taken from a logit.
    """

    classes: torch.Tensor
    rows: torch.Tensor
    first_template: torch.Tensor
    pass_counts: torch.Tensor
    calibration: torch.Tensor

    def __init__(self, lists: Mapping[str, LabelList]) -> None:
        templates = [template for own in lists.values() for template in own.templates]
        classes: list[tuple[int, ...]] = []
        rows, first_templates, offset = [], [], 0
        for own in lists.values():
            first_templates.append(len(classes))
            classes += own.classes
            rows += [[offset + column for column in columns] for columns in own.classes]
            offset += own.num_classes
        super().__init__(
            classes=padded(classes, -1),
            rows=padded(rows, 0),
            first_template=first_templates,
            pass_counts=[len(own.templates) for own in lists.values()],
            calibration=[bias for own in lists.values() for bias in own.calibration],
        )
        self.names = list(lists)
        self.templates = templates
        self.num_classes = offset
        self.is_calibrated = any(any(own.calibration) for own in lists.values())
        self._lists = list(lists.values())
        self.label_token_ids: list[int] = []
        self.label_token_index: list[list[int]] = []
        for template in templates:
            begin = min(start for start, _ in template.label_spans)
            end = max(end for _, end in template.label_spans)
            first = len(self.label_token_ids)
            self.label_token_index.append(
                [first + column - begin if begin <= column < end else -1 for column in range(len(template.ids))]
            )
            self.label_token_ids += template.ids[begin:end]

    def list_index(self, list_names: Sequence[str] | torch.Tensor, batch: int) -> torch.Tensor:
        """Return the names of label lists (or their indices in `names`) as a tensor (batch,).

        Raises:
            TypeError: Neither a list of strings nor a tensor of integers.
            ValueError: Not one a row, or a list that does not exist.
        """
        device = self.pass_counts.device
        if isinstance(list_names, torch.Tensor):
            index = list_names.to(device)
            if index.is_floating_point():
                raise TypeError(f"`list_names` as a tensor must hold indices of label lists, got {index.dtype}")
        else:
            if isinstance(list_names, str) or not all(isinstance(name, str) for name in list_names):
                raise TypeError(f"`list_names` must be a list with one name per row, got {list_names!r}")
            unknown = sorted(set(list_names) - set(self.names))
            if unknown:
                raise ValueError(
                    f"`list_names` names lists that do not exist: {', '.join(map(repr, unknown))}; there are "
                    f"{', '.join(map(repr, self.names))} (add_label_list adds one)"
                )
            index = torch.tensor([self.names.index(name) for name in list_names], device=device)
        if index.shape != (batch,):
            raise ValueError(f"`list_names` has {len(list_names)} names, but the batch has {batch} rows")
        return index

    def passes(self, list_names: Sequence[str] | torch.Tensor | None, batch: int) -> list[torch.Tensor]:
        """Return which template every row takes, pass by pass, (batch,) each.

        A row whose list needs fewer passes than others in the batch repeats its last one.

        Args:
            list_names: See `list_index`; `None`: the wrapper's own list.
            batch: Number of rows.
        """
        count = max(len(own.templates) for own in self._wanted(list_names))
        if list_names is None:
            return [torch.full((batch,), number, device=self.pass_counts.device) for number in range(count)]
        index = self.list_index(list_names, batch)
        first, last = self.first_template[index], self.pass_counts[index] - 1
        return [first + last.clamp(max=number) for number in range(count)]

    def width(self, list_names: Sequence[str] | torch.Tensor | None) -> int:
        """Return the columns of the logits: the classes of the largest list in the batch (of all, for a tensor)."""
        return max(own.num_classes for own in self._wanted(list_names))

    def _wanted(self, list_names: Sequence[str] | torch.Tensor | None) -> list[LabelList]:
        if list_names is None:
            return self._lists[:1]
        if isinstance(list_names, torch.Tensor):
            return self._lists
        return [own for name, own in zip(self.names, self._lists, strict=True) if name in list_names] or self._lists

    def place(self, logits: torch.Tensor, template_index: torch.Tensor, into: torch.Tensor) -> torch.Tensor:
        """Put logits by column (batch, columns) to their classes in `into` (batch, classes)."""
        classes = self.classes[template_index]
        # Columns that a row's template does not have go to a column that is cut off again.
        wide = torch.cat([into, into[:, :1]], dim=1)
        target = torch.where(classes < 0, into.shape[1], classes)
        return wide.scatter(1, target, logits.to(into.dtype))[:, :-1]
