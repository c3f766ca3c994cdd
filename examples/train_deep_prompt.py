"""Deep prompts on a frozen model: data, model and Trainer in plain sight (`python examples/train_deep_prompt.py`)."""

from __future__ import annotations

from datasets import Dataset
from peft import get_peft_model
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
)

import dpt_peft

# Any encoder or decoder that transformers has a classifier for; this small one needs no network.
name = dpt_peft.embedded_discriminator()

texts = ["a graceful movie", "what a great film", "I loved it", "a dull one", "poor and boring", "terrible acting"]
labels = ["positive", "positive", "positive", "negative", "negative", "negative"]
names = sorted(set(labels))

tokenizer = AutoTokenizer.from_pretrained(name)
rows = Dataset.from_dict({"text": texts, "label": [names.index(label) for label in labels]})
features = rows.map(lambda batch: tokenizer(batch["text"], truncation=True), batched=True, remove_columns="text")

model = AutoModelForSequenceClassification.from_pretrained(name, id2label=dict(enumerate(names)))
# Trainable keys and values in every layer, and the new head; everything else is frozen.
model = get_peft_model(model, dpt_peft.DeepPromptConfig(task_type="SEQ_CLS", num_virtual_tokens=20))
model.print_trainable_parameters()

# Prompts want higher learning rates and more updates than fine-tuning.
args = TrainingArguments(
    "outputs/train_deep_prompt",
    learning_rate=5e-3,
    num_train_epochs=40,
    per_device_train_batch_size=2,
    warmup_steps=10,
    save_strategy="no",
    report_to="none",
)
trainer = Trainer(
    model=model,
    args=args,
    train_dataset=features,
    data_collator=DataCollatorWithPadding(tokenizer),
    processing_class=tokenizer,
)
trainer.train()
trainer.save_model()  # some hundred kilobytes: the prompts and the head

classify = dpt_peft.load("outputs/train_deep_prompt")
print(classify("a graceful one"))
