"""Templates with a list of its own for every row, for classes too many to stand in one template together."""

from __future__ import annotations

from typing import Any

import torch

from .splice import TemplateSplicer
from .template import ResolvedTemplate


class ShortListSplicer(TemplateSplicer):
    """Splices a template whose list holds, for every row, the classes that are asked for.

    The wordpieces of all classes are one table, from which every row gathers its own; what a batch costs does not
    depend on the number of classes. Without classes a row stays what the tokenizer made: texts between special tokens.

    Args:
        template: The template with all classes in it.
        most: Most classes of a row.
        **options: As for `TemplateSplicer`.

    Raises:
        ValueError: The longest list leaves no room for the text.
    """

    before: torch.Tensor
    between: torch.Tensor
    after: torch.Tensor
    class_ids: torch.Tensor
    class_lengths: torch.Tensor

    def __init__(self, template: ResolvedTemplate, most: int, **options: Any) -> None:
        ids, pad = template.ids, options["pad_token_id"]
        words = [ids[start:end] for start, end in template.label_spans]
        first, second, *_ = sorted(template.label_spans)
        begin, end = first[0], max(end for _, end in template.label_spans)
        before = [options["cls_token_id"], *ids[:begin]]
        between, after = ids[first[1] : second[0]], [*ids[end:], options["sep_token_id"]]
        longest = sorted(map(len, words), reverse=True)[:most]
        width = len(before) + sum(longest) + (most - 1) * len(between) + len(after)
        if width >= options["max_length"]:
            raise ValueError(
                f"no room for the text: the template with its {most} longest classes takes {width} of `max_length` = "
                f"{options['max_length']} tokens. Use a smaller `short_list` or shorter label words"
            )
        # The first is read without a list; the second has the places of a pair's texts in the template.
        bare = [ResolvedTemplate((), (), (), ()), ResolvedTemplate((), (), (), (), template.slots)]
        columns = torch.arange(max(map(len, words)))
        tables = {
            "before": before,
            "between": [*between, pad],  # never empty, so that it can be indexed
            "after": after,
            "class_ids": [[*word, *[pad] * (len(columns) - len(word))] for word in words],
            "class_lengths": [len(word) for word in words],
        }
        super().__init__(bare, **options, further=tables)
        self.width, self.longest_label = width, len(columns)
        self._between = len(between)
        # The list belongs to the piece of the template that it stands in.
        head, tail = len(template.prefix_ids), len(template.prefix_ids) + len(template.between_ids)
        self._head_length, self._tail_start = 1 + head, 1 + tail
        self._in_head, self._before_tail = begin < head, begin < tail
        self._list_length = end - begin

    def _lines(self, template_index: torch.Tensor | None, batch: int) -> dict[str, torch.Tensor]:
        """Return the lines of the bare template, or of the lists.

        Args:
            template_index: None: no list; else (batch, listed), the classes that each row's list holds.
            batch: Number of rows.
        """
        if template_index is None:
            return super()._lines(None, batch)
        classes = template_index
        words, gap = self.class_lengths[classes], self._between
        steps = words + gap
        starts = len(self.before) + steps.cumsum(1) - steps
        ends = starts[:, -1:] + words[:, -1:]
        column = torch.arange(self.width, device=classes.device).expand(batch, -1)
        slot = (column.unsqueeze(-1) >= starts.unsqueeze(1)).sum(-1) - 1
        place = slot.clamp(min=0)
        offset = column - starts.gather(1, place)
        word = words.gather(1, place)
        own = self.class_ids[classes.gather(1, place), offset.clamp(0, self.class_ids.shape[1] - 1)]
        behind = (offset - word).clamp(min=0)
        ids = torch.where(offset < word, own, self.between[behind.clamp(max=gap)])
        ids = torch.where(slot < 0, self.before[column.clamp(max=len(self.before) - 1)], ids)
        tail = (column - ends).clamp(0, len(self.after) - 1)
        ids = torch.where(column >= ends, self.after[tail], ids)
        length = ends + len(self.after)
        moved = ends - len(self.before) - self._list_length
        named = {name: getattr(self, name)[1:2] for name in ("names_both", "second_first")}
        return named | {
            "ids": ids,
            "length": length,
            "head_length": self._head_length + (moved if self._in_head else torch.zeros_like(moved)),
            "tail_start": self._tail_start + (moved if self._before_tail else torch.zeros_like(moved)),
            "label_columns": starts,
            "label_lengths": words,
        }
