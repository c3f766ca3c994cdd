"""Put templates into a batch of ordinary tokenizer output, without a loop over rows, and read the scores of classes.

Input rows: `[CLS] a [SEP]` or `[CLS] a [SEP] b [SEP]`, padded on either side, special tokens optional. Output rows,
padded on the right, are five pieces, each a stretch of the template or of the input:

    piece        head            left       middle              right      tail             padding
    from         template        input      see below           input      template
                 [CLS] prefix    text a     [SEP] or between    text b     suffix [SEP]     [PAD] [PAD]

With one `{text}` the middle is the separator that the tokenizer put into a pair (nothing for a single text); with
`{text_a}` and `{text_b}` it is what the template has between them, and left and right are in the template's order.

    template     "{text} Class: {labels}."   ->  head [CLS], tail "class : bad , good . [SEP]"
    input        [PAD] [CLS] a film [SEP] of news [SEP]
    output       [CLS] | a film | [SEP] | of news | class : bad , good . [SEP]

A splicer holds a bank of templates, and every row of a batch may name its own (`template_index`): the label lists that
one model serves, the nodes of a label hierarchy, the parts of a list of classes too long for one row. The templates
are tables padded to the longest one; a row gathers its line of each table, so a bank of a thousand costs what one
costs. Templates may have different numbers of classes: `label_lengths` is zero where a row has no such class.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import nn
from transformers import initialization as init

from .template import ResolvedTemplate


class Tables(nn.Module):
    """Constant tensors that follow from the config: on the model's device, and in no checkpoint.

    Args:
        **tables: Nested lists of numbers by name. They become buffers of these names.
    """

    def __init__(self, **tables: Any) -> None:
        super().__init__()
        self._tables = tables
        for name, table in tables.items():
            setattr(self, name, nn.Buffer(torch.tensor(table), persistent=False))

    def reset_buffers(self) -> None:
        """Fill the buffers again after transformers has made the model on the meta device."""
        for name, table in self._tables.items():
            init.copy_(getattr(self, name), torch.tensor(table))


class RowLayout(NamedTuple):
    """How rows are laid out.

    Attributes:
        max_length: Longest row that comes out, in tokens.
        cls_token_id: Id of the first token of every row.
        sep_token_id: Id of the last token of every row and of the separator between a pair.
        pad_token_id: Id that fills short rows.
        pair_separators: Separators that the tokenizer puts between the texts of a pair: 1, or 2 (RoBERTa).
        truncation_side: Which end of a text that is too long is cut, `"right"` or `"left"`.
    """

    max_length: int
    cls_token_id: int
    sep_token_id: int
    pad_token_id: int
    pair_separators: int = 1
    truncation_side: str = "right"


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
        text_mask: (batch, length), true where a column comes from the input: the texts, and separators between them.
        label_token_index: (batch, length): which of the model's `label_tokens` stands in a column, -1 for none; `None`
            where it has none.
    """

    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    token_type_ids: torch.Tensor | None
    label_positions: torch.Tensor
    label_lengths: torch.Tensor
    text_mask: torch.Tensor
    label_token_index: torch.Tensor | None = None

    @property
    def label_mask(self) -> torch.Tensor:
        """(batch, classes), true where the row's template has the class."""
        return self.label_lengths > 0


class _Span(NamedTuple):
    """A stretch of columns in every row, (batch, 1) each, or (1, 1) where it is the same in all."""

    start: torch.Tensor
    length: torch.Tensor


class _Texts(NamedTuple):
    """Where the texts of every row and the separators between them stand in the input.

    `runs` (batch, length) is true where a run of separators begins that may divide the row, for lack of token types.
    """

    row: _Span
    first: _Span
    separators: _Span
    second: _Span
    runs: torch.Tensor | None


class TemplateSplicer(Tables):
    """Splices templates into batches of token ids; only the text is cut to fit, never a template.

    Args:
        templates: The bank, at least one. A row is spliced with the first one unless it names another.
        layout: How rows are laid out.
        label_token_index: For every template and every one of its `ids`, which of the model's `label_tokens` (released
            code) stands there, -1 for none.

    Attributes:
        longest_label: Wordpieces of the longest class.

    Raises:
        ValueError: There is no template, or one leaves no room for the text.
    """

    ids: torch.Tensor
    length: torch.Tensor
    head_length: torch.Tensor
    tail_start: torch.Tensor
    names_both: torch.Tensor
    second_first: torch.Tensor
    label_columns: torch.Tensor
    label_lengths: torch.Tensor

    def __init__(
        self,
        templates: Sequence[ResolvedTemplate],
        layout: RowLayout,
        label_token_index: Sequence[Sequence[int]] | None = None,
    ) -> None:
        if not templates:
            raise ValueError("`templates` is empty: a splicer needs at least one template")
        rows = [[layout.cls_token_id, *template.ids, layout.sep_token_id] for template in templates]
        for template, row in zip(templates, rows, strict=True):
            if len(row) >= layout.max_length:
                raise ValueError(
                    f"no room for the text: the template with its {len(template.label_spans)} classes takes "
                    f"{len(row)} of `max_length` = {layout.max_length} tokens. Use fewer or shorter label words, a "
                    "larger `max_length`, several passes over the text (`classes_per_pass`), or for many classes a "
                    "hierarchy of labels (`dpt_peft.LabelTree`)"
                )
        tables: dict[str, list[list[int]]] = {
            "ids": padded(rows, layout.pad_token_id),
            "length": [[len(row)] for row in rows],
            "head_length": [[1 + len(template.prefix_ids)] for template in templates],
            "tail_start": [[1 + len(template.prefix_ids + template.between_ids)] for template in templates],
            "names_both": [[len(template.slots) == 2] for template in templates],
            "second_first": [[template.slots[0] == "text_b"] for template in templates],
            "label_columns": padded([[1 + start for start, _ in t.label_spans] for t in templates], 0),
            "label_lengths": padded([[end - start for start, end in t.label_spans] for t in templates], 0),
        }
        if label_token_index is not None:
            tables["label_token_index"] = padded([[-1, *indices, -1] for indices in label_token_index], -1)
        super().__init__(**tables)
        self.layout = layout
        self.longest_label = max(sum(tables["label_lengths"], [0]))
        self._divides_pairs = any(len(template.slots) == 2 for template in templates)

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        template_index: torch.Tensor | None = None,
    ) -> SplicedInputs:
        """Splice the templates in.

        A row's text runs from its first to its last visible token. A text too long for `max_length` loses its end (or
        its beginning, see `truncation_side`); of a pair the longer text loses first, as with the tokenizers'
        `longest_first`. Template tokens before the text take the token type of the text's first token, those behind
        it the type of the last, and those between two texts the type of the text before them.

        Special tokens are told by where they stand, so that those which users type are text: [CLS] at a row's
        beginning, [SEP] at its end, and between the texts of a pair where the token type changes. Without token types
        (or with types that are all the same, from a tokenizer that puts two separators into pairs) the first run of
        `pair_separators` separators divides a row.

        Args:
            input_ids: (batch, length), ordinary tokenizer output.
            attention_mask: (batch, length), zero = padding. Default: what is between a row's first and last token that
                is not the padding id is visible.
            token_type_ids: (batch, length).
            template_index: (batch,), integers: which template each row takes. Default: all take the first.

        Raises:
            ValueError: `template_index` is not one integer a row; or the template names both texts, and a row without
                token types could be divided at several places (not checked in `torch.compile` and exports).
        """
        if input_ids.shape[1] == 0:
            # Texts without a single token: one column of padding lets the arithmetic below hold.
            input_ids = input_ids.new_full((input_ids.shape[0], 1), self.layout.pad_token_id)
            attention_mask = torch.zeros_like(input_ids)
            token_type_ids = None if token_type_ids is None else torch.zeros_like(input_ids)
        batch, width = input_ids.shape
        visible = _visible(input_ids.ne(self.layout.pad_token_id)) if attention_mask is None else attention_mask.ne(0)
        template = self._lines(template_index)
        texts = self._find_texts(input_ids, visible, token_type_ids)
        of_template = template["ids"].shape[1]
        pieces = self._pieces(template, texts, of_template)

        starts = torch.cat([piece.start.expand(batch, 1) for piece in pieces], dim=1)
        lengths = torch.cat([piece.length.expand(batch, 1) for piece in pieces], dim=1)
        ends = lengths.cumsum(1)
        begins = ends - lengths
        if torch.compiler.is_compiling():
            longest = min(width + of_template, self.layout.max_length)
        else:
            # Reading the longest row costs one wait for the device, as building the attention mask does anyway, and
            # saves the columns that all rows have as padding.
            longest = int(ends[:, -1].amax())

        source = read_from(starts, lengths, longest)
        real = torch.arange(longest, device=input_ids.device) < ends[:, -1:]

        def spliced(template_values: torch.Tensor, input_values: torch.Tensor, fill: int) -> torch.Tensor:
            template_values = template_values.expand(batch, -1)
            values = torch.cat([template_values, input_values.to(template_values.dtype)], dim=1)
            return torch.where(real, values.gather(1, source), fill)

        # A class stands in the head, the middle or the tail of its template; it moves with its piece.
        labels = template["label_columns"]
        moved = torch.where(
            labels >= template["tail_start"],
            begins[:, 4:] - template["tail_start"],
            torch.where(labels >= template["head_length"], begins[:, 2:3] - template["head_length"], 0),
        )
        types, label_token_index = None, template.get("label_token_index")
        if token_type_ids is not None:
            types = spliced(self._template_types(token_type_ids, texts, template), token_type_ids, 0)
        if label_token_index is not None:
            label_token_index = spliced(label_token_index, torch.full_like(input_ids, -1), -1)
        return SplicedInputs(
            input_ids=spliced(template["ids"], input_ids, self.layout.pad_token_id),
            attention_mask=spliced(torch.ones_like(template["ids"]), visible, 0),
            token_type_ids=types,
            label_positions=labels + moved,
            label_lengths=template["label_lengths"].expand(batch, -1),
            text_mask=real & (source >= of_template),
            label_token_index=label_token_index,
        )

    def _lines(self, template_index: torch.Tensor | None) -> dict[str, torch.Tensor]:
        """The lines of the tables that a batch uses: (batch, ...), or (1, ...) where all rows share a template."""
        lines = slice(1) if template_index is None else template_index
        return {name: getattr(self, name)[lines] for name in self._tables}

    def _find_texts(
        self, input_ids: torch.Tensor, visible: torch.Tensor, token_type_ids: torch.Tensor | None
    ) -> _Texts:
        width = input_ids.shape[1]
        columns = torch.arange(width, device=input_ids.device)
        # Where the row begins and ends, its special tokens at both ends left out.
        row_start = _first_true(visible, columns, width)
        row_end = torch.where(visible, columns + 1, 0).amax(1, keepdim=True)
        last = (row_end - 1).clamp(min=0)
        has_cls = input_ids.gather(1, row_start.clamp(max=width - 1)).eq(self.layout.cls_token_id) & (
            row_start < row_end
        )
        has_sep = input_ids.gather(1, last).eq(self.layout.sep_token_id) & (row_start < row_end)
        start = row_start + has_cls.long()
        end = torch.maximum(row_end - has_sep.long(), start)

        # The second text begins where the token type changes to that of the row's last token,
        divided, second_start = torch.zeros_like(has_cls), end
        if token_type_ids is not None:
            last_type = token_type_ids.gather(1, last)
            divided = token_type_ids.gather(1, start.clamp(max=width - 1)).ne(last_type) & (start < row_end)
            of_last = token_type_ids.eq(last_type) & visible & (columns >= start)
            second_start = torch.where(divided, _first_true(of_last, columns, width), end)
        # or behind the first run of separators. Tokenizers that put one into pairs give them types: then these tell.
        runs = None
        if token_type_ids is None or self.layout.pair_separators > 1:
            runs = input_ids.eq(self.layout.sep_token_id) & (columns >= start) & (columns < end)
            for _ in range(self.layout.pair_separators - 1):
                runs = runs & nn.functional.pad(runs[:, 1:], (0, 1))
            runs = runs & ~divided
            run = _first_true(runs, columns, width)
            second_start = torch.where(run < width, run + self.layout.pair_separators, second_start)
            divided = divided | (run < width)
        second_start = torch.minimum(second_start, end)
        boundary = second_start
        for _ in range(self.layout.pair_separators):
            before = input_ids.gather(1, (boundary - 1).clamp(min=0))
            boundary = boundary - (divided & before.eq(self.layout.sep_token_id) & (boundary > start)).long()
        return _Texts(
            row=_Span(row_start, row_end - row_start),
            first=_Span(start, boundary - start),
            separators=_Span(boundary, second_start - boundary),
            second=_Span(second_start, end - second_start),
            runs=runs,
        )

    def _pieces(self, template: dict[str, torch.Tensor], texts: _Texts, offset: int) -> list[_Span]:
        """The five pieces of every row as columns of [template | input]; the input begins at `offset`."""
        named, swapped = template["names_both"], template["second_first"]
        runs = texts.runs if self._divides_pairs and not torch.compiler.is_compiling() else None
        if runs is not None and bool((runs & named).sum(1).amax() > 1):
            raise ValueError(
                "`input_ids` without `token_type_ids` has rows with several separators, and the template names both "
                "texts: which of them divides the pair? Pass `token_type_ids`, or tokenize with "
                "split_special_tokens=True, so that separators which users have typed become ordinary tokens"
            )
        room = self.layout.max_length - template["length"]
        separators = texts.separators.length.masked_fill(named, 0)
        kept = _fit(texts.first.length, texts.second.length, (room - separators).clamp(min=0))
        first, second = (
            _Span(offset + text.start + (text.length - length if self.layout.truncation_side == "left" else 0), length)
            for text, length in zip((texts.first, texts.second), kept, strict=True)
        )
        head, tail = template["head_length"], template["tail_start"]
        return [
            _Span(torch.zeros_like(head), head),
            _Span(*(torch.where(swapped, b, a) for a, b in zip(first, second, strict=True))),
            _Span(
                torch.where(named, head, offset + texts.separators.start),
                torch.where(named, tail - head, torch.minimum(separators, room)),
            ),
            _Span(*(torch.where(swapped, a, b) for a, b in zip(first, second, strict=True))),
            _Span(tail, template["length"] - tail),
        ]

    def _template_types(
        self, token_type_ids: torch.Tensor, texts: _Texts, template: dict[str, torch.Tensor]
    ) -> torch.Tensor:
        """The token type of every column of the templates: that of the text beside it."""
        last_column = token_type_ids.shape[1] - 1
        at_cls, first, last = (
            token_type_ids.gather(1, column.clamp(0, last_column)).long()
            for column in (texts.row.start, texts.first.start, texts.row.start + texts.row.length - 1)
        )
        left = torch.where(template["second_first"], last, first)
        right = torch.where(template["second_first"], first, last)
        columns = torch.arange(template["ids"].shape[1], device=token_type_ids.device)
        return torch.where(columns == 0, at_cls, torch.where(columns < template["tail_start"], left, right))


def class_scores(tokens: torch.Tensor, spliced: SplicedInputs, wordpieces: str, longest: int) -> torch.Tensor:
    """Read the score of every class at its wordpieces.

    Args:
        tokens: (batch, length), a score per token, high = original.
        spliced: The batch with its templates.
        wordpieces: `"first"`: the score of the class's first wordpiece (paper, footnote 1); `"mean"`: the mean of all
            of them; `"max"`: the highest.
        longest: Wordpieces of the longest class.

    Returns:
        (batch, columns of the templates). What stands where a row has no such class means nothing.
    """
    first = spliced.label_positions
    if wordpieces == "first" or longest == 1:
        return tokens.gather(1, first)
    piece = torch.arange(longest, device=tokens.device)
    present = piece < spliced.label_lengths.unsqueeze(-1)
    positions = (first.unsqueeze(-1) + piece).clamp(max=tokens.shape[1] - 1)
    scores = tokens.gather(1, positions.flatten(1)).view(positions.shape)
    if wordpieces == "max":
        return scores.masked_fill(~present, -torch.inf).amax(-1)
    return scores.where(present, 0).sum(-1) / spliced.label_lengths.clamp(min=1)


def _visible(known: torch.Tensor) -> torch.Tensor:
    """What lies between the first and the last true column of every row, (batch, length)."""
    begun, not_over = known.long().cummax(1).values, known.long().flip(1).cummax(1).values.flip(1)
    return (begun & not_over).bool()


def _fit(first: torch.Tensor, second: torch.Tensor, budget: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """How much of both texts stays within the budget; the longer one is cut first."""
    shorter = torch.minimum(torch.minimum(first, second), budget // 2)
    first_is_shorter = first <= second
    first_kept = torch.where(first_is_shorter, shorter, torch.minimum(first, budget - shorter))
    second_kept = torch.where(first_is_shorter, torch.minimum(second, budget - shorter), shorter)
    return first_kept, second_kept


def _first_true(condition: torch.Tensor, columns: torch.Tensor, otherwise: int) -> torch.Tensor:
    return torch.where(condition, columns, otherwise).amin(1, keepdim=True)


def read_from(starts: torch.Tensor, lengths: torch.Tensor, width: int) -> torch.Tensor:
    """Return where every column of rows that are joined of pieces is read from, (batch, width); 0 behind a row's end.

    Args:
        starts: (batch, pieces), where every piece begins in what is read.
        lengths: (batch, pieces).
        width: Columns.
    """
    ends = lengths.cumsum(1)
    column = torch.arange(width, device=ends.device)
    piece = (column[:, None] >= ends[:, None]).sum(-1)
    shifts = starts - ends + lengths
    shift = shifts.gather(1, piece.clamp(max=shifts.shape[1] - 1))
    return torch.where(column < ends[:, -1:], column + shift, 0)


def padded(rows: Sequence[Sequence[int]], fill: int) -> list[list[int]]:
    """Return rows of one length."""
    width = max(map(len, rows))
    return [[*row, *[fill] * (width - len(row))] for row in rows]
