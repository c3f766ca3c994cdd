"""One run of multi-span question answering: what `examples/run_multi_span_qa.py` calls."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

from transformers import AutoTokenizer, DataCollatorForTokenClassification, TrainingArguments

from dpt_peft.tasks.question_answering.data import load_questions, predict_logits
from dpt_peft.tasks.question_answering.multi_span import (
    MultiSpanQAArguments,
    decode_examples,
    get_logit_threshold,
    make_features,
    multi_span_metrics,
    score_examples,
    search_threshold,
    write_answers,
)
from dpt_peft.tasks.question_answering.windows import window_length
from dpt_peft.training.families import DISCRIMINATOR, MULTI_SPAN_QUESTION_ANSWERING
from dpt_peft.training.methods import METHODS, MethodOptions
from dpt_peft.training.question_sampling import QuestionSamplingArguments, select_questions
from dpt_peft.training.runner import run_training
from dpt_peft.training.tuned_run import ModelArguments, card_facts, facts_of_run, prepare_model, splits_in_use

LABELS = ("O", "I")


@dataclass
class MultiSpanMethodArguments(MethodOptions):
    """Which tuning method, and its options."""

    readers: ClassVar[dict[str, tuple[str, ...]]] = {
        **MethodOptions.readers,
        **dict.fromkeys(("threshold", "loss_reduction"), (DISCRIMINATOR,)),
    }
    method: Literal["fine_tuning", "dpt", "deep_prompt", "dpt_deep_prompt", "lora"] = field(
        default="dpt", metadata={"help": "Tuning method; those without dpt are IO tagging with a new head."}
    )
    threshold: float = field(
        default=0.6,
        metadata={"help": "dpt*: a token is part of the answer if its score of being replaced is below (paper: 0.6)."},
    )
    loss_reduction: Literal["mean", "sum"] = field(
        default="mean",
        metadata={"help": "dpt*: mean over the tokens of a batch, or sum over those of a row."},
    )
    tune_threshold: bool = field(
        default=False,
        metadata={"help": "After training, choose the threshold with the best F1 on the validation data."},
    )


def _loading_code(method: str, folder: str, model: Any) -> str:
    """Writes the Python lines that load a saved reader again."""
    lines, task = ["import dpt_peft"], '"multi-span-question-answering"'
    if METHODS[method].adapter is None:
        lines += ["from transformers import pipeline", "", f'read = pipeline({task}, model="{folder}")']
    else:
        own_head = METHODS[method].base == DISCRIMINATOR
        package, head = ("dpt_peft", "") if own_head else ("peft", ", num_labels=2")
        lines += [
            f"from {package} import AutoPeftModelForTokenClassification",
            "from transformers import AutoTokenizer, pipeline",
            "",
            f'model = AutoPeftModelForTokenClassification.from_pretrained("{folder}"{head})',
            *([] if own_head else [f"model.config.logit_threshold = {get_logit_threshold(model)!r}"]),
            f'read = pipeline({task}, model=model, tokenizer=AutoTokenizer.from_pretrained("{folder}"))',
        ]
    return "\n".join([*lines, 'read(question="...", context="...")'])


def run_multi_span_qa(
    model_args: ModelArguments,
    data_args: MultiSpanQAArguments,
    method_args: MultiSpanMethodArguments,
    sampling_args: QuestionSamplingArguments,
    training_args: TrainingArguments,
    *,
    write_files: bool = True,
    command: str | None = None,
) -> dict[str, Any]:
    """Trains, evaluates and predicts as the arguments ask, and writes model, tokenizer, metrics, predictions and card.

    Args:
        model_args: Pretrained model.
        data_args: Data.
        method_args: Tuning method.
        sampling_args: How much of the data.
        training_args: The Trainer's arguments; `do_train`, `do_eval`, `do_predict` say what is done.
        write_files: Whether anything is written to `output_dir` after training.
        command: For the model card; default: this process's command.

    Returns:
        The metrics, `logit_threshold`, and what `facts_of_run` returns; rows are questions.

    Raises:
        ValueError: Arguments or data do not fit; the message names the argument.
    """
    used = splits_in_use(training_args)
    splits = select_questions(load_questions(data_args), sampling_args)
    if method_args.tune_threshold:
        if not training_args.do_train or "validation" not in splits:
            raise ValueError("`tune_threshold` needs `do_train` and validation data (or `validation_size`).")
        used["validation"] = True
    discriminative = METHODS[method_args.method].base == DISCRIMINATOR
    reading = {"threshold": method_args.threshold, "loss_reduction": method_args.loss_reduction}
    prepared = prepare_model(
        MULTI_SPAN_QUESTION_ANSWERING,
        model_args,
        method_args.method,
        method_args,
        seed=training_args.seed,
        label_names=() if discriminative else LABELS,
        # Scores are read off from the left.
        load_tokenizer=partial(AutoTokenizer.from_pretrained, padding_side="right"),
        model_kwargs=reading if discriminative else {},
    )
    model, tokenizer = prepared.model, prepared.tokenizer
    max_length = window_length(data_args.max_seq_length, tokenizer, model.config)
    features = {
        split: make_features(
            dataset,
            tokenizer,
            mentions=data_args.mentions,
            max_length=max_length,
            doc_stride=data_args.doc_stride,
        )
        for split, dataset in splits.items()
        if used[split]
    }
    if training_args.do_train and "train" in features and not features["train"].labelled:
        raise ValueError("The train data has questions without answers.")

    def threshold() -> float:
        return get_logit_threshold(model)

    def usage() -> str:
        return _loading_code(method_args.method, Path(training_args.output_dir or ".").name, model)

    def tune(trainer: Any) -> None:
        if method_args.tune_threshold:
            validation = features["validation"]
            (logits,) = predict_logits(trainer.model, tokenizer, validation, training_args.eval_batch_size)
            model.config.logit_threshold = search_threshold(
                validation,
                score_examples(validation, logits),
                before=threshold(),
                allow_no_answer=data_args.allow_no_answer,
            ).threshold
            # The lines that load an adapter again name the threshold.
            details = {**trainer.card.details, "Logit threshold": f"{threshold():.3f}, tuned on the validation data"}
            trainer.card = replace(trainer.card, usage=usage(), details=details)

    card = card_facts(
        prepared,
        "question-answering",
        data_args,
        splits,
        training_args,
        usage=usage(),
        details={
            "Mentions": data_args.mentions,
            "Window": f"{max_length} tokens, stride {data_args.doc_stride}",
        },
    )
    metrics = {
        name: multi_span_metrics(features[split], threshold, allow_no_answer=data_args.allow_no_answer)
        for name, split in (("eval", "validation"), ("test", "test"))
        if split in features
    }
    result = run_training(
        model,
        training_args,
        tokenizer=tokenizer,
        card=card,
        compute_metrics=metrics,
        train_dataset=features["train"].dataset if "train" in features else None,
        eval_dataset=features["validation"].dataset if "validation" in features else None,
        test_dataset=features["test"].dataset if "test" in features else None,
        data_collator=DataCollatorForTokenClassification(tokenizer),
        after_training=tune,
        write_files=write_files,
        command=command,
    )
    if write_files and result.predictions is not None and training_args.process_index == 0:
        logits = result.predictions.predictions
        spans = decode_examples(
            features["test"],
            score_examples(features["test"], logits[0] if isinstance(logits, tuple) else logits),
            logit_threshold=threshold(),
            allow_no_answer=data_args.allow_no_answer,
        )
        write_answers(Path(training_args.output_dir or "."), features["test"], spans)
    return {**result.metrics, "logit_threshold": threshold(), **facts_of_run(prepared, splits)}
