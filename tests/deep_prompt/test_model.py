"""Injection: which modules are chosen, and bad input that ends in a clear error with nothing lost."""

from __future__ import annotations

import pytest
import torch
from peft import PeftModel, get_peft_model
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from transformers import (
    AutoModelForSequenceClassification,
    BartConfig,
    BartModel,
    FNetConfig,
    T5Config,
    T5ForConditionalGeneration,
)

from dpt_peft import DeepPromptConfig, DeepPromptLayer, DeepPromptModel
from dpt_peft.deep_prompt.forward_pass import ForwardPass
from dpt_peft.deep_prompt.targets import find_attention_modules
from tests.architectures import TEXT, make_batch, make_model, tiny_config
from tests.deep_prompt.test_common import bank_of, keys_of, layers_of, logits, prompt_config, prompted, values_of


def test_registered_with_peft_by_name():
    assert PEFT_TYPE_TO_CONFIG_MAPPING["DEEP_PROMPT"] is DeepPromptConfig
    assert isinstance(prompted("bert").base_model, DeepPromptModel)


def test_a_backbone_without_attention_is_refused_by_name():
    model = AutoModelForSequenceClassification.from_config(
        FNetConfig(vocab_size=50, hidden_size=16, num_hidden_layers=1, intermediate_size=16)
    )
    names = [key for key, _ in model.named_modules()]
    with pytest.raises(ValueError, match="fnet.*no attention"):
        get_peft_model(model, prompt_config())
    assert [key for key, _ in model.named_modules()] == names


def test_layers_out_of_range_leave_the_model_as_it_was():
    model = make_model("bert")
    expected, names = logits(model, "bert"), [key for key, _ in model.named_modules()]
    with pytest.raises(ValueError, match=r"layers_to_transform.*\[3\].*0 to 2"):
        get_peft_model(model, prompt_config(layers_to_transform=[1, 3]))
    assert [key for key, _ in model.named_modules()] == names
    assert torch.equal(logits(model, "bert"), expected)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"hidden_size": 64}, r"another backbone.*another size.*\(5, 192\), expected \(5, 384\)"),
        ({"num_hidden_layers": 2}, r"another backbone.*another size.*\(5, 192\), expected \(5, 128\)"),
        ({"num_hidden_layers": 4}, r"another backbone.*another size.*\(5, 192\), expected \(5, 256\)"),
    ],
)
def test_an_adapter_of_another_backbone_is_refused(overrides, message, tmp_path):
    prompted("bert").save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=message):
        PeftModel.from_pretrained(make_model("bert", **overrides), tmp_path)


def test_a_plain_model_refuses_an_adapter_of_another_size(tmp_path):
    prompted("bert").save_pretrained(tmp_path)
    with pytest.raises(RuntimeError, match="size|mismatch"):
        make_model("bert", hidden_size=64).load_adapter(str(tmp_path))


def test_target_modules_and_exclude_modules_choose_among_attention_modules():
    chosen = prompted("bert", target_modules=r".*layer\.[01]\.attention\.self")
    assert len(layers_of(chosen)) == 2
    excluded = prompted("bert", exclude_modules=r".*layer\.0\.attention\.self")
    assert [layer.layer_indices for layer in layers_of(excluded)] == [(1,), (2,)]
    with pytest.raises(ValueError, match="target_modules=.*none of the attention modules.*layer.0.attention.self"):
        prompted("bert", target_modules=["query"])
    with pytest.raises(ValueError, match="exclude_modules=.*none of the attention modules"):
        prompted("bert", exclude_modules=["self"])


def test_encoder_and_decoder_are_counted_apart_and_cross_attention_waits_to_be_asked():
    config = T5Config(vocab_size=50, d_model=16, d_kv=4, d_ff=16, num_layers=2, num_decoder_layers=3, num_heads=4)
    model = T5ForConditionalGeneration(config)
    found = find_attention_modules(model)
    self_attention = [a for a in found if not a.is_cross]
    assert [a.runs for a in self_attention] == [(0,), (1,), (0,), (1,), (2,)]
    assert [a.name for a in found if a.is_cross] == [f"decoder.block.{i}.layer.1.EncDecAttention" for i in range(3)]
    wrapped = get_peft_model(model, DeepPromptConfig(task_type="SEQ_2_SEQ_LM"))
    assert len(layers_of(wrapped)) == 5


def test_albert_counts_runs_anew_after_a_pass_that_broke_off():
    model = prompted("albert")
    expected = logits(model, "albert")
    handle = (
        model.base_model.model.albert.encoder.albert_layer_groups[0]
        .albert_layers[0]
        .ffn.register_forward_hook(lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    )
    with pytest.raises(KeyboardInterrupt):
        logits(model, "albert")
    handle.remove()
    assert torch.equal(logits(model, "albert"), expected)


def test_fold_encoder_refuses_adapters_without_an_mlp():
    with pytest.raises(ValueError, match="adapter_name.*'default'.*mlp"):
        prompted("bert").fold_encoder()
    with pytest.raises(ValueError, match="adapter_name.*'nobody'"):
        prompted("bert", "mlp").fold_encoder("nobody")


def test_folded_prompts_train_on():
    model = prompted("bert", "mlp")
    model.fold_encoder()
    model.train()(**make_batch("bert").asdict(), labels=torch.tensor([0, 1])).loss.backward()
    gradient = bank_of(model).deep_prompt_stored["default"].grad.unflatten(1, (len(layers_of(model)), -1))
    assert (gradient.abs().sum((0, 2)) > 0).all()


def test_the_two_encoders_live_side_by_side():
    model = prompted("bert")
    first = logits(model, "bert")
    model.add_adapter("deep", prompt_config("mlp"))
    model.set_adapter("deep")
    assert not torch.equal(logits(model, "bert"), first)
    model.delete_adapter("deep")
    model.set_adapter("default")
    assert torch.equal(logits(model, "bert"), first)
    assert not any("deep_prompt_table" in key for key, _ in model.named_parameters())


def test_initialisation_is_normal_with_the_given_spread():
    model = prompted("bert", num_virtual_tokens=400, init_std=0.02)
    numbers = torch.cat([p.flatten() for key, p in model.named_parameters() if "deep_prompt_" in key])
    assert numbers.mean().abs() < 1e-3
    assert abs(numbers.std() - 0.02) < 1e-3


def test_a_seed_draws_keys_and_values_layer_by_layer():
    # Recorded runs are told by their seed: what it draws has to stay.
    layers = layers_of(prompted("bert", init_std=0.5))
    torch.manual_seed(2)
    for layer in layers:
        for part in (keys_of(layer), values_of(layer)):
            assert torch.equal(part, torch.empty_like(part).normal_(std=0.5))


@pytest.mark.parametrize(
    ("model_type", "reason"),
    [
        ("mra", "MraSelfAttention.*block by block"),
        ("nystromformer", "landmarks"),
        ("yoso", "hashes of queries and keys"),
    ],
)
def test_attention_without_a_softmax_over_tokens_is_refused_by_name_and_reason(model_type, reason):
    with pytest.raises(ValueError, match=f"`{model_type}`.*{reason}.*no softmax over tokens"):
        get_peft_model(TEXT.make(tiny_config(model_type)), prompt_config())


@pytest.mark.parametrize("encoder", ["none", "mlp"])
def test_prompts_load_beside_adapters_whose_names_begin_alike(encoder, tmp_path):
    """`b` also begins the name of a linear layer's bias."""
    saved = prompted("bert", encoder)
    saved.save_pretrained(tmp_path)
    model = get_peft_model(make_model("bert"), prompt_config("mlp"), adapter_name="best").eval()
    for name in ("be", "b"):
        model.load_adapter(tmp_path, name)
        model.set_adapter(name)
        assert torch.equal(logits(model, "bert"), logits(saved, "bert"))


def test_folding_leaves_another_adapter_of_the_same_configuration_alone(tmp_path):
    config = prompt_config("mlp")
    model = get_peft_model(make_model("bert"), config).eval()
    model.add_adapter("b", config)
    model.fold_encoder("default")
    assert model.peft_config["default"].encoder_reparameterization == "none"
    model.set_adapter("b")
    model.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(make_model("bert"), tmp_path / "b").eval()
    assert torch.equal(logits(loaded, "bert"), logits(model, "bert"))
    model.fold_encoder("b")
    assert torch.equal(logits(loaded, "bert"), logits(model, "bert"))


def test_the_last_layers_are_each_stacks_own():
    config = BartConfig(
        vocab_size=99, d_model=32, encoder_layers=4, decoder_layers=2, encoder_attention_heads=4,
        decoder_attention_heads=4, encoder_ffn_dim=37, decoder_ffn_dim=37,
    )  # fmt: skip

    def prompted_layers(choice: object) -> list[str]:
        config_of_prompts = prompt_config(task_type="FEATURE_EXTRACTION", layers_to_transform=choice)
        model = get_peft_model(BartModel(config), config_of_prompts).get_base_model()
        return [name for name, module in model.named_modules() if isinstance(module, DeepPromptLayer)]

    encoder, decoder = ([f"{stack}.layers.{i}.self_attn" for i in range(4)] for stack in ("encoder", "decoder"))
    assert prompted_layers("last 1") == [encoder[3], decoder[1]]
    assert prompted_layers("last 3") == [*encoder[1:], *decoder[:2]]
    assert prompted_layers([1, 3]) == [encoder[1], encoder[3], decoder[1]]
    with pytest.raises(ValueError, match="only 4 layers"):
        prompted_layers("last 5")


def test_no_modules_are_not_all_modules():
    with pytest.raises(ValueError, match="target_modules=set.*choose none"):
        prompted("bert", target_modules=[])


def test_a_refused_merge_takes_nothing_apart():
    model = prompted("bert", "mlp", shift_positions=True)
    expected = logits(model, "bert")
    for merge in (model.merge_and_unload, model.merge_adapter):
        with pytest.raises(ValueError, match="cannot be merged"):
            merge()
    model.unmerge_adapter()
    assert torch.equal(logits(model, "bert"), expected)


@pytest.mark.parametrize("task_type", [None, "SEQ_CLS"])
def test_an_adapter_added_while_disabled_is_disabled_too(task_type):
    model = prompted("bert", task_type=task_type, layers_to_transform=[0])
    base, active = logits(make_model("bert"), "bert"), logits(model, "bert")
    with model.disable_adapter():
        # its layers are new, and so is a wrapper of a head that the first adapter does not have
        model.add_adapter("more", prompt_config(task_type=task_type, modules_to_save=["pooler"], shift_positions=True))
        model.set_adapter("more")
        for name, parameter in model.named_parameters():
            if "modules_to_save.more" in name:
                torch.nn.init.normal_(parameter)
        assert torch.equal(logits(model, "bert"), base)
    assert not torch.allclose(logits(model, "bert"), base, atol=1e-4)
    model.set_adapter("default")
    assert torch.equal(logits(model, "bert"), active)


def test_the_config_may_ask_for_hidden_states():
    model = prompted("bert", task_type="SEQ_CLS")
    model.config.output_hidden_states = True
    batch = make_batch("bert").asdict()
    assert model(**batch).hidden_states is not None
    assert model(**batch, output_hidden_states=False).hidden_states is None


def test_no_adapter_is_called_as_rows_without_one():
    with pytest.raises(ValueError, match="`adapter_name` cannot be '__base__'"):
        get_peft_model(make_model("bert"), prompt_config(), adapter_name="__base__")
    model = prompted("bert")
    expected = logits(model, "bert")
    with pytest.raises(ValueError, match="`adapter_name` cannot be '__base__'"):
        model.add_adapter("__base__", prompt_config())
    assert list(model.peft_config) == ["default"]
    assert torch.equal(logits(model, "bert"), expected)
    with pytest.raises(ValueError, match="`adapter_name` cannot begin with 'deep_prompt_'"):
        get_peft_model(make_model("bert"), prompt_config(), adapter_name="deep_prompt_one")


def test_classes_in_another_order_are_refused(tmp_path):
    names = {0: "bad", 1: "mixed", 2: "good"}
    prompted("bert", base=make_model("bert", id2label=names)).save_pretrained(tmp_path)
    swapped, other = {0: "good", 1: "mixed", 2: "bad"}, {0: "no", 1: "perhaps", 2: "yes"}
    with pytest.raises(ValueError, match=r"`id2label`.*another order.*with id2label=\{0: 'bad', 1: 'mixed', 2"):
        PeftModel.from_pretrained(make_model("bert", id2label=swapped), tmp_path)
    for base in (make_model("bert", id2label=names), make_model("bert", id2label=other), make_model("bert")):
        PeftModel.from_pretrained(base, tmp_path)
    # one model's config cannot name the classes of two adapters
    second = prompted("bert", base=make_model("bert", id2label=swapped))
    second.load_adapter(tmp_path, "first")
    # nor is a configuration that was used before a saved adapter's
    config = prompt_config()
    for order in (names, swapped):
        get_peft_model(make_model("bert", id2label=order), config)


@pytest.mark.parametrize("shift_positions", [False, True])
@pytest.mark.parametrize("name", ["bert", "gpt2"])
def test_every_module_can_be_asked_for_weight_and_bias(name, shift_positions):
    model = prompted(name, shift_positions=shift_positions)
    for missing in ("weight", "bias"):
        assert any(isinstance(getattr(module, missing, None), torch.Tensor) for module in model.modules())
        assert not hasattr(bank_of(model), missing)


def other_batch(name: str) -> dict[str, torch.Tensor]:
    """Of another size than `make_batch`'s."""
    return {key: value.repeat(2, 1)[:3, :5] for key, value in make_batch(name).asdict().items()}


@pytest.mark.parametrize("options", [{}, {"use_gate": True}, {"encoder_reparameterization": "mlp"}], ids=str)
@pytest.mark.parametrize("name", ["bert", "electra", "deberta-v2", "llama"])
def test_export_takes_batches_of_other_sizes(name, options):
    model = prompted(name, **options)
    if options.get("use_gate"):
        bank_of(model).deep_prompt_gate["default"].data.fill_(0.5)
    model.config.use_cache = False
    batch = make_batch(name).asdict()
    sizes = {key: {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC} for key in batch}
    with torch.no_grad():
        program = torch.export.export(model.get_base_model(), (), batch, dynamic_shapes=sizes, strict=False).module()
        # prompts and three tokens are eight keys, which fused kernels want no padding for
        shorter = {key: value[:1, :3] for key, value in batch.items()}
        for rows in (batch, other_batch(name), shorter):
            torch.testing.assert_close(program(**rows).logits, model(**rows).logits, rtol=0, atol=1e-5)


@pytest.mark.parametrize("with_gradients", [False, True])
@pytest.mark.parametrize("name", ["bert", "electra"])
def test_a_traced_backbone_takes_batches_of_other_sizes(name, with_gradients):
    model = prompted(name)
    batch = make_batch(name).asdict()
    with torch.set_grad_enabled(with_gradients):
        traced = torch.jit.trace(model.get_base_model(), (batch["input_ids"], batch["attention_mask"]), strict=False)
        for rows in (batch, other_batch(name)):
            found = traced(rows["input_ids"], rows["attention_mask"])["logits"]
            torch.testing.assert_close(found, model(**rows).logits, rtol=0, atol=1e-5)


@pytest.mark.parametrize("options", [{}, {"encoder": "mlp"}, {"use_gate": True}], ids=["plain", "mlp", "gate"])
def test_a_layer_run_alone_prepares_no_other_layers_prompts(options):
    """Reentrant checkpoints run every layer so: all of the bank each time would cost the square of the depth."""
    bank = bank_of(prompted("bert", **options))
    bank.begin()
    whole = bank.current.adapters[0]
    for layer in bank.layers:
        current, places = bank.alone(layer.places[0])
        (own,), ((_, row),) = current.adapters, layer.places[0]
        assert (own.layout.layers, list(places)) == (1, [(0, 0)])
        assert torch.allclose(own.flat(), whole.flat()[:, whole.layout.columns(row)])
        if own.is_gated:
            assert torch.equal(own.gate, whole.gate[row : row + 1])


def test_what_was_made_for_other_objects_is_not_compared_by_its_sizes():
    """In `torch.export` each comparison of sizes is kept as a condition of the graph."""

    class Size:
        def __eq__(self, other):
            raise AssertionError("compared")

        __hash__ = None

    current, mask = ForwardPass((), ()), object()
    current.memo((mask,), (Size(),), lambda: "of a mask")
    assert current.memo((), (2,), lambda: "of none") == "of none"
    assert current.memo((object(),), (2,), lambda: "of another") == "of another"


def test_a_pass_may_be_gone_when_it_ends():
    """Threads that serve one model begin and end passes in between."""
    bank = bank_of(prompted("bert"))
    with torch.no_grad():
        bank.begin()
    bank.current.close = lambda: setattr(bank, "current", None)
    bank.end()
    assert bank.current is None
