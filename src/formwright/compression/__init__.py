"""Smaller models from larger ones: physically smaller, and saved and loaded like any other."""

from formwright.compression.folding import fold
from formwright.compression.growth import grow
from formwright.compression.nesting import extract, mix_and_match
from formwright.compression.norm_conversion import replace_layer_norms
from formwright.compression.pruning import prune
from formwright.compression.quantization import quantise
from formwright.compression.values import cluster, sparsify

__all__ = [
    "cluster",
    "extract",
    "fold",
    "grow",
    "mix_and_match",
    "prune",
    "quantise",
    "replace_layer_norms",
    "sparsify",
]
