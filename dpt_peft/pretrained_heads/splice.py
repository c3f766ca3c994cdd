"""Puts templates into a batch of ordinary tokenizer output, without a loop over rows.

Input rows: `[CLS] a [SEP]` or `[CLS] a [SEP] b [SEP]`, padded on either side, special tokens optional.
Output rows: `[CLS] prefix a ([SEP] b) suffix [SEP]`, padded on the right; with a template that names both texts,
`[CLS] prefix a between b suffix [SEP]`, or b before a.

A splicer holds a bank of templates, and every row of a batch may name its own (`template_index`): the tasks that one
backbone serves, the nodes of a label hierarchy, the parts of a list of classes too long for one row. The templates are
tables padded to the longest one; a row gathers its line of each table, so a bank of a thousand costs what one costs.
Templates may have different numbers of classes: `label_lengths` is zero where a row has no such class.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import nn
from transformers import initialization as init

from .template import ResolvedTemplate


class SplicedInputs(NamedTuple):
    """A batch with the templates in it. `classes` is the number of classes of the largest template of the bank.

    Attributes:
        input_ids: (batch, length).
        attention_mask: (batch, length), integers.
        token_type_ids: (batch, length), or `None` where none were given.
        label_positions: (batch, classes): the column of every class's first wordpiece. Columns of `logits` follow the
            label words, not their order in the template. 0 where the row's template has no such class.
        label_lengths: (batch, classes): the number of a class's wordpieces, which stand side by side. 0 where the
            row's template has no such class.
        label_tokens: (batch, length): which token of the splicer's `label_tokens` stands in a column, -1 for none;
            `None` where the splicer has no such tokens.
    """

    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    token_type_ids: torch.Tensor | None
    label_positions: torch.Tensor
    label_lengths: torch.Tensor
    label_tokens: torch.Tensor | None = None

    @property
    def label_mask(self) -> torch.Tensor:
        """(batch, classes), true where the row's template has the class."""
        return self.label_lengths > 0


class _Lines(NamedTuple):
    """The lines of the bank's tables that a batch uses: (batch, ...), or (1, ...) where all rows share a template."""

    ids: torch.Tensor
    length: torch.Tensor
    first_slot: torch.Tensor
    second_slot: torch.Tensor
    by_name: torch.Tensor
    second_first: torch.Tensor
    label_columns: torch.Tensor
    label_lengths: torch.Tensor
    label_tokens: torch.Tensor


class _Texts(NamedTuple):
    """Where the texts of every row stand in the input, (batch, 1) each."""

    row_start: torch.Tensor
    row_end: torch.Tensor
    first_start: torch.Tensor
    first_length: torch.Tensor
    separators: torch.Tensor
    second_start: torch.Tensor
    second_length: torch.Tensor


class TemplateSplicer(nn.Module):
    """Splices templates into batches of token ids; only the text is cut to fit, never a template.

    Args:
        templates: The bank, at least one. A row is spliced with the first one unless it names another.
        max_length: Longest row that comes out, in tokens.
        cls_token_id: Id of the first token of every row.
        sep_token_id: Id of the last token of every row and of the separator between a pair.
        pad_token_id: Id that fills short rows.
        label_tokens: For every template and every one of its `ids`, which token of a table of its own stands there
            (the released code's label tokens), -1 for none. `SplicedInputs.label_tokens` then says where they are.

    Attributes:
        num_classes: Classes of the largest template.
        num_wordpieces: Wordpieces of the longest class.

    Raises:
        ValueError: There is no template, or one leaves no room for the text.
    """

    def __init__(
        self,
        templates: Sequence[ResolvedTemplate],
        *,
        max_length: int,
        cls_token_id: int,
        sep_token_id: int,
        pad_token_id: int,
        label_tokens: Sequence[Sequence[int]] | None = None,
    ) -> None:
        super().__init__()
        if not templates:
            raise ValueError("`templates` is empty: a splicer needs at least one template")
        self.max_length = max_length
        self.cls_token_id = cls_token_id
        self.sep_token_id = sep_token_id
        self.pad_token_id = pad_token_id
        self.num_templates = len(templates)
        self.num_classes = max(len(template.label_spans) for template in templates)
        self.num_wordpieces = max(end - start for template in templates for start, end in template.label_spans)
        self._names_both_texts = any(len(template.slots) == 2 for template in templates)
        rows = [[cls_token_id, *template.ids, sep_token_id] for template in templates]
        self._width = max(map(len, rows))
        for template, row in zip(templates, rows, strict=True):
            if len(row) >= max_length:
                raise ValueError(
                    f"no room for the text: the template with its {len(template.label_spans)} classes takes "
                    f"{len(row)} of `max_length` = {max_length} tokens. Use fewer or shorter label words, a larger "
                    "`max_length`, several passes over the text (`classes_per_pass`), or for many classes a "
                    "hierarchy of labels (`dpt_peft.LabelTree`)"
                )
        first_slots = [1 + len(template.prefix_ids) for template in templates]
        self._tables: dict[str, list] = {
            "ids": _padded(rows, pad_token_id),
            "length": [[len(row)] for row in rows],
            "first_slot": [[column] for column in first_slots],
            "second_slot": [
                [column + len(template.between_ids)] for column, template in zip(first_slots, templates, strict=True)
            ],
            "by_name": [[len(template.slots) == 2] for template in templates],
            "second_first": [[template.slots[0] == "text_b"] for template in templates],
            "label_columns": _padded([[1 + start for start, _ in t.label_spans] for t in templates], 0),
            "label_lengths": _padded([[end - start for start, end in t.label_spans] for t in templates], 0),
        }
        self._has_label_tokens = label_tokens is not None
        own = [[-1, *tokens, -1] for tokens in label_tokens] if label_tokens is not None else [[-1]] * len(templates)
        self._tables["label_tokens"] = _padded(own, -1)
        for name, table in self._tables.items():
            setattr(self, f"_{name}", nn.Buffer(torch.tensor(table), persistent=False))

    def reset_buffers(self) -> None:
        """Fill the buffers again after transformers has made the model on the meta device."""
        for name, table in self._tables.items():
            init.copy_(getattr(self, f"_{name}"), torch.tensor(table))

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        template_index: torch.Tensor | None = None,
    ) -> SplicedInputs:
        """Splice the templates in.

        A row's text runs from its first to its last visible token. A text too long for `max_length` loses its end; of
        a pair the longer text loses first, as with the tokenizers' `longest_first`. Template tokens before the text
        take the token type of the text's first token, those behind it the type of the last, and those between two
        texts the type of the text before them.

        Args:
            input_ids: (batch, length), ordinary tokenizer output.
            attention_mask: (batch, length), zero = padding. Default: everything but the padding id is visible.
            token_type_ids: (batch, length).
            template_index: (batch,), integers: which template each row takes. Default: all take the first.

        Raises:
            ValueError: `template_index` is not one integer a row.
        """
        if input_ids.shape[1] == 0:
            # Texts without a single token: one column of padding lets the arithmetic below hold.
            input_ids = input_ids.new_full((input_ids.shape[0], 1), self.pad_token_id)
            attention_mask = torch.zeros_like(input_ids)
            token_type_ids = None if token_type_ids is None else torch.zeros_like(input_ids)
        batch, length = input_ids.shape
        if attention_mask is None:
            attention_mask = input_ids.ne(self.pad_token_id)
        visible = attention_mask.ne(0)
        lines = self._lines(template_index, batch)
        texts = self._texts(input_ids, visible)

        # A separator inside the row is part of the text, unless the template says what stands between the texts.
        separators = texts.separators.masked_fill(lines.by_name, 0) if self._names_both_texts else texts.separators
        room = self.max_length - lines.length
        first_kept, second_kept = _fit(texts.first_length, texts.second_length, (room - separators).clamp(min=0))
        text_length = torch.minimum(first_kept + separators + second_kept, room)

        # Every output column is read from [template | input], so one gather each does the work.
        out = torch.arange(self._output_length(lines.length + text_length, length), device=input_ids.device)
        at = out - lines.first_slot
        skipped = (at >= first_kept) * (texts.first_length - first_kept)
        in_slot = text_length
        start = texts.first_start
        if self._names_both_texts:
            skipped = skipped.masked_fill(lines.by_name, 0)
            in_slot = torch.where(lines.by_name, torch.where(lines.second_first, second_kept, first_kept), text_length)
            start = torch.where(lines.second_first, texts.second_start, texts.first_start)
        index = torch.where(out < lines.first_slot, out, out - in_slot)
        columns = lines.label_columns
        positions = columns + (columns >= lines.first_slot) * in_slot
        if self._names_both_texts:
            # The second slot; it is empty in the rows of templates with one {text}.
            in_second_slot = text_length - in_slot
            positions = positions + (columns >= lines.second_slot) * in_second_slot
            at_second = out - lines.second_slot - in_slot
            second_start = torch.where(lines.second_first, texts.first_start, texts.second_start)
            index = torch.where(at_second < 0, index, out - text_length)
            index = torch.where(
                (at_second >= 0) & (at_second < in_second_slot), self._width + second_start + at_second, index
            )
        index = torch.where((at >= 0) & (at < in_slot), self._width + start + at + skipped, index)
        real = out < lines.length + text_length
        index = torch.where(real, index, 0)

        def spliced(template_values: torch.Tensor, values: torch.Tensor, fill: int) -> torch.Tensor:
            template_values = template_values.expand(batch, -1)
            source = torch.cat([template_values, values.to(template_values.dtype)], dim=1)
            return torch.where(real, source.gather(1, index), fill)

        if token_type_ids is not None:
            token_type_ids = spliced(self._template_types(token_type_ids, texts, lines), token_type_ids, 0)
        return SplicedInputs(
            input_ids=spliced(lines.ids, input_ids, self.pad_token_id),
            attention_mask=spliced(torch.ones_like(lines.ids), visible, 0),
            token_type_ids=token_type_ids,
            label_positions=positions,
            label_lengths=lines.label_lengths.expand(batch, -1),
            label_tokens=(
                spliced(lines.label_tokens, torch.full_like(input_ids, -1), -1) if self._has_label_tokens else None
            ),
        )

    def _lines(self, template_index: torch.Tensor | None, batch: int) -> _Lines:
        tables = (getattr(self, f"_{name}") for name in _Lines._fields)
        if template_index is None:
            return _Lines(*(tables if self.num_templates == 1 else (table[:1] for table in tables)))
        if template_index.shape != (batch,) or template_index.is_floating_point():
            raise ValueError(
                f"`template_index` must be one integer for each of {batch} rows, "
                f"got {template_index.dtype} of shape {tuple(template_index.shape)}"
            )
        return _Lines(*(table.index_select(0, template_index) for table in tables))

    def _texts(self, input_ids: torch.Tensor, visible: torch.Tensor) -> _Texts:
        length = input_ids.shape[1]
        columns = torch.arange(length, device=input_ids.device)
        # Where the row begins and ends, special tokens at its ends left out.
        row_start = _first_true(visible, columns, length)
        row_end = torch.where(visible, columns + 1, 0).amax(1, keepdim=True)
        has_cls = (input_ids.eq(self.cls_token_id) & columns.eq(row_start)).any(1, keepdim=True)
        has_sep = (input_ids.eq(self.sep_token_id) & columns.eq(row_end - 1)).any(1, keepdim=True)
        start = row_start + has_cls.long()
        end = torch.maximum(row_end - has_sep.long(), start)

        # The pair's separator: one token, or two (RoBERTa). Without one, the first text is all there is.
        separator = input_ids.eq(self.sep_token_id) & (columns >= start) & (columns < end)
        boundary = torch.minimum(_first_true(separator, columns, length), end)
        separators = (separator & (columns >= boundary) & (columns <= boundary + 1)).sum(1, keepdim=True)
        second_start = boundary + separators
        return _Texts(row_start, row_end, start, boundary - start, separators, second_start, end - second_start)

    def _output_length(self, row_length: torch.Tensor, input_length: int) -> int:
        if torch.compiler.is_compiling():
            return min(input_length + self._width, self.max_length)
        # Reading the longest row costs one wait for the device, as building the attention mask does anyway, and saves
        # the columns that all rows have as padding.
        return int(row_length.amax())

    def _template_types(self, token_type_ids: torch.Tensor, texts: _Texts, lines: _Lines) -> torch.Tensor:
        last_column = token_type_ids.shape[1] - 1
        at_cls, left, right = (
            token_type_ids.gather(1, column.clamp(0, last_column)).long()
            for column in (texts.row_start, texts.first_start, texts.row_end - 1)
        )
        if self._names_both_texts:
            left, right = (
                torch.where(lines.second_first, right, left),
                torch.where(lines.second_first, left, right),
            )
        columns = torch.arange(self._width, device=token_type_ids.device)
        return torch.where(columns == 0, at_cls, torch.where(columns < lines.second_slot, left, right))


def _fit(first: torch.Tensor, second: torch.Tensor, budget: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """How much of both texts stays within the budget; the longer one is cut first."""
    shorter = torch.minimum(torch.minimum(first, second), budget // 2)
    first_is_shorter = first <= second
    first_kept = torch.where(first_is_shorter, shorter, torch.minimum(first, budget - shorter))
    second_kept = torch.where(first_is_shorter, torch.minimum(second, budget - shorter), shorter)
    return first_kept, second_kept


def _first_true(condition: torch.Tensor, columns: torch.Tensor, otherwise: int) -> torch.Tensor:
    return torch.where(condition, columns, otherwise).amin(1, keepdim=True)


def _padded(rows: list[list[int]], fill: int) -> list[list[int]]:
    width = max(map(len, rows))
    return [row + [fill] * (width - len(row)) for row in rows]
