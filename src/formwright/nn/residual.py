"""The blocks of residual networks: what is added to the shortcut, and the block that changes width or grid."""

from __future__ import annotations

from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from formwright.nn.activations import build_activation
from formwright.nn.context import EMPTY, Context
from formwright.nn.convolution import ConvNorm, conv_norm_axes, to_channels_first, to_channels_last
from formwright.nn.frame import DropPath
from formwright.nn.functional.convolution import convolved_side
from formwright.nn.parts import INCOMING, PARTS, RESIDUAL, Axis, InnerAxes, Part, Promises, build_part
from formwright.nn.specification import PartSpec, part


@PARTS.register("activation")
class Activation(Part):
    """An activation by itself, ``relu`` if unset: as the ``post_norm`` of a branch it follows the addition.

    Shapes: ``(batch, *grid, dim)`` to the same.
    """

    promises: ClassVar[Promises] = Promises(per_token=True, causal=True)

    def __init__(self, dim: int, *, name: str = "relu") -> None:
        super().__init__()
        self.activation = build_activation(name)

    def forward(
        self, x: Float[Tensor, "batch *grid channels"], context: Context = EMPTY
    ) -> Float[Tensor, "batch *grid channels"]:
        return self.activation(x)


@PARTS.register("basic_convolutions")
class BasicConvolutions(Part):
    """``y = norm(W2 * relu(norm(W1 * x)))``: two convolutions of kernel 3, the residual part of a basic block.

    Args:
        dim: output channels; input channels too, unless ``input_dim`` is given.
        input_dim: channels in.
        stride: stride of the first convolution.
        activation: name of the activation.
        norm_weight: initial weight of the last norm; at 0 the residual branch starts at zero.
        dimensions: number of grid axes.

    Shapes: ``(batch, *grid, input_dim)`` to ``(batch, *coarser_grid, dim)``, the sides divided by ``stride`` and
    rounded up.

    Source: Deep Residual Learning for Image Recognition, arXiv 1512.03385.
    """

    resizable: ClassVar[dict[str, str]] = {"hidden": "hidden"}

    def __init__(
        self,
        dim: int,
        *,
        input_dim: int | None = None,
        stride: int = 1,
        activation: str = "relu",
        norm_weight: float = 1.0,
        dimensions: int = 2,
    ) -> None:
        super().__init__()
        self.dimensions = dimensions
        self.input = RESIDUAL if input_dim is None else INCOMING
        self.hidden = dim
        self.conv1 = ConvNorm(dim if input_dim is None else input_dim, dim, 3, stride=stride, dimensions=dimensions)
        self.conv2 = ConvNorm(dim, dim, 3, norm_weight=norm_weight, dimensions=dimensions)
        self.activation = build_activation(activation)

    def axes(self) -> dict[str, tuple[Axis | None, ...]]:
        hidden = Axis("hidden")
        return {
            **conv_norm_axes("conv1", hidden, self.input, self.dimensions),
            **conv_norm_axes("conv2", RESIDUAL, hidden, self.dimensions),
        }

    def forward(
        self, x: Float[Tensor, "batch *grid channels"], context: Context = EMPTY
    ) -> Float[Tensor, "batch *coarser_grid dim"]:
        return to_channels_last(self.conv2(self.activation(self.conv1(to_channels_first(x)))))


@PARTS.register("bottleneck_convolutions")
class BottleneckConvolutions(Part):
    """``y = norm(W3 relu(norm(W2 * relu(norm(W1 x)))))``: kernels 1, 3, 1, the residual part of a bottleneck block.

    The stride is that of the middle convolution, as in every released network ("v1.5"); the paper's equations have it
    in the first.

    Args:
        dim: output channels; input channels too, unless ``input_dim`` is given.
        input_dim: channels in.
        ratio: channels in the middle over ``dim``.
        stride: stride of the middle convolution.
        activation: name of the activation.
        norm_weight: initial weight of the last norm; at 0 the residual branch starts at zero.
        dimensions: number of grid axes.

    Shapes: ``(batch, *grid, input_dim)`` to ``(batch, *coarser_grid, dim)``, the sides divided by ``stride`` and
    rounded up.

    Source: Deep Residual Learning for Image Recognition, arXiv 1512.03385.
    """

    resizable: ClassVar[dict[str, str]] = {"hidden_in": "hidden_in", "hidden_out": "hidden_out"}

    def __init__(
        self,
        dim: int,
        *,
        input_dim: int | None = None,
        ratio: float = 0.25,
        stride: int = 1,
        activation: str = "relu",
        norm_weight: float = 1.0,
        dimensions: int = 2,
    ) -> None:
        super().__init__()
        self.dimensions = dimensions
        self.input = RESIDUAL if input_dim is None else INCOMING
        self.hidden_in = self.hidden_out = hidden = int(dim * ratio)
        self.conv1 = ConvNorm(dim if input_dim is None else input_dim, hidden, 1, dimensions=dimensions)
        self.conv2 = ConvNorm(hidden, hidden, 3, stride=stride, dimensions=dimensions)
        self.conv3 = ConvNorm(hidden, dim, 1, norm_weight=norm_weight, dimensions=dimensions)
        self.activation = build_activation(activation)

    def axes(self) -> dict[str, tuple[Axis | None, ...]]:
        hidden_in, hidden_out = Axis("hidden_in"), Axis("hidden_out")
        return {
            **conv_norm_axes("conv1", hidden_in, self.input, self.dimensions),
            **conv_norm_axes("conv2", hidden_out, hidden_in, self.dimensions),
            **conv_norm_axes("conv3", RESIDUAL, hidden_out, self.dimensions),
        }

    def forward(
        self, x: Float[Tensor, "batch *grid channels"], context: Context = EMPTY
    ) -> Float[Tensor, "batch *coarser_grid dim"]:
        x = self.activation(self.conv1(to_channels_first(x)))
        return to_channels_last(self.conv3(self.activation(self.conv2(x))))


@PARTS.register("residual_downsampling")
class ResidualDownsampling(Part):
    """A residual block to another width or grid: ``y = activation(norm(W x) + drop_path(convolutions(x)))``.

    Args:
        in_dim: channels in.
        dim: channels out.
        convolutions: the residual part; takes the options ``input_dim`` and ``stride``.
        stride: of the residual part and of the shortcut ``W``, a convolution of kernel 1.
        activation: name of the activation after the addition.
        drop_path: share of samples whose residual part is dropped in training.
        dimensions: number of grid axes.

    Shapes: ``(batch, *grid, in_dim)`` to ``(batch, *coarser_grid, dim)``, the sides divided by ``stride`` and rounded
    up.

    Source: Deep Residual Learning for Image Recognition, arXiv 1512.03385 (option B).
    """

    promises: ClassVar[Promises] = Promises(exemptions={"tokens": "changes the grid"})

    def __init__(
        self,
        in_dim: int,
        dim: int,
        *,
        convolutions: PartSpec = part("basic_convolutions"),  # noqa: B008
        stride: int = 2,
        activation: str = "relu",
        drop_path: float = 0.0,
        dimensions: int = 2,
    ) -> None:
        super().__init__()
        self.stride = stride
        self.convolutions: Part = build_part(
            convolutions.with_options(input_dim=in_dim, stride=stride, dimensions=dimensions), dim
        )
        self.shortcut = ConvNorm(in_dim, dim, 1, stride=stride, dimensions=dimensions)
        self.drop_path = DropPath(drop_path)
        self.activation = build_activation(activation)
        self.dimensions = dimensions

    def axes(self) -> dict[str, tuple[Axis | None, ...]]:
        return conv_norm_axes("shortcut", RESIDUAL, INCOMING, self.dimensions)

    def inner_axes(self) -> InnerAxes:
        return {"convolutions": {"residual": RESIDUAL, "incoming": INCOMING}}

    def output_grid(self, grid: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(convolved_side(side, 1, self.stride, 0) for side in grid)

    def forward(
        self, x: Float[Tensor, "batch *grid channels"], context: Context = EMPTY
    ) -> tuple[Float[Tensor, "batch *coarser_grid dim"], Context]:
        shortcut = to_channels_last(self.shortcut(to_channels_first(x)))
        return self.activation(shortcut + self.drop_path(self.convolutions(x, context))), context
