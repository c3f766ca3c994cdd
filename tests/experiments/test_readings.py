"""Several readings of a text by one trained model, against models that have each list as their own."""

import csv
import json
from types import SimpleNamespace

import pytest
import readings
import torch
from datasets import Dataset

from dpt_peft import DPTForSequenceClassification
from dpt_peft.tasks import load_tokenizer
from tests.training.tiny import WORDS, write_discriminator, write_task

LISTS = [*readings.OTHER_WORDS["sst2"], ("negative", "positive")]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("readings")
    write_discriminator(folder / "tiny", f"{WORDS} {' '.join(word for words in LISTS for word in words)}")
    (folder / "sst2").mkdir()
    for split in ("train", "validation", "test"):
        with write_task(folder / "rows.csv", 40, seed=len(split)).open() as file:
            rows = [{**row, "label": int(row["label"] == "positive")} for row in csv.DictReader(file)]
        (folder / "sst2" / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


def test_runs_record_table_and_picture(files, tmp_path, capsys):
    where = ("--data_dir", files, "--model_name_or_path", files / "tiny", "--output_dir", tmp_path)
    small = ("--datasets", "sst2", "--epochs", 1, "--max_seq_length", 40, "--seeds", 1, "--orders", 3)
    readings.main([*map(str, (*where, *small))])
    out = capsys.readouterr().out
    assert "| mean over up to 3 orders" in out
    assert "| mean over 4 words a class" in out
    assert (tmp_path / "plot.png").stat().st_size > 0
    (record,) = [json.loads(line) for line in (tmp_path / "records.jsonl").read_text().splitlines()]
    assert record["run"]["orders"] == 3
    measured = record["metrics"]
    assert measured["accuracy_of_worst_order"] <= measured["accuracy_of_best_order"]
    readings.main([*map(str, (*where, *small))])
    assert capsys.readouterr().out == out
    assert len((tmp_path / "records.jsonl").read_text().splitlines()) == 1


def test_each_list_is_read_as_a_model_of_its_own_reads_it(files):
    tokenizer = load_tokenizer(str(files / "tiny"))

    def model(words, order=None):
        return DPTForSequenceClassification.from_pretrained(
            files / "tiny", label_words=words, tokenizer=tokenizer, label_order=order
        ).eval()

    own = model(["negative", "positive"])
    texts = [row["text"] for row in map(json.loads, (files / "sst2" / "test.jsonl").read_text().splitlines())]
    rows = tokenizer(texts, padding=True, return_tensors="pt")
    lists = [(["negative", "positive"], [1, 0]), (["bad", "good"], None), (["awful", "great"], None)]
    with torch.no_grad():
        logits = [own(**rows).logits, *(model(*each)(**rows).logits for each in lists)]
    # labels of the first other list: it is right everywhere, and the worst is as far from it as the logits say
    labels = logits[1].argmax(-1)
    right = [each.argmax(-1).eq(labels).double().mean().item() for each in logits]
    mean = torch.stack(logits).mean(0).argmax(-1).eq(labels).double().mean().item()
    features = Dataset.from_dict({**tokenizer(texts), "labels": labels.tolist()})
    outcome = SimpleNamespace(model=own, tokenizer=tokenizer, features={"test": SimpleNamespace(dataset=features)})
    measured = readings.compare(outcome, "test", "words", lists)
    assert min(right) < 1
    assert measured == {
        "accuracy_of_words": mean,
        "accuracy_of_best_words": 1,
        "accuracy_of_worst_words": min(right[1:]),
    }


def test_each_order_is_another():
    assert readings.other_orders(2, 8) == [[1, 0]]
    orders = readings.other_orders(4, 8)
    assert len(orders) == 7
    assert len({tuple(order) for order in [*orders, range(4)]}) == 8
    assert all(sorted(order) == [0, 1, 2, 3] for order in orders)


def test_one_order_is_none(files, tmp_path):
    with pytest.raises(ValueError, match="`orders` must be 2 or more"):
        readings.main(["--output_dir", str(tmp_path), "--orders", "1"])
