"""Inverted bottlenecks: to more channels, a convolution of each of them by itself, and back to few."""

from __future__ import annotations

from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from formwright.nn.activations import build_activation
from formwright.nn.context import EMPTY, Context
from formwright.nn.convolution import ConvNorm, conv_norm_axes, to_channels_first, to_channels_last
from formwright.nn.functional.convolution import convolved_side, same_padded
from formwright.nn.parts import INCOMING, PARTS, RESIDUAL, Axis, InnerAxes, Part, Promises, build_part
from formwright.nn.specification import PartSpec, part


@PARTS.register("inverted_convolutions")
class InvertedConvolutions(Part):
    """``y = norm(W3 activation(norm(W2 * activation(norm(W1 x)))))``, ``W2`` on each channel by itself.

    Args:
        dim: output channels; input channels too, unless ``input_dim`` is given.
        input_dim: channels in.
        ratio: channels in the middle over those that come in; there is no ``W1`` at 1.
        kernel: odd side of the neighbourhood in the middle; zeros outside the grid.
        stride: of the convolution in the middle.
        activation: name of the activation.
        eps: added to the variance by the norms.
        same_padding: whether a stride places zeros as TensorFlow's ``SAME`` does
            (:func:`~formwright.nn.functional.convolution.same_padded`), and not equally on both sides.
        dimensions: number of grid axes.

    Shapes: ``(batch, *grid, input_dim)`` to ``(batch, *coarser_grid, dim)``, the sides divided by ``stride`` and
    rounded up.

    Source: MobileNetV2: Inverted Residuals and Linear Bottlenecks, arXiv 1801.04381.
    """

    resizable: ClassVar[dict[str, str]] = {"hidden": "hidden"}

    conv1: ConvNorm | None

    def __init__(
        self,
        dim: int,
        *,
        input_dim: int | None = None,
        ratio: float | int = 6.0,
        kernel: int = 3,
        stride: int = 1,
        activation: str = "relu6",
        eps: float = 1e-5,
        same_padding: bool = False,
        dimensions: int = 2,
    ) -> None:
        super().__init__()
        in_dim = dim if input_dim is None else input_dim
        self.input = RESIDUAL if input_dim is None else INCOMING
        self.kernel, self.stride, self.dimensions = kernel, stride, dimensions
        self.same_padding = same_padding and stride > 1  # at stride 1 both ways are the same
        self.hidden = hidden = int(in_dim * ratio)
        self.conv1 = None if ratio == 1 else ConvNorm(in_dim, hidden, 1, eps=eps, dimensions=dimensions)
        if self.conv1 is None:
            self.resizable = {}  # type: ignore[misc]  # the channels in the middle are those that come in
        padding = 0 if self.same_padding else None
        self.conv2 = ConvNorm(
            hidden, hidden, kernel, stride=stride, padding=padding, groups=hidden, eps=eps, dimensions=dimensions
        )
        self.conv3 = ConvNorm(hidden, dim, 1, eps=eps, dimensions=dimensions)
        self.activation = build_activation(activation)

    def axes(self) -> dict[str, tuple[Axis | None, ...]]:
        hidden = self.input if self.conv1 is None else Axis("hidden")
        return {
            **({} if self.conv1 is None else conv_norm_axes("conv1", hidden, self.input, self.dimensions)),
            **conv_norm_axes("conv2", hidden, None, self.dimensions),
            **conv_norm_axes("conv3", RESIDUAL, hidden, self.dimensions),
        }

    def forward(
        self, x: Float[Tensor, "batch *grid channels"], context: Context = EMPTY
    ) -> Float[Tensor, "batch *coarser_grid dim"]:
        x = to_channels_first(x)
        if self.conv1 is not None:
            x = self.activation(self.conv1(x))
        if self.same_padding:
            x = same_padded(x, self.kernel, self.stride)
        return to_channels_last(self.conv3(self.activation(self.conv2(x))))


@PARTS.register("convolutional_downsampling")
class ConvolutionalDownsampling(Part):
    """``y = convolutions(x)``: a block to another width or grid that has no shortcut.

    Args:
        in_dim: channels in.
        dim: channels out.
        convolutions: the block; takes the options ``input_dim``, ``stride`` and ``dimensions``.
        stride: of the block.
        dimensions: number of grid axes.

    Shapes: ``(batch, *grid, in_dim)`` to ``(batch, *coarser_grid, dim)``, the sides divided by ``stride`` and rounded
    up. Source: MobileNetV2, arXiv 1801.04381.
    """

    promises: ClassVar[Promises] = Promises(exemptions={"tokens": "changes the grid"})

    def __init__(
        self,
        in_dim: int,
        dim: int,
        *,
        convolutions: PartSpec = part("inverted_convolutions"),  # noqa: B008
        stride: int = 2,
        dimensions: int = 2,
    ) -> None:
        super().__init__()
        self.stride = stride
        self.convolutions: Part = build_part(
            convolutions.with_options(input_dim=in_dim, stride=stride, dimensions=dimensions), dim
        )

    def inner_axes(self) -> InnerAxes:
        return {"convolutions": {"residual": RESIDUAL, "incoming": INCOMING}}

    def output_grid(self, grid: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(convolved_side(side, 1, self.stride, 0) for side in grid)

    def forward(
        self, x: Float[Tensor, "batch *grid channels"], context: Context = EMPTY
    ) -> tuple[Float[Tensor, "batch *coarser_grid dim"], Context]:
        return self.convolutions(x, context), context


@PARTS.register("widening")
class Widening(Part):
    """``y = activation(norm(W x))`` of each token: to the width that a classifier is given.

    Args:
        in_dim: channels in.
        dim: channels out.
        activation: name of the activation.
        eps: added to the variance by the norm.
        dimensions: number of grid axes.

    Shapes: ``(batch, *grid, in_dim)`` to ``(batch, *grid, dim)``; in training, tokens that are padding have no part in
    the statistics. Source: MobileNetV2, arXiv 1801.04381.
    """

    uses: ClassVar[frozenset[str]] = frozenset({"mask"})
    promises: ClassVar[Promises] = Promises(per_token=True, exemptions={"tokens": "changes the width"})

    def __init__(
        self, in_dim: int, dim: int, *, activation: str = "relu6", eps: float = 1e-5, dimensions: int = 2
    ) -> None:
        super().__init__()
        self.dimensions = dimensions
        self.conv = ConvNorm(in_dim, dim, 1, eps=eps, dimensions=dimensions)
        self.activation = build_activation(activation)

    def axes(self) -> dict[str, tuple[Axis | None, ...]]:
        return conv_norm_axes("conv", RESIDUAL, INCOMING, self.dimensions)

    def forward(
        self, x: Float[Tensor, "batch *grid channels"], context: Context = EMPTY
    ) -> tuple[Float[Tensor, "batch *grid dim"], Context]:
        return to_channels_last(self.activation(self.conv(to_channels_first(x), context.mask))), context
