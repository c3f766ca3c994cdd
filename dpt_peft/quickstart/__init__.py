"""`python -m dpt_peft.quickstart`: a few labelled examples, four ways to train on them, one table."""
