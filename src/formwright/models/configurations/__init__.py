"""How other libraries describe a model in its ``config.json``, one table for each kind, and our equal."""
