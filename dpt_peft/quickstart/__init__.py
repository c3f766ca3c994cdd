"""`python -m dpt_peft.quickstart`: a few labelled examples, three ways to train on them, one table."""
