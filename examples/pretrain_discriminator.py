"""Turns an encoder into a discriminator by continued replaced-token detection, or continues a discriminator.

    python examples/pretrain_discriminator.py --model_name_or_path google-bert/bert-base-uncased \
        --train_files books.txt reviews.txt.xz --candidate_list_share 0.5 \
        --do_train --do_eval --learning_rate 1.5e-4 --num_train_epochs 1 --output_dir runs/discriminator

    # domain adaptation: an ELECTRA, DeBERTa-v3 or Funnel discriminator keeps its head and goes on with your text
    python examples/pretrain_discriminator.py --model_name_or_path google/electra-small-discriminator \
        --train_files tickets.txt --do_train --do_eval --learning_rate 5e-5 --output_dir runs/adapted

Text files (.txt, .txt.gz, .txt.xz) hold plain text; lines are joined into documents. The last documents of each file
are held out. What is written is a discriminator's folder (`ElectraForPreTraining` where an encoder was the start), one
for `dpt_peft.training.load_packed` with `--save_dtype int8`, or a PEFT adapter folder with `--lora_rank`. A run that
was cut off goes on with `--resume_from_checkpoint last`.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field
from pathlib import Path

import torch
from datasets import Dataset, concatenate_datasets, load_dataset
from peft import PeftModel
from sklearn.metrics import precision_score, recall_score, roc_auc_score
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    AutoTokenizer,
    ElectraConfig,
    ElectraForMaskedLM,
    EvalPrediction,
    HfArgumentParser,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Trainer,
    TrainingArguments,
    set_seed,
)
from transformers.trainer_utils import get_last_checkpoint
from transformers.utils import SAFE_WEIGHTS_NAME, cached_file

from dpt_peft import supported_model_types
from dpt_peft.training import (
    PACKED_WEIGHTS,
    CorpusReplacements,
    DocumentCollator,
    GeneratorReplacements,
    ReplacedTokenPretraining,
    WholeWords,
    corrupt,
    discriminator_from_encoder,
    low_rank_discriminator,
    save_packed,
)

logger = logging.getLogger(__name__)

#: Label of tokens that no loss is computed on.
IGNORED = -100


@dataclass
class ModelArguments:
    """Which discriminator is trained, and what of it."""

    model_name_or_path: str = field(
        metadata={"help": "Encoder (BERT, RoBERTa) or discriminator (ELECTRA, DeBERTa-v3, Funnel) to start from."}
    )
    dropout: float | None = field(default=None, metadata={"help": "Dropout in training; default: the model's own."})
    lora_rank: int | None = field(
        default=None,
        metadata={"help": "Train and save only low-rank factors of every matrix (and the head) of this rank."},
    )
    teacher: str | None = field(
        default=None,
        metadata={"help": "Sentence encoder whose mean states of clean text are kept, with the same vocabulary."},
    )
    teacher_weight: float = field(default=3.0, metadata={"help": "With teacher: weight of that term of the loss."})
    mix_with: list[str] = field(
        default_factory=list,
        metadata={"help": "Start from a weighted mean with these models, which were made from the same encoder."},
    )
    mix_shares: list[float] = field(
        default_factory=list, metadata={"help": "The share of each of them; the rest is the model's own."}
    )
    save_dtype: str = field(
        default="float32",
        metadata={"help": "Precision of what is written.", "choices": ["float32", "float16", "int8"]},
    )
    compare_with: list[str] = field(
        default_factory=list,
        metadata={"help": "Other discriminators to evaluate on the very same held-out rows (with do_eval)."},
    )
    adapter_name_or_path: str | None = field(
        default=None, metadata={"help": "An adapter folder that an earlier run wrote, to continue or to evaluate."}
    )

    def __post_init__(self) -> None:
        """Check what can be checked before anything is loaded."""
        if len(self.mix_with) != len(self.mix_shares):
            raise ValueError("`mix_shares` must have one share for each model of `mix_with`.")
        if any(share <= 0 for share in self.mix_shares) or sum(self.mix_shares) >= 1:
            raise ValueError("`mix_shares` must be above 0, and their sum below 1: the rest is the model's own.")
        if self.lora_rank or self.adapter_name_or_path:
            for option, given in {"mix_with": self.mix_with, "save_dtype` `int8": self.save_dtype == "int8"}.items():
                if given:
                    raise ValueError(f"`{option}` is for whole models, not for adapters.")


@dataclass
class DataArguments:
    """Text, replacements and candidate lists."""

    train_files: list[str] = field(metadata={"help": "Text files: .txt, .txt.gz, .txt.xz."})
    max_length: int = field(default=64, metadata={"help": "Tokens per row."})
    document_tokens: int = field(
        default=192, metadata={"help": "Lines are joined until a document has this many tokens."}
    )
    max_documents_per_file: int | None = field(default=None, metadata={"help": "Use at most this many of each file."})
    validation_documents: int = field(default=300, metadata={"help": "Held out from the end of each file."})
    replaced_share: float = field(default=0.15, metadata={"help": "Share of tokens drawn for replacement."})
    candidate_list_share: float = field(default=0.0, metadata={"help": "Share of rows that are candidate lists."})
    candidate_template: str | None = field(
        default=None, metadata={"help": "A candidate list's text and words. Default: DPT's own template."}
    )
    nearest: int = field(default=16, metadata={"help": "Neighbours in embedding space that may replace a token."})
    generator: str | None = field(
        default=None,
        metadata={
            "help": "ELECTRA's generator in place of corpus statistics: 'new' (a quarter of the discriminator) or "
            "a masked language model with the same vocabulary, trained along."
        },
    )


def load_documents(
    path: str, tokenizer: PreTrainedTokenizerBase, document_tokens: int, max_documents: int | None
) -> Dataset:
    """One text file as documents of `document_tokens` to about twice as many tokens (column `input_ids`)."""

    def tokenize(batch: dict[str, list[str]]) -> dict[str, list[list[int]]]:
        lines = [line for line in batch["text"] if line.strip()]
        # verbose=False: documents are cut below, the tokenizer need not warn of long ones.
        return {"input_ids": tokenizer(lines, add_special_tokens=False, verbose=False)["input_ids"]}

    def join(batch: dict[str, list[list[int]]]) -> dict[str, list[list[int]]]:
        documents: list[list[int]] = [[]]
        for line in batch["input_ids"]:
            if len(documents[-1]) >= document_tokens:
                documents.append([])
            documents[-1] += line
        pieces = []
        for document in documents:
            count = max(1, round(len(document) / (1.5 * document_tokens)))
            size = -(-len(document) // count)
            pieces += [document[start : start + size] for start in range(0, len(document), size)]
        return {"input_ids": [piece for piece in pieces if len(piece) >= document_tokens // 2]}

    lines = load_dataset("text", data_files={"train": path}, split="train")
    tokens = lines.map(tokenize, batched=True, remove_columns=["text"], desc=f"Tokenizing {Path(path).name}")
    documents = tokens.map(join, batched=True, batch_size=10_000, desc="Joining lines into documents")
    if max_documents is not None and len(documents) > max_documents:
        # Evenly over the whole file: a file of books should not be cut to its first book.
        documents = documents.select([i * len(documents) // max_documents for i in range(max_documents)])
    return documents


def held_out_rows(documents: Dataset, collator: DocumentCollator, source: CorpusReplacements, share: float) -> Dataset:
    """Corrupts held-out documents once, so that every evaluation sees the same rows."""
    rows = []
    for start in range(0, len(documents), 32):
        made = collator([documents[i] for i in range(start, min(start + 32, len(documents)))])
        text = corrupt(made["input_ids"], made["attention_mask"], made["replaceable"], source, share)
        labels = torch.where(made["replaceable"], text.labels, made["labels"])
        rows += [
            {"input_ids": ids[mask.bool()].tolist(), "labels": answers[mask.bool()].tolist()}
            for ids, answers, mask in zip(text.input_ids, labels, made["attention_mask"], strict=True)
        ]
    return Dataset.from_list(rows)


def detection_metrics(prediction: EvalPrediction) -> dict[str, float]:
    """Loss, precision and recall (replaced from probability 0.5) and area under the curve over labelled tokens."""
    labelled = prediction.label_ids != IGNORED
    labels, logits = prediction.label_ids[labelled], prediction.predictions[labelled]
    loss = torch.nn.functional.binary_cross_entropy_with_logits(torch.tensor(logits), torch.tensor(labels).float())
    return {
        "token_loss": loss.item(),
        "precision": precision_score(labels, logits >= 0, zero_division=0.0),
        "recall": recall_score(labels, logits >= 0),
        "auc": roc_auc_score(labels, logits),
    }


def build_discriminator(model_args: ModelArguments) -> PreTrainedModel | PeftModel:
    """The model to train: whole, or a frozen one with a trainable adapter."""
    base = discriminator_from_encoder(model_args.model_name_or_path, dropout=model_args.dropout)
    if model_args.adapter_name_or_path is not None:
        return PeftModel.from_pretrained(base, model_args.adapter_name_or_path, is_trainable=True)
    return base if model_args.lora_rank is None else low_rank_discriminator(base, rank=model_args.lora_rank)


def checkpoint_to_resume(training_args: TrainingArguments) -> str | None:
    """Return the checkpoint to go on from, None to start anew.

    Args:
        training_args: Their `resume_from_checkpoint` is a folder, or "last" (or "True") for the last of `output_dir`.

    Raises:
        ValueError: If there is none, or nothing is trained.
    """
    asked = training_args.resume_from_checkpoint
    if asked is None or asked.lower() == "false":  # the command line gives text
        return None
    if not training_args.do_train:
        raise ValueError("`resume_from_checkpoint` goes on with training: it needs `do_train`.")
    if asked.lower() not in {"last", "true"}:
        return asked
    folder = Path(training_args.output_dir)
    if (last := get_last_checkpoint(folder) if folder.is_dir() else None) is None:
        raise ValueError(
            f"`resume_from_checkpoint`: there is no checkpoint in {folder} (`output_dir`). Leave it out to start anew."
        )
    return last


def check_can_read(
    option: str, path: str, model: PreTrainedModel | PeftModel, vocabulary: int, max_length: int
) -> None:
    """Refuse a model that has no embedding for some of the tokens, or no positions for a row's length.

    Args:
        option: What it was given as.
        path: Its folder or Hub id.
        model: The model.
        vocabulary: Number of tokens of the discriminator that is trained.
        max_length: Tokens per row.

    Raises:
        ValueError: If it has another number of tokens, or fewer positions.
    """
    if model.config.vocab_size != vocabulary:
        raise ValueError(
            f"`{option}`: {path} has a vocabulary of {model.config.vocab_size} tokens; it must share that of "
            f"`model_name_or_path`, which has {vocabulary}."
        )
    for name, module in model.named_modules():
        if name.endswith(".position_embeddings") and isinstance(module, torch.nn.Embedding):
            # RoBERTa and its kin count from behind the padding token's position
            limit = module.num_embeddings - (0 if module.padding_idx is None else module.padding_idx + 1)
            if limit < max_length:
                raise ValueError(
                    f"`max_length` must be at most {limit}, all that {path} (`{option}`) reads, got {max_length}."
                )


def check_shares_words(option: str, path: str, tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse a model for which the tokens are other words; one that is saved without a tokenizer is not known to be.

    Args:
        option: What it was given as.
        path: Its folder or Hub id.
        tokenizer: Of the discriminator that is trained.

    Raises:
        ValueError: If a token that both know is another word there.
    """
    try:
        other = AutoTokenizer.from_pretrained(path)
    except (OSError, ValueError):
        return
    # without its files, transformers makes a tokenizer of the special tokens alone
    quiet = {"_raise_exceptions_for_missing_entries": False, "_raise_exceptions_for_connection_errors": False}
    files = {"tokenizer.json", *type(other).vocab_files_names.values()}
    if not any(cached_file(path, name, **quiet) for name in files):
        return
    ours, theirs = ({index: word for word, index in each.get_vocab().items()} for each in (tokenizer, other))
    differ = sorted(index for index in ours.keys() & theirs.keys() if ours[index] != theirs[index])
    if differ:
        raise ValueError(
            f"`{option}`: {path} has another vocabulary than `model_name_or_path`: its token {differ[0]} is "
            f"{theirs[differ[0]]!r} and not {ours[differ[0]]!r}."
        )


def check_folder(folder: Path, packed: bool) -> None:
    """Refuse a folder that holds weights of the other kind: whoever loads it would get the older model.

    Args:
        folder: Where the model will be saved.
        packed: Whether in eight bits.

    Raises:
        ValueError: If the folder holds such weights.
    """
    if (other := folder / (SAFE_WEIGHTS_NAME if packed else PACKED_WEIGHTS)).exists():
        raise ValueError(f"`output_dir`: {other} is of an earlier model; remove it, or give another folder.")


def has_head(path: str, model_class: type[PreTrainedModel]) -> bool:
    """Return whether a model was saved as a discriminator, and not as an encoder that gets a new head.

    Args:
        path: Its folder or Hub id.
        model_class: What it is loaded as.
    """
    if AutoConfig.from_pretrained(path).model_type not in supported_model_types():
        return False
    _, found = model_class.from_pretrained(path, output_loading_info=True)
    return not found["missing_keys"]


def mix_weights(discriminator: PreTrainedModel, path: str, others: list[str], shares: list[float]) -> None:
    """Make a discriminator, in place, the weighted mean of itself and other models of its shape.

    Models that were made from one encoder can be averaged (Wortsman et al. 2022, model soups). An encoder has no
    replaced-token head: its share of the head goes to the others, in proportion.

    Args:
        discriminator: What is changed.
        path: Where it is from.
        others: Folders or Hub ids of discriminators or encoders.
        shares: Share of each; the rest is the discriminator's own.

    Raises:
        ValueError: If a model has other layers or sizes, as where only an adapter is trained.
    """
    own = discriminator.state_dict()
    encoder = {f"{discriminator.base_model_prefix}.{name}" for name in discriminator.base_model.state_dict()}
    parts = [(1 - sum(shares), own, has_head(path, type(discriminator)))]
    for name, share in zip(others, shares, strict=True):
        other = discriminator_from_encoder(name)
        weights = other.state_dict()
        if {key: weight.shape for key, weight in own.items()} != {key: w.shape for key, w in weights.items()}:
            raise ValueError(f"`mix_with`: {name} must have the layers and sizes of `model_name_or_path`.")
        parts.append((share, weights, has_head(name, type(other))))
    mixed = {}
    for key, weight in own.items():
        having = [(share, weights[key]) for share, weights, head in parts if head or key in encoder]
        if having and weight.is_floating_point():
            mixed[key] = sum(share * part for share, part in having) / sum(share for share, _ in having)
    discriminator.load_state_dict({**own, **mixed})


def restore_dropout(config: PreTrainedConfig, path: str) -> None:
    """Give a config the dropout of the model that it comes from: `dropout` is for the training here alone."""
    for name, value in AutoConfig.from_pretrained(path).to_dict().items():
        if "dropout" in name and hasattr(config, name):
            setattr(config, name, value)


def build_generator(
    name: str, discriminator: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase
) -> GeneratorReplacements:
    """ELECTRA's generator: given, or new with a quarter of the discriminator's width (ELECTRA section 3.2)."""
    if name == "new":
        width = max(discriminator.hidden_size // 4, 64)
        small = {"hidden_size": width, "intermediate_size": 4 * width, "num_attention_heads": max(width // 64, 1)}
        if discriminator.model_type == "electra":
            small = {**discriminator.to_dict(), **small}
        else:
            small |= {
                "embedding_size": width,
                "num_hidden_layers": discriminator.num_hidden_layers,
                "vocab_size": discriminator.vocab_size,
                "pad_token_id": tokenizer.pad_token_id,
            }
        generator = ElectraForMaskedLM(ElectraConfig(**small))
    else:
        generator = AutoModelForMaskedLM.from_pretrained(name, dtype=torch.float32)
    return GeneratorReplacements(generator, tokenizer.mask_token_id)


def main(argv: list[str] | None = None) -> dict[str, float]:
    """Trains, evaluates and saves; returns the last metrics."""
    parser = HfArgumentParser((ModelArguments, DataArguments, TrainingArguments))
    model_args, data_args, training_args = parser.parse_args_into_dataclasses(argv)
    training_args.remove_unused_columns = False  # the collator turns documents into the model's inputs
    if training_args.device.type == "cpu":
        training_args.dataloader_pin_memory = False  # torch warns that there is nothing to pin for
    saves = training_args.do_train or bool(model_args.mix_with) or model_args.save_dtype != "float32"
    if not (saves or training_args.do_eval):
        raise ValueError(
            "There is nothing to do: `do_train`, `do_eval`, `mix_with` or a `save_dtype` says what is done."
        )
    if model_args.compare_with and not training_args.do_eval:
        raise ValueError("`compare_with` names what is evaluated too: it needs `do_eval`.")
    checkpoint = checkpoint_to_resume(training_args)
    if saves:
        check_folder(Path(training_args.output_dir), packed=model_args.save_dtype == "int8")
    set_seed(training_args.seed)
    tokenizer = AutoTokenizer.from_pretrained(model_args.model_name_or_path)
    discriminator = build_discriminator(model_args)
    limits = (discriminator.config.vocab_size, data_args.max_length)
    check_can_read("model_name_or_path", model_args.model_name_or_path, discriminator, *limits)
    teacher = generator = None
    if model_args.teacher is not None:
        teacher = AutoModel.from_pretrained(model_args.teacher, dtype=torch.float32)
        check_can_read("teacher", model_args.teacher, teacher, *limits)
        if teacher.config.hidden_size != discriminator.config.hidden_size:
            raise ValueError(
                f"`teacher`: {model_args.teacher} has a hidden size of {teacher.config.hidden_size}; it must be that "
                f"of `model_name_or_path`, which has {discriminator.config.hidden_size}."
            )
    if data_args.generator is not None:
        generator = build_generator(data_args.generator, discriminator.config, tokenizer)
        check_can_read("generator", data_args.generator, generator.generator, *limits)
    for other in model_args.compare_with:
        check_can_read("compare_with", other, discriminator_from_encoder(other), *limits)
    others = {
        "teacher": [model_args.teacher],
        "generator": [None if data_args.generator == "new" else data_args.generator],
        "compare_with": model_args.compare_with,
        "mix_with": model_args.mix_with,
    }
    for option, paths in others.items():
        for path in filter(None, paths):
            check_shares_words(option, path, tokenizer)
    if model_args.mix_with:
        mix_weights(discriminator, model_args.model_name_or_path, model_args.mix_with, model_args.mix_shares)

    train, held_out = [], []
    for path in data_args.train_files:
        limit = data_args.max_documents_per_file
        documents = load_documents(path, tokenizer, data_args.document_tokens, limit)
        split = len(documents) - data_args.validation_documents
        if split < 1:
            raise ValueError(
                f"{path} has {len(documents)} documents, "
                f"validation_documents={data_args.validation_documents} leaves none."
            )
        train.append(documents.select(range(split)))
        held_out.append(documents.select(range(split, len(documents))))
    documents, held_out_documents = concatenate_datasets(train), concatenate_datasets(held_out)

    corpus = documents.with_format("torch")["input_ids"]
    corpus = torch.cat(list(corpus))
    corpus = corpus[~torch.isin(corpus, torch.tensor(tokenizer.all_special_ids))]
    words = WholeWords(tokenizer, documents["input_ids"])
    statistics = CorpusReplacements(corpus, discriminator.get_input_embeddings().weight, data_args.nearest)

    def collator(candidate_list_share: float) -> DocumentCollator:
        return DocumentCollator(
            tokenizer, data_args.max_length, words, candidate_list_share, template=data_args.candidate_template
        )

    training_collator = collator(data_args.candidate_list_share)
    evaluation = {}
    if training_args.do_eval:
        collators = {"replaced_tokens": collator(0.0)}
        try:
            collators["candidate_lists"] = collator(1.0)
        except ValueError as error:  # what else it may refuse, the collators above have
            logger.warning("No candidate lists are evaluated, for they do not fit into the rows: %s", error)
        set_seed(0)  # the same held-out rows whatever the training seed
        for name, made_by in collators.items():
            evaluation[name] = held_out_rows(held_out_documents, made_by, statistics, data_args.replaced_share)
    set_seed(training_args.seed)

    def trainer_of(model: ReplacedTokenPretraining) -> Trainer:
        return Trainer(
            model=model,
            args=training_args,
            train_dataset=documents,
            eval_dataset=evaluation or None,
            data_collator=training_collator,
            processing_class=tokenizer,
            compute_metrics=detection_metrics,
        )

    source = statistics if generator is None else generator
    trainer = trainer_of(
        ReplacedTokenPretraining(discriminator, source, data_args.replaced_share, teacher, model_args.teacher_weight)
    )
    metrics: dict[str, float] = {}
    if training_args.do_train:
        result = trainer.train(resume_from_checkpoint=checkpoint)
        metrics |= result.metrics
        trainer.save_state()
    if training_args.do_eval:
        evaluation_metrics = trainer.evaluate()
        trainer.log_metrics("eval", evaluation_metrics)
        metrics |= evaluation_metrics
        for other in model_args.compare_with:
            other_trainer = trainer_of(ReplacedTokenPretraining(discriminator_from_encoder(other), statistics))
            found = other_trainer.evaluate(metric_key_prefix=f"eval_{Path(other).name}")
            other_trainer.log_metrics(f"eval {other}", found)
            metrics |= found
    if saves:
        restore_dropout(discriminator.config, model_args.model_name_or_path)
        if model_args.save_dtype == "int8":
            save_packed(discriminator, training_args.output_dir)
        else:
            discriminator.to(getattr(torch, model_args.save_dtype)).save_pretrained(training_args.output_dir)
        tokenizer.save_pretrained(training_args.output_dir)
    if metrics:
        Path(training_args.output_dir).mkdir(parents=True, exist_ok=True)
        (Path(training_args.output_dir) / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
    return metrics


if __name__ == "__main__":
    main()
