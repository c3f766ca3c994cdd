"""A DPT classifier for onnxruntime, in float32 and in int8, and the accuracy of both on labelled rows.

    python examples/export_onnx.py outputs/quickstart/models/dpt dpt_peft/quickstart/data/test.csv

The first argument is a saved `DPTForSequenceClassification` with its tokenizer, or an adapter over one, the second a
table with the columns `text` and `label`, of pairs also `text_pair`. Needs `pip install "dpt_peft[onnx]"`.
"""

from __future__ import annotations

import argparse
from importlib import import_module
from pathlib import Path

import torch
from datasets import Dataset
from transformers import AutoTokenizer, PreTrainedTokenizerBase

import dpt_peft
from dpt_peft.tasks import load_file

INPUTS = ["input_ids", "attention_mask", "token_type_ids"]


class LogitsOnly(torch.nn.Module):
    """What a runtime without Python needs: tensors in, one tensor out."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor
    ) -> torch.Tensor:
        """Return the logits of Eq. 2, (batch, classes)."""
        return self.model(input_ids, attention_mask, token_type_ids).logits


def export(model: torch.nn.Module, tokenizer: PreTrainedTokenizerBase, path: Path) -> None:
    """Write the classifier, template and all, for batches of any size and texts of any length."""
    rows = tokenizer(["two texts", "of different lengths"], padding=True, return_tensors="pt")
    sizes = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    torch.onnx.export(
        LogitsOnly(model).eval(),
        (),
        path,
        kwargs={name: rows[name] for name in INPUTS},
        input_names=INPUTS,
        output_names=["logits"],
        dynamic_shapes=dict.fromkeys(INPUTS, sizes),
        dynamo=True,
        external_data=False,
        verbose=False,
    )


def quantise(source: Path, path: Path) -> None:
    """Write the file at `source` with weights in int8, one scale for each output."""
    from onnxruntime.quantization import quantize_dynamic
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared = path.with_name("prepared.onnx")
    # onnxruntime 1.32's symbolic shape inference fails on the operations that put the template around a text
    quant_pre_process(source, prepared, skip_symbolic_shape=True)
    quantize_dynamic(prepared, path, per_channel=True)
    prepared.unlink()


def accuracy(
    path: Path, tokenizer: PreTrainedTokenizerBase, rows: Dataset, classes: list[str], batch_size: int = 16
) -> float:
    """Return the share of rows that the file at `path` puts into their class."""
    import onnxruntime  # an extra, as all of onnx here

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    right = 0
    for start in range(0, len(rows), batch_size):
        batch = rows[start : start + batch_size]
        inputs = tokenizer(batch["text"], batch.get("text_pair"), padding=True, truncation=True, return_tensors="np")
        (logits,) = session.run(["logits"], {name: inputs[name] for name in INPUTS})
        right += sum(classes[index] == label for index, label in zip(logits.argmax(-1), batch["label"], strict=True))
    return right / len(rows)


def main(argv: list[str] | None = None) -> dict[str, float]:
    """Export, quantise, measure, and return the accuracy of each file by its name."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="folder of a trained DPT classifier")
    parser.add_argument("test_file", help="csv, tsv or json with the columns text and label, of pairs also text_pair")
    parser.add_argument("--output_dir", default="outputs/onnx", type=Path)
    arguments = parser.parse_args(argv)
    try:
        for package in ("onnx", "onnxscript", "onnxruntime"):
            import_module(package)
    except ImportError as error:
        parser.error(f'{error}: `pip install "dpt_peft[onnx]"` installs what this script needs.')
    arguments.output_dir.mkdir(parents=True, exist_ok=True)

    tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    model = dpt_peft.DPTForSequenceClassification.from_pretrained(arguments.model)
    classes = [model.config.id2label[index] for index in range(model.config.num_labels)]
    rows = load_file(arguments.test_file, "test_file")
    if not {"text", "label"} <= set(rows.column_names):
        parser.error(f"{arguments.test_file} must have the columns text and label, it has {rows.column_names}.")
    unknown = sorted(set(rows["label"]) - set(classes), key=str)
    if unknown:
        parser.error(f"{arguments.test_file} has labels that are no class of the model: {unknown}; it has {classes}.")

    files = {name: arguments.output_dir / f"model_{name}.onnx" for name in ("float32", "int8")}
    export(model, tokenizer, files["float32"])
    quantise(files["float32"], files["int8"])

    found = {name: accuracy(path, tokenizer, rows, classes) for name, path in files.items()}
    for name, path in files.items():
        print(f"{name:8} accuracy {found[name]:6.1%}  {path.stat().st_size / 1e6:6.1f} MB  {path}")
    return found


if __name__ == "__main__":
    main()
