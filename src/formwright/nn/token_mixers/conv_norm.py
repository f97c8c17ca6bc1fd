"""Convolution and batch norm as a residual branch."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from formwright.nn.context import EMPTY, Context
from formwright.nn.convolution import ConvNorm, conv_norm_axes, to_channels_first, to_channels_last
from formwright.nn.parts import PARTS, Axis, Part


@PARTS.register("depthwise_conv_norm")
class DepthwiseConvNorm(Part):
    """``y = norm(depthwise_convolution(x))``, zeros outside the grid; one convolution after folding.

    Args:
        dim: channels in and out.
        kernel: odd side of the neighbourhood.
        norm_weight: initial weight of the norm; at 0 the residual branch starts at zero.
        dimensions: number of grid axes.

    Shapes: ``(batch, *grid, dim)`` to the same. Source: EfficientViT, arXiv 2305.07027 (the token interaction before
    a feed-forward layer).
    """

    def __init__(self, dim: int, *, kernel: int = 3, norm_weight: float = 1.0, dimensions: int = 2) -> None:
        super().__init__()
        self.dimensions = dimensions
        self.conv = ConvNorm(dim, dim, kernel, groups=dim, norm_weight=norm_weight, dimensions=dimensions)

    def axes(self) -> dict[str, tuple[Axis | None, ...]]:
        return conv_norm_axes("conv", Axis("residual"), None, self.dimensions)

    def forward(
        self, x: Float[Tensor, "batch *grid channels"], context: Context = EMPTY
    ) -> Float[Tensor, "batch *grid channels"]:
        return to_channels_last(self.conv(to_channels_first(x)))
