"""One module a task family: columns to features, decoding, metrics."""
