"""Smaller models from larger ones: physically smaller, and saved and loaded like any other."""

from formwright.compression.folding import fold

__all__ = ["fold"]
