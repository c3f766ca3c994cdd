import shlex

from datasets import Dataset
from huggingface_hub import ModelCard

from dpt_peft.training.model_card import ModelCardFacts, write_model_card
from dpt_peft.training.records import command_line, data_fingerprint, software_versions


def facts(**changes):
    values = {
        "method": "dpt",
        "base_model": "google/electra-small-discriminator",
        "task": "text-classification",
        "dataset": "nyu-mll/glue/sst2",
        "hub_id": "nyu-mll/glue",
        "rows": {"train": 10, "test": 4},
        "adapter": False,
        "usage": "load()",
        "trained_parameters": 12_345,
        "all_parameters": 67_890,
        "details": {"Label words": "bad, good", "Template": None},
    }
    return ModelCardFacts(**{**values, **changes})


def test_card_states_the_facts_and_replaces_an_older_one(tmp_path):
    (tmp_path / "README.md").write_text("---\nlibrary_name: peft\n---\n[More Information Needed]")
    metrics = {
        "eval_accuracy": 0.81234,
        "test_macro_f1": 0.5,
        "eval_runtime": 3.0,
        "train_loss": 0.1,
        "eval_loss": 0.2,
    }
    path = write_model_card(tmp_path, facts(), metrics, "python script.py --x 1")
    text = path.read_text()
    for part in (
        "| Method | dpt |",
        "train 10, test 4",
        "12,345 of 67,890",
        "| Label words | bad, good |",
        "python script.py --x 1",
        "load()",
        f"transformers {software_versions()['transformers']}",
        "| validation | accuracy | 0.8123 |",
    ):
        assert part in text
    for part in ("More Information Needed", "runtime", "| Template", "train_loss"):
        assert part not in text

    data = ModelCard.load(path).data
    assert data.base_model == "google/electra-small-discriminator"
    assert data.datasets == ["nyu-mll/glue"]
    assert {result.dataset_type for result in data.eval_results} == {"nyu-mll/glue"}
    assert data.library_name == "transformers"
    assert {(r.dataset_split, r.metric_type, r.metric_value) for r in data.eval_results} == {
        ("validation", "accuracy", 0.8123),
        ("test", "macro_f1", 0.5),
    }


def test_a_local_base_model_is_named_in_the_text_alone(tmp_path):
    folder = tmp_path / "somewhere" / "my-model"
    folder.mkdir(parents=True)
    card = ModelCard.load(write_model_card(tmp_path, facts(base_model=str(folder), hub_id=None), {}))
    assert card.data.base_model is None
    assert card.data.datasets is None
    assert "`my-model`" in card.text
    assert str(tmp_path) not in card.text


def test_command_line_can_be_pasted():
    assert shlex.split(command_line(["run.py", "--text", "two words"])) == ["python", "run.py", "--text", "two words"]


def test_fingerprint_depends_on_content_and_order_alone(tmp_path):
    rows = {"text": ["a", "b"], "labels": [0, 1]}
    first = data_fingerprint(Dataset.from_dict(rows))
    Dataset.from_dict({"labels": [0, 1], "text": ["a", "b"]}).to_json(tmp_path / "rows.jsonl")
    assert data_fingerprint(Dataset.from_json(str(tmp_path / "rows.jsonl"), cache_dir=str(tmp_path))) == first
    assert data_fingerprint(Dataset.from_dict({"text": ["b", "a"], "labels": [1, 0]})) != first
    assert data_fingerprint(Dataset.from_dict({"text": ["a", "b"], "labels": [0, 0]})) != first
