"""Layers that take the place of a plain dense or convolutional layer inside a part: what edits put there.

Every one of them is called, cut, permuted, extended and folded like the plain layer whose place it took. A third party
adds its own with :data:`LAYERS` or through the entry-point group ``formwright.layers``.
"""

from __future__ import annotations

from formwright.nn.layers.affine import Affine
from formwright.nn.layers.base import LAYERS, Layer, effective_bias, effective_weight, locate
from formwright.nn.layers.lora import LoRA, freeze_except
from formwright.nn.layers.low_rank import LowRank
from formwright.nn.layers.plain import PLAIN, Form, Plain
from formwright.nn.layers.quantised import Quantised, Quantiser, check_bits
from formwright.nn.layers.scaling import scalable, scale_input, scale_output

__all__ = [
    "LAYERS",
    "PLAIN",
    "Affine",
    "Form",
    "Layer",
    "LoRA",
    "LowRank",
    "Plain",
    "Quantised",
    "Quantiser",
    "check_bits",
    "effective_bias",
    "effective_weight",
    "freeze_except",
    "locate",
    "scalable",
    "scale_input",
    "scale_output",
]
