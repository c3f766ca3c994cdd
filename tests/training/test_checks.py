import pytest
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForSequenceClassification, AutoTokenizer, ElectraConfig, GPT2Tokenizer

from dpt_peft import DeepPromptConfig
from dpt_peft.training.methods import check_no_adapter
from dpt_peft.training.run import check_can_pad


def make_model():
    sizes = {"vocab_size": 20, "embedding_size": 8, "hidden_size": 8, "num_hidden_layers": 1}
    config = ElectraConfig(num_attention_heads=2, intermediate_size=8, **sizes)
    return AutoModelForSequenceClassification.from_config(config)


@pytest.mark.parametrize("config", [LoraConfig(task_type="SEQ_CLS"), DeepPromptConfig(task_type="SEQ_CLS")])
def test_an_adapter_in_an_adapter_is_refused(config):
    model = make_model()
    check_no_adapter(model)
    tuned = get_peft_model(model, config)
    with pytest.raises(ValueError, match="has an adapter already.*merge_and_unload"):
        check_no_adapter(tuned)


def test_an_adapters_folder_is_refused(tmp_path):
    make_model().save_pretrained(tmp_path / "base")
    base = AutoModelForSequenceClassification.from_pretrained(tmp_path / "base")
    get_peft_model(base, LoraConfig(task_type="SEQ_CLS")).save_pretrained(tmp_path / "adapter")
    with pytest.raises(ValueError, match="has an adapter already"):
        check_no_adapter(AutoModelForSequenceClassification.from_pretrained(tmp_path / "adapter"))


def test_a_tokenizer_without_padding_token_is_refused_until_it_has_one(tmp_path):
    GPT2Tokenizer(vocab={"<|endoftext|>": 0, "a": 1}, merges=[]).save_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"has no padding token.*tokenizer\.eos_token"):
        check_can_pad(tokenizer)
    tokenizer.pad_token = tokenizer.eos_token
    check_can_pad(tokenizer)
