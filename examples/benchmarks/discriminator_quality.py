"""How much a discriminator knows before any tuning: zero-shot AG News and SST-2 with DPT's template.

    python examples/benchmarks/discriminator_quality.py embedded google/electra-small-discriminator \
        --ag_news ag_news/test.jsonl --sst2 sst2/test.jsonl

Each model (`embedded` is the one that comes with the package) judges the same texts. Plain: the class with the highest
logit. Calibrated (two classes): the difference of the two logits against its median over all texts, which takes away a
liking for one word and assumes that both classes are about equally frequent. The labels are used for counting only.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

import torch
from datasets import Dataset, load_dataset
from transformers import AutoTokenizer
from transformers.utils import logging

from dpt_peft import DPTForSequenceClassification, embedded_discriminator

LABEL_WORDS = {"ag_news": ["world", "sports", "business", "technology"], "sst2": ["terrible", "great"]}


@torch.no_grad()
def zero_shot_logits(
    model_name_or_path: str, texts: list[str], label_words: list[str], batch_size: int
) -> torch.Tensor:
    """Logits of an untuned DPT classifier, shape (texts, classes)."""
    model = DPTForSequenceClassification.from_pretrained(model_name_or_path, label_words=label_words).eval()
    tokenizer = AutoTokenizer.from_pretrained(model_name_or_path)
    rows = []
    for start in range(0, len(texts), batch_size):
        batch = tokenizer(texts[start : start + batch_size], padding=True, truncation=True, return_tensors="pt")
        rows.append(model(**batch).logits)
    return torch.cat(rows)


def accuracies(logits: torch.Tensor, labels: torch.Tensor) -> dict[str, float]:
    """Accuracy of the highest logit and, for two classes, of the difference against its median."""
    found = {"plain": (logits.argmax(1) == labels).float().mean().item()}
    if logits.shape[1] == 2:
        difference = logits[:, 1] - logits[:, 0]
        found["calibrated"] = ((difference > difference.median()).long() == labels).float().mean().item()
    return found


def parse_arguments(argv: list[str] | None = None) -> Namespace:
    """Command line."""
    parser = ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("models", nargs="+", help="Folders or Hub ids of discriminators, or 'embedded'.")
    parser.add_argument(
        "--ag_news", help="JSON lines with text and label (0 world, 1 sports, 2 business, 3 technology)."
    )
    parser.add_argument("--sst2", help="JSON lines with text and label (0 negative, 1 positive).")
    parser.add_argument("--texts", type=int, default=400, help="Texts drawn from each file.")
    parser.add_argument("--seed", type=int, default=0, help="Seed of that draw.")
    parser.add_argument("--batch_size", type=int, default=32)
    arguments = parser.parse_args(argv)
    if arguments.ag_news is None and arguments.sst2 is None:
        parser.error("nothing to measure: give --ag_news or --sst2 a file.")
    return arguments


def main(argv: list[str] | None = None) -> dict[str, dict[str, float]]:
    """Prints one line per model and returns its figures (percent)."""
    arguments = parse_arguments(argv)
    logging.disable_progress_bar()
    samples: dict[str, Dataset] = {}
    for name in LABEL_WORDS:
        if (path := getattr(arguments, name)) is not None:
            data = load_dataset("json", data_files={"test": path}, split="test").shuffle(seed=arguments.seed)
            samples[name] = data.select(range(min(arguments.texts, len(data))))
    results: dict[str, dict[str, float]] = {}
    for model in arguments.models:
        path = embedded_discriminator() if model == "embedded" else model
        figures: dict[str, float] = {}
        for name, data in samples.items():
            logits = zero_shot_logits(path, data["text"][:], LABEL_WORDS[name], arguments.batch_size)
            found = accuracies(logits, torch.tensor(data["label"][:]))
            figures |= {f"{name} {kind}": 100 * value for kind, value in found.items()}
        results[model] = figures
    width = max(map(len, results))
    print(" " * width, *next(iter(results.values())), sep="  ")
    for model, figures in results.items():
        print(f"{model:<{width}}", *(f"{value:{len(column)}.1f}" for column, value in figures.items()), sep="  ")
    return results


if __name__ == "__main__":
    main()
