"""Tasks that answer questions on paragraphs: one span (SQuAD) or several (QUOREF)."""
