"""The packaged messages are what their card says, and files of the user's own are checked and split."""

from __future__ import annotations

import re
from collections import Counter
from itertools import combinations

import pytest

from dpt_peft.quickstart.data import FOLDER, NEW_TEXTS, own_data, packaged_data
from tests.quickstart.conftest import read_rows, write_csv

CLASSES = ["access", "cancellation", "defect", "delivery", "job", "payment", "praise", "return"]


def words(text: str) -> set[str]:
    return set(re.findall(r"[a-z0-9']+", text.lower()))


def overlap(one: set[str], other: set[str]) -> float:
    return len(one & other) / len(one | other)


def test_counts_and_classes() -> None:
    for split in ("train", "test"):
        assert Counter(label for _, label in read_rows(split)) == dict.fromkeys(CLASSES, 28)


def test_card_lists_the_counts() -> None:
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    for name in CLASSES:
        assert re.search(rf"^\| {name} \|.*\| 28 \| 28 \|$", card, re.MULTILINE), name
    assert "Apache-2.0" in card


def test_texts_are_clean() -> None:
    for text, _ in read_rows("train") + read_rows("test"):
        assert text == text.strip()
        assert text.isascii()
        assert 3 <= len(text.split()) <= 25, text


def test_no_two_messages_are_alike() -> None:
    texts = [text for split in ("train", "test") for text, _ in read_rows(split)]
    assert len({" ".join(re.findall(r"\w+", text.lower())) for text in texts}) == len(texts) == 448
    sets = {text: words(text) for text in [*texts, *NEW_TEXTS]}
    alike = [(one, other) for one, other in combinations(sets, 2) if overlap(sets[one], sets[other]) > 0.5]
    assert not alike


def test_openings_vary() -> None:
    """Filled-in templates would show as many messages that begin alike."""
    texts = [text for split in ("train", "test") for text, _ in read_rows(split)]
    openings = Counter(" ".join(text.lower().split()[:4]) for text in texts)
    assert openings.most_common(1)[0][1] <= 4


def test_class_names_are_rarely_named() -> None:
    """The classes cannot be found by looking for their names."""
    rows = read_rows("train") + read_rows("test")
    assert sum(label in text.lower() for text, label in rows) < 0.03 * len(rows)


def test_class_names_are_single_words_of_the_vocabulary(shared) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(shared / "models" / "minilm-rtd")
    assert [tokenizer.tokenize(name) for name in CLASSES] == [[name] for name in CLASSES]


def test_packaged_data() -> None:
    data = packaged_data()
    assert data.label_names == CLASSES
    text, label = read_rows("test")[0]
    assert data.test[0] == {"text": text, "labels": CLASSES.index(label)}
    assert len(data.train) == len(data.test) == 224


def test_own_data_is_split_by_class_and_the_same_each_time(own_csv) -> None:
    data = own_data(own_csv, text_column="body", label_column="team")
    assert data.label_names == ["bad", "good"]
    assert Counter(data.train["labels"]) == {0: 7, 1: 7}
    assert Counter(data.test["labels"]) == {0: 3, 1: 3}
    assert not set(data.train["text"]) & set(data.test["text"])
    assert own_data(own_csv, text_column="body", label_column="team").test["text"][:] == data.test["text"][:]


def test_own_test_file(own_csv, tmp_path) -> None:
    test = write_csv(tmp_path / "new.csv", [("lovely", "good"), ("broken", "bad")], ("body", "team"))
    data = own_data(own_csv, test_file=test, text_column="body", label_column="team")
    assert len(data.train) == 20
    assert data.test["labels"][:] == [1, 0]
    assert data.new_texts == ["lovely", "broken"]


def test_jsonl_with_numbers_as_labels(tmp_path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(f'{{"text": "text {i}", "label": {i % 2}}}\n' for i in range(12)), encoding="utf-8")
    assert own_data(str(path), test_fraction=0.5).label_names == ["0", "1"]


def test_missing_column_names_those_there_are(own_csv) -> None:
    with pytest.raises(ValueError, match=r"'topic'.*body, team"):
        own_data(own_csv, text_column="body", label_column="topic")


def test_label_of_the_test_file_only(own_csv, tmp_path) -> None:
    test = write_csv(tmp_path / "new.csv", [("lovely", "good"), ("what", "unsure")], ("body", "team"))
    with pytest.raises(ValueError, match="unsure"):
        own_data(own_csv, test_file=test, text_column="body", label_column="team")


def test_test_file_without_labels(own_csv, tmp_path) -> None:
    test = tmp_path / "new.csv"
    test.write_text("body\nlovely\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"no labels in column 'team'"):
        own_data(own_csv, test_file=str(test), text_column="body", label_column="team")


def test_class_of_one_row_cannot_be_in_both_parts(tmp_path) -> None:
    path = write_csv(tmp_path / "few.csv", [("a", "x"), ("b", "x"), ("c", "x"), ("d", "lonely")])
    with pytest.raises(ValueError, match=r"'lonely' has only 1"):
        own_data(path)


def test_share_out_of_range(own_csv) -> None:
    with pytest.raises(ValueError, match="test_fraction"):
        own_data(own_csv, text_column="body", label_column="team", test_fraction=1.0)


def test_too_few_examples_names_the_class_and_where_it_was_counted(own_csv) -> None:
    data = own_data(own_csv, text_column="body", label_column="team")
    data.check_examples_per_class(7)
    with pytest.raises(ValueError, match=r"'bad' has 7.*the 70% of .*tickets.csv"):
        data.check_examples_per_class(8)
