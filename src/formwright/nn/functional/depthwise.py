"""Depthwise convolutions whose training step is fast on a CPU, in channels-last memory.

PyTorch leaves them to oneDNN, whose routine for the gradient of the weights is fast for kernels of up to three columns
and any number of rows, and 3 to 40 times slower beyond. So a wide kernel is cut into strips of at most three columns,
each the kernel of a convolution of its own over columns of the input that are shifted accordingly. The gradient of
the input is a convolution with the mirrored kernel, for which oneDNN's forward routine is faster than its backward one.
Sequences are convolved as images of one row, which spares two transpositions, and the gradient of their weights is
taken as of images of one column, where no strips are needed.
"""

from __future__ import annotations

import itertools
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from formwright.nn.functional.convolution import convolution
from formwright.nn.functional.transforms import mapped

#: The most columns of a kernel for which oneDNN has its fast routine.
STRIP = 3
#: Samples are treated a few at a time, so that what all strips read stays in the cache.
CHUNK_BYTES = 2 * 2**20


def depthwise_convolution(
    x: Float[Tensor, "batch channels *grid"],
    weight: Float[Tensor, "channels 1 *kernel"],
    bias: Float[Tensor, " channels"] | None,
    stride: int,
) -> Float[Tensor, "batch channels *coarser_grid"]:
    """``y[p, c] = b[c] + sum over o of W[o, c] x[stride p + o - kernel // 2, c]``, zeros outside the grid.

    :func:`convolution`, except where another form is faster: on a CPU, for sequences, and for images while gradients
    are recorded. Kernels have odd sides. While a model is compiled or exported it is a plain convolution.
    """
    dimensions = weight.ndim - 2
    wide = weight.shape[2:].numel() > 1 and 0 not in x.shape[2:]
    if wide and dimensions < 3 and x.device.type == "cpu" and not torch.compiler.is_compiling():
        if torch.is_autocast_enabled("cpu") and x.dtype is not torch.float64:
            dtype = torch.get_autocast_dtype("cpu")
            x, weight, bias = x.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)
        if dimensions == 1:
            return same_convolution(x.unsqueeze(2), weight.unsqueeze(2), bias, (1, stride)).squeeze(2)
        return same_convolution(x, weight, bias, (stride, stride))
    centre = [side // 2 for side in weight.shape[2:]]
    return convolution(x, weight, bias, [stride] * dimensions, centre, weight.shape[0])


def same_convolution(x: Tensor, weight: Tensor, bias: Tensor | None, stride: tuple[int, int]) -> Tensor:
    """A depthwise convolution in 2-D that keeps the grid (but for the stride), with the gradients of this module."""
    learned = torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad)
    if weight.shape[-1] > STRIP and learned and not mapped():
        return _FastBackward.apply(x, weight, bias, stride)  # type: ignore[no-untyped-call]
    return _convolve(x, weight, bias, stride)


def _convolve(x: Tensor, weight: Tensor, bias: Tensor | None, stride: tuple[int, int]) -> Tensor:
    return F.conv2d(x, weight, bias, stride, _centre(weight.shape), 1, weight.shape[0])


def _centre(shape: torch.Size) -> tuple[int, int]:
    return shape[-2] // 2, shape[-1] // 2


class _FastBackward(torch.autograd.Function):
    """Differentiable as often as one likes, because its backward is made of differentiable operations."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None, stride: tuple[int, int]) -> Tensor:
        return _convolve(x, weight, bias, stride)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, weight, _, ctx.stride = inputs
        ctx.save_for_backward(x, weight)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        wants_x, wants_weight, wants_bias, _ = ctx.needs_input_grad
        return (
            input_gradient(gradient, x, weight, ctx.stride) if wants_x else None,
            weight_gradient(gradient, x, weight.shape, ctx.stride) if wants_weight else None,
            gradient.sum((0, 2, 3)) if wants_bias else None,
            None,
        )


def input_gradient(gradient: Tensor, x: Tensor, weight: Tensor, stride: tuple[int, int]) -> Tensor:
    """Of the loss to ``x``: the mirrored kernel over ``gradient``, or PyTorch's own where places were skipped."""
    if stride == (1, 1):
        return _convolve(gradient, weight.flip(2, 3), None, stride)
    return _backward(gradient, x, weight, stride, _centre(weight.shape), of_weight=False)


def weight_gradient(gradient: Tensor, x: Tensor, shape: torch.Size, stride: tuple[int, int]) -> Tensor:
    """Of the loss to a weight of ``shape`` ``(channels, 1, rows, columns)``: ``sum over p of g[p] x[stride p + o]``."""
    if x.shape[2] == shape[2] == 1:
        turned = torch.Size((shape[0], 1, shape[3], 1))
        return weight_gradient(_as_column(gradient), _as_column(x), turned, (stride[1], 1)).transpose(2, 3)
    samples = max(1, CHUNK_BYTES // (x.shape[1:].numel() * x.element_size()))
    # Partial sums are kept in more digits than bfloat16 has.
    total = torch.zeros(shape, dtype=torch.promote_types(x.dtype, torch.float32))
    for x_chunk, gradient_chunk in zip(torch.split(x, samples), torch.split(gradient, samples), strict=True):
        total = total + _strips(gradient_chunk, x_chunk, shape, stride)
    return total.to(x.dtype)


def _as_column(x: Tensor) -> Tensor:
    """``(batch, channels, 1, length)`` to ``(batch, channels, length, 1)``, strides as in channels-last memory."""
    return x.squeeze(2).movedim(1, -1).unsqueeze(2).movedim(-1, 1)


def _strips(gradient: Tensor, x: Tensor, shape: torch.Size, stride: tuple[int, int]) -> Tensor:
    """The weight gradient, a few columns of the kernel at a time."""
    gradient = gradient.contiguous(memory_format=torch.channels_last)
    channels, _, rows, columns = shape
    count = -(-columns // STRIP)
    edges = [round(index * columns / count) for index in range(count + 1)]
    centre, reach = columns // 2, (gradient.shape[3] - 1) * stride[1]  # from the first place centred on to the last
    padded = F.pad(x.movedim(1, -1), (0, 0, centre, columns - centre + reach - x.shape[3]))
    strips = []
    for first, end in itertools.pairwise(edges):
        if centre - first == end - 1 - centre and stride[1] == 1:  # the strip in the middle needs no shifted copy
            read, padding = x, centre - first
        else:
            read, padding = padded[:, :, first : end + reach].movedim(-1, 1), 0
        kernel = x.new_zeros(channels, 1, rows, end - first)
        strips.append(_backward(gradient, read, kernel, stride, (rows // 2, padding), of_weight=True))
    return torch.cat(strips, dim=-1)


def _backward(
    gradient: Tensor, x: Tensor, weight: Tensor, stride: tuple[int, int], padding: tuple[int, int], *, of_weight: bool
) -> Tensor:
    """PyTorch's own backward pass of a depthwise convolution, for one of its two operands."""
    wanted = (not of_weight, of_weight, False)
    gradients = torch.ops.aten.convolution_backward(
        gradient, x, weight, None, stride, padding, (1, 1), False, (0, 0), weight.shape[0], wanted
    )
    return gradients[of_weight]
