"""Whatever is saved, pushed, split or put somewhere else comes back as what it was, or with a sentence that helps."""

from __future__ import annotations

import pickle
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import HfApi, ModelCard
from peft import LoraConfig, PeftModel, get_peft_model, inject_adapter_in_model
from transformers import (
    AutoModel,
    AutoModelForMultipleChoice,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    DebertaV2Config,
    DebertaV2ForSequenceClassification,
)

import dpt_peft
from dpt_peft import DeepPromptConfig
from dpt_peft.tasks import TASKS
from dpt_peft.training.methods import build_model

from .models import KINDS, make, make_collator, make_rows

EVERY_KIND = pytest.mark.parametrize("kind", KINDS)
WRAPPERS = ("flat", "hierarchical", "multi-span", "verbalizer")
EVERY_WRAPPER = pytest.mark.parametrize("kind", WRAPPERS)
LORA = {"r": 2, "target_modules": ["query", "value"], "init_lora_weights": False}


def logits(model: Any, kind: str) -> torch.Tensor:
    batch = make_collator(kind)(list(make_rows(kind)))
    with torch.no_grad():
        return model.eval()(**{name: values for name, values in batch.items() if name != "labels"}).logits


def auto_class(kind: str) -> Any:
    return AutoModelForTokenClassification if kind == "multi-span" else AutoModelForSequenceClassification


def auto_peft_class(kind: str) -> Any:
    if kind == "multi-span":
        return dpt_peft.AutoPeftModelForTokenClassification
    return dpt_peft.AutoPeftModelForSequenceClassification


def prompted(kind: str, plain: Path) -> Any:
    """Deep prompts over what a kind is."""
    model = make(kind, plain)
    if isinstance(model, PeftModel):
        return model
    task_type = "TOKEN_CLS" if kind == "multi-span" else "SEQ_CLS"
    return get_peft_model(model, DeepPromptConfig(task_type=task_type, num_virtual_tokens=3, init_std=0.5))


@pytest.mark.parametrize("targets", [["query", "value"], ["dense", "query"], None, "all-linear"])
@pytest.mark.parametrize("kind", ["prompted", "prompted flat"])
def test_layers_within_prompted_attention_are_not_passed_by(kind, targets, plain):
    model = make(kind, plain)
    base = model.get_base_model()
    config = {"task_type": "SEQ_CLS", "r": 2, "target_modules": targets}
    for whole in (model, base):
        with pytest.raises(ValueError, match=r"with dpt_peft\.prompts_set_aside\(model\)"):
            get_peft_model(whole, LoraConfig(**config), "lora")
    with dpt_peft.prompts_set_aside(base):
        lora = get_peft_model(base, LoraConfig(**config), "lora")
    assert any("query.lora_A" in name for name, _ in lora.named_parameters())


def test_layers_elsewhere_need_nothing_set_aside(plain):
    base = make("prompted", plain).get_base_model()
    lora = get_peft_model(base, LoraConfig(r=2, target_modules=["intermediate.dense"]), "lora")
    assert any("lora_A" in name for name, _ in lora.named_parameters())


def test_a_head_that_would_be_lost_is_named_at_once(plain, tmp_path):
    def choices(**given: Any) -> Any:
        torch.manual_seed(1)
        model = AutoModelForMultipleChoice.from_pretrained(plain / "discriminator")
        return get_peft_model(model, DeepPromptConfig(num_virtual_tokens=2, **given))

    with pytest.warns(UserWarning, match=r"sequence_summary, classifier .*`task_type` .*`modules_to_save="):
        choices()
    with pytest.warns(UserWarning, match=r"neither trains nor saves sequence_summary of ElectraForMultipleChoice"):
        choices(task_type="SEQ_CLS")
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*neither trains")
        model = choices(task_type="SEQ_CLS", modules_to_save=["sequence_summary"])
        model.save_pretrained(tmp_path)
        fresh = AutoModelForMultipleChoice.from_pretrained(plain / "discriminator")
        loaded = PeftModel.from_pretrained(fresh, tmp_path)
        # a head that was tuned before may stay as it is, and so may pretrained heads
        get_peft_model(make("flat", plain), DeepPromptConfig(num_virtual_tokens=2))
    rows = torch.randint(5, 20, (1, 2, 6))
    with torch.no_grad():
        assert torch.equal(loaded.eval()(input_ids=rows).logits, model.eval()(input_ids=rows).logits)


def test_without_pefts_model_around_it_the_task_type_saves_no_head(plain, tmp_path):
    def classifier() -> Any:
        torch.manual_seed(0)
        return AutoModelForSequenceClassification.from_pretrained(plain / "discriminator")

    message = r"saves classifier of Electra.*are new, set `modules_to_save=\['classifier'\]`"
    for given in ({}, {"task_type": "SEQ_CLS"}):
        with pytest.warns(UserWarning, match=message):
            classifier().add_adapter(DeepPromptConfig(num_virtual_tokens=2, **given))
        with pytest.warns(UserWarning, match=message):
            inject_adapter_in_model(DeepPromptConfig(num_virtual_tokens=2, **given), classifier())
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*neither trains")
        model = classifier()
        model.add_adapter(DeepPromptConfig(num_virtual_tokens=2, modules_to_save=["classifier"]))
    assert any("classifier" in name for name, values in model.named_parameters() if values.requires_grad)


def test_a_pooler_before_the_head_is_named(tmp_path):
    config = DebertaV2Config(
        vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8
    )
    with pytest.warns(UserWarning, match=r"neither trains nor saves pooler of DebertaV2"):
        get_peft_model(DebertaV2ForSequenceClassification(config), DeepPromptConfig(task_type="SEQ_CLS"))


@pytest.mark.parametrize("method", ["deep_prompt", "lora"])
def test_our_own_runs_train_and_save_the_whole_head(method, plain, tmp_path):
    def build() -> Any:
        return build_model(TASKS["multiple-choice"], method, str(plain / "discriminator"))

    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*neither trains")
        model = build()
    trained = {name for name, values in model.named_parameters() if values.requires_grad}
    assert any("sequence_summary" in name for name in trained)
    assert any("classifier" in name for name in trained)
    model.save_pretrained(tmp_path)
    fresh = AutoModelForMultipleChoice.from_pretrained(plain / "discriminator")
    loaded = PeftModel.from_pretrained(fresh, tmp_path)
    rows = torch.randint(5, 20, (1, 2, 6))
    with torch.no_grad():
        assert torch.equal(loaded.eval()(input_ids=rows).logits, model.eval()(input_ids=rows).logits)


@EVERY_KIND
def test_prompts_cannot_be_merged_and_say_so_before_anything_changes(kind, plain):
    model = prompted(kind, plain)
    expected = logits(model, kind)
    with pytest.raises(ValueError, match="merge"):
        model.merge_and_unload()
    assert torch.equal(logits(model, kind), expected)


@EVERY_WRAPPER
def test_a_merged_lora_is_the_wrapper_and_is_saved_as_one(kind, plain, tmp_path):
    task_type = "TOKEN_CLS" if kind == "multi-span" else "SEQ_CLS"
    lora = get_peft_model(make(kind, plain), LoraConfig(task_type=task_type, **LORA))
    expected = logits(lora, kind)
    merged = lora.merge_and_unload()
    torch.testing.assert_close(logits(merged, kind), expected, rtol=0, atol=1e-3)
    merged.save_pretrained(tmp_path)
    loaded = auto_class(kind).from_pretrained(tmp_path)
    assert type(loaded) is type(merged)
    assert torch.equal(logits(loaded, kind), logits(merged, kind))


class Hub:
    """Stands in for the Hub: what is uploaded lies in a folder, whatever the network does."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder

        def create_repo(_: Any, repo_id: str, **kwargs: Any) -> Any:
            url = type("Url", (str,), {"repo_id": repo_id, "endpoint": "http://hub"})
            return url(repo_id)

        def create_commit(_: Any, repo_id: str, operations: Any, **kwargs: Any) -> Any:
            for operation in operations:
                place = folder / repo_id / operation.path_in_repo
                place.parent.mkdir(parents=True, exist_ok=True)
                if isinstance(operation.path_or_fileobj, bytes):
                    place.write_bytes(operation.path_or_fileobj)
                else:
                    shutil.copy(operation.path_or_fileobj, place)
            return "pushed"

        monkeypatch.setattr(HfApi, "create_repo", create_repo)
        monkeypatch.setattr(HfApi, "create_commit", create_commit)


@EVERY_KIND
def test_what_is_pushed_is_what_is_loaded(kind, plain, tmp_path, monkeypatch):
    hub = Hub(tmp_path, monkeypatch)
    model = prompted(kind, plain)
    model.push_to_hub("me/adapter")
    pushed = hub.folder / "me" / "adapter"
    assert (pushed / "adapter_model.safetensors").is_file()
    loaded = auto_peft_class(kind).from_pretrained(pushed)
    assert torch.equal(logits(loaded, kind), logits(model, kind))
    card = ModelCard.load(pushed / "README.md")
    assert card.text.lstrip().startswith("```python\nimport dpt_peft\n")
    assert "dpt_peft" in card.data.tags
    if kind in WRAPPERS:
        whole = make(kind, plain)
        whole.push_to_hub("me/whole")
        loaded = auto_class(kind).from_pretrained(hub.folder / "me" / "whole")
        assert torch.equal(logits(loaded, kind), logits(whole, kind))
        assert "dpt_peft" in ModelCard.load(hub.folder / "me" / "whole" / "README.md").data.tags


def lines_of(card: ModelCard) -> list[str]:
    return card.text.split("```python\n", 1)[1].split("```", 1)[0].splitlines()


@EVERY_KIND
def test_the_lines_of_the_card_load_the_adapter(kind, plain, tmp_path):
    prompted(kind, plain).save_pretrained(tmp_path)
    for _ in range(2):  # saved again, they stand there once
        prompted(kind, plain).save_pretrained(tmp_path)
    card = ModelCard.load(tmp_path / "README.md")
    assert card.text.count("import dpt_peft") == 1
    assert card.data.library_name == "peft"
    names: dict[str, Any] = {}
    exec("\n".join(lines_of(card)).replace("folder or Hub id of this adapter", str(tmp_path)), names)
    assert torch.equal(logits(names["model"], kind), logits(prompted(kind, plain), kind))


def test_the_lines_for_a_task_without_an_auto_class_of_ours(plain, tmp_path):
    base = AutoModel.from_pretrained(plain / "discriminator")
    model = get_peft_model(base, DeepPromptConfig(task_type="FEATURE_EXTRACTION", num_virtual_tokens=2))
    model.save_pretrained(tmp_path)
    lines = lines_of(ModelCard.load(tmp_path / "README.md"))
    assert lines[:2] == ["import dpt_peft", "from peft import PeftModel"]
    loaded = PeftModel.from_pretrained(AutoModel.from_pretrained(plain / "discriminator"), tmp_path)
    tokens = torch.arange(5, 15)[None]
    with torch.no_grad():
        states = [each.eval()(input_ids=tokens).last_hidden_state for each in (loaded, model)]
    assert torch.equal(*states)


def test_the_card_of_another_adapter_is_pefts(plain, tmp_path):
    base = AutoModelForSequenceClassification.from_pretrained(plain / "discriminator")
    get_peft_model(base, LoraConfig(task_type="SEQ_CLS", **LORA)).save_pretrained(tmp_path)
    card = ModelCard.load(tmp_path / "README.md")
    assert "dpt_peft" not in card.text
    assert "dpt_peft" not in card.data.tags


def test_why_the_card_begins_with_the_import(plain, tmp_path):
    """Without it PEFT does not know the method; with it, it does."""
    prompted("prompted", plain).save_pretrained(tmp_path)
    code = f"from peft import PeftConfig; print(PeftConfig.from_pretrained({str(tmp_path)!r}).num_virtual_tokens)"
    without = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "KeyError: 'DEEP_PROMPT'" in without.stderr
    code = f"import dpt_peft; {code}"
    with_it = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert with_it.stdout.strip() == "3", with_it.stderr


@EVERY_WRAPPER
def test_shards(kind, plain, tmp_path):
    model = make(kind, plain)
    model.save_pretrained(tmp_path / "whole", max_shard_size="4KB")
    assert len(list((tmp_path / "whole").glob("model-*.safetensors"))) > 1
    loaded = auto_class(kind).from_pretrained(tmp_path / "whole")
    assert torch.equal(logits(loaded, kind), logits(model, kind))

    # the language model in shards, under a wrapper and an adapter over it
    inner = make(kind, plain).language_model
    inner.save_pretrained(tmp_path / "inner", max_shard_size="4KB")
    assert len(list((tmp_path / "inner").glob("model-*.safetensors"))) > 1
    source = plain / KINDS[kind][0]
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(source / name, tmp_path / "inner" / name)
    folder = tmp_path / "as_plain"
    folder.mkdir()
    (folder / KINDS[kind][0]).symlink_to(tmp_path / "inner")
    adapter = prompted(kind, folder)
    adapter.save_pretrained(tmp_path / "adapter")
    loaded = auto_peft_class(kind).from_pretrained(tmp_path / "adapter")
    assert torch.equal(logits(loaded, kind), logits(adapter, kind))


@EVERY_WRAPPER
def test_a_device_map_and_a_subfolder(kind, plain, tmp_path):
    model = make(kind, plain)
    model.save_pretrained(tmp_path / "repository" / "inside")
    loaded = auto_class(kind).from_pretrained(tmp_path / "repository", subfolder="inside", device_map="auto")
    assert type(loaded) is type(model)
    assert torch.equal(logits(loaded, kind), logits(model, kind))

    adapter = prompted(kind, plain)
    adapter.save_pretrained(tmp_path / "adapters" / "inside")
    loaded = auto_peft_class(kind).from_pretrained(tmp_path / "adapters", subfolder="inside", device_map="auto")
    assert torch.equal(logits(loaded, kind), logits(adapter, kind))
    loaded = auto_class(kind).from_pretrained(tmp_path / "adapters" / "inside", device_map="auto")
    assert torch.equal(logits(loaded, kind), logits(adapter, kind))


def put_into_cache(cache: Path, repository: str, revision: str, commit: str, folder: Path) -> None:
    """Lay a folder out as the Hub's client does for what it has fetched."""
    place = cache / f"models--{repository.replace('/', '--')}"
    shutil.copytree(folder, place / "snapshots" / commit)
    (place / "refs").mkdir(parents=True, exist_ok=True)
    (place / "refs" / revision).write_text(commit)


@EVERY_WRAPPER
def test_revisions_from_the_cache_without_a_network(kind, plain, tmp_path):
    """Two revisions of one repository, and an adapter that names the second of its base."""
    cache, source = tmp_path / "cache", plain / KINDS[kind][0]
    first, second = make(kind, plain), make(kind, plain)
    with torch.no_grad():
        second.get_input_embeddings().weight.mul_(2)
    for revision, commit, model in (("main", "a" * 40, first), ("next", "b" * 40, second)):
        model.save_pretrained(tmp_path / revision)
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(source / name, tmp_path / revision / name)
        put_into_cache(cache, "me/wrapper", revision, commit, tmp_path / revision)
    where = {"cache_dir": str(cache), "local_files_only": True}
    for revision, model in (("main", first), ("next", second)):
        loaded = auto_class(kind).from_pretrained("me/wrapper", revision=revision, **where)
        assert torch.equal(logits(loaded, kind), logits(model, kind))
    assert not torch.equal(logits(first, kind), logits(second, kind))

    base = auto_class(kind).from_pretrained("me/wrapper", revision="next", **where)
    task_type = "TOKEN_CLS" if kind == "multi-span" else "SEQ_CLS"
    config = DeepPromptConfig(task_type=task_type, num_virtual_tokens=3, init_std=0.5, revision="next")
    adapter = get_peft_model(base, config)
    adapter.save_pretrained(tmp_path / "adapter")
    put_into_cache(cache, "me/adapter", "main", "c" * 40, tmp_path / "adapter")
    loaded = auto_peft_class(kind).from_pretrained("me/adapter", **where)
    assert torch.equal(logits(loaded, kind), logits(adapter, kind))


@EVERY_WRAPPER
def test_every_loader_takes_the_bases_revision_and_the_adapters_own(kind, plain, tmp_path):
    """An adapter in a subfolder of a revision, over another revision of its base, both in the cache."""
    cache, source = tmp_path / "cache", plain / KINDS[kind][0]
    for revision, factor in (("main", 1), ("next", 2)):
        model = make(kind, plain)
        with torch.no_grad():
            model.get_input_embeddings().weight.mul_(factor)
        model.save_pretrained(tmp_path / revision, max_shard_size="4KB")
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(source / name, tmp_path / revision / name)
        put_into_cache(cache, "me/wrapper", revision, revision[0] * 40, tmp_path / revision)
    where = {"cache_dir": str(cache), "local_files_only": True}
    task_type = "TOKEN_CLS" if kind == "multi-span" else "SEQ_CLS"
    adapters = {}
    for revision, commit in (("main", "c" * 40), ("better", "d" * 40)):
        base = auto_class(kind).from_pretrained("me/wrapper", revision="next", **where)
        options = {"task_type": task_type, "num_virtual_tokens": 3, "init_std": 0.5, "revision": "next"}
        adapters[revision] = get_peft_model(base, DeepPromptConfig(**options))
        adapters[revision].save_pretrained(tmp_path / f"adapter {revision}")
        put_into_cache(cache, "me/adapter", revision, commit, tmp_path / f"adapter {revision}")
    assert not torch.equal(logits(adapters["main"], kind), logits(adapters["better"], kind))
    for revision, adapter in adapters.items():
        for loader in (auto_peft_class(kind), dpt_peft.AutoPeftModel, auto_class(kind)):
            loaded = loader.from_pretrained("me/adapter", revision=revision, **where)
            assert torch.equal(logits(loaded, kind), logits(adapter, kind)), (revision, loader)
    shutil.copytree(tmp_path / "adapter better", tmp_path / "adapters" / "inside")
    put_into_cache(cache, "me/adapters", "better", "e" * 40, tmp_path / "adapters")
    loaded = dpt_peft.AutoPeftModel.from_pretrained("me/adapters", revision="better", subfolder="inside", **where)
    assert torch.equal(logits(loaded, kind), logits(adapters["better"], kind))


@pytest.mark.parametrize("method", ["deep prompts", "lora"])
def test_adapters_over_a_plain_model_in_shards_by_subfolder_device_map_and_revision(method, plain, tmp_path):
    cache, kind = tmp_path / "cache", "prompted"
    for revision, factor in (("main", 1), ("next", 2)):
        model = AutoModelForSequenceClassification.from_pretrained(plain / "discriminator", num_labels=3)
        with torch.no_grad():
            model.get_input_embeddings().weight.mul_(factor)
        model.save_pretrained(tmp_path / revision, max_shard_size="4KB")
        assert (tmp_path / revision / "model.safetensors.index.json").is_file()
        put_into_cache(cache, "me/plain", revision, revision[0] * 40, tmp_path / revision)
    where = {"cache_dir": str(cache), "local_files_only": True}
    base = AutoModelForSequenceClassification.from_pretrained("me/plain", revision="next", **where)
    options = {"task_type": "SEQ_CLS", "revision": "next"}
    prompts = DeepPromptConfig(num_virtual_tokens=3, init_std=0.5, **options)
    model = get_peft_model(base, prompts if method == "deep prompts" else LoraConfig(**LORA, **options))
    model.save_pretrained(tmp_path / "adapter")
    put_into_cache(cache, "me/adapter", "main", "c" * 40, tmp_path / "adapter")
    shutil.copytree(tmp_path / "adapter", tmp_path / "adapters" / "inside")
    put_into_cache(cache, "me/adapters", "better", "d" * 40, tmp_path / "adapters")
    auto = dpt_peft.AutoPeftModelForSequenceClassification
    for given in ({}, {"device_map": "auto"}):
        for place, more in (("me/adapter", {}), ("me/adapters", {"subfolder": "inside", "revision": "better"})):
            loaded = auto.from_pretrained(place, **where, **more, **given)
            assert torch.equal(logits(loaded, kind), logits(model, kind)), (place, given)


@pytest.mark.parametrize("kind", ["flat", "prompted"])
def test_without_the_import_nothing_else_is_loaded_in_silence(kind, plain, tmp_path):
    """Every loader ends in an error rather than in another model."""
    prompted(kind, plain).save_pretrained(tmp_path / "prompts")
    if kind == "flat":
        make(kind, plain).save_pretrained(tmp_path / "whole")
        lora = get_peft_model(make(kind, plain), LoraConfig(task_type="SEQ_CLS", **LORA))
        lora.save_pretrained(tmp_path / "lora")
    for folder in sorted(path for path in tmp_path.iterdir()):
        code = (
            "import sys; from transformers import AutoModelForSequenceClassification as of_transformers; "
            "from peft import AutoPeftModelForSequenceClassification as of_peft\n"
            "for loader in (of_transformers, of_peft):\n"
            "    try: print('LOADED', type(loader.from_pretrained(sys.argv[1])))\n"
            "    except Exception as error: print(type(error).__name__, error)\n"
        )
        command = [sys.executable, "-c", code, str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert "LOADED" not in done.stdout, (folder.name, done.stdout)


@EVERY_KIND
def test_pickle(kind, plain):
    model = prompted(kind, plain)
    again = pickle.loads(pickle.dumps(model))
    assert torch.equal(logits(again, kind), logits(model, kind))
    batch = make_collator(kind)(list(make_rows(kind)))
    again.train()(**batch).loss.backward()
    assert any(values.grad is not None for values in again.parameters())
