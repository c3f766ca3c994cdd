"""Tasks that one discriminator serves: label words in templates, and where every class's score comes from.

A task is a list of label words and its template in token ids: one template with all classes, or several that share the
classes out, for a list too long for one row (each of them is one pass over the text; Eq. 2 scores every class by
itself). A `TaskBank` puts the templates of all tasks into one bank and knows, for every template, which class of which
task each of its columns is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase, initialization as init

from .template import (
    DEFAULT_SEPARATOR,
    DEFAULT_TEMPLATE,
    ResolvedTemplate,
    check_label_words,
    resolve_label_order,
    resolve_template,
)

OWN_TASK = "default"
"""Name of the task that a wrapper was made for, beside those added later."""


def resolve_task(
    tokenizer: PreTrainedTokenizerBase,
    label_words: Sequence[str],
    *,
    template: str = DEFAULT_TEMPLATE,
    label_order: Sequence[int] | int | None = None,
    label_separator: str = DEFAULT_SEPARATOR,
    wordpieces: str = "first",
    classes_per_pass: int | None = None,
    vocab_size: int,
    minimum: int = 2,
) -> dict[str, Any]:
    """Turn the choices for a task into what a config keeps of it.

    Args:
        tokenizer: Tokenizer of the discriminator.
        label_words: One word a class.
        template: Template string.
        label_order: `None`, a seed, or a permutation.
        label_separator: What stands between two classes.
        wordpieces: `"first"`, `"mean"` or `"max"`.
        classes_per_pass: Classes in one template at most; `None`: all.
        vocab_size: Number of tokens that the discriminator knows.
        minimum: Fewest classes allowed.

    Returns:
        The choices, with the order as a permutation, and the `templates` in token ids.

    Raises:
        TypeError, ValueError: They cannot work together.
    """
    words = check_label_words(label_words, minimum=minimum)
    order = resolve_label_order(label_order, len(words))
    if classes_per_pass is not None and (not isinstance(classes_per_pass, int) or classes_per_pass < 1):
        raise ValueError(f"`classes_per_pass` must be a positive number of classes, got {classes_per_pass!r}")
    templates = []
    for classes in _classes_of_templates(order, classes_per_pass):
        # Words of the pass, in class order where it has all of them; the template keeps the order that was chosen.
        in_order = [index for index in order if index in set(classes)]
        resolved = resolve_template(
            template,
            [words[index] for index in classes],
            tokenizer,
            [classes.index(index) for index in in_order],
            label_separator=label_separator,
            wordpieces=wordpieces,
        )
        highest = max(resolved.ids)
        if highest >= vocab_size:
            raise ValueError(
                f"`tokenizer` gives the id {highest}, but the discriminator knows {vocab_size} tokens: it is not the "
                "tokenizer of this discriminator"
            )
        templates.append(resolved.to_dict())
    return {
        "label_words": words,
        "template": template,
        "label_order": order,
        "label_separator": label_separator,
        "classes_per_pass": classes_per_pass,
        "templates": templates,
    }


def _classes_of_templates(order: Sequence[int], classes_per_pass: int | None) -> list[list[int]]:
    """The classes of every template, in the order of its columns."""
    size = classes_per_pass or len(order)
    return [sorted(order[start : start + size]) for start in range(0, len(order), size)]


@dataclass(frozen=True)
class Task:
    """One task.

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
    def from_config(cls, values: Mapping[str, Any]) -> Task:
        """The task that `resolve_task` has described."""
        count = len(values["label_words"])
        return cls(
            num_classes=count,
            templates=tuple(ResolvedTemplate.from_dict(template) for template in values["templates"]),
            classes=tuple(map(tuple, _classes_of_templates(values["label_order"], values.get("classes_per_pass")))),
            calibration=tuple(values.get("calibration") or [0.0] * count),
        )


class TaskBank(nn.Module):
    """The templates of all tasks as one bank, and the way from their columns to the classes of each task.

    Args:
        tasks: Tasks by name; the first one is the wrapper's own.

    Attributes:
        names: Names of the tasks.
        templates: All templates, task by task.
        label_token_ids: The wordpieces of all label lists (separators between classes too), template by template.
        label_tokens: For every template and every id in it, its index in `label_token_ids`, -1 outside of the list.
        num_classes: Number of classes of all tasks together.
    """

    _classes: torch.Tensor
    _rows: torch.Tensor
    _first_template: torch.Tensor
    _passes: torch.Tensor
    _calibration: torch.Tensor

    def __init__(self, tasks: Mapping[str, Task]) -> None:
        super().__init__()
        self.names = list(tasks)
        self._tasks = list(tasks.values())
        self.templates = [template for task in self._tasks for template in task.templates]
        self.num_classes = sum(task.num_classes for task in self._tasks)
        self.label_token_ids: list[int] = []
        self.label_tokens: list[list[int]] = []
        for template in self.templates:
            begin = min(start for start, _ in template.label_spans)
            end = max(end for _, end in template.label_spans)
            first = len(self.label_token_ids)
            self.label_tokens.append(
                [first + column - begin if begin <= column < end else -1 for column in range(len(template.ids))]
            )
            self.label_token_ids += template.ids[begin:end]

        width = max(len(template.label_spans) for template in self.templates)
        classes, rows, first_templates, passes = [], [], [], []
        offset = count = 0
        for task in self._tasks:
            first_templates.append(count)
            passes.append(len(task.templates))
            count += len(task.templates)
            for columns in task.classes:
                filler = [-1] * (width - len(columns))
                classes.append([*columns, *filler])
                rows.append([*(offset + column for column in columns), *(0 for _ in filler)])
            offset += task.num_classes
        self._tables: dict[str, list] = {
            "classes": classes,
            "rows": rows,
            "first_template": first_templates,
            "passes": passes,
            "calibration": [bias for task in self._tasks for bias in task.calibration],
        }
        for name, table in self._tables.items():
            setattr(self, f"_{name}", nn.Buffer(torch.tensor(table), persistent=False))
        self.is_calibrated = any(self._tables["calibration"])

    def reset_buffers(self) -> None:
        """Fill the buffers again after transformers has made the model on the meta device."""
        for name, table in self._tables.items():
            init.copy_(getattr(self, f"_{name}"), torch.tensor(table))

    def task_index(self, task_names: Sequence[str] | torch.Tensor, batch: int) -> torch.Tensor:
        """Task names (or their indices in `names`) as a tensor (batch,).

        Raises:
            TypeError: Neither a list of strings nor a tensor of integers.
            ValueError: Not one a row, or a task that does not exist.
        """
        if isinstance(task_names, torch.Tensor):
            index = task_names.to(self._passes.device)
            if index.is_floating_point():
                raise TypeError(f"`task_names` as a tensor must hold indices of tasks, got {index.dtype}")
        else:
            if isinstance(task_names, str) or not all(isinstance(name, str) for name in task_names):
                raise TypeError(f"`task_names` must be a list with one task name per row, got {task_names!r}")
            unknown = sorted(set(task_names) - set(self.names))
            if unknown:
                raise ValueError(
                    f"`task_names` names tasks that do not exist: {', '.join(map(repr, unknown))}; there are "
                    f"{', '.join(map(repr, self.names))} (add_task adds one)"
                )
            index = torch.tensor([self.names.index(name) for name in task_names], device=self._passes.device)
        if index.shape != (batch,):
            raise ValueError(f"`task_names` has {len(task_names)} names, but the batch has {batch} rows")
        return index

    def passes(self, task_names: Sequence[str] | torch.Tensor | None, batch: int) -> list[torch.Tensor | None]:
        """Which template every row takes, pass by pass; `None`: all take the first of the bank.

        A row whose task needs fewer passes than others in the batch repeats its last one.

        Args:
            task_names: See `task_index`; `None`: the wrapper's own task.
            batch: Number of rows.
        """
        count = max(len(task.templates) for task in self._wanted(task_names))
        if task_names is None and count == 1:
            return [None]
        if task_names is None:
            return [torch.full((batch,), number, device=self._passes.device) for number in range(count)]
        task_index = self.task_index(task_names, batch)
        first, last = self._first_template[task_index], self._passes[task_index] - 1
        return [first + last.clamp(max=number) for number in range(count)]

    def width(self, task_names: Sequence[str] | torch.Tensor | None) -> int:
        """Columns of the logits: the classes of the largest task in the batch (of all, if names are a tensor)."""
        return max(task.num_classes for task in self._wanted(task_names))

    def _wanted(self, task_names: Sequence[str] | torch.Tensor | None) -> list[Task]:
        if task_names is None:
            return self._tasks[:1]
        if isinstance(task_names, torch.Tensor):
            return self._tasks
        return [task for name, task in zip(self.names, self._tasks, strict=True) if name in task_names] or self._tasks

    def class_rows(self, template_index: torch.Tensor | None) -> torch.Tensor:
        """(batch or 1, columns): the number of every column's class, counted through all tasks."""
        return self._rows[:1] if template_index is None else self._rows[template_index]

    def calibrated(self, logits: torch.Tensor, template_index: torch.Tensor | None) -> torch.Tensor:
        """Logits by column, less the calibration of their classes."""
        return logits - self._calibration.to(logits.dtype)[self.class_rows(template_index)]

    def place(self, logits: torch.Tensor, template_index: torch.Tensor, into: torch.Tensor) -> torch.Tensor:
        """Put logits by column (batch, columns) to their classes in `into` (batch, classes)."""
        classes = self._classes[template_index]
        # Columns that a row's template does not have go to a column that is cut off again.
        wide = torch.cat([into, into[:, :1]], dim=1)
        target = torch.where(classes < 0, into.shape[1], classes)
        return wide.scatter(1, target, logits.to(into.dtype))[:, :-1]
