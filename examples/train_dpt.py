"""DPT on your own texts, with data, model and Trainer in plain sight (`python examples/train_dpt.py`)."""

from __future__ import annotations

from datasets import Dataset
from transformers import AutoTokenizer, DataCollatorWithPadding, Trainer, TrainingArguments, pipeline

import dpt_peft

# Any ELECTRA, DeBERTa-v3 or Funnel discriminator; this small one needs no network.
name = dpt_peft.embedded_discriminator()

texts = ["a graceful movie", "what a great film", "I loved it", "a dull one", "poor and boring", "terrible acting"]
labels = ["positive", "positive", "positive", "negative", "negative", "negative"]
words = sorted(set(labels))  # a word for each class; all of them stand in the input

tokenizer = AutoTokenizer.from_pretrained(name)
rows = Dataset.from_dict({"text": texts, "label": [words.index(label) for label in labels]})
features = rows.map(lambda batch: tokenizer(batch["text"], truncation=True), batched=True, remove_columns="text")

# In the place of AutoModelForSequenceClassification; the pretrained head says which word fits, nothing new is learned.
model = dpt_peft.DPTForSequenceClassification.from_pretrained(name, label_words=words)

trainer = Trainer(
    model=model,
    args=TrainingArguments("outputs/train_dpt", learning_rate=1e-4, num_train_epochs=10, report_to="none"),
    train_dataset=features,
    data_collator=DataCollatorWithPadding(tokenizer),
    processing_class=tokenizer,
)
trainer.train()
trainer.save_model()

classify = pipeline("text-classification", model="outputs/train_dpt")
print(classify("a graceful one"))
