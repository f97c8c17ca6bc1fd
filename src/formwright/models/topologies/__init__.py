"""Kinds of networks beside the chain: each a specification and a visible ``forward``."""
