"""Making discriminators: an encoder turned into one, and the small one that comes along."""
