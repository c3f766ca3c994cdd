"""Tasks with a tag for every word: named entities and semantic roles."""
