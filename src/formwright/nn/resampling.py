"""From a grid to a coarser one without a convolution, and from a grid to a finer one."""

from __future__ import annotations

import itertools
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from formwright.nn.context import EMPTY, Context
from formwright.nn.convolution import CONVOLUTIONS, to_channels_first, to_channels_last, zero_padding
from formwright.nn.functional.dense import dense
from formwright.nn.masks import coarser_mask, finer_mask
from formwright.nn.parts import INCOMING, PARTS, RESIDUAL, Axis, InnerAxes, Part, Promises, build_part, sharing
from formwright.nn.specification import PartSpec


@PARTS.register("patch_merging")
class PatchMerging(Part):
    """Neighbours two by two along each axis become one token: ``W norm([x_1, ..., x_2^axes])``.

    The neighbours' channels lie side by side, the first axis of the grid fastest. Odd sides are filled up with zeros.

    Args:
        in_dim: channels in.
        dim: channels out.
        norm: norm of the neighbours' channels.
        dimensions: number of grid axes.

    Shapes: ``(batch, *grid, in_dim)`` to ``(batch, *coarser_grid, dim)``, ``ceil(side / 2)`` along each axis.

    Source: Swin Transformer: Hierarchical Vision Transformer using Shifted Windows, arXiv 2103.14030.
    """

    uses: ClassVar[frozenset[str]] = frozenset({"mask"})
    promises: ClassVar[Promises] = Promises(exemptions={"tokens": "changes the grid"})

    def __init__(self, in_dim: int, dim: int, *, norm: PartSpec, dimensions: int = 2) -> None:
        super().__init__()
        neighbours = 2**dimensions
        self.dimensions = dimensions
        self.norm = build_part(norm, neighbours * in_dim)
        self.linear = nn.Linear(neighbours * in_dim, dim, bias=False)
        self.neighbours = Axis("incoming", repeats=neighbours)

    def axes(self) -> dict[str, tuple[Axis | None, ...]]:
        return {"linear.weight": (RESIDUAL, self.neighbours)}

    def inner_axes(self) -> InnerAxes:
        return sharing("norm", channels=self.neighbours)

    def output_grid(self, grid: tuple[int, ...]) -> tuple[int, ...]:
        return tuple((side + 1) // 2 for side in grid)

    def forward(
        self, x: Float[Tensor, "batch *grid channels"], context: Context = EMPTY
    ) -> tuple[Float[Tensor, "batch *coarser_grid dim"], Context]:
        batch, *grid, channels = x.shape
        if context.mask is not None:
            x = x * context.mask[..., None]
            context = context.replace(mask=coarser_mask(context.mask, kernel=1, stride=2, padding=0))
        if any(side % 2 for side in grid):
            x = F.pad(x, [0, 0, *[amount for side in reversed(grid) for amount in (0, side % 2)]])
        coarser = self.output_grid(tuple(grid))
        x = x.reshape(batch, *[size for side in coarser for size in (side, 2)], channels)
        axes = len(grid)
        x = x.permute(0, *range(1, 2 * axes, 2), *range(2 * axes, 0, -2), 2 * axes + 1)
        return self.linear(self.norm(x.reshape(batch, *coarser, 2**axes * channels), context)), context


class _Finer(Part):
    """A part that makes a grid ``stride`` times as fine."""

    uses: ClassVar[frozenset[str]] = frozenset({"mask"})
    promises: ClassVar[Promises] = Promises(exemptions={"tokens": "changes the grid"})

    stride: int

    def output_grid(self, grid: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(side * self.stride for side in grid)

    def _finer(self, context: Context) -> Context:
        return context if context.mask is None else context.replace(mask=finer_mask(context.mask, self.stride))


@PARTS.register("upsampling")
class Upsampling(_Finer):
    """A transposed convolution whose kernel is its stride: ``y[stride p + o] = W[o] x[p] + b``.

    Each token becomes ``stride`` of them along every axis, so it is one dense layer and a rearrangement; the rows of
    its weight count the places ``o`` row by row, the channels fastest.

    Args:
        in_dim: channels in.
        dim: channels out.
        stride: how many times as fine the grid becomes.
        dimensions: number of grid axes.

    Shapes: ``(batch, *grid, in_dim)`` to ``(batch, *finer_grid, dim)``, ``stride * side`` along each axis.

    Source: as in U-Net: Convolutional Networks for Biomedical Image Segmentation, arXiv 1505.04597.
    """

    def __init__(self, in_dim: int, dim: int, *, stride: int = 2, dimensions: int = 2) -> None:
        super().__init__()
        self.stride, self.dimensions = stride, dimensions
        self.linear = nn.Linear(in_dim, stride**dimensions * dim, bias=False)
        self.bias = nn.Parameter(torch.zeros(dim))

    def axes(self) -> dict[str, tuple[Axis | None, ...]]:
        rows = Axis(RESIDUAL.name, repeats=self.stride**self.dimensions)
        return {"linear.weight": (rows, INCOMING), "bias": (RESIDUAL,)}

    def forward(
        self, x: Float[Tensor, "batch *grid channels"], context: Context = EMPTY
    ) -> tuple[Float[Tensor, "batch *finer_grid dim"], Context]:
        batch, *grid, _ = x.shape
        axes, dim = len(grid), len(self.bias)
        y = dense(self.linear, x).view(batch, *grid, *[self.stride] * axes, dim)
        sides = itertools.chain.from_iterable((1 + axis, 1 + axes + axis) for axis in range(axes))
        y = y.permute(0, *sides, -1).reshape(batch, *self.output_grid(tuple(grid)), dim)
        return y + self.bias, self._finer(context)


@PARTS.register("interpolated_upsampling")
class InterpolatedUpsampling(_Finer):
    """Each token is repeated, then a convolution: ``y = W * x[floor(p / stride)] + b``, free of checkerboards.

    Args:
        in_dim: channels in.
        dim: channels out.
        stride: how many times as fine the grid becomes.
        kernel: odd side of the convolution.
        dimensions: number of grid axes.

    Shapes: ``(batch, *grid, in_dim)`` to ``(batch, *finer_grid, dim)``, ``stride * side`` along each axis; masked
    tokens count as zero.

    Source: Deconvolution and Checkerboard Artifacts, doi 10.23915/distill.00003.
    """

    def __init__(self, in_dim: int, dim: int, *, stride: int = 2, kernel: int = 3, dimensions: int = 2) -> None:
        super().__init__()
        self.stride, self.dimensions = stride, dimensions
        self.conv = CONVOLUTIONS[dimensions](in_dim, dim, kernel, 1, kernel // 2)

    def axes(self) -> dict[str, tuple[Axis | None, ...]]:
        return {"conv.weight": (RESIDUAL, INCOMING, *[None] * self.dimensions)}

    def forward(
        self, x: Float[Tensor, "batch *grid channels"], context: Context = EMPTY
    ) -> tuple[Float[Tensor, "batch *finer_grid dim"], Context]:
        x = zero_padding(x, context)
        batch, *grid, channels = x.shape
        axes = len(grid)
        for axis in range(axes):
            x = x.unsqueeze(2 + 2 * axis)
        shape = itertools.chain.from_iterable((side, self.stride) for side in grid)
        x = x.expand(batch, *shape, channels).reshape(batch, *self.output_grid(tuple(grid)), channels)
        return to_channels_last(self.conv(to_channels_first(x))), self._finer(context)
