"""Sampling, tuning methods, runs and their records."""
