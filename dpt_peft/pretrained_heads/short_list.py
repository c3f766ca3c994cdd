"""Templates with a list of its own for every row, for classes too many to stand in one template together."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from .splice import RowLayout, Tables, TemplateSplicer, read_from
from .template import ResolvedTemplate, resolve_template


class ShortListSplicer(TemplateSplicer):
    """Splices a template whose list holds, for every row, the classes that are asked for.

    The wordpieces of all classes are one table, from which every row gathers its own; what a batch costs does not
    depend on the number of classes. Without classes a row stays what the tokenizer made: texts between special tokens.

    Args:
        template: The template with all classes in it.
        most: Most classes of a row.
        layout: As for `TemplateSplicer`.

    Raises:
        ValueError: The longest list leaves no room for the text.
    """

    pieces: Any

    def __init__(self, template: ResolvedTemplate, most: int, layout: RowLayout) -> None:
        ids = template.ids
        words = [ids[start:end] for start, end in template.label_spans]
        first, second, *_ = sorted(template.label_spans)
        begin, end = first[0], max(end for _, end in template.label_spans)
        before = [layout.cls_token_id, *ids[:begin]]
        between, after = ids[first[1] : second[0]], [*ids[end:], layout.sep_token_id]
        longest = sorted(map(len, words), reverse=True)[:most]
        width = len(before) + sum(longest) + (most - 1) * len(between) + len(after)
        if width >= layout.max_length:
            raise ValueError(
                f"no room for the text: the template with its {most} longest classes takes {width} of `max_length` = "
                f"{layout.max_length} tokens. Use a smaller `short_list` or shorter label words"
            )
        # The first is read without a list; the second has the places of a pair's texts in the template.
        bare = [ResolvedTemplate((), (), (), ()), ResolvedTemplate((), (), (), (), template.slots)]
        super().__init__(bare, layout)
        pieces = [before, between, after, *words]
        self.pieces = Tables(
            ids=[token for piece in pieces for token in piece],
            starts=list(accumulate(map(len, pieces), initial=0)),
            lengths=list(map(len, pieces)),
        )
        self.width, self.longest_label = width, longest[0]
        # The list belongs to the piece of the template that it stands in.
        head, tail = len(template.prefix_ids), len(template.prefix_ids) + len(template.between_ids)
        self._head_length, self._tail_start = 1 + head, 1 + tail
        self._in_head, self._before_tail = begin < head, begin < tail
        self._list_length = end - begin

    def _lines(self, template_index: torch.Tensor | None) -> dict[str, torch.Tensor]:
        """Return the lines of the bare template, or of the lists.

        Args:
            template_index: None: no list; else (batch, listed), the classes that each row's list holds.
        """
        if template_index is None:
            return super()._lines(None)
        # before, class, between, class, ..., between, class, after: as numbers of pieces
        listed = torch.stack([template_index + 3, torch.ones_like(template_index)], dim=2).flatten(1)[:, :-1]
        row = nn.functional.pad(nn.functional.pad(listed, (1, 0), value=0), (0, 1), value=2)
        lengths = self.pieces.lengths[row]
        ends = lengths.cumsum(1)
        moved = ends[:, -2:-1] - lengths[:, :1] - self._list_length
        named = {name: getattr(self, name)[1:2] for name in ("names_both", "second_first")}
        return named | {
            "ids": self.pieces.ids[read_from(self.pieces.starts[row], lengths, self.width)],
            "length": ends[:, -1:],
            "head_length": self._head_length + (moved if self._in_head else torch.zeros_like(moved)),
            "tail_start": self._tail_start + (moved if self._before_tail else torch.zeros_like(moved)),
            "label_columns": (ends - lengths)[:, 1::2],
            "label_lengths": lengths[:, 1::2],
        }


def check_any_can_be_first(
    template: str, words: Sequence[str], tokenizer: PreTrainedTokenizerBase, separator: str, wordpieces: str
) -> None:
    """Check that words have the same tokens as the first of a list and behind others: a short list may begin with any.

    Raises:
        ValueError: They have not; with a byte-level vocabulary and "({labels})", say.
    """
    found = []
    for order in ([0, 1], [1, 0]):
        filled = resolve_template(
            template, words[:2], tokenizer, order, label_separator=separator, wordpieces=wordpieces
        )
        found.append([filled.ids[slice(*span)] for span in filled.label_spans])
    if found[0] != found[1]:
        raise ValueError(
            f"`short_list`: in `template` {template!r} a class has other tokens as the first of the list than behind "
            "others; put a blank before {labels}"
        )
