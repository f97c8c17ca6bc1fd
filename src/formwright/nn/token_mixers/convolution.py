"""Depthwise convolutions as token mixers."""

from __future__ import annotations

from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from formwright.nn.activations import build_activation
from formwright.nn.context import EMPTY, Context
from formwright.nn.convolution import depthwise_layer, to_channels_first, to_channels_last, zero_padding
from formwright.nn.functional.dense import dense
from formwright.nn.layers import scale_input, scale_output
from formwright.nn.parts import PARTS, Axis, Part


def depthwise_axes(name: str, axis: str, dimensions: int) -> dict[str, tuple[Axis | None, ...]]:
    """The axes of a depthwise layer ``name`` whose channels are the entries of ``axis``."""
    return {f"{name}.weight": (Axis(axis), *[None] * (dimensions + 1))}


@PARTS.register("depthwise_convolution")
class DepthwiseConvolution(Part):
    """``y[p, c] = b[c] + sum over offsets o of W[o, c] x[p + o, c]``: each channel is convolved by itself.

    Places outside the grid and masked tokens count as zero. Cost is linear in the number of tokens.

    Args:
        dim: channels.
        kernel: odd side of the neighbourhood.
        bias: whether to add ``b``.
        grid: the grid that it is built for, of which only the number of axes matters; two if unset.

    Shapes: ``(batch, *grid, dim)`` to the same. Source: as ConvNeXt's token mixer in A ConvNet for the 2020s,
    arXiv 2201.03545.

    Raises:
        UserError: ``kernel`` is even, so that no place is the centre of its neighbourhood.
    """

    uses: ClassVar[frozenset[str]] = frozenset({"mask"})

    def __init__(self, dim: int, *, kernel: int = 7, bias: bool = True, grid: tuple[int, ...] | None = None) -> None:
        super().__init__()
        self.dimensions = 2 if grid is None else len(grid)
        self.conv = depthwise_layer(dim, kernel, bias=bias, dimensions=self.dimensions)

    def axes(self) -> dict[str, tuple[Axis | None, ...]]:
        return depthwise_axes("conv", "residual", self.dimensions)

    def fold_scale_after(self, scale: Tensor) -> bool:
        return scale_output(self.conv, scale)

    def forward(
        self, x: Float[Tensor, "batch *grid channels"], context: Context = EMPTY
    ) -> Float[Tensor, "batch *grid channels"]:
        return to_channels_last(self.conv(to_channels_first(zero_padding(x, context))))


@PARTS.register("separable_convolution")
class SeparableConvolution(Part):
    """``y = W2 depthwise(activation(W1 x))``: the inverted separable convolution of MobileNetV2, without biases.

    Places outside the grid and masked tokens count as zero in the depthwise convolution.

    Args:
        dim: channels in and out.
        ratio: channels of the depthwise convolution over ``dim``.
        kernel: odd side of its neighbourhood.
        activation: name of the activation after the first dense layer.
        grid: the grid that it is built for, of which only the number of axes matters; two if unset.

    Shapes: ``(batch, *grid, dim)`` to the same. Source: MetaFormer Baselines for Vision, arXiv 2210.13452 (ConvFormer).

    Raises:
        UserError: ``kernel`` is even, so that no place is the centre of its neighbourhood.
    """

    uses: ClassVar[frozenset[str]] = frozenset({"mask"})
    resizable: ClassVar[dict[str, str]] = {"hidden": "hidden"}

    def __init__(
        self,
        dim: int,
        *,
        ratio: float = 2.0,
        kernel: int = 7,
        activation: str = "star_relu",
        grid: tuple[int, ...] | None = None,
    ) -> None:
        super().__init__()
        self.dimensions = 2 if grid is None else len(grid)
        self.hidden = int(dim * ratio)
        self.fc1 = nn.Linear(dim, self.hidden, bias=False)
        self.activation = build_activation(activation)
        self.conv = depthwise_layer(self.hidden, kernel, bias=False, dimensions=self.dimensions)
        self.fc2 = nn.Linear(self.hidden, dim, bias=False)

    def axes(self) -> dict[str, tuple[Axis | None, ...]]:
        hidden, residual = Axis("hidden"), Axis("residual")
        return {
            "fc1.weight": (hidden, residual),
            "fc2.weight": (residual, hidden),
            **depthwise_axes("conv", "hidden", self.dimensions),
        }

    def fold_scale_before(self, scale: Tensor, shift: Tensor | None) -> bool:
        return scale_input(self.fc1, scale, shift)

    def fold_scale_after(self, scale: Tensor) -> bool:
        return scale_output(self.fc2, scale)

    def forward(
        self, x: Float[Tensor, "batch *grid channels"], context: Context = EMPTY
    ) -> Float[Tensor, "batch *grid channels"]:
        hidden = zero_padding(dense(self.fc1, x, self.activation), context)
        return dense(self.fc2, to_channels_last(self.conv(to_channels_first(hidden))))
