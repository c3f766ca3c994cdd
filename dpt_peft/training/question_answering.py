"""One run of extractive question answering: what `examples/run_qa.py` calls."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from transformers import AutoTokenizer, DataCollatorWithPadding, Trainer, TrainingArguments

from dpt_peft.tasks.question_answering.data import QuestionFeatures, load_questions, predict_logits
from dpt_peft.tasks.question_answering.extractive import (
    OUTPUTS,
    QuestionAnsweringArguments,
    answer_metrics,
    get_null_threshold,
    make_features,
    rank_examples,
    search_null_threshold,
    write_answers,
)
from dpt_peft.tasks.question_answering.windows import window_length
from dpt_peft.training.families import QUESTION_ANSWERING
from dpt_peft.training.methods import METHODS, MethodOptions
from dpt_peft.training.question_sampling import QuestionSamplingArguments, select_questions
from dpt_peft.training.runner import run_training
from dpt_peft.training.tuned_run import ModelArguments, card_facts, facts_of_run, prepare_model


@dataclass
class QuestionAnsweringMethodArguments(MethodOptions):
    """Which tuning method, and its options."""

    method: Literal["fine_tuning", "deep_prompt", "lora"] = field(
        default="deep_prompt", metadata={"help": "Tuning method."}
    )
    tune_threshold: bool = field(
        default=False,
        metadata={
            "help": "version_2_with_negative: after training, choose the null threshold with the best F1 on the "
            "validation data."
        },
    )


def _loading_code(method: str, folder: str, model: Any) -> str:
    """Writes the Python lines that load a saved reader again, with its null threshold."""
    task, lines = '"extractive-question-answering"', ["import dpt_peft"]
    if METHODS[method].adapter is None:
        lines += ["from transformers import pipeline", "", f'read = pipeline({task}, model="{folder}")']
    else:
        base, threshold = model.get_base_model().config, get_null_threshold(model)
        lines += [
            "from peft import PeftModel",
            "from transformers import AutoModelForQuestionAnswering, AutoTokenizer, pipeline",
            "",
            f"base = AutoModelForQuestionAnswering.from_pretrained({base.name_or_path!r}, num_labels=2)",
            *([f"base.config.null_score_diff_threshold = {threshold!r}"] if threshold is not None else []),
            f'model = PeftModel.from_pretrained(base, "{folder}")',
            f'read = pipeline({task}, model=model, tokenizer=AutoTokenizer.from_pretrained("{folder}"))',
        ]
    return "\n".join([*lines, 'read(question="...", context="...")'])


def _check(
    data_args: QuestionAnsweringArguments,
    method_args: QuestionAnsweringMethodArguments,
    training_args: TrainingArguments,
    splits: Any,
) -> None:
    if not data_args.version_2_with_negative:
        for split, dataset in splits.items():
            if "answers" in dataset.column_names and not all(row["text"] for row in dataset["answers"][:]):
                raise ValueError(
                    f"The {split} data has questions without an answer: set `version_2_with_negative`, "
                    "or take them out."
                )
    if method_args.tune_threshold:
        if not data_args.version_2_with_negative:
            raise ValueError("`tune_threshold` needs `version_2_with_negative`: otherwise there is no threshold.")
        if not training_args.do_train or "validation" not in splits:
            raise ValueError("`tune_threshold` needs `do_train` and validation data (or `validation_size`).")


def run_question_answering(
    model_args: ModelArguments,
    data_args: QuestionAnsweringArguments,
    method_args: QuestionAnsweringMethodArguments,
    sampling_args: QuestionSamplingArguments,
    training_args: TrainingArguments,
    *,
    write_files: bool = True,
    command: str | None = None,
) -> dict[str, Any]:
    """Trains, evaluates and predicts as the arguments ask, and writes model, tokenizer, metrics, answers and card.

    The answers to the test questions are written as `write_answers` says.

    Args:
        model_args: Pretrained model.
        data_args: Data.
        method_args: Tuning method.
        sampling_args: How much of the data.
        training_args: The Trainer's arguments; `do_train`, `do_eval`, `do_predict` say what is done.
        write_files: Whether anything is written to `output_dir` after training.
        command: For the model card; default: this process's command.

    Returns:
        The metrics, `null_score_diff_threshold` (`None` unless `version_2_with_negative`), and what `facts_of_run`
        returns; rows are questions.

    Raises:
        ValueError: Arguments or data do not fit; the message names the argument.
    """
    splits = select_questions(load_questions(data_args), sampling_args)
    _check(data_args, method_args, training_args, splits)
    # Scores are read off from the left.
    prepared = prepare_model(
        QUESTION_ANSWERING,
        model_args,
        method_args.method,
        method_args,
        seed=training_args.seed,
        load_tokenizer=partial(AutoTokenizer.from_pretrained, padding_side="right"),
    )
    model, tokenizer = prepared.model, prepared.tokenizer
    model.config.null_score_diff_threshold = data_args.null_threshold
    max_length = window_length(data_args.max_seq_length, tokenizer, model.config)
    used = {
        "train": training_args.do_train,
        "validation": training_args.do_eval or method_args.tune_threshold,
        "test": training_args.do_predict,
    }
    features = {
        split: make_features(dataset, tokenizer, max_length=max_length, doc_stride=data_args.doc_stride)
        for split, dataset in splits.items()
        if used[split]
    }
    if "train" in features and not features["train"].labelled:
        raise ValueError("The train data has questions that are not annotated.")
    reading = {"n_best_size": data_args.n_best_size, "max_answer_length": data_args.max_answer_length}

    def threshold() -> float | None:
        return get_null_threshold(model)

    def usage() -> str:
        return _loading_code(method_args.method, Path(training_args.output_dir or ".").name, model)

    def rank(trainer: Trainer, split: QuestionFeatures) -> list[Any]:
        logits = predict_logits(trainer.model, tokenizer, split, training_args.eval_batch_size, outputs=OUTPUTS)
        return rank_examples(split, logits, **reading)

    def tune(trainer: Any) -> None:
        if method_args.tune_threshold:
            found = search_null_threshold(
                features["validation"],
                rank(trainer, features["validation"]),
                before=data_args.null_score_diff_threshold,
            )
            model.config.null_score_diff_threshold = found.threshold
            trainer.card = replace(
                trainer.card,
                # The lines that load an adapter again name the threshold.
                usage=usage(),
                details={**trainer.card.details, "Null threshold": f"{found.threshold:.4f}, tuned"},
            )

    card = card_facts(
        prepared,
        "question-answering",
        data_args,
        splits,
        training_args,
        usage=usage(),
        details={"Window": f"{max_length} tokens, stride {data_args.doc_stride}"},
    )
    compute: dict[str, Callable[..., dict[str, float]]] = {
        name: answer_metrics(features[split], threshold, **reading)
        for name, split in (("eval", "validation"), ("test", "test"))
        if split in features
    }
    datasets = {split: part.dataset for split, part in features.items()}
    result = run_training(
        model,
        training_args,
        tokenizer=tokenizer,
        card=card,
        compute_metrics=compute,
        train_dataset=datasets.get("train"),
        eval_dataset=datasets.get("validation"),
        test_dataset=datasets.get("test"),
        data_collator=DataCollatorWithPadding(tokenizer),
        after_training=tune,
        write_files=write_files,
        command=command,
    )
    if write_files and result.predictions is not None and training_args.process_index == 0:
        start, end, *_ = result.predictions.predictions
        write_answers(
            Path(training_args.output_dir or "."),
            features["test"],
            rank_examples(features["test"], (start, end), **reading),
            threshold(),
        )
    return {**result.metrics, "null_score_diff_threshold": threshold(), **facts_of_run(prepared, splits)}
