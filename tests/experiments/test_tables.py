import pytest
from tables import markdown_table, mean_and_spread, mean_of_best


def test_mean_and_sample_standard_deviation():
    assert mean_and_spread([80.0, 82.0, 84.0]) == "82.0 ± 2.0 (3)"  # by hand: sqrt((4 + 0 + 4) / 2)
    assert mean_and_spread([81.25]) == "81.2 (1)"
    assert mean_and_spread([]) == "-"


def test_mean_of_the_best_three():
    assert mean_of_best([1.0, 9.0, 5.0, 7.0]) == "7.0"
    assert mean_of_best([1.0, 9.0]) == "-"
    assert mean_of_best([1.0, 9.0], count=2) == "5.0"


def test_a_table_is_aligned_and_its_numbers_stand_right():
    table = markdown_table(["method", "a"], [["fine-tuning", "1.0"], ["DPT", "10.0"]])
    assert table.splitlines() == [
        "| method      |    a |",
        "| ----------- | ---: |",
        "| fine-tuning |  1.0 |",
        "| DPT         | 10.0 |",
    ]
    with pytest.raises(ValueError, match="zip"):
        markdown_table(["a"], [["1", "2"]])
