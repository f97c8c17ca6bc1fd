"""Models of texts and other sequences of tokens."""
