"""Layers as products of thinner ones."""

from formwright.compression.factorization.svd import factorise

__all__ = ["factorise"]
