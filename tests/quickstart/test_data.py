"""The packaged messages are what their card says, and files of the user's own are checked and split."""

from __future__ import annotations

import re
from collections import Counter
from itertools import combinations

import pytest

from dpt_peft.quickstart.run import FOLDER, NEW_TEXTS, PACKAGED, load_data
from dpt_peft.tasks import TextClassificationArguments
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


def source(path: str, **columns: str | None) -> TextClassificationArguments:
    return TextClassificationArguments(
        **{"train_file": path, "text_column_name": "body", "label_column_name": "team", **columns}
    )


def test_packaged_data() -> None:
    data = load_data(PACKAGED)
    assert data.label_names == CLASSES
    text, label = read_rows("test")[0]
    assert data.splits["test"][0] == {"text": text, "labels": CLASSES.index(label)}
    assert len(data.splits["train"]) == len(data.splits["test"]) == 224


def test_own_data_is_split_by_class_and_the_same_each_time(own_csv) -> None:
    data = load_data(source(own_csv))
    assert data.label_names == ["bad", "good"]
    train, test = data.splits["train"], data.splits["test"]
    assert Counter(train["labels"]) == {0: 7, 1: 7}
    assert Counter(test["labels"]) == {0: 3, 1: 3}
    assert not set(train["text"]) & set(test["text"])
    assert load_data(source(own_csv)).splits["test"]["text"][:] == test["text"][:]


def test_own_test_file(own_csv, tmp_path) -> None:
    test = write_csv(tmp_path / "new.csv", [("lovely", "good"), ("broken", "bad")], ("body", "team"))
    splits = load_data(source(own_csv, test_file=test)).splits
    assert len(splits["train"]) == 20
    assert splits["test"]["labels"][:] == [1, 0]


def test_jsonl_with_numbers_as_labels(tmp_path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(f'{{"text": "text {i}", "label": {i % 2}}}\n' for i in range(12)), encoding="utf-8")
    columns = {"text_column_name": "text", "label_column_name": "label"}
    assert load_data(source(str(path), **columns), 0.5).label_names == ["0", "1"]


def test_missing_column_names_those_there_are(own_csv) -> None:
    with pytest.raises(ValueError, match=r"'topic'.*body, team"):
        load_data(source(own_csv, label_column_name="topic"))


def test_several_labels_a_text(tmp_path) -> None:
    rows = [(f"text {number}", "good;cheap" if number % 2 else "bad") for number in range(12)]
    path = write_csv(tmp_path / "several.csv", rows, ("body", "team"))
    for more in ({}, {"test_file": path}):
        with pytest.raises(ValueError, match="`label_column_name`: the quickstart is for texts of one class each"):
            load_data(source(path, label_separator=";", **more))


def test_label_of_the_test_file_only(own_csv, tmp_path) -> None:
    test = write_csv(tmp_path / "new.csv", [("lovely", "good"), ("what", "unsure")], ("body", "team"))
    with pytest.raises(ValueError, match="unsure"):
        load_data(source(own_csv, test_file=test))


def test_test_file_without_labels(own_csv, tmp_path) -> None:
    test = tmp_path / "new.csv"
    test.write_text("body\nlovely\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"has no labels, so nothing can be measured"):
        load_data(source(own_csv, test_file=str(test)))


def test_class_of_one_row_cannot_be_in_both_parts(tmp_path) -> None:
    path = write_csv(tmp_path / "few.csv", [("a", "x"), ("b", "x"), ("c", "x"), ("d", "lonely")], ("body", "team"))
    with pytest.raises(ValueError, match=r"`test_fraction` 0.3 of 4 rows in 2 classes cannot be held out"):
        load_data(source(path))


def test_share_out_of_range(own_csv) -> None:
    with pytest.raises(ValueError, match="`test_fraction`"):
        load_data(source(own_csv), 1.0)
