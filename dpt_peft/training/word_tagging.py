"""One run of named entities or semantic roles: what `examples/run_ner.py` and `examples/run_srl.py` call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import evaluate
import torch
from datasets import Dataset
from transformers import DataCollatorForTokenClassification, PreTrainedTokenizerBase, TrainingArguments

from dpt_peft.tasks.metrics import ArgumentMetric, EntityMetric
from dpt_peft.tasks.tagging.conll import write_tagged
from dpt_peft.tasks.tagging.features import (
    WordFeatures,
    load_word_tokenizer,
    make_word_features,
    word_tagging_metrics,
)
from dpt_peft.tasks.tagging.task import (
    WordTaggingArguments,
    WordTaggingData,
    load_semantic_roles,
    load_token_classification,
)
from dpt_peft.training.families import TOKEN_CLASSIFICATION
from dpt_peft.training.low_resource import hold_out_groups, sample_per_class
from dpt_peft.training.methods import METHODS, MethodOptions
from dpt_peft.training.runner import run_training
from dpt_peft.training.text_classification import SamplingArguments, longest_row
from dpt_peft.training.tuned_run import ModelArguments, card_facts, facts_of_run, prepare_model, splits_in_use


@dataclass
class WordTaggingMethodArguments(MethodOptions):
    """Which tuning method, and its options."""

    method: Literal["fine_tuning", "deep_prompt", "lora"] = field(
        default="deep_prompt", metadata={"help": "Tuning method."}
    )


@dataclass(frozen=True)
class WordTask:
    """What sets a task of tagged words apart.

    Attributes:
        load: From its data arguments to the data.
        metric: Makes its metric.
        example: Python words for the sentence in a card's last line.
    """

    load: Callable[[Any], WordTaggingData]
    metric: Callable[..., evaluate.Metric]
    example: str


NAMED_ENTITIES = WordTask(load_token_classification, EntityMetric, "")
SEMANTIC_ROLES = WordTask(load_semantic_roles, ArgumentMetric, ", predicates=[1]")


def select_sentences(data: WordTaggingData, sampling: SamplingArguments) -> dict[str, Dataset]:
    """Draws the training sample and, where asked, a validation set from the rest.

    Rows of the same words (predicates of one sentence) stay on one side.

    Args:
        data: The checked data.
        sampling: How much of it. `train_fraction` takes a share of all rows, whatever their tags.

    Returns:
        The splits to use.

    Raises:
        ValueError: If the sample cannot be drawn, `examples_per_class` is given, which sentences of many tags do not
            have, or `validation_size` although there is validation data.
    """
    if sampling.examples_per_class is not None:
        raise ValueError("`examples_per_class`: sentences are of no one class; give `train_fraction`.")
    splits: dict[str, Dataset] = dict(data.splits)
    train = splits["train"]
    if sampling.validation_size is not None:
        if "validation" in splits:
            raise ValueError("`validation_size` is for data without a validation split, but this data has one.")
        groups = [tuple(words) for words in train["words"][:]]
        kept, held_out = hold_out_groups(groups, sampling.validation_size, seed=sampling.sample_seed)
        splits["train"], splits["validation"] = train.select(kept), train.select(held_out)
    if sampling.train_fraction is not None:
        count = len(splits["train"])
        chosen = sample_per_class([None] * count, fraction=sampling.train_fraction, seed=sampling.sample_seed)
        splits["train"] = splits["train"].select(chosen)
    for split, limit in (("validation", sampling.max_eval_samples), ("test", sampling.max_predict_samples)):
        if limit is not None and split in splits:
            splits[split] = splits[split].select(range(min(limit, len(splits[split]))))
    return splits


def tokenize_split(
    dataset: Dataset, tokenizer: PreTrainedTokenizerBase, label_names: Sequence[str], max_length: int | None
) -> WordFeatures:
    """Turns a split of `WordTaggingData` into features; of semantic roles the predicate stands behind the sentence."""
    words = dataset["words"][:]
    predicates = dataset["predicate_index"][:] if "predicate_index" in dataset.column_names else None
    return make_word_features(
        words,
        tokenizer,
        appended=None if predicates is None else [row[at] for row, at in zip(words, predicates, strict=True)],
        tags=dataset["tags"][:] if "tags" in dataset.column_names else None,
        label_names=label_names,
        max_length=max_length,
    )


def likeliest(logits: torch.Tensor | tuple[torch.Tensor, ...], _labels: torch.Tensor) -> torch.Tensor:
    """Reduces logits (rows, tokens, classes) to class ids: what the Trainer gathers is small then."""
    return (logits[0] if isinstance(logits, tuple) else logits).argmax(-1)


def loading_code(method: str, folder: str, model: Any, example: str) -> str:
    """Writes the Python lines that load a saved tagger again and tag a sentence.

    Args:
        method: The tuning method.
        folder: Where model or adapter were saved.
        model: The model itself; an adapter's lines name its base.
        example: Further arguments of `tag_words` for the sentence.
    """
    imports = [
        "from dpt_peft.tasks.tagging.features import load_word_tokenizer, tag_words",
        "from transformers import AutoModelForTokenClassification",
    ]
    lines = [f'model = AutoModelForTokenClassification.from_pretrained("{folder}")']
    if METHODS[method].adapter is not None:
        imports.insert(1, "from peft import PeftModel")
        config = model.get_base_model().config
        lines = [
            "base = AutoModelForTokenClassification.from_pretrained(",
            f"    {config.name_or_path!r},",
            f"    id2label={config.id2label!r},",
            ")",
            f'model = PeftModel.from_pretrained(base, "{folder}")',
        ]
    last = [
        f'tokenizer = load_word_tokenizer("{folder}")',
        f'tag_words(model, tokenizer, [["She", "visited", "Rome"]]{example})',
    ]
    return "\n".join([*imports, "", *lines, *last])


def write_predictions(path: Path, rows: Dataset, tags: Sequence[Sequence[str]]) -> None:
    """Writes words and predicted tags, one word a line, a blank line behind every sentence.

    Args:
        path: The file.
        rows: The split, in the data's order. With predicates there is a column between: "V" at the predicate or "-".
        tags: A tag for every word, as the data writes tags.
    """
    columns = [rows["words"][:], tags]
    if "predicate_index" in rows.column_names:
        pairs = zip(rows["words"][:], rows["predicate_index"][:], strict=True)
        columns.insert(1, [["V" if index == at else "-" for index in range(len(words))] for words, at in pairs])
    write_tagged(path, zip(*columns, strict=True))


def run_word_tagging(
    task: WordTask,
    model_args: ModelArguments,
    data_args: WordTaggingArguments,
    method_args: WordTaggingMethodArguments,
    sampling_args: SamplingArguments,
    training_args: TrainingArguments,
    *,
    write_files: bool = True,
    command: str | None = None,
) -> dict[str, Any]:
    """Trains, evaluates and predicts as the arguments ask, and writes model, tokenizer, metrics, predictions and card.

    Args:
        task: Names or roles.
        model_args: Pretrained model.
        data_args: Data.
        method_args: Tuning method.
        sampling_args: How much of the data.
        training_args: The Trainer's arguments; `do_train`, `do_eval`, `do_predict` say what is done.
        write_files: Whether anything is written to `output_dir` after training.
        command: For the model card; default: this process's command.

    Returns:
        The metrics, and what `facts_of_run` returns; rows are sentences or predicates.

    Raises:
        ValueError: If arguments or data do not fit; the message names the argument.
        FileNotFoundError: If a file is missing.
    """
    data = task.load(data_args)
    splits = select_sentences(data, sampling_args)
    prepared = prepare_model(
        TOKEN_CLASSIFICATION,
        model_args,
        method_args.method,
        method_args,
        seed=training_args.seed,
        label_names=data.label_names,
        load_tokenizer=load_word_tokenizer,
    )
    model, tokenizer = prepared.model, prepared.tokenizer
    max_length = longest_row(data_args.max_seq_length, tokenizer, model)
    used = splits_in_use(training_args)
    features = {
        split: tokenize_split(rows, tokenizer, data.label_names, max_length)
        for split, rows in splits.items()
        if used[split]
    }
    card = card_facts(
        prepared,
        "token-classification",
        data_args,
        splits,
        training_args,
        usage=loading_code(method_args.method, Path(training_args.output_dir or ".").name, model, task.example),
        details={
            "Labels": ", ".join(
                dict.fromkeys(chain.from_iterable(data.scheme.write([name]) for name in data.label_names))
            ),
            "Longest row": f"{max_length} tokens; longer sentences are split",
        },
    )
    result = run_training(
        model,
        training_args,
        tokenizer=tokenizer,
        card=card,
        compute_metrics={
            name: word_tagging_metrics(task.metric(keep_in_memory=True), features[split], data.label_names)
            for name, split in (("eval", "validation"), ("test", "test"))
            if split in features and features[split].tags is not None
        },
        train_dataset=features["train"].dataset if "train" in features else None,
        eval_dataset=features["validation"].dataset if "validation" in features else None,
        test_dataset=features["test"].dataset if "test" in features else None,
        data_collator=DataCollatorForTokenClassification(tokenizer),
        preprocess_logits_for_metrics=likeliest,
        write_files=write_files,
        command=command,
    )
    if write_files and result.predictions is not None and training_args.process_index == 0:
        predicted = features["test"].decode(result.predictions.predictions, data.label_names)
        own = [data.scheme.write(row) for row in predicted]
        write_predictions(Path(training_args.output_dir or ".") / "predictions.tsv", splits["test"], own)
    return {**result.metrics, **facts_of_run(prepared, splits)}


#: A run of named entities: `run_word_tagging` with `TokenClassificationArguments`.
run_token_classification = partial(run_word_tagging, NAMED_ENTITIES)
#: A run of semantic roles: `run_word_tagging` with `SemanticRoleArguments`.
run_semantic_roles = partial(run_word_tagging, SEMANTIC_ROLES)
