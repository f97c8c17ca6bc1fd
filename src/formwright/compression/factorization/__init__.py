"""Layers as products of thinner ones."""

from formwright.compression.factorization.svd import check_share, factorise

__all__ = ["check_share", "factorise"]
