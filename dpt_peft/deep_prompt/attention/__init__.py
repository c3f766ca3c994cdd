"""Bringing prompts into attention: a class for each kind of attention module."""
