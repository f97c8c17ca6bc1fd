"""Numbers as integers of few bits hold them, in floating point and with gradients."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

#: The smallest distance between two numbers: where all are zero, any will do.
LEAST_SCALE = 1e-12


def integer_range(bits: int, *, symmetric: bool) -> tuple[int, int]:
    """The smallest and the largest integer: ``-2^(bits-1)`` and ``2^(bits-1) - 1``, or 0 and ``2^bits - 1``."""
    return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if symmetric else (0, 2**bits - 1)


def scale_and_zero(low: Tensor, high: Tensor, bits: int, *, symmetric: bool) -> tuple[Tensor, Tensor | None]:
    """The scale and the integer that stands for zero, so that the integers reach from ``low`` to ``high``.

    The range is widened to hold zero, which is then exact. In a symmetric one 0 stands for zero, and none is returned;
    the largest integer then stands for the further end.
    """
    low, high = low.clamp(max=0), high.clamp(min=0)
    least, most = integer_range(bits, symmetric=symmetric)
    if symmetric:
        return (torch.maximum(-low, high) / most).clamp(min=LEAST_SCALE), None
    scale = ((high - low) / (most - least)).clamp(min=LEAST_SCALE)
    return scale, (-low / scale).round().clamp(least, most)


def to_integers(
    x: Float[Tensor, "*shape"], scale: Tensor, zero: Tensor | None, least: int, most: int
) -> Float[Tensor, "*shape"]:
    """``clamp(round(x / scale) + zero, least, most)``, halves to the even integer; whole numbers of the type of ``x``.

    The gradient is that of ``x / scale`` where nothing is clamped and zero elsewhere: rounding is passed over.
    """
    scaled = x / scale if zero is None else x / scale + zero
    rounded = scaled.detach().round()
    integers = rounded.clamp(least, most)
    return torch.where(rounded == integers, scaled + (integers - scaled).detach(), integers)


def fake_quantise(
    x: Float[Tensor, "*shape"], scale: Tensor, zero: Tensor | None, least: int, most: int
) -> Float[Tensor, "*shape"]:
    """``scale * (clamp(round(x / scale) + zero, least, most) - zero)``; ``scale`` and ``zero`` broadcast to ``x``.

    The gradient for ``x`` is one where nothing is clamped and zero elsewhere; that for ``scale`` is
    ``round(x / scale) - x / scale`` there, and the end of the range (less ``zero``) elsewhere.

    Source: Estimating or Propagating Gradients Through Stochastic Neurons, arXiv 1308.3432 (straight through); Learned
    Step Size Quantization, arXiv 1902.08153.
    """
    integers = to_integers(x, scale, zero, least, most)
    return (integers if zero is None else integers - zero) * scale
