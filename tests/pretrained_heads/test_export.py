"""Export of a DPT classifier, template and all: the same logits in `torch.export` and in onnxruntime."""

from __future__ import annotations

import pytest
import torch

from dpt_peft import DeepPromptConfig
from dpt_peft.pretrained_heads import DPTForSequenceClassification

from .conftest import MAX_LENGTH

LABEL_WORDS = ["world", "sports", "business", "badly"]
TEXTS = ["the match ended", "a bank rose and news of technology is very good !", "", "film"]
OTHERS = [TEXTS[:2], ["the match ended and the bank rose"] * 3, ["very " * MAX_LENGTH, "film"]]
CHOICES = {
    "paper": {},
    "everything": {
        "template": "{text_a} and {text_b} ( {labels} )",
        "untied_labels": True,
        "label_bias": True,
        "wordpieces": "mean",
        "classes_per_pass": 3,
    },
    "prototypes": {"prototypes": True},
    "deep prompts": {"prototypes": True},
    "short list": {"prototypes": True, "short_list": 2, "wordpieces": "mean"},
}


@pytest.fixture(params=CHOICES)
def model(request, discriminator_path) -> DPTForSequenceClassification:
    made = DPTForSequenceClassification.from_pretrained(
        discriminator_path, label_words=LABEL_WORDS, **CHOICES[request.param]
    )
    if made.config.prototypes:
        torch.manual_seed(0)
        torch.nn.init.normal_(made.class_prototypes.weight)
    if request.param == "deep prompts":
        torch.manual_seed(0)
        made.add_adapter(DeepPromptConfig(num_virtual_tokens=4, init_std=0.5, modules_to_save=made.new_modules))
    return made


def inputs(tokenizer, texts) -> dict[str, torch.Tensor]:
    return dict(tokenizer(texts, padding=True, return_tensors="pt", verbose=False))


def dynamic(rows) -> dict:
    return {name: {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC} for name in rows}


def test_torch_export(model, tokenizer):
    rows = inputs(tokenizer, TEXTS)
    with torch.no_grad():
        program = torch.export.export(model, (), rows, dynamic_shapes=dynamic(rows), strict=False).module()
        for texts in (TEXTS, *OTHERS):
            rows = inputs(tokenizer, texts)
            torch.testing.assert_close(program(**rows).logits, model(**rows).logits, rtol=0, atol=1e-5)


class LogitsOnly(torch.nn.Module):
    """What a runtime without Python needs: tensors in, one tensor out."""

    def __init__(self, model: DPTForSequenceClassification) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids, attention_mask, token_type_ids):
        return self.model(input_ids, attention_mask, token_type_ids).logits


def test_onnx(model, tokenizer, tmp_path):
    pytest.importorskip("onnxscript", reason="pip install dpt_peft[onnx]")
    runtime = pytest.importorskip("onnxruntime", reason="pip install dpt_peft[onnx]")
    names = ["input_ids", "attention_mask", "token_type_ids"]
    rows = inputs(tokenizer, TEXTS)
    torch.onnx.export(
        LogitsOnly(model).eval(),
        (),
        tmp_path / "model.onnx",
        kwargs={name: rows[name] for name in names},
        input_names=names,
        output_names=["logits"],
        dynamic_shapes=dynamic(names),
        dynamo=True,
        verbose=False,
    )
    session = runtime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    for texts in (TEXTS, *OTHERS):
        if model.config.short_list is not None:
            # Nothing is nearest to a text without words: which classes are listed is up to the runtime.
            texts = [text or "film" for text in texts]
        rows = inputs(tokenizer, texts)
        (found,) = session.run(["logits"], {name: rows[name].numpy() for name in names})
        with torch.no_grad():
            torch.testing.assert_close(torch.from_numpy(found), model(**rows).logits, rtol=0, atol=1e-4)
