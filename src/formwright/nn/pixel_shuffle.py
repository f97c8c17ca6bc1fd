"""The sub-pixel layer: a convolution at low resolution whose channels become the places of a larger picture."""

from __future__ import annotations

from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from formwright.errors import UserError
from formwright.nn.context import EMPTY, Context
from formwright.nn.convolution import Convolution2d, to_channels_first
from formwright.nn.functional.chunks import without_autocast
from formwright.nn.parts import PARTS, RESIDUAL, Axis, Part, Promises


@PARTS.register("pixel_shuffle")
class PixelShuffleHead(Part):
    """``y[c, h r + i, w r + j] = (W * x)[c r² + i r + j, h, w]``: a convolution, and its channels laid out as places.

    Args:
        dim: channels of the tokens.
        channels: of the picture that comes out.
        scale: ``r``, how many times as high and wide it is.
        kernel: odd side of the convolution; zeros outside of the grid.
        zero: start with a convolution of zeros, so that a network with a global skip begins as the skip alone.

    Shapes: ``(batch, height, width, dim)`` to ``(batch, channels, r height, r width)``.

    Raises:
        UserError: the scale is less than 1, or the kernel is even.

    Source: Real-Time Single Image and Video Super-Resolution Using an Efficient Sub-Pixel Convolutional Neural Network,
    arXiv 1609.05158; channels in PyTorch's order, which :func:`paper_order` turns into the paper's.
    """

    promises: ClassVar[Promises] = Promises(dimensions=(2,), exemptions={"tokens": "gives a picture"})

    def __init__(self, dim: int, channels: int, *, scale: int = 2, kernel: int = 3, zero: bool = False) -> None:
        super().__init__()
        if scale < 1 or kernel < 1 or kernel % 2 == 0:
            raise UserError(f"A sub-pixel layer has a scale from 1 and an odd kernel, got {scale} and {kernel}.")
        self.scale, self.zero = scale, zero
        self.conv = Convolution2d(dim, channels * scale**2, kernel, padding=kernel // 2)

    def init_weights(self) -> None:
        if self.zero:
            nn.init.zeros_(self.conv.weight)
            if self.conv.bias is not None:
                nn.init.zeros_(self.conv.bias)

    def axes(self) -> dict[str, tuple[Axis | None, ...]]:
        return {"conv.weight": (None, RESIDUAL, None, None)}

    def forward(
        self, x: Float[Tensor, "batch height width dim"], context: Context = EMPTY
    ) -> Float[Tensor, "batch channels larger_height larger_width"]:
        return pixel_shuffle(self.conv(to_channels_first(x)), self.scale)


def pixel_shuffle(
    x: Float[Tensor, "batch channels height width"], scale: int
) -> Float[Tensor, "batch fewer_channels larger_height larger_width"]:
    """``y[c, h r + i, w r + j] = x[c r² + i r + j, h, w]``.

    Raises:
        UserError: the channels cannot be divided by ``r²``.
    """
    if x.shape[1] % scale**2:
        raise UserError(
            f"{x.shape[1]} channels cannot be laid out as {scale} x {scale} places each; a multiple of {scale**2} is "
            "expected."
        )
    batch, channels, height, width = x.shape
    if 0 in (batch, height, width):  # PyTorch's gradient of no samples has another shape
        return x.reshape(batch, channels // scale**2, height * scale, width * scale)
    return F.pixel_shuffle(x, scale)


def paper_order(channels: int, scale: int) -> Int[Tensor, " channels"]:
    """Which of PyTorch's channels stands at each place of the paper's order, where the place in the cell comes first.

    ``x[:, paper_order(C, r)]`` has channel ``C r i + C j + c`` where ``x`` has ``c r² + i r + j``; its ``argsort``
    leads back.
    """
    return torch.arange(channels * scale**2).view(channels, scale**2).T.flatten()


def transposed_from_sub_pixel(
    weight: Float[Tensor, "shuffled in_channels kernel kernel"], scale: int
) -> Float[Tensor, "in_channels channels larger_kernel larger_kernel"]:
    """The kernel of side ``k r`` of the transposed convolution that equals a convolution of side ``k`` and a shuffle.

    Its stride is ``r`` and its padding ``r (k - 1) / 2``. The biases of the convolution must be equal in each cell.
    """
    shuffled, incoming, kernel, _ = weight.shape
    cells = weight.flip(2, 3).view(shuffled // scale**2, scale, scale, incoming, kernel, kernel)
    return cells.permute(3, 0, 4, 1, 5, 2).reshape(incoming, -1, kernel * scale, kernel * scale)


def sub_pixel_from_transposed(
    weight: Float[Tensor, "in_channels channels larger_kernel larger_kernel"], scale: int
) -> Float[Tensor, "shuffled in_channels kernel kernel"]:
    """The inverse of :func:`transposed_from_sub_pixel`.

    Raises:
        UserError: the side of the kernel cannot be divided by ``r``.
    """
    incoming, channels, side, _ = weight.shape
    if side % scale:
        raise UserError(f"A kernel of {side} cannot be divided by the stride {scale}; give one of a multiple of it.")
    kernel = side // scale
    cells = weight.view(incoming, channels, kernel, scale, kernel, scale).permute(1, 3, 5, 0, 2, 4)
    return cells.reshape(channels * scale**2, incoming, kernel, kernel).flip(2, 3)


def bicubic_kernels(scale: int) -> Float[Tensor, "cell 1 5 5"]:
    """Bicubic enlargement by whole ``r`` as a convolution of side 5 before a shuffle: one kernel per place of a cell.

    Place ``i`` of a cell lies at ``t = (i + 1/2) / r - 1/2`` of its pixel, and neighbour ``m`` counts ``k(t - m)``,
    with Keys' cubic ``k`` of ``a = -1/2``, which Pillow takes.
    """
    places = (torch.arange(scale, dtype=torch.float64) + 0.5) / scale - 0.5
    distance = (places[:, None] - torch.arange(-2.0, 3.0, dtype=torch.float64)).abs()
    near = 1.5 * distance**3 - 2.5 * distance**2 + 1
    far = -0.5 * distance**3 + 2.5 * distance**2 - 4 * distance + 2
    taps = torch.where(distance <= 1, near, torch.where(distance < 2, far, torch.zeros_like(far)))
    kernels = taps[:, None, :, None] * taps[None, :, None, :]
    return kernels.reshape(scale**2, 1, 5, 5).float()


@without_autocast
def enlarged_by(
    x: Float[Tensor, "batch channels height width"], kernels: Float[Tensor, "cells 1 side side"], scale: int
) -> Float[Tensor, "batch channels larger_height larger_width"]:
    """Each channel by itself, convolved with one kernel per place of a cell, beyond borders that are repeated.

    It is as exact as its input: in bfloat16 a picture has fewer steps than in a file, and what is learned on top of it
    would learn to mend that.
    """
    around = F.pad(x, [kernels.shape[-1] // 2] * 4, mode="replicate")
    return pixel_shuffle(F.conv2d(around, kernels.to(x.dtype), groups=x.shape[1]), scale)
