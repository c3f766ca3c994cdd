"""The splice against a plain loop over rows, and the promise that only the text is ever cut."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings, strategies as st

from dpt_peft.pretrained_heads.splice import RowLayout, TemplateSplicer
from dpt_peft.pretrained_heads.template import ResolvedTemplate

from .conftest import WORDS

PAD, CLS, SEP, FIRST_WORD = 0, 1, 2, 3
# Ids of text, of the template, and of the classes never meet, so that every token tells where it comes from.
TEXT, TEMPLATE = 100, 1000


def make_template(prefix, suffix, labels, between=(), slots=("text",)) -> ResolvedTemplate:
    spans = tuple((index, index + 1) for index in labels)
    return ResolvedTemplate(tuple(prefix), tuple(suffix), spans, tuple(between), slots)


def make_splicer(templates, max_length, cls_token_id=CLS, sep_token_id=SEP, **options) -> TemplateSplicer:
    return TemplateSplicer(templates, RowLayout(max_length, cls_token_id, sep_token_id, PAD, **options))


def cut_pair(first: list[int], second: list[int], room: int, side: str) -> tuple[list[int], list[int]]:
    """Drop one token at a time from the longer text; of two equal ones, from the one that was shorter."""
    shorter, longer = (list(first), list(second)) if len(first) <= len(second) else (list(second), list(first))
    while len(shorter) + len(longer) > room:
        (longer if len(longer) > len(shorter) else shorter).pop(0 if side == "left" else -1)
    return (shorter, longer) if len(first) <= len(second) else (longer, shorter)


def splice_by_hand(first, second, template, max_length, separators=1, side="right"):
    """The row, its token types, and the column where the part behind the texts begins."""
    prefix, between, suffix = (list(ids) for ids in (template.prefix_ids, template.between_ids, template.suffix_ids))
    room = max_length - 2 - len(template.ids)
    last_type = 0 if second is None else 1
    if template.slots == ("text",):
        if second is None:
            texts = first[-room:] if side == "left" else first[:room]
            types = [0] * len(texts)
        else:
            # The pair's separator is part of the text's room.
            first, second = cut_pair(first, second, max(room - separators, 0), side)
            texts = (first + [SEP] * separators + second)[:room]
            types = ([0] * (len(first) + separators) + [1] * len(second))[:room]
        row = [CLS, *prefix, *texts, *suffix, SEP]
        types = [0] * (1 + len(prefix)) + types
    else:
        left, right = cut_pair(first, second or [], room, side)
        left_type, right_type = 0, last_type
        if template.slots == ("text_b", "text_a"):
            left, right, left_type, right_type = right, left, last_type, 0
        row = [CLS, *prefix, *left, *between, *right, *suffix, SEP]
        types = [0] + [left_type] * (len(prefix) + len(left) + len(between)) + [right_type] * len(right)
        last_type = right_type
    behind = len(row) - len(suffix) - 1
    return row, types + [last_type] * (len(suffix) + 1), behind


def some_text(first_id: int):
    """Up to 14 tokens, among them special tokens that a user has typed."""
    typed = st.lists(st.sampled_from([None, None, None, SEP, CLS]), max_size=14)
    return typed.map(lambda ids: [first_id + i if token is None else token for i, token in enumerate(ids)])


texts = some_text(TEXT)
second_texts = st.none() | some_text(TEXT + 50)


def without_special(ids: list[int]) -> list[int]:
    return [token for token in ids if token not in (CLS, SEP)]


@st.composite
def templates(draw) -> ResolvedTemplate:
    number = draw(st.integers(0, 20))
    slots = draw(st.sampled_from([("text",), ("text",), ("text_a", "text_b"), ("text_b", "text_a")]))
    lengths = [draw(st.integers(0, 4)), draw(st.integers(0, 3)) if len(slots) == 2 else 0, draw(st.integers(1, 6))]
    prefix, between, suffix = (
        [TEMPLATE + 1000 * number + 100 * part + i for i in range(length)] for part, length in enumerate(lengths)
    )
    labels = draw(st.lists(st.integers(0, sum(lengths) - 1), min_size=1, max_size=4, unique=True))
    return make_template(prefix, suffix, labels, between, slots)


@settings(max_examples=300, deadline=None)
@given(
    rows=st.lists(st.tuples(texts, second_texts, st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=5),
    bank=st.lists(templates(), min_size=1, max_size=4),
    room=st.integers(1, 20),
    separators=st.sampled_from([1, 2]),
    side=st.sampled_from(["left", "right"]),
    special_tokens=st.booleans(),
    data=st.data(),
)
def test_every_row_is_what_a_loop_makes(rows, bank, room, separators, side, special_tokens, data):
    max_length = 2 + max(len(template.ids) for template in bank) + room
    splicer = make_splicer(bank, max_length, pair_separators=separators, truncation_side=side)
    chosen = data.draw(st.none() | st.lists(st.integers(0, len(bank) - 1), min_size=len(rows), max_size=len(rows)))

    if not special_tokens:
        # A separator at the end of a row counts as the row's own, so that an empty second text cannot be seen, and
        # [CLS] at its beginning likewise.
        rows = [(without_special(a), without_special(b or []) or None, left, right) for a, b, left, right in rows]
    if separators == 2:
        # Token types that are all the same do not tell that there is one text.
        rows = [(without_special(a) if b is None else a, b, left, right) for a, b, left, right in rows]
    encoded = []
    for first, second, left, right in rows:
        ids = first if second is None else [*first, *[SEP] * separators, *second]
        types = [0] * len(first) if second is None else [0] * (len(first) + separators) + [1] * len(second)
        if special_tokens:
            ids, types = [CLS, *ids, SEP], [0, *types, 0 if second is None else 1]
        encoded.append((ids, types, left, right))
    width = max(len(ids) + left + right for ids, _, left, right in encoded)
    input_ids = torch.full((len(rows), width), PAD)
    attention_mask = torch.zeros_like(input_ids)
    token_type_ids = torch.zeros_like(input_ids)
    for index, (ids, types, left, _) in enumerate(encoded):
        input_ids[index, left : left + len(ids)] = torch.tensor(ids, dtype=torch.long)
        token_type_ids[index, left : left + len(ids)] = torch.tensor(types, dtype=torch.long)
        attention_mask[index, left : left + len(ids)] = 1
    spliced = splicer(
        input_ids, attention_mask, token_type_ids, None if chosen is None else torch.tensor(chosen, dtype=torch.long)
    )

    assert spliced.input_ids.shape == spliced.attention_mask.shape == spliced.token_type_ids.shape
    for index, (first, second, _, _) in enumerate(rows):
        template = bank[0 if chosen is None else chosen[index]]
        expected, types, behind = splice_by_hand(first, second, template, max_length, separators, side)
        mask = spliced.attention_mask[index].bool()
        assert spliced.input_ids[index][mask].tolist() == expected
        assert mask[: len(expected)].all(), "real tokens first, padding behind"
        assert (spliced.input_ids[index][~mask] == PAD).all()
        # The candidates stand at the positions that are read, whatever was cut.
        read = spliced.input_ids[index][spliced.label_positions[index]]
        assert read[spliced.label_mask[index]].tolist() == [template.ids[start] for start, _ in template.label_spans]
        assert spliced.label_lengths[index].sum() == len(template.label_spans)
        if template.slots == ("text",):
            # The words before the text and those behind it; the text itself keeps what it had.
            found = spliced.token_type_ids[index][: len(expected)].tolist()
            assert found[behind:] == types[behind:]
            assert found[: 1 + len(template.prefix_ids)] == types[: 1 + len(template.prefix_ids)]
        elif first and (second or second is None):
            assert spliced.token_type_ids[index][: len(expected)].tolist() == types
    assert spliced.input_ids.shape[1] <= max_length


def test_the_bank_is_checked():
    with pytest.raises(ValueError, match="at least one template"):
        make_splicer([], 12)
    short, long = make_template([], [TEMPLATE], [0]), make_template([], [TEMPLATE] * 9, [0])
    with pytest.raises(ValueError, match="no room for the text: the template with its 1 classes takes 11 of"):
        make_splicer([short, long], 11)
    make_splicer([short, long], 12)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize(("first", "second"), [(5, 5), (6, 5), (5, 6), (9, 2), (2, 9), (9, 9), (0, 9)])
def test_pairs_are_cut_as_tokenizers_cut_them(tokenizer, first, second, side, monkeypatch):
    monkeypatch.setattr(tokenizer, "truncation_side", side)
    words = [word for word in WORDS[11:] if word.isalpha()]
    texts = " ".join(words[:first]), " ".join(words[10 : 10 + second])
    rows = tokenizer(*texts, return_tensors="pt")
    for room in range(2, 12):
        template = make_template([], [TEMPLATE], [0])
        splicer = make_splicer([template], room + 3, cls_token_id=2, sep_token_id=3, truncation_side=side)
        expected = tokenizer(*texts, truncation="longest_first", max_length=room + 2)["input_ids"]
        assert splicer(**rows).input_ids[0].tolist() == [*expected[:-1], TEMPLATE, 3]


PAIR = make_template([], [TEMPLATE], [0], [TEMPLATE + 1], ("text_a", "text_b"))


@pytest.mark.parametrize(
    ("separators", "ids", "expected"),
    [
        (1, [CLS, 10, SEP, 20, SEP], [CLS, 10, TEMPLATE + 1, 20, TEMPLATE, SEP]),
        (1, [CLS, 10, SEP], [CLS, 10, TEMPLATE + 1, TEMPLATE, SEP]),
        # Two separators in a row divide; one alone was typed.
        (2, [CLS, 10, SEP, 11, SEP, SEP, 20, SEP], [CLS, 10, SEP, 11, TEMPLATE + 1, 20, TEMPLATE, SEP]),
        (2, [CLS, 10, SEP, 11, SEP], [CLS, 10, SEP, 11, TEMPLATE + 1, TEMPLATE, SEP]),
        (1, [CLS, 10, SEP, 11, SEP, 20, SEP], None),
        (2, [CLS, 10, SEP, SEP, SEP, 20, SEP], None),
    ],
)
def test_a_pair_without_token_types_is_divided_by_its_separators(separators, ids, expected):
    splicer = make_splicer([PAIR], 20, pair_separators=separators)
    if expected is not None:
        assert splicer(torch.tensor([ids])).input_ids.tolist() == [expected]
        return
    with pytest.raises(ValueError, match="several separators, and the template names both texts"):
        splicer(torch.tensor([ids]))
    # A template with one text keeps all of it, whatever divides it.
    one = make_splicer([make_template([], [TEMPLATE], [0])], 20, pair_separators=separators)
    assert one(torch.tensor([ids])).input_ids.tolist() == [[*ids[:-1], TEMPLATE, SEP]]


def test_padding_that_a_user_typed_is_text_where_there_is_no_mask():
    splicer = make_splicer([make_template([], [TEMPLATE], [0])], 20)
    spliced = splicer(torch.tensor([[PAD, CLS, 10, PAD, 11, SEP, PAD]]))
    assert spliced.input_ids.tolist() == [[CLS, 10, PAD, 11, TEMPLATE, SEP]]
    assert spliced.attention_mask.all()


@pytest.fixture
def splicer() -> TemplateSplicer:
    return make_splicer([make_template([], [TEMPLATE, TEMPLATE + 1], [0])], 12)


def test_pairs_keep_their_token_types_and_the_template_takes_the_last(splicer):
    ids = torch.tensor([[CLS, 10, 11, SEP, 20, SEP, PAD], [CLS, 10, SEP, 20, 21, 22, SEP]])
    types = torch.tensor([[0, 0, 0, 0, 1, 1, 0], [0, 0, 0, 1, 1, 1, 1]])
    spliced = splicer(ids, token_type_ids=types)
    assert spliced.token_type_ids.tolist() == [[0, 0, 0, 0, 1, 1, 1, 1, 0], [0, 0, 0, 1, 1, 1, 1, 1, 1]]
    assert splicer(ids).token_type_ids is None


def test_a_missing_mask_hides_the_padding_id(splicer):
    ids = torch.tensor([[CLS, 10, 11, SEP, PAD, PAD], [PAD, PAD, PAD, CLS, 10, SEP]])
    spliced = splicer(ids)
    assert spliced.attention_mask.sum(1).tolist() == [6, 5]
    assert torch.equal(spliced.input_ids, splicer(ids, ids.ne(PAD)).input_ids)
    assert spliced.input_ids.shape[1] == 6, "columns that all rows have as padding are gone"


def test_tokens_masked_inside_a_text_stay_masked(splicer):
    spliced = splicer(torch.tensor([[CLS, 10, 11, 12, SEP]]), torch.tensor([[1, 1, 0, 1, 1]]))
    assert spliced.input_ids.tolist() == [[CLS, 10, 11, 12, TEMPLATE, TEMPLATE + 1, SEP]]
    assert spliced.attention_mask.tolist() == [[1, 1, 0, 1, 1, 1, 1]]


def test_empty_texts(splicer):
    alone = [CLS, TEMPLATE, TEMPLATE + 1, SEP]
    for ids in ([[CLS, SEP]], [[PAD, PAD]], [[]]):
        spliced = splicer(torch.tensor(ids, dtype=torch.long))
        assert spliced.input_ids.tolist() == [alone]
        assert spliced.label_positions.tolist() == [[1]]
    spliced = splicer(torch.empty(2, 0, dtype=torch.long), torch.empty(2, 0), torch.empty(2, 0, dtype=torch.long))
    assert spliced.input_ids.tolist() == [alone, alone]


@pytest.mark.parametrize("dtype", [torch.bool, torch.int32, torch.float32])
def test_masks_of_any_type(splicer, dtype):
    ids = torch.tensor([[CLS, 10, SEP, PAD]])
    spliced = splicer(ids, ids.ne(PAD).to(dtype))
    assert spliced.attention_mask.dtype == torch.long
    assert spliced.attention_mask.tolist() == [[1] * 5]
