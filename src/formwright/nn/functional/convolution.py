"""Convolutions without the routines of oneDNN that leave their buffers.

In PyTorch 2.13 on CPUs with AVX-512, the gradient of the weight is computed beyond its buffers for

- kernels of one place with a stride, in float32, in channels-last memory, of fewer than 16 input channels: the copy of
  the places that are read is written past its end;
- three dimensions on a padded grid hardly larger than the kernel, in float32 where the padding is larger than a stride
  larger than one, in bfloat16 where each channel is convolved by itself.

It ends the process, at once or much later, or the gradient is wrong. Both have another form, the same function.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

_CONVOLUTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_POOLS = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}


def convolved_side(side: int, kernel: int, stride: int, padding: int) -> int:
    """Places along one side of what a convolution makes of ``side`` of them."""
    return (side + 2 * padding - kernel) // stride + 1


def same_padded(
    x: Float[Tensor, "batch channels *grid"], kernel: int, stride: int
) -> Float[Tensor, "batch channels *padded_grid"]:
    """``x`` with the zeros around it that TensorFlow's ``SAME`` adds: a convolution then gives ``ceil(side / stride)``.

    These are ``(ceil(side / stride) - 1) stride + kernel - side`` along each axis, half of them in front and the odd
    one behind, so that it depends on ``side`` where the first place of the kernel lies. ``kernel`` is not smaller than
    ``stride``.
    """
    amounts = []
    for side in reversed(x.shape[2:]):
        total = 0 if side == 0 else (side - 1) // stride * stride + kernel - side
        amounts += [total // 2, total - total // 2]
    return F.pad(x, amounts)


def convolution(
    x: Float[Tensor, "batch channels *grid"],
    weight: Float[Tensor, "out_channels group_channels *kernel"],
    bias: Float[Tensor, " out_channels"] | None = None,
    stride: Sequence[int] = (1, 1),
    padding: Sequence[int] = (0, 0),
    groups: int = 1,
) -> Float[Tensor, "batch out_channels *coarser_grid"]:
    """``y[p] = b + sum over o of W[o] x[stride p + o - padding]``, zeros outside the grid.

    PyTorch's own convolution of 1, 2 or 3 dimensions, but for two forms: a strided kernel of one place is a subsampling
    and a dense product, and a small grid of three dimensions is padded beforehand.
    """
    if 0 in x.shape[2:]:  # no places give none, of which PyTorch makes an error
        sides = map(convolved_side, x.shape[2:], weight.shape[2:], stride, padding)
        return x.reshape(x.shape[0], weight.shape[0], *(max(0, side) for side in sides))
    convolve = _CONVOLUTIONS[weight.ndim - 2]
    pointwise = max(stride) > 1 and weight.shape[2:].numel() == 1
    if any(padding) and (pointwise or _small(x, weight, stride)):
        x = F.pad(x, [amount for side in reversed(padding) for amount in (side, side)])
        padding = [0] * len(padding)
    if pointwise:
        x, stride = subsample(x, stride), [1] * len(stride)
    return convolve(x, weight, bias, stride, padding, groups=groups)


def _small(x: Tensor, weight: Tensor, stride: Sequence[int]) -> bool:
    """Whether a kernel in three dimensions may reach over both ends of the grid, or nearly so."""
    if len(stride) < 3 or torch.compiler.is_exporting():  # an exported grid may have any size
        return False
    sides = zip(x.shape[-3:], weight.shape[2:], stride, strict=True)
    return any(side < kernel + step for side, kernel, step in sides)


def subsample(
    x: Float[Tensor, "batch channels *grid"], stride: Sequence[int]
) -> Float[Tensor, "batch channels *coarser_grid"]:
    """Every ``stride``-th place along each axis, the first included."""
    if torch.compiler.is_exporting():  # ONNX Runtime pools, in the layout of its convolutions, faster than it slices
        return _POOLS[len(stride)](x, 1, list(stride))
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
