"""Networks whose tensors take other ways than a chain's."""
