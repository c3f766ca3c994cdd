"""Each name of the libraries underneath that may change, through the function that knows it."""

from __future__ import annotations

import copy
import pickle
import warnings
from collections.abc import Callable
from operator import iadd, imul, isub, itruediv
from types import SimpleNamespace
from typing import Any

import datasets
import pytest
import torch
import transformers.trainer
from datasets import Dataset
from huggingface_hub import HfApi, ModelCard
from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_PREFIX_MAPPING, PEFT_TYPE_TO_TUNER_MAPPING
from peft.tuners.tuners_utils import BaseTuner
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils.checkpoint import checkpoint
from transformers import (
    AutoConfig,
    BertConfig,
    BertModel,
    DynamicCache,
    ElectraConfig,
    EncoderDecoderCache,
    FunnelConfig,
    Trainer,
    TrainingArguments,
)
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.models.bert import modeling_bert
from transformers.models.mpnet.modeling_mpnet import MPNetSelfAttention

from dpt_peft import DPTForSequenceClassification, _compatibility
from tests.architectures import make_config

WrapperConfig = DPTForSequenceClassification.config_class


def test_quiet_peft():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with _compatibility.quiet_peft():
            warnings.warn("`is_gradient_checkpointing` is deprecated", FutureWarning, stacklevel=1)
        with pytest.raises(UserWarning):
            warnings.warn("anything else", stacklevel=1)


def test_register_peft_type():
    registries = (PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_TUNER_MAPPING, PEFT_TYPE_TO_PREFIX_MAPPING)
    try:
        _compatibility.register_peft_type("TRIED_OUT", PeftConfig, BaseTuner, "tried_")
        assert [registry["TRIED_OUT"] for registry in registries] == [PeftConfig, BaseTuner, "tried_"]
    finally:
        for registry in registries:
            registry.pop("TRIED_OUT", None)


def test_in_backward():
    seen = []

    def run(x: torch.Tensor) -> torch.Tensor:
        seen.append(_compatibility.in_backward())
        return x.sin()

    checkpoint(run, torch.ones(2, requires_grad=True), use_reentrant=False).sum().backward()
    assert seen == [False, True]
    assert not _compatibility.in_backward()


def test_torch_operation():
    """Every name by which torch's functions and operators reach a mode."""
    seen = []

    class Watch(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            seen.append(_compatibility.torch_operation(func))
            return func(*args, **kwargs or {})

    x, y, mask = torch.randn(2, 2, 2), torch.randn(2, 2, 2), torch.ones(2, 2, 2, dtype=torch.bool)
    calls: dict[str, list[Callable[[], object]]] = {
        "add": [lambda: x + y, lambda: 1 + x, lambda: torch.add(x, y), lambda: x.clone().add_(y), lambda: iadd(x, y)],
        "sub": [lambda: x - y, lambda: torch.subtract(x, y), lambda: x.clone().sub_(y), lambda: isub(x, y)],
        "mul": [lambda: x * y, lambda: 2 * x, lambda: torch.multiply(x, y), lambda: x.mul_(1), lambda: imul(x, 1)],
        "div": [lambda: x / y, lambda: torch.true_divide(x, y), lambda: x.divide(y), lambda: itruediv(x, 1)],
        "matmul": [lambda: x @ y, lambda: torch.matmul(x, y), lambda: x.matmul(y)],
        "bmm": [lambda: torch.bmm(x, y)],
        "baddbmm": [lambda: torch.baddbmm(x, x, y), lambda: x.clone().baddbmm_(x, y)],
        "cat": [lambda: torch.cat([x, y]), lambda: torch.concat([x, y]), lambda: torch.concatenate([x, y])],
        "masked_fill": [lambda: x.masked_fill(mask, 0), lambda: x.masked_fill_(~mask, 0)],
        "softmax": [lambda: x.softmax(-1), lambda: torch.softmax(x, -1), lambda: nn.functional.softmax(x, -1)],
        "scaled_dot_product_attention": [lambda: nn.functional.scaled_dot_product_attention(x, x, y)],
    }
    for name, runs in calls.items():
        for run in runs:
            seen.clear()
            with Watch():
                run()
            assert name in seen, (name, seen)
    # these turn the sign or the factor around
    with Watch():
        seen.clear()
        _ = 1 - x, 1 / x
    assert not {"sub", "div"} & set(seen)


def test_asks_attention_interface_and_attention_kernels():
    attention = modeling_bert.BertSelfAttention(make_config("bert"))
    assert _compatibility.asks_attention_interface(attention)
    eager, others = _compatibility.attention_kernels(attention)
    assert eager is modeling_bert.eager_attention_forward
    assert others["sdpa"] is sdpa_attention_forward
    for module in (nn.Linear(2, 2), MPNetSelfAttention(make_config("mpnet"))):
        assert not _compatibility.asks_attention_interface(module)


def test_config_with_attention_and_attention_implementation():
    config = BertConfig()
    config._attn_implementation = "sdpa"
    changed = _compatibility.config_with_attention(config, "another")
    assert changed._attn_implementation == "another"
    assert [_compatibility.attention_implementation(each) for each in (config, changed)] == ["sdpa", "another"]
    assert _compatibility.attention_implementation(BertConfig()) == "eager"
    assert "_attn_implementation_internal" not in changed.to_dict()


@pytest.mark.parametrize("name", ["past_key_values", "cache"])
def test_cache_of_call(name):
    cache, cross = DynamicCache(), DynamicCache()
    assert _compatibility.cache_of_call({name: cache}) is cache
    assert _compatibility.cache_of_call({name: EncoderDecoderCache(cache, cross)}) is cache
    assert _compatibility.cache_of_call({name: None}) is None
    assert _compatibility.cache_of_call({}) is None


def test_what_peft_saves_is_told_with_its_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(PeftModel, "save_pretrained", PeftModel.save_pretrained)
    told = []

    def write(model, folder):
        told.append((model, folder, sorted(folder.iterdir())))

    _compatibility.call_when_an_adapter_is_saved(write)
    config = LoraConfig(target_modules=["0"])
    model = get_peft_model(torch.nn.Sequential(torch.nn.Linear(2, 2)), config)
    model.add_adapter("other", config)
    model.save_pretrained(tmp_path)
    assert [(found, folder) for found, folder, _ in told] == [(model, tmp_path), (model, tmp_path / "other")]
    assert all(any(path.name == "adapter_model.safetensors" for path in files) for *_, files in told)
    model.save_pretrained(tmp_path, selected_adapters=["other"])
    model.save_pretrained(str(tmp_path), is_main_process=False)
    assert [folder for _, folder, _ in told[2:]] == [tmp_path / "other"]


def test_every_card_of_an_adapter_is_told(tmp_path, monkeypatch):
    uploaded = []

    def upload(self, folder, *args, **kwargs):
        uploaded.append((tmp_path / folder / "README.md").read_text(encoding="utf-8"))

    monkeypatch.setattr(PeftModel, "create_or_update_model_card", PeftModel.create_or_update_model_card)
    monkeypatch.setattr(PeftModel, "_upload_modified_files", upload)
    monkeypatch.setattr(HfApi, "create_repo", lambda self, repo_id, **kwargs: SimpleNamespace(repo_id=repo_id))

    def add(model, card):
        card.text = f"{type(model).__name__}\n{card.text}"

    _compatibility.call_when_an_adapters_card_is_written(add)
    model = get_peft_model(torch.nn.Sequential(torch.nn.Linear(2, 2)), LoraConfig(target_modules=["0"]))
    model.save_pretrained(tmp_path)
    assert ModelCard.load(tmp_path / "README.md").text.startswith("PeftModel\n")
    model.push_to_hub("me/adapter")
    assert [ModelCard(text).text.startswith("PeftModel\n") for text in uploaded] == [True]


def test_an_adapter_is_told_before_it_is_put_on(monkeypatch):
    monkeypatch.setattr(BaseTuner, "inject_adapter", BaseTuner.inject_adapter)
    base, told = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)), []

    def check(tuner, model, config):
        told.append((tuner.prefix, model, config, [type(module) for module in model]))

    _compatibility.call_before_an_adapter_is_put_on(check)
    config = LoraConfig(target_modules=["0"])
    get_peft_model(base, config)
    assert told == [("lora_", base, config, [torch.nn.Linear, torch.nn.Linear])]


def test_a_model_that_has_given_hidden_states_can_be_pickled():
    model = BertModel(BertConfig(vocab_size=9, hidden_size=4, num_hidden_layers=2, num_attention_heads=1)).eval()
    batch = {"input_ids": torch.tensor([[1, 2, 3]]), "output_hidden_states": True}
    expected = model(**batch).hidden_states
    with pytest.raises((AttributeError, pickle.PicklingError), match="hook"):
        pickle.dumps(model)
    _compatibility.forget_capturing_hooks(model)
    for kept in (pickle.loads(pickle.dumps(model)), model):
        for _ in range(2):
            found = kept(**batch).hidden_states
            assert len(found) == 3
            assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))


def test_an_adapter_is_told_before_it_is_loaded(tmp_path, monkeypatch):
    monkeypatch.setattr(PeftModel, "load_adapter", PeftModel.load_adapter)
    told = []
    _compatibility.call_before_an_adapter_is_loaded(lambda *given: told.append(given))
    get_peft_model(torch.nn.Sequential(torch.nn.Linear(2, 2)), LoraConfig(target_modules=["0"])).save_pretrained(
        tmp_path
    )
    model = PeftModel.from_pretrained(torch.nn.Sequential(torch.nn.Linear(2, 2)), tmp_path)
    model.load_adapter(tmp_path, "other", revision="v1")
    assert [(found, path) for found, path, _ in told] == [(model, str(tmp_path))] * 2
    assert told[1][2] == {"revision": "v1"}


def test_an_adapters_weights_that_are_read_are_told(tmp_path, monkeypatch):
    name = "_get_adapter_state_dict"
    monkeypatch.setattr(BaseTuner, name, BaseTuner.__dict__[name])
    told = []
    _compatibility.call_when_an_adapters_weights_are_read(lambda *given: told.append(given))
    config = LoraConfig(target_modules=["0"])
    model = get_peft_model(torch.nn.Sequential(torch.nn.Linear(2, 2)), config)
    model.save_pretrained(tmp_path)
    ((found, of, weights),) = told
    assert (found, of) == (model, config)
    assert all(".lora_" in key for key in weights)
    assert len(weights) == 2


def test_with_default_targets_and_is_targeted():
    base = BertModel(BertConfig(vocab_size=9, hidden_size=4, num_hidden_layers=1, num_attention_heads=1))
    tuner = get_peft_model(base, LoraConfig()).base_model
    config = LoraConfig()
    filled = _compatibility.with_default_targets(tuner, base, config)
    assert (config.target_modules, filled.target_modules) == (None, {"query", "value"})
    layer = torch.nn.Linear(1, 1)
    assert _compatibility.is_targeted(tuner, filled, "a.query", layer)
    assert not _compatibility.is_targeted(tuner, filled, "a.key", layer)
    everything = LoraConfig(target_modules="all-linear")
    assert _compatibility.is_targeted(tuner, everything, "a.key", layer)
    assert not _compatibility.is_targeted(tuner, everything, "a.key", torch.nn.LayerNorm(1))


def test_a_trainer_that_is_made_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(transformers.trainer, "DEFAULT_CALLBACKS", list(transformers.trainer.DEFAULT_CALLBACKS))
    told = []

    def check(arguments, model):
        told.append((arguments, model))

    class Model(torch.nn.Linear):
        @property
        def accepts_loss_kwargs(self) -> bool:
            _compatibility.call_when_a_trainer_is_made(check)
            return False

    model = Model(1, 1)
    for _ in range(2):
        arguments = TrainingArguments(str(tmp_path), report_to=[], use_cpu=True, save_strategy="no")
        trainer = Trainer(model, arguments)
        assert told[-1] == (trainer.args, model)
    assert len(told) == 2


def test_declares_sub_config_and_as_config():
    config = WrapperConfig(language_model_config={"model_type": "funnel", "d_model": 8})
    assert type(config.language_model_config) is FunnelConfig
    assert config.language_model_config.d_model == 8
    assert type(WrapperConfig().language_model_config) is ElectraConfig
    assert dict(WrapperConfig.sub_configs) == {"language_model_config": AutoConfig}
    config._attn_implementation = "sdpa"
    assert config.language_model_config._attn_implementation == "sdpa"


def test_mark_made_and_without_mark(tmp_path):
    seen = []

    class Watching(WrapperConfig):
        model_type = "watching"

        def __getattr__(self, name):
            seen.append(_compatibility.is_made(self))
            return super().__getattr__(name)

    config = Watching(language_model_config=ElectraConfig(vocab_size=7))
    assert seen
    assert not any(seen)  # transformers asks for what only some configs have, and would change it
    plain = WrapperConfig(language_model_config=ElectraConfig(vocab_size=7))
    again = WrapperConfig.from_dict(plain.to_dict())
    for made in (config, plain, again, copy.deepcopy(plain), pickle.loads(pickle.dumps(plain))):
        assert _compatibility.is_made(made)
        assert made.vocab_size == 7
    plain.save_pretrained(tmp_path)
    assert "post_init" not in (tmp_path / "config.json").read_text()


@pytest.mark.parametrize(
    ("values", "differ"),
    [
        ([1, 2.5, None], False),
        ([True, 1], True),
        (["a", 1], True),
        ([[1], [2.5], []], False),
        ([[1], ["a"]], True),
        ([{"a": 1}, {"a": None}, None], False),
        ([{"a": 1}, {"b": 2}], True),
        ([{"a": 1}, {"b": 2}, {"a": "x"}], True),
        ([[{"a": 1}], [{"a": "x", "b": 2}]], True),
        ([{"a": 1}, {"a": "x"}], True),
        ([{"a": 1}, [1]], True),
        ([None, None], False),
    ],
)
def test_dataset_of(values, differ, monkeypatch):
    assert _compatibility.differ(values) is differ
    if hasattr(datasets, "Json"):
        given = Dataset.from_dict({"v": values}, on_mixed_types="use_json")
        assert ("Json(" in repr(given.features)) is differ  # what `datasets` itself finds
        assert _compatibility.dataset_of({"v": values}).to_dict() == given.to_dict()
        monkeypatch.delattr(datasets, "Json")
    if _compatibility.differ(values, keys=False):
        assert differ
        with pytest.raises(ValueError, match=r"'v' are not all of one type.* datasets \d.*install datasets>=4\.7"):
            _compatibility.dataset_of({"v": values})
    else:
        names = {name: None for value in values if isinstance(value, dict) for name in value}
        filled = [{**names, **value} if isinstance(value, dict) else value for value in values]
        assert _compatibility.dataset_of({"v": values}).to_dict() == {"v": filled if differ else values}


def test_refuse_old_accelerate():
    _compatibility.refuse_old_accelerate("1.12.0")
    with pytest.raises(ImportError, match=r"accelerate 1\.11\.0 .*FSDP2.*accelerate>=1\.12"):
        _compatibility.refuse_old_accelerate("1.11.0")


def test_take_names_of_rows():
    """PEFT's hooks hold the names that rows have, and stay on where an error ends the call."""
    model = get_peft_model(nn.Sequential(nn.Linear(2, 2)), LoraConfig(target_modules=["0"]))
    model.add_adapter("b", LoraConfig(target_modules=["0"]))
    model.eval()
    assert _compatibility.take_names_of_rows(model) == set()
    for names in (["default", "b"], ["b", "b"]):
        with pytest.raises(RuntimeError):
            model(torch.zeros(2, 3), adapter_names=names)  # of another width
        assert _compatibility.take_names_of_rows(model) == set(names)
        assert _compatibility.take_names_of_rows(model) == set()
