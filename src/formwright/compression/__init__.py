"""Smaller models from larger ones: physically smaller, and saved and loaded like any other."""

import formwright.compression.steps  # noqa: F401  (registers them)
from formwright.compression.choices import extract, mix_and_match
from formwright.compression.depth import drop_branches
from formwright.compression.factorization import factorise
from formwright.compression.folding import fold
from formwright.compression.growth import grow
from formwright.compression.norm_conversion import replace_layer_norms
from formwright.compression.pruning import prune
from formwright.compression.quantization import quantise
from formwright.compression.recipe import read_recipe
from formwright.compression.registry import COMPRESSORS, Compressed, Compressor, Job, Step, compress
from formwright.compression.values import cluster, sparsify

__all__ = [
    "COMPRESSORS",
    "Compressed",
    "Compressor",
    "Job",
    "Step",
    "cluster",
    "compress",
    "drop_branches",
    "extract",
    "factorise",
    "fold",
    "grow",
    "mix_and_match",
    "prune",
    "quantise",
    "read_recipe",
    "replace_layer_norms",
    "sparsify",
]
