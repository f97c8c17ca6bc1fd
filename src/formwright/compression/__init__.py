"""Smaller models from larger ones: physically smaller, and saved and loaded like any other."""

from formwright.compression.folding import fold
from formwright.compression.pruning import prune

__all__ = ["fold", "prune"]
