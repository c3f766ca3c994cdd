"""The pre-training script on text that the test writes: two steps, resumed for two more, evaluated, loaded again."""

from __future__ import annotations

import json
import lzma
import random
import re
import shutil
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import (
    AutoConfig,
    BertConfig,
    BertForMaskedLM,
    BertModel,
    BertTokenizer,
    DebertaV2Config,
    ElectraForPreTraining,
    PreTrainedModel,
    RobertaConfig,
    RobertaModel,
)

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))
import pretrain_discriminator

from dpt_peft import DPTForSequenceClassification
from dpt_peft._compatibility import quiet_peft
from dpt_peft.pretrained_heads.discriminators import get_discriminator
from dpt_peft.pretraining.discriminators import discriminator_from_encoder, load_packed

WORDS = [a + b + c for a in "bdfgk" for b in "aeiou" for c in "lmnrst"]
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", ",", ":", "class", *WORDS]
METRICS = {f"eval_{kind}_{name}" for kind in ("replaced_tokens", "candidate_lists") for name in
           ("loss", "token_loss", "precision", "recall", "auc")}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def datasets_cache(tmp_path_factory: pytest.TempPathFactory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path_factory.mktemp("datasets"))
        yield


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("encoder")
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(VOCABULARY),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
        initializer_range=0.2,
    )
    BertModel(config).save_pretrained(folder)
    BertTokenizer(vocab={word: index for index, word in enumerate(VOCABULARY)}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A plain and a compressed file: lines of 10 to 60 words, a comma behind each word."""
    folder, draw = tmp_path_factory.mktemp("texts"), random.Random(0)
    lines = []
    for _ in range(240):
        lines += [", ".join(draw.choices(WORDS, k=draw.randint(10, 60))) + ".", ""]
    (folder / "plain.txt").write_text("\n".join(lines[:240]))
    with lzma.open(folder / "packed.txt.xz", "wt") as file:
        file.write("\n".join(lines[240:]))
    return [str(folder / "plain.txt"), str(folder / "packed.txt.xz")]


def read_weights(folder: Path) -> dict[str, torch.Tensor]:
    return safetensors.torch.load(
        (folder / "model.safetensors").read_bytes()
    )  # no memory map: the file is written again


def run(encoder: Path, texts: list[str], output: Path, *more: str) -> dict[str, float]:
    common = ["--model_name_or_path", str(encoder), "--train_files", *texts, "--output_dir", str(output)]
    sizes = ["--max_length", "32", "--document_tokens", "48", "--validation_documents", "6", "--nearest", "4"]
    speed = [
        "--per_device_train_batch_size",
        "8",
        "--report_to",
        "none",
        "--disable_tqdm",
        "True",
        "--use_cpu",
        "True",
    ]
    return pretrain_discriminator.main([*common, *sizes, *speed, *more])


TRAIN = ["--do_train", "--do_eval", "--candidate_list_share", "0.5", "--learning_rate", "1e-3", "--save_steps", "2"]


def test_two_steps_then_two_more(encoder, texts, tmp_path):
    train = [*TRAIN, "--lr_scheduler_type", "constant", "--logging_steps", "1"]
    metrics = run(encoder, texts, tmp_path, *train, "--max_steps", "2")
    assert metrics.keys() >= METRICS
    assert json.loads((tmp_path / "metrics.json").read_text()) == pytest.approx(metrics)
    first = read_weights(tmp_path)
    checkpoint = read_weights(tmp_path / "checkpoint-2")
    assert all(torch.equal(checkpoint[f"discriminator.{name}"], weight) for name, weight in first.items())

    run(encoder, texts, tmp_path, *train, "--max_steps", "4", "--resume_from_checkpoint", "last")
    state = json.loads((tmp_path / "trainer_state.json").read_text())
    assert state["global_step"] == 4
    assert [entry["step"] for entry in state["log_history"] if "loss" in entry] == [1, 2, 3, 4]
    assert any(not torch.equal(weight, first[name]) for name, weight in read_weights(tmp_path).items())


def deberta_v3() -> PreTrainedModel:
    config = DebertaV2Config(
        vocab_size=len(VOCABULARY),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
        relative_attention=True,
        pos_att_type="p2c|c2p",
        position_biased_input=False,
    )
    return get_discriminator(config)(config)


@pytest.mark.parametrize("start", ["electra", "deberta-v2"])
def test_a_discriminator_is_continued(start, encoder, texts, tmp_path):
    """Domain adaptation: body and head go on from where they were, and the result is a discriminator of that type."""
    model = discriminator_from_encoder(encoder) if start == "electra" else deberta_v3()
    model.save_pretrained(tmp_path / "start")
    BertTokenizer.from_pretrained(encoder).save_pretrained(tmp_path / "start")
    train = ["--do_train", "--do_eval", "--max_steps", "2", "--save_strategy", "no", "--generator", "new"]
    run(tmp_path / "start", texts, tmp_path / "still", *train, "--learning_rate", "0")
    before = read_weights(tmp_path / "start")
    assert all(torch.equal(weight, before[name]) for name, weight in read_weights(tmp_path / "still").items())
    run(tmp_path / "start", texts, tmp_path / "adapted", *train, "--learning_rate", "1e-3")
    after = read_weights(tmp_path / "adapted")
    assert after.keys() == before.keys()
    head = "mask_predictions." if start == "deberta-v2" else "discriminator_predictions."
    assert any(name.startswith(head) and not torch.equal(weight, before[name]) for name, weight in after.items())
    assert all((weight - before[name]).abs().max() < 0.1 for name, weight in after.items()), "no head is new"
    wrapper = DPTForSequenceClassification.from_pretrained(tmp_path / "adapted", label_words=WORDS[:3])
    assert wrapper.language_model.config.model_type == start


def test_same_seed_same_weights(encoder, texts, tmp_path):
    written = []
    for name in ("one", "two"):
        run(encoder, texts, tmp_path / name, *TRAIN, "--max_steps", "2")
        written.append(load_file(tmp_path / name / "model.safetensors"))
    assert all(torch.equal(written[1][name], weight) for name, weight in written[0].items())


def test_training_teaches(encoder, texts, tmp_path):
    """In these texts two words or two commas in a row are wrong."""
    train = ["--do_train", "--do_eval", "--learning_rate", "1e-2", "--max_steps", "150", "--save_strategy", "no"]
    before = run(encoder, texts, tmp_path / "before", "--do_eval")
    after = run(encoder, texts, tmp_path / "after", *train)
    assert after["eval_replaced_tokens_auc"] > before["eval_replaced_tokens_auc"] + 0.2
    assert after["eval_replaced_tokens_token_loss"] < before["eval_replaced_tokens_token_loss"]
    assert not (tmp_path / "before" / "model.safetensors").exists()


def test_others_are_measured_on_the_same_rows(encoder, texts, tmp_path):
    """A copy of the model gets the model's own figures."""
    shutil.copytree(encoder, tmp_path / "copy")
    metrics = run(encoder, texts, tmp_path / "out", "--do_eval", "--compare_with", str(tmp_path / "copy"))
    for name in METRICS:
        assert metrics[name.replace("eval_", "eval_copy_")] == metrics[name], name


def test_low_rank_factors_only(encoder, texts, tmp_path):
    adapter, continued = tmp_path / "adapter", tmp_path / "continued"
    low_rank = ["--lora_rank", "4", "--save_dtype", "float16"]
    run(encoder, texts, adapter, *low_rank, *TRAIN, "--max_steps", "2")
    assert {weight.dtype for weight in load_file(adapter / "adapter_model.safetensors").values()} == {torch.float16}
    assert not (adapter / "model.safetensors").exists()
    base = pretrain_discriminator.discriminator_from_encoder(encoder)
    with quiet_peft():
        assert isinstance(PeftModel.from_pretrained(base, adapter), PeftModel)

    first = run(encoder, texts, tmp_path / "evaluation", "--adapter_name_or_path", str(adapter), "--do_eval")
    again = run(encoder, texts, continued, "--adapter_name_or_path", str(adapter), *TRAIN, "--max_steps", "2")
    assert first.keys() >= METRICS
    assert again["eval_replaced_tokens_token_loss"] != first["eval_replaced_tokens_token_loss"]
    assert (continued / "adapter_model.safetensors").exists()


def test_eight_bits_a_number_and_the_models_own_dropout(encoder, texts, tmp_path):
    run(encoder, texts, tmp_path, *TRAIN, "--max_steps", "1", "--dropout", "0.25", "--save_dtype", "int8")
    model = load_packed(tmp_path)
    assert model.config.hidden_dropout_prob == AutoConfig.from_pretrained(encoder).hidden_dropout_prob != 0.25
    assert (
        model.config.attention_probs_dropout_prob == AutoConfig.from_pretrained(encoder).attention_probs_dropout_prob
    )
    with pytest.raises(ValueError, match=r"model_int8.safetensors is of an earlier model"):
        run(encoder, texts, tmp_path, *TRAIN, "--max_steps", "1")


def test_a_mean_of_models_is_written_without_training(encoder, texts, tmp_path):
    trained = tmp_path / "trained"
    run(encoder, texts, trained, *TRAIN, "--max_steps", "1")
    run(encoder, texts, tmp_path / "mean", "--mix_with", str(trained), "--mix_shares", "0.5")
    mean, one = (load_file(folder / "model.safetensors") for folder in (tmp_path / "mean", trained))
    head = "discriminator_predictions.dense.weight"
    torch.testing.assert_close(mean[head], one[head])


def test_a_generator_trained_along(encoder, texts, tmp_path):
    run(encoder, texts, tmp_path, *TRAIN, "--generator", "new", "--max_steps", "2")
    trained = load_file(tmp_path / "checkpoint-2" / "model.safetensors")
    assert any(name.startswith("source.generator.") for name in trained)
    written = load_file(tmp_path / "model.safetensors")  # the generator is not part of what is published
    assert written.keys() == ElectraForPreTraining.from_pretrained(tmp_path).state_dict().keys()


def test_documents_cover_the_text(encoder, texts):
    tokenizer = BertTokenizer.from_pretrained(encoder)
    documents = pretrain_discriminator.load_documents(texts[0], tokenizer, 48, None)["input_ids"]
    read = [token for document in documents for token in document]
    expected = tokenizer(Path(texts[0]).read_text(), add_special_tokens=False)["input_ids"]
    assert read == expected[: len(read)]
    assert len(expected) - len(read) < 24  # a last scrap may be left out
    assert 24 <= min(map(len, documents)) <= max(map(len, documents)) <= 110
    few = pretrain_discriminator.load_documents(texts[0], tokenizer, 48, 5)["input_ids"]
    assert len(few) == 5
    assert all(document in documents[:] for document in few)


def test_too_little_text(encoder, tmp_path):
    (tmp_path / "short.txt").write_text("bal bam ban .\n" * 20)
    with pytest.raises(ValueError, match=r"short\.txt has . documents.*validation_documents=6"):
        run(encoder, [str(tmp_path / "short.txt")], tmp_path / "out", "--do_eval")


def test_a_generator_with_another_vocabulary(encoder, texts, tmp_path):
    config = BertConfig.from_pretrained(encoder, vocab_size=50)
    BertForMaskedLM(config).save_pretrained(tmp_path / "generator")
    with pytest.raises(ValueError, match="`generator`.*vocabulary"):
        run(encoder, texts, tmp_path / "out", "--generator", str(tmp_path / "generator"), "--do_eval")


@pytest.fixture
def no_data(monkeypatch):
    """What is refused is refused before any text is read."""
    monkeypatch.setattr(pretrain_discriminator, "load_documents", lambda *_: pytest.fail("data is prepared"))


@pytest.mark.usefixtures("no_data")
@pytest.mark.parametrize(
    ("option", "other", "message"),
    [
        ("teacher", {"vocab_size": 50}, "`teacher`: .* a vocabulary of 50 tokens"),
        ("teacher", {"hidden_size": 32}, "`teacher`: .* hidden size of 32; .* has 16"),
        ("teacher", {"max_position_embeddings": 24}, "`max_length` must be at most 24, .*`teacher`"),
        ("compare_with", {"vocab_size": 50}, "`compare_with`: .* a vocabulary of 50 tokens"),
        ("compare_with", {"max_position_embeddings": 24}, "`max_length` must be at most 24, .*`compare_with`"),
    ],
)
def test_models_that_cannot_read_the_rows(encoder, texts, tmp_path, option, other, message):
    BertModel(BertConfig.from_pretrained(encoder, **other)).save_pretrained(tmp_path / "other")
    with pytest.raises(ValueError, match=message):
        run(encoder, texts, tmp_path / "out", f"--{option}", str(tmp_path / "other"), "--do_train", "--do_eval")


@pytest.mark.usefixtures("no_data")
@pytest.mark.parametrize("option", ["teacher", "generator", "compare_with", "mix_with"])
def test_models_that_read_the_tokens_as_other_words(encoder, texts, tmp_path, option):
    kind = BertForMaskedLM if option == "generator" else BertModel
    kind(BertConfig.from_pretrained(encoder)).save_pretrained(tmp_path / "other")
    words = [*VOCABULARY[:-2], VOCABULARY[-1], VOCABULARY[-2]]
    BertTokenizer(vocab={word: index for index, word in enumerate(words)}).save_pretrained(tmp_path / "other")
    more = ["--mix_shares", "0.5"] if option == "mix_with" else []
    message = f"`{option}`: .* its token {len(words) - 2} is {words[-2]!r} and not {words[-1]!r}"
    with pytest.raises(ValueError, match=message):
        run(encoder, texts, tmp_path / "out", f"--{option}", str(tmp_path / "other"), *more, "--do_train", "--do_eval")


def test_a_model_saved_without_a_tokenizer_or_with_one_word_more_is_taken(encoder, tmp_path):
    ours = BertTokenizer.from_pretrained(encoder)
    BertModel(BertConfig.from_pretrained(encoder)).save_pretrained(tmp_path / "alone")
    more = BertTokenizer.from_pretrained(encoder)
    more.add_tokens(["<tab>"])
    more.save_pretrained(tmp_path / "more")
    for folder in ("alone", "more"):
        pretrain_discriminator.check_shares_words("teacher", str(tmp_path / folder), ours)


@pytest.mark.usefixtures("no_data")
def test_rows_longer_than_the_model_reads(encoder, texts, tmp_path):
    with pytest.raises(ValueError, match="`max_length` must be at most 64, .* got 65"):
        run(encoder, texts, tmp_path / "out", "--do_train", "--max_length", "65")


def test_positions_behind_the_padding_id(encoder, texts, tmp_path):
    """Of a RoBERTa's 34 positions two are never used: as start and as teacher it reads 32 tokens, and no more."""
    config = BertConfig.from_pretrained(encoder).to_dict() | {"max_position_embeddings": 34, "pad_token_id": 1}
    RobertaModel(RobertaConfig(**config)).save_pretrained(tmp_path / "roberta")
    names = VOCABULARY[1], VOCABULARY[0], *VOCABULARY[2:]
    BertTokenizer(vocab={word: index for index, word in enumerate(names)}).save_pretrained(tmp_path / "roberta")
    roberta, once = str(tmp_path / "roberta"), ["--do_train", "--max_steps", "1", "--save_strategy", "no"]
    run(tmp_path / "roberta", texts, tmp_path / "start", *once, "--teacher", roberta)
    for start, more in ((tmp_path / "roberta", []), (encoder, ["--teacher", roberta])):
        with pytest.raises(ValueError, match="`max_length` must be at most 32, .* got 33"):
            run(start, texts, tmp_path / "out", *once, *more, "--max_length", "33")


def test_rows_too_short_for_candidate_lists(encoder, texts, tmp_path, caplog):
    """Nobody asked for lists: training needs no room for them, and an evaluation goes without them, and says so."""
    short = ["--max_length", "16", "--max_steps", "1", "--save_strategy", "no"]
    run(encoder, texts, tmp_path / "trained", "--do_train", *short)
    assert "candidate lists" not in caplog.text
    metrics = run(encoder, texts, tmp_path / "evaluated", "--do_eval", *short)
    assert {name for name in METRICS if name in metrics} == {name for name in METRICS if "replaced_tokens" in name}
    assert "No candidate lists are evaluated" in caplog.text
    with pytest.raises(ValueError, match="max_length=16 leaves the text 0 tokens beside a list of up to 6 candidates"):
        run(encoder, texts, tmp_path / "asked", "--do_train", *short, "--candidate_list_share", "0.5")


@pytest.mark.usefixtures("no_data")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "There is nothing to do"),
        (["--do_train", "--compare_with", "a_model"], "`compare_with` .* needs `do_eval`"),
        (["--do_eval", "--resume_from_checkpoint", "last"], "`resume_from_checkpoint` .* needs `do_train`"),
        (["--do_train", "--resume_from_checkpoint", "last"], "`resume_from_checkpoint`: there is no checkpoint in"),
        (["--do_train", "--resume_from_checkpoint", "True"], "`resume_from_checkpoint`: there is no checkpoint in"),
    ],
)
def test_nothing_is_left_out_without_a_word(encoder, texts, tmp_path, arguments, message):
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(ValueError, match=message):
            run(encoder, texts, folder, *arguments)


@pytest.mark.filterwarnings("error:.*pin_memory")
def test_no_warning_of_pinned_memory(encoder, texts, tmp_path):
    run(encoder, texts, tmp_path, *TRAIN, "--max_steps", "1", "--save_strategy", "no", "--use_cpu", "False")


@pytest.mark.parametrize("start", ["encoder", "discriminator"])
def test_dpt_on_what_an_adapter_and_eight_bits_become(start, encoder, texts, tmp_path):
    """As the docs show it."""
    page = Path(__file__).parents[2] / "docs" / "how_to" / "pretrain_discriminator.md"
    shown: dict = {}
    exec(re.search(r"```python\n(.*?)```", page.read_text(), re.DOTALL)[1], shown)
    if start == "discriminator":
        discriminator_from_encoder(encoder).save_pretrained(tmp_path / "base")
        BertTokenizer.from_pretrained(encoder).save_pretrained(tmp_path / "base")
    base = encoder if start == "encoder" else tmp_path / "base"
    once = ["--do_train", "--learning_rate", "1e-2", "--max_steps", "1", "--save_strategy", "no"]
    run(base, texts, tmp_path / "adapter", *once, "--lora_rank", "4")
    run(base, texts, tmp_path / "packed", *once, "--save_dtype", "int8")
    with quiet_peft():
        adapted = PeftModel.from_pretrained(discriminator_from_encoder(base), tmp_path / "adapter").eval()
        rows = torch.arange(5, 20)[None]
        with torch.no_grad():
            expected, before = (model(rows).logits for model in (adapted, discriminator_from_encoder(base)))
        shown["merge"](base, tmp_path / "adapter", tmp_path / "merged")
    shown["unpack"](tmp_path / "packed", tmp_path / "unpacked")
    for folder in ("merged", "unpacked"):
        DPTForSequenceClassification.from_pretrained(tmp_path / folder, label_words=WORDS[:3])
    with torch.no_grad():
        merged = ElectraForPreTraining.from_pretrained(tmp_path / "merged")(rows).logits
    torch.testing.assert_close(merged, expected)
    assert not torch.allclose(before, expected, atol=1e-3)
