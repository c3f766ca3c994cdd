"""The splice against a plain loop over rows, and the promise that only the text is ever cut."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dpt_peft.discriminative.splice import TemplateSplicer

PAD, CLS, SEP, FIRST_WORD = 0, 1, 2, 3
# Ids of text, of the template, and of the classes never meet, so that every token tells where it comes from.
TEXT, TEMPLATE = 100, 1000


def cut_pair(first: list[int], second: list[int], room: int) -> tuple[list[int], list[int]]:
    """Drop one token at a time from the longer text; of two equal ones, from the one that was shorter."""
    shorter, longer = (list(first), list(second)) if len(first) <= len(second) else (list(second), list(first))
    while len(shorter) + len(longer) > room:
        (longer if len(longer) > len(shorter) else shorter).pop()
    return (shorter, longer) if len(first) <= len(second) else (longer, shorter)


def splice_by_hand(first, second, prefix, suffix, max_length, separators=1):
    room = max_length - 2 - len(prefix) - len(suffix)
    if second is None:
        text = first[:room]
    else:
        # The pair's separator is part of the text's room.
        first, second = cut_pair(first, second, max(room - separators, 0))
        text = (first + [SEP] * separators + second)[:room]
    return [CLS, *prefix, *text, *suffix, SEP], 1 + len(prefix) + len(text)


texts = st.integers(0, 14).map(lambda length: [TEXT + i for i in range(length)])
second_texts = st.none() | st.integers(0, 14).map(lambda length: [TEXT + 50 + i for i in range(length)])


@settings(max_examples=300, deadline=None)
@given(
    rows=st.lists(st.tuples(texts, second_texts, st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=5),
    prefix_length=st.integers(0, 4),
    suffix_length=st.integers(1, 6),
    room=st.integers(1, 20),
    separators=st.sampled_from([1, 2]),
    special_tokens=st.booleans(),
    data=st.data(),
)
def test_every_row_is_what_a_loop_makes(rows, prefix_length, suffix_length, room, separators, special_tokens, data):
    prefix = [TEMPLATE + i for i in range(prefix_length)]
    suffix = [TEMPLATE + 100 + i for i in range(suffix_length)]
    template_ids = prefix + suffix
    labels = data.draw(st.lists(st.integers(0, len(template_ids) - 1), min_size=1, max_size=4, unique=True))
    max_length = 2 + len(template_ids) + room
    splicer = TemplateSplicer(
        prefix, suffix, labels, max_length=max_length, cls_token_id=CLS, sep_token_id=SEP, pad_token_id=PAD
    )

    if not special_tokens:
        # A separator at the end of a row counts as the row's own, so that an empty second text cannot be seen.
        rows = [(first, second or None, left, right) for first, second, left, right in rows]
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
    spliced = splicer(input_ids, attention_mask, token_type_ids)

    assert spliced.input_ids.shape == spliced.attention_mask.shape == spliced.token_type_ids.shape
    for index, (first, second, _, _) in enumerate(rows):
        expected, behind_text = splice_by_hand(first, second, prefix, suffix, max_length, separators)
        mask = spliced.attention_mask[index].bool()
        assert spliced.input_ids[index][mask].tolist() == expected
        assert mask[: len(expected)].all(), "real tokens first, padding behind"
        assert (spliced.input_ids[index][~mask] == PAD).all()
        # The candidates stand at the positions that are read, whatever was cut.
        assert spliced.input_ids[index][spliced.label_positions[index]].tolist() == [template_ids[i] for i in labels]
        last_type = 0 if second is None else 1
        assert (spliced.token_type_ids[index][behind_text : len(expected)] == last_type).all()
        assert (spliced.token_type_ids[index][: 1 + len(prefix)] == 0).all()
    assert spliced.input_ids.shape[1] <= max_length


@pytest.mark.parametrize(("first", "second"), [(5, 5), (6, 5), (5, 6), (9, 2), (2, 9), (9, 9), (0, 9)])
def test_pairs_are_cut_as_tokenizers_cut_them(tokenizer, first, second):
    texts = " ".join(["match"] * first), " ".join(["game"] * second)
    rows = tokenizer(*texts, return_tensors="pt")
    for room in range(2, 12):
        splicer = TemplateSplicer(
            [], [TEMPLATE], [0], max_length=room + 3, cls_token_id=2, sep_token_id=3, pad_token_id=0
        )
        expected = tokenizer(*texts, truncation="longest_first", max_length=room + 2)["input_ids"]
        assert splicer(**rows).input_ids[0].tolist() == [*expected[:-1], TEMPLATE, 3]


@pytest.fixture
def splicer() -> TemplateSplicer:
    return TemplateSplicer(
        [], [TEMPLATE, TEMPLATE + 1], [0], max_length=12, cls_token_id=CLS, sep_token_id=SEP, pad_token_id=PAD
    )


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
