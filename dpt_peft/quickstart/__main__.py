"""`python -m dpt_peft.quickstart`: few labelled examples, three ways to train on them, one table."""

from __future__ import annotations

import os

# Read when the libraries are imported: the tokenizer's threads would warn when the Trainer forks.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
