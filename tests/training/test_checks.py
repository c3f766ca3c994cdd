import pytest
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForSequenceClassification, AutoTokenizer, ElectraConfig, GPT2Tokenizer

import dpt_peft
from dpt_peft import DPTForSequenceClassification
from dpt_peft.auto import check_folder, save_task
from dpt_peft.tasks import TASKS
from dpt_peft.training import (
    CacheArguments,
    ModelArguments,
    RunArguments,
    ScriptTrainingArguments,
    build_model,
    run,
    run_multi_task,
)
from dpt_peft.training.run import check_can_pad, take_over_label_smoothing


def make_model():
    sizes = {"vocab_size": 20, "embedding_size": 8, "hidden_size": 8, "num_hidden_layers": 1}
    config = ElectraConfig(num_attention_heads=2, intermediate_size=8, **sizes)
    return AutoModelForSequenceClassification.from_config(config)


def test_an_adapters_folder_is_refused(tmp_path):
    make_model().save_pretrained(tmp_path / "base")
    base = AutoModelForSequenceClassification.from_pretrained(tmp_path / "base")
    get_peft_model(base, LoraConfig(task_type="SEQ_CLS")).save_pretrained(tmp_path / "adapter")
    for method in ("fine_tuning", "lora", "deep_prompt"):
        with pytest.raises(ValueError, match=r"adapter' has an adapter already.*`init_from`.*merge_and_unload"):
            build_model(TASKS["text-classification"], method, str(tmp_path / "adapter"), ["a", "b"])


def test_a_tokenizer_without_padding_token_is_refused_until_it_has_one(tmp_path):
    GPT2Tokenizer(vocab={"<|endoftext|>": 0, "a": 1}, merges=[]).save_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"has no padding token.*tokenizer\.eos_token"):
        check_can_pad(tokenizer)
    tokenizer.pad_token = tokenizer.eos_token
    check_can_pad(tokenizer)


def test_metrics_batch_by_batch_are_refused(tmp_path):
    with pytest.raises(ValueError, match="`batch_eval_metrics` measures batch by batch"):
        ScriptTrainingArguments(str(tmp_path), batch_eval_metrics=True)


def test_predictions_need_all_rows(tmp_path):
    with pytest.raises(ValueError, match="`eval_do_concat_batches`: metrics and predictions need all rows"):
        ScriptTrainingArguments(str(tmp_path), eval_do_concat_batches=False)
    with pytest.raises(ValueError, match="`prediction_loss_only` leaves nothing for `do_predict` to write"):
        ScriptTrainingArguments(str(tmp_path), prediction_loss_only=True, do_predict=True)
    ScriptTrainingArguments(str(tmp_path), prediction_loss_only=True, do_eval=True)


def test_the_last_batch_of_training_may_be_dropped_but_no_row_to_predict(discriminator, tmp_path):
    (tmp_path / "rows.csv").write_text("text,label\n" + "".join(f"film {n},{'ab'[n % 2]}\n" for n in range(7)))
    task, file = TASKS["text-classification"], str(tmp_path / "rows.csv")
    training = ScriptTrainingArguments(
        str(tmp_path / "out"),
        do_train=True,
        do_eval=True,
        do_predict=True,
        max_steps=1,
        use_cpu=True,
        report_to="none",
        dataloader_drop_last=True,
        per_device_eval_batch_size=4,
        disable_tqdm=True,
    )
    data = task.arguments(train_file=file, validation_file=file, test_file=file)
    run(task, RunArguments(data, "fine_tuning", training, model=ModelArguments(str(discriminator))), show=False)
    assert len((tmp_path / "out" / "predictions.tsv").read_text().splitlines()) == 1 + 7


@pytest.mark.parametrize(
    ("family", "method", "given", "message"),
    [
        (
            "text-classification",
            "deep_prompt",
            {"cache_dtype": "float16"},
            "`cache_dtype` 'float16' is for `cache_lower",
        ),
        ("text-classification", "deep_prompt", {"keep_cache": True}, "`keep_cache` True is for `cache_lower_layers`"),
        (
            "hierarchical-classification",
            "fine_tuning",
            {},
            "`tree_words_file` .* has no use with the method 'fine_tun",
        ),
    ],
)
def test_what_would_do_nothing_is_refused(family, method, given, message, discriminator, tmp_path):
    (tmp_path / "rows.csv").write_text("text,kind,label\na,x,p\nb,y,q\n")
    (tmp_path / "words.json").write_text('{"p": "good"}')
    task, more = TASKS[family], {}
    if family == "hierarchical-classification":
        more = {"level_column_names": ["kind", "label"], "tree_words_file": str(tmp_path / "words.json")}
    data = task.arguments(train_file=str(tmp_path / "rows.csv"), **more)
    training = ScriptTrainingArguments(str(tmp_path / "out"), do_train=True, use_cpu=True)
    cache = CacheArguments(**given)
    with pytest.raises(ValueError, match=message):
        run(task, RunArguments(data, method, training, model=ModelArguments(str(discriminator)), cache=cache))


def save(model, folder):
    check_folder(model, folder)
    model.save_pretrained(folder)
    save_task(model, folder)


def test_models_of_two_kinds_do_not_lie_in_one_folder(discriminator, tmp_path):
    texts, names = TASKS["text-classification"], ["bad", "good"]

    def build(method):
        return build_model(texts, method, str(discriminator), names)

    for first, second in (
        ("dpt", "lora"),
        ("fine_tuning", "deep_prompt"),
        ("lora", "fine_tuning"),
        ("dpt_deep_prompt", "dpt"),
        ("dpt_deep_prompt", "deep_prompt"),
    ):
        folder = tmp_path / f"{first} {second}"
        save(build(first), folder)
        save(build(first), folder)  # the same kind again
        with pytest.raises(
            ValueError, match=r"`output_dir`: .* holds a model of another kind \(.*Take another folder"
        ):
            save(build(second), folder)
    # an adapter over a pretrained head brings a config, which says all of the task
    save(build("deep_prompt"), tmp_path / "adapters")
    assert (tmp_path / "adapters" / "task.json").is_file()
    save(build("dpt_deep_prompt"), tmp_path / "adapters")
    assert not (tmp_path / "adapters" / "task.json").exists()


def test_a_pretrained_head_smooths_its_own_loss(discriminator, tmp_path):
    model = DPTForSequenceClassification.from_pretrained(discriminator, label_words=["bad", "good"])
    args = ScriptTrainingArguments(str(tmp_path), label_smoothing_factor=0.25)
    take_over_label_smoothing(TASKS["text-classification"], model, args)
    assert (model.config.label_smoothing, args.label_smoothing_factor) == (0.25, 0.0)


def test_a_whole_run_is_smoothed(discriminator):
    texts, names = ["the film was good", "the film was bad"], ["positive", "negative"]
    losses = []
    for factor in (0.0, 0.5):
        training = {"max_steps": 1, "use_cpu": True, "label_smoothing_factor": factor}
        given = {"model": str(discriminator), "eval_texts": texts, "eval_labels": names, "progress_bar": False}
        classify = dpt_peft.fit(texts, names, training=training, **given)
        assert classify.model.config.label_smoothing == factor
        losses.append(classify.metrics["eval_loss"])
    assert abs(losses[0] - losses[1]) > 1e-4


@pytest.mark.parametrize(
    ("task", "problem_type", "possible"),
    [
        ("text-classification", None, True),
        ("text-classification", "single_label_classification", True),
        ("text-classification", "multi_label_classification", False),
        ("regression", "regression", False),
        ("question-answering", None, False),
    ],
)
def test_label_smoothing_of_new_heads_is_for_one_class_out_of_several(task, problem_type, possible, tmp_path):
    model = make_model()
    model.config.problem_type = problem_type
    args = ScriptTrainingArguments(str(tmp_path), label_smoothing_factor=0.25)
    if possible:
        take_over_label_smoothing(TASKS[task], model, args)
        assert args.label_smoothing_factor == 0.25
    else:
        with pytest.raises(ValueError, match="`label_smoothing_factor` = 0.25 is for one class out of several"):
            take_over_label_smoothing(TASKS[task], model, args)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("label_smoothing_factor", 0.25),
        ("neftune_noise_alpha", 5),
        ("gradient_checkpointing", True),
        ("dataloader_drop_last", True),
    ],
)
def test_what_several_tasks_do_not_do_is_refused(tmp_path, name, value):
    args = ScriptTrainingArguments(str(tmp_path), **{name: value})
    with pytest.raises(ValueError, match=f"`{name}` is not supported for several tasks"):
        run_multi_task(RunArguments(data=None, method="deep_prompt", training=args))


@pytest.mark.parametrize(
    ("metric", "better"), [("mse", False), ("eval_mse", False), ("pearson", True), ("loss", False)]
)
def test_of_an_error_less_is_better(metric, better, tmp_path):
    each = {"save_strategy": "epoch", "eval_strategy": "epoch", "load_best_model_at_end": True}
    args = ScriptTrainingArguments(str(tmp_path), metric_for_best_model=metric, **each)
    assert args.greater_is_better is better
    assert ScriptTrainingArguments(
        str(tmp_path), metric_for_best_model=metric, greater_is_better=True, **each
    ).greater_is_better
