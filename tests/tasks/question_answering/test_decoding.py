"""The best answers over all windows, against an exhaustive search; words, word scores and spans."""

import unicodedata
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from dpt_peft.tasks.question_answering.windows import (
    Span,
    Window,
    answer_logits,
    decode_spans,
    rank_answers,
    score_words,
    split_words,
)


def decode(context, tagged, **options):
    """Decodes a paragraph whose tagged words (by number) have the logit 1, the others -1."""
    words = split_words(context)
    scores = np.array([1.0 if number in tagged else -1.0 for number in range(len(words))])
    return decode_spans(context, words, scores, **options)


def texts(context, tagged, **options):
    return [span.text for span in decode(context, tagged, **options)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Ann's car, 3.5 km", ["Ann", "'", "s", "car", ",", "3", ".", "5", "km"]),
        ("naïve naïve", ["naïve", "naïve"]),  # one with a combining accent
        ("हिन्दी भाषा", ["हिन्दी", "भाषा"]),
        ("東京 は", ["東", "京", "は"]),
        ("snake_case", ["snake", "_", "case"]),
        (" \t\n\u200b", []),
        ("", []),
    ],
)
def test_words(text, words):
    assert [text[start:end] for start, end in split_words(text)] == words


def test_one_tagged_wordpiece_takes_its_word():
    context = "with Ringo Starr"
    words = split_words(context)
    # with, Ring, ##o, Star, ##r
    offsets = [None, (0, 4), (5, 9), (9, 10), (11, 15), (15, 16), None]
    logits = np.array([9.0, -3.0, -2.0, 0.5, -1.0, -4.0, 9.0])
    scores = score_words(words, [(offsets, logits)])
    np.testing.assert_array_equal(scores, [-3.0, 0.5, -1.0])
    assert [span.text for span in decode_spans(context, words, scores)] == ["Ringo"]


def test_best_over_windows_and_padding_ignored():
    words = split_words("one two three")
    windows = [
        ([(0, 3), (4, 7), None], np.array([1.0, -1.0, 9.0, 9.0, 9.0])),
        ([None, (4, 7), (8, 13)], np.array([9.0, 2.0, -5.0])),
    ]
    np.testing.assert_array_equal(score_words(words, windows), [1.0, 2.0, -5.0])


def test_a_token_over_several_words_scores_all_of_them():
    words = split_words("wait ... now")
    windows = [([(0, 4), (4, 8), (8, 12)], np.array([-1.0, 2.0, -3.0]))]
    np.testing.assert_array_equal(score_words(words, windows), [-1.0, 2.0, 2.0, 2.0, -3.0])


def test_the_logits_of_a_broken_model_are_seen():
    windows = [([(0, 4), (0, 4), (5, 8)], np.array([np.nan, 2.0, -3.0]))]
    np.testing.assert_array_equal(score_words(split_words("wait now"), windows), [np.nan, -3.0])


def test_words_without_a_token_do_not_split_a_span():
    context = "Anna \ufffe Bella"
    words = split_words(context)
    assert len(words) == 3
    scores = np.array([1.0, -np.inf, 1.0])
    assert [span.text for span in decode_spans(context, words, scores)] == [context]
    assert decode_spans(context, words, np.full(3, -np.inf)) == []


def test_adjacent_words_merge_and_order_is_that_of_the_text():
    spans = decode("Bob Smith and Carl , Dora", {0, 1, 3})
    assert [(span.text, span.start, span.end) for span in spans] == [("Bob Smith", 0, 9), ("Carl", 14, 18)]
    assert spans[0].score == pytest.approx(1 / (1 + np.exp(-1)))


def test_at_least_one_span_unless_no_answer_is_allowed():
    context = "Bob met Carl"
    scores = np.array([-3.0, -2.0, -1.0])
    words = split_words(context)
    assert [span.text for span in decode_spans(context, words, scores)] == ["Carl"]
    assert decode_spans(context, words, scores, allow_no_answer=True) == []
    assert [span.text for span in decode_spans(context, words, scores, logit_threshold=-2.5)] == ["met Carl"]
    # exactly at the threshold is not above it
    assert [span.text for span in decode_spans(context, words, scores, logit_threshold=-2.0)] == ["Carl"]


def test_duplicates_and_contained_answers_are_dropped():
    assert texts("Bob Smith met bob . BOB left", {0, 1, 3, 5}) == ["Bob Smith"]
    assert texts("Bob met Carl and bob", {0, 2, 4}) == ["Bob", "Carl"]
    # contained as words, not as letters
    assert texts("Ann met Anna", {0, 2}) == ["Ann", "Anna"]
    context = "Bob met Carl and bob"
    words = split_words(context)
    best = decode_spans(context, words, np.array([0.5, -1, -1, -1, 2.0]))
    assert [(span.text, span.start) for span in best] == [("bob", 17)]


def test_logits_of_both_kinds_of_model():
    np.testing.assert_array_equal(answer_logits(np.array([1.0, 2.0])), [1.0, 2.0])
    np.testing.assert_array_equal(answer_logits(np.array([[1.0, 3.0], [2.0, 0.0]])), [2.0, -2.0])
    with pytest.raises(ValueError, match="O and I"):
        answer_logits(np.zeros((4, 3)))


@settings(deadline=None, max_examples=200)
@given(context=st.text(max_size=60), data=st.data(), threshold=st.floats(-2, 2), allow=st.booleans())
def test_offsets_always_slice_to_the_answer(context, data, threshold, allow):
    words = split_words(context)
    values = st.one_of(st.floats(-3, 3), st.just(-np.inf))
    scores = np.array(data.draw(st.lists(values, min_size=len(words), max_size=len(words))), dtype=float)
    spans = decode_spans(context, words, scores, logit_threshold=threshold, allow_no_answer=allow)
    known = bool((scores > -np.inf).any())
    assert bool(spans) == (known and (not allow or bool((scores > threshold).any())))
    covered = {position for start, end in words for position in range(start, end)}
    for span in spans:
        assert span.text == context[span.start : span.end]
        assert span.text.strip() == span.text != ""
        assert {span.start, span.end - 1} <= covered
        assert 0 <= span.score <= 1
    assert all(a.end <= b.start for a, b in pairwise(spans))
    lowered = [span.text.lower() for span in spans]
    assert len(set(lowered)) == len(lowered)


@given(text=st.text(max_size=80))
def test_words_cover_everything_but_space(text):
    covered = {position for start, end in split_words(text) for position in range(start, end)}
    for position, character in enumerate(text):
        if not character.isspace() and character.isprintable():
            assert position in covered


CONTEXT = "ab cd ef gh ij kl mn op"
TOKENS = [(3 * word, 3 * word + 2) for word in range(8)]


def window(first, last, start, end, question=2):
    """[CLS] question [SEP] words first ... last [SEP], then padding with high logits that must not count."""
    offsets = [None] * (question + 2) + TOKENS[first:last] + [None]
    return Window({}, offsets), (np.append(start[: len(offsets)], 99.0), np.append(end[: len(offsets)], 99.0))


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), longest=st.integers(1, 9), share=st.integers(0, 3))
def test_the_best_pair_is_that_of_an_exhaustive_search(seed, longest, share):
    draw = np.random.default_rng(seed)
    windows = [
        window(first, last, draw.normal(size=20), draw.normal(size=20)) for first, last in ((0, 4 + share), (4, 8))
    ]
    found = {}
    for one, (start, end) in windows:
        for i, first in enumerate(one.offsets):
            for j, last in enumerate(one.offsets):
                if first is not None and last is not None and i <= j < i + longest:
                    score = start[i] + end[j]
                    found[first[0], last[1]] = max(score, found.get((first[0], last[1]), -np.inf))
    ranked = rank_answers(CONTEXT, windows, n_best_size=100, max_answer_length=longest)
    assert [(answer.start, answer.end) for answer in ranked.answers] == sorted(found, key=found.get, reverse=True)
    assert [answer.score for answer in ranked.answers] == pytest.approx(sorted(found.values(), reverse=True))
    assert all(CONTEXT[answer.start : answer.end] == answer.text for answer in ranked.answers)
    assert ranked.null_score == pytest.approx(min(start[0] + end[0] for _, (start, end) in windows))


def test_only_the_likeliest_starts_and_ends_are_paired():
    start, end = np.zeros(20), np.zeros(20)
    start[[4, 6]] = 5, 4  # words 0 and 2
    end[[5, 9]] = 1, 3  # words 1 and 5
    one = window(0, 8, start, end)
    assert [a.text for a in rank_answers(CONTEXT, [one], n_best_size=2, max_answer_length=3).answers] == ["ab cd"]
    # The best start has no end that is near enough among one: no answer at all, as with the original scripts.
    assert rank_answers(CONTEXT, [one], n_best_size=1, max_answer_length=3).answers == []
    ranked = rank_answers(CONTEXT, [one], n_best_size=3)
    assert ranked.answers[0].text == "ab cd ef gh ij kl"
    assert len(ranked.answers) == 3


def test_threshold_and_probabilities():
    start, end = np.full(20, -9.0), np.full(20, -9.0)
    start[[0, 4]], end[[0, 4, 5]] = (1.0, 2.0), (1.0, 1.5, 0.5)
    ranked = rank_answers(CONTEXT, [window(0, 8, start, end)], n_best_size=2)
    assert [answer.score for answer in ranked.answers] == [3.5, 2.5]
    assert ranked.null_odds == pytest.approx(2.0 - 3.5)
    assert ranked.best().text == "ab"
    assert ranked.best(-1.4).text == "ab"
    assert ranked.best(-1.6) is None
    total = np.exp(3.5) + np.exp(2.5) + np.exp(2.0)
    assert ranked.probabilities(True) == pytest.approx([np.exp(3.5) / total, np.exp(2.5) / total, np.exp(2) / total])
    assert sum(ranked.probabilities(False)) == pytest.approx(1)


def test_a_paragraph_without_a_token():
    ranked = rank_answers("", [(Window({}, [None, None]), [np.array([1.0, 2])] * 2)])
    assert ranked.answers == []
    assert ranked.best() is None
    assert ranked.null_odds == 2.0
    assert ranked.probabilities(False) == []


@pytest.mark.parametrize(("name", "value"), [("n_best_size", 0), ("max_answer_length", 0)])
def test_bad_ranking_arguments(name, value):
    with pytest.raises(ValueError, match=name):
        rank_answers(CONTEXT, [], **{name: value})
    with pytest.raises(ValueError, match="at least one window"):
        rank_answers(CONTEXT, [])


def test_an_answer_is_whole_characters_without_spaces_around_it():
    """Tokenizers that strip accents leave the last mark out; those of GPT-2's kind may begin with the space."""
    context = "le cafe\u0301 noir"
    one = (Window({}, [None, (0, 2), (2, 7), (8, 13)]), [np.array([0.0, -1, 5, -1])] * 2)
    assert rank_answers(context, [one]).best() == Span(3, 8, "cafe\u0301", 10.0)


# A sentence, and what of it is the answer.
UNSPACED = {
    "Thai": ("กรุงเทพมหานครเป็นเมืองหลวงของประเทศไทย", "เมืองหลวง"),  # the capital
    "Lao": ("ນະຄອນຫຼວງວຽງຈັນເປັນເມືອງຫຼວງຂອງປະເທດລາວ", "ວຽງຈັນ"),  # Vientiane
    "Khmer": ("ភ្នំពេញជារាជធានីនៃព្រះរាជាណាចក្រកម្ពុជា", "រាជធានី"),  # the capital
    "Burmese": ("နေပြည်တော်သည်မြန်မာနိုင်ငံ၏မြို့တော်ဖြစ်သည်", "မြန်မာ"),  # Burma
    "Tibetan": ("ལྷ་ས་ནི་བོད་ཀྱི་རྒྱལ་ས་ཡིན།", "རྒྱལ་ས"),  # the capital
    "Javanese": ("ꦏꦸꦛꦔꦪꦺꦴꦒꦾꦏꦂꦠ", "ꦔꦪꦺꦴꦒꦾꦏꦂꦠ"),  # Yogyakarta
    "Japanese": ("ビートルズのドラマーはリンゴ・スターです", "リンゴ・スター"),  # Ringo Starr
    "Chinese": ("北京是中国的首都", "首都"),  # the capital
}


@pytest.mark.parametrize("script", UNSPACED)
def test_one_tagged_token_does_not_take_a_sentence_without_spaces(script):
    context, answer = UNSPACED[script]
    start = context.index(answer)
    offsets = [(0, start), (start, start + len(answer)), (start + len(answer), len(context))]
    words = split_words(context)
    assert len(words) > 4
    scores = score_words(words, [([None, *offsets], np.array([9.0, -1.0, 1.0, -1.0]))])
    assert [span.text for span in decode_spans(context, words, scores)] == [answer]
    # No word begins with a mark.
    assert not [word for word in words if unicodedata.category(context[word[0]]).startswith("M")]
    assert "".join(context[first:last] for first, last in words) == context


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("น้ำทะเล", ["น้ำ", "ทะ", "เล"]),  # marks above each other, vowels before and behind
        ("ນ້ຳ", ["ນ້ຳ"]),
        ("ព្រះ", ["ព្រះ"]),  # a letter below another
        ("သင်္ဘော", ["သ", "င်္ဘော"]),
        ("बिल्‍ली", ["बिल्‍ली"]),  # a joiner inside a word
        ("می‌خواهم", ["می‌خواهم"]),
        ("❤️ \uff12\uff10年", ["❤️", "\uff12\uff10", "年"]),
    ],
)
def test_marks_stay_with_their_letter(text, words):
    assert [text[start:end] for start, end in split_words(text)] == words
