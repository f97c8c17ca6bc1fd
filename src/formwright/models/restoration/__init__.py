"""Networks that restore pictures."""
