"""Convolutions without the two of oneDNN's routines that leave their buffers.

In PyTorch 2.13 on CPUs with AVX-512, the gradient of a float32 weight is computed beyond its buffers for

- kernels of one place with a stride, in channels-last memory, of fewer than 16 input channels: the copy of the places
  that are read is written past its end;
- three dimensions, where the padding is larger than a stride larger than one and the grid is about as deep as the
  kernel: rows behind the last are read, and the heap is spoiled.

Either ends the process, at once or much later, or gives a wrong gradient. Both have a form that is the same function.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

_CONVOLUTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


def convolution(
    x: Float[Tensor, "batch channels *grid"],
    weight: Float[Tensor, "out_channels group_channels *kernel"],
    bias: Float[Tensor, " out_channels"] | None = None,
    stride: Sequence[int] = (1, 1),
    padding: Sequence[int] = (0, 0),
    groups: int = 1,
) -> Float[Tensor, "batch out_channels *coarser_grid"]:
    """``y[p] = b + sum over o of W[o] x[stride p + o - padding]``, zeros outside the grid.

    PyTorch's own convolution of 1, 2 or 3 dimensions, whose strided kernel of one place is a subsampling and a dense
    product, and whose first axis in three dimensions is padded beforehand where oneDNN would read past its end.
    """
    convolve = _CONVOLUTIONS[weight.ndim - 2]
    strided = max(stride) > 1
    if strided and math.prod(weight.shape[2:]) == 1:
        if any(padding):
            x = F.pad(x, [amount for side in reversed(padding) for amount in (side, side)])
        return convolve(subsample(x, stride), weight, bias, groups=groups)
    if strided and len(padding) == 3 and padding[0] > stride[0]:
        x = F.pad(x, (0, 0, 0, 0, padding[0], padding[0]))
        padding = (0, *padding[1:])
    return convolve(x, weight, bias, stride, padding, groups=groups)


def subsample(
    x: Float[Tensor, "batch channels *grid"], stride: Sequence[int]
) -> Float[Tensor, "batch channels *coarser_grid"]:
    """Every ``stride``-th place along each axis, the first included."""
    if torch.is_grad_enabled() and x.requires_grad and not torch.compiler.is_compiling():
        return _Subsample.apply(x, stride)  # type: ignore[no-untyped-call]
    return _every(x, stride)


def _every(x: Tensor, stride: Sequence[int]) -> Tensor:
    index: list[Any] = [slice(None, None, step) for step in stride]
    return x[(..., *index)]


class _Subsample(torch.autograd.Function):
    """Slices whose gradient is written once and in channels-last memory; PyTorch's is written once for each axis."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, stride: Sequence[int]) -> Tensor:
        return _every(x, stride).movedim(1, -1).contiguous().movedim(-1, 1)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Sequence[int]], output: Tensor) -> None:
        x, ctx.stride = inputs
        ctx.shape = x.shape

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        batch, channels, *grid = ctx.shape
        whole = gradient.new_zeros(batch, *grid, channels).movedim(-1, 1)
        _every(whole, ctx.stride).copy_(gradient)
        return whole, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, _: None) -> Tensor:
        return _every(tangent, ctx.stride)
