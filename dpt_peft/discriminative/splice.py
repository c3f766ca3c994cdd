"""Puts the template into a batch of ordinary tokenizer output, without a loop over rows.

Input rows: `[CLS] a [SEP]` or `[CLS] a [SEP] b [SEP]`, padded on either side, special tokens optional.
Output rows: `[CLS] prefix a ([SEP] b) suffix [SEP]`, padded on the right.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import nn
from transformers import initialization as init


class SplicedInputs(NamedTuple):
    """A batch with the template in it.

    Attributes:
        input_ids: (batch, length).
        attention_mask: (batch, length), integers.
        token_type_ids: (batch, length), or `None` where none were given.
        label_positions: (batch, classes): the column at which every class is read.
    """

    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    token_type_ids: torch.Tensor | None
    label_positions: torch.Tensor


class TemplateSplicer(nn.Module):
    """Splices a template into batches of token ids; only the text is cut to fit, never the template.

    Args:
        prefix_ids: Template ids before the text.
        suffix_ids: Template ids behind the text.
        label_indices: Where every class is read, as indices into `prefix_ids + suffix_ids`.
        max_length: Longest row that comes out, in tokens.
        cls_token_id: Id of the first token of every row.
        sep_token_id: Id of the last token of every row and of the separator between a pair.
        pad_token_id: Id that fills short rows.

    Raises:
        ValueError: The template leaves no room for the text.
    """

    def __init__(
        self,
        prefix_ids: Sequence[int],
        suffix_ids: Sequence[int],
        label_indices: Sequence[int],
        *,
        max_length: int,
        cls_token_id: int,
        sep_token_id: int,
        pad_token_id: int,
    ) -> None:
        super().__init__()
        self._template_ids = [cls_token_id, *prefix_ids, *suffix_ids, sep_token_id]
        self._label_columns = [1 + index for index in label_indices]
        if len(self._template_ids) >= max_length:
            raise ValueError(
                f"no room for the text: the template with its {len(label_indices)} classes takes "
                f"{len(self._template_ids)} of `max_length` = {max_length} tokens. "
                "Use fewer or shorter label words, or a larger `max_length`"
            )
        self.max_length = max_length
        self.cls_token_id = cls_token_id
        self.sep_token_id = sep_token_id
        self.pad_token_id = pad_token_id
        self.text_column = 1 + len(prefix_ids)
        self.template_ids = nn.Buffer(torch.tensor(self._template_ids), persistent=False)
        self.label_columns = nn.Buffer(torch.tensor(self._label_columns), persistent=False)

    def reset_buffers(self) -> None:
        """Fill the buffers again after transformers has made the model on the meta device."""
        init.copy_(self.template_ids, torch.tensor(self._template_ids))
        init.copy_(self.label_columns, torch.tensor(self._label_columns))

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
    ) -> SplicedInputs:
        """Splice the template in.

        A row's text runs from its first to its last visible token. A text too long for `max_length` loses its end; of
        a pair the longer text loses first, as with the tokenizers' `longest_first`. Template tokens before the text
        take the token type of the text's first token, those behind it the type of the last.

        Args:
            input_ids: (batch, length), ordinary tokenizer output.
            attention_mask: (batch, length), zero = padding. Default: everything but the padding id is visible.
            token_type_ids: (batch, length).
        """
        if input_ids.shape[1] == 0:
            # Texts without a single token: one column of padding lets the arithmetic below hold.
            input_ids = input_ids.new_full((input_ids.shape[0], 1), self.pad_token_id)
            attention_mask = torch.zeros_like(input_ids)
            token_type_ids = None if token_type_ids is None else torch.zeros_like(input_ids)
        batch, length = input_ids.shape
        template = self.template_ids.expand(batch, -1)
        template_length = self.template_ids.shape[0]
        if attention_mask is None:
            attention_mask = input_ids.ne(self.pad_token_id)
        visible = attention_mask.ne(0)
        columns = torch.arange(length, device=input_ids.device)

        # Where the row begins and ends, special tokens at its ends left out. (batch, 1) each, as all that follows.
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
        first_length = boundary - start
        second_length = end - boundary - separators

        room = self.max_length - template_length
        budget = (room - separators).clamp(min=0)
        shorter = torch.minimum(torch.minimum(first_length, second_length), budget // 2)
        first_is_shorter = first_length <= second_length
        first_kept = torch.where(first_is_shorter, shorter, torch.minimum(first_length, budget - shorter))
        second_kept = torch.where(first_is_shorter, torch.minimum(second_length, budget - shorter), shorter)
        text_length = (first_kept + separators + second_kept).clamp(max=room)

        # Every output column is read from [template | input], so one gather each does the work.
        out = torch.arange(self._output_length(text_length, length), device=input_ids.device)
        within_text = out - self.text_column
        in_text = (within_text >= 0) & (within_text < text_length)
        from_text = template_length + start + within_text + (within_text >= first_kept) * (first_length - first_kept)
        from_template = torch.where(out < self.text_column, out, out - text_length).clamp(0, template_length - 1)
        index = torch.where(in_text, from_text, from_template)
        real = out < template_length + text_length

        def spliced(template_values: torch.Tensor, values: torch.Tensor, fill: int) -> torch.Tensor:
            source = torch.cat([template_values, values.to(template_values.dtype)], dim=1)
            return torch.where(real, source.gather(1, index), fill)

        if token_type_ids is not None:
            token_type_ids = spliced(
                self._template_types(token_type_ids, row_start, start, row_end), token_type_ids, 0
            )
        return SplicedInputs(
            input_ids=spliced(template, input_ids, self.pad_token_id),
            attention_mask=spliced(torch.ones_like(template), visible, 0),
            token_type_ids=token_type_ids,
            label_positions=self.label_columns + (self.label_columns >= self.text_column) * text_length,
        )

    def _output_length(self, text_length: torch.Tensor, input_length: int) -> int:
        template_length = self.template_ids.shape[0]
        if torch.compiler.is_compiling():
            return min(input_length + template_length, self.max_length)
        # Reading the longest row costs one wait for the device, as building the attention mask does anyway, and saves
        # the columns that all rows have as padding.
        return template_length + int(text_length.max())

    def _template_types(
        self, token_type_ids: torch.Tensor, row_start: torch.Tensor, start: torch.Tensor, row_end: torch.Tensor
    ) -> torch.Tensor:
        last_column = token_type_ids.shape[1] - 1
        at_cls, at_start, at_end = (
            token_type_ids.gather(1, column.clamp(0, last_column)).long() for column in (row_start, start, row_end - 1)
        )
        prefix = at_start.expand(-1, self.text_column - 1)
        return torch.cat([at_cls, prefix, at_end.expand(-1, self.template_ids.shape[0] - self.text_column)], dim=1)


def _first_true(condition: torch.Tensor, columns: torch.Tensor, otherwise: int) -> torch.Tensor:
    return torch.where(condition, columns, otherwise).amin(1, keepdim=True)
