"""Inverted bottlenecks: to more channels, a convolution of each of them by itself, and back to few."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from formwright.nn.activations import build_activation
from formwright.nn.channel_mixers.squeeze_excite import SqueezeExcite
from formwright.nn.context import EMPTY, Context
from formwright.nn.convolution import (
    ConvNorm,
    LinearNorm,
    conv_norm_axes,
    linear_norm_axes,
    to_channels_first,
    to_channels_last,
)
from formwright.nn.frame import Branch
from formwright.nn.functional.convolution import convolved_side, same_padded
from formwright.nn.parts import INCOMING, PARTS, RESIDUAL, Axis, InnerAxes, Part, Promises, sharing
from formwright.nn.specification import BranchSpec, PartSpec


class _Inverted(Part):
    """``norm(W2 squeeze(activation(norm(depthwise(activation(norm(W1 x)))))))``; at a ratio of 1 without ``W1``."""

    resizable: ClassVar[dict[str, str]] = {"hidden": "hidden"}

    #: What the channels of the tokens that come in are.
    _input: ClassVar[Axis] = INCOMING

    expand: LinearNorm | None
    squeeze: SqueezeExcite | None

    def __init__(
        self,
        in_dim: int,
        dim: int,
        *,
        ratio: float,
        kernel: int,
        stride: int,
        activation: str,
        squeeze: bool,
        eps: float,
        same_padding: bool,
        dimensions: int,
    ) -> None:
        super().__init__()
        self.kernel, self.stride, self.dimensions = kernel, stride, dimensions
        self.same_padding = same_padding and stride > 1  # at stride 1 both ways are the same
        self.hidden = int(in_dim * ratio)
        self.expand = None if ratio == 1 else LinearNorm(in_dim, self.hidden, eps=eps)
        if self.expand is None:
            self.resizable = {}  # type: ignore[misc]  # its hidden channels are those that come in
        self.conv = ConvNorm(
            self.hidden,
            self.hidden,
            kernel,
            stride=stride,
            padding=0 if self.same_padding else None,
            groups=self.hidden,
            eps=eps,
            dimensions=dimensions,
        )
        self.squeeze = SqueezeExcite(self.hidden) if squeeze else None
        self.project = LinearNorm(self.hidden, dim, eps=eps)
        self.activation = build_activation(activation)

    def axes(self) -> dict[str, tuple[Axis | None, ...]]:
        hidden = self._input if self.expand is None else Axis("hidden")
        return {
            **({} if self.expand is None else linear_norm_axes("expand", hidden, self._input)),
            **conv_norm_axes("conv", hidden, None, self.dimensions),
            **linear_norm_axes("project", RESIDUAL, hidden),
        }

    def inner_axes(self) -> InnerAxes:
        return sharing("squeeze", channels=self._input if self.expand is None else Axis("hidden"))

    def output_grid(self, grid: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(convolved_side(side, self.kernel, self.stride, self.kernel // 2) for side in grid)

    def convolve(self, x: Float[Tensor, "batch *grid channels"]) -> Float[Tensor, "batch *coarser_grid dim"]:
        if self.expand is not None:
            x = self.activation(self.expand(x))
        x = to_channels_first(x)
        if self.same_padding:
            x = same_padded(x, self.kernel, self.stride)
        x = self.activation(to_channels_last(self.conv(x)))
        return self.project(x if self.squeeze is None else self.squeeze(x))


@PARTS.register("inverted_convolutions")
class InvertedConvolutions(_Inverted):
    """``y = norm(W2 activation(norm(depthwise(activation(norm(W1 x))))))``, the residual part of a bottleneck.

    Args:
        dim: channels in and out.
        ratio: channels of the depthwise convolution over ``dim``; there is no ``W1`` at 1.
        kernel: odd side of its neighbourhood; zeros outside the grid.
        activation: name of the activation.
        eps: added to the variance by the norms.
        grid: the grid that it is built for, of which only the number of axes matters; two if unset.

    Shapes: ``(batch, *grid, dim)`` to the same.

    Source: MobileNetV2: Inverted Residuals and Linear Bottlenecks, arXiv 1801.04381.
    """

    _input: ClassVar[Axis] = RESIDUAL

    def __init__(
        self,
        dim: int,
        *,
        ratio: float = 6.0,
        kernel: int = 3,
        activation: str = "relu6",
        eps: float = 1e-5,
        grid: tuple[int, ...] | None = None,
    ) -> None:
        super().__init__(
            dim,
            dim,
            ratio=ratio,
            kernel=kernel,
            stride=1,
            activation=activation,
            squeeze=False,
            eps=eps,
            same_padding=False,
            dimensions=2 if grid is None else len(grid),
        )

    def forward(
        self, x: Float[Tensor, "batch *grid channels"], context: Context = EMPTY
    ) -> Float[Tensor, "batch *grid channels"]:
        return self.convolve(x)


@PARTS.register("inverted_downsampling")
class InvertedDownsampling(_Inverted):
    """``y = norm(W2 squeeze_excite(activation(norm(depthwise(activation(norm(W1 x)))))))`` with a stride: a new width.

    Args:
        in_dim: channels in.
        dim: channels out.
        grid: the grid that it is built for.
        ratio: channels of the depthwise convolution over ``in_dim``; there is no ``W1`` at 1.
        kernel: odd side of its neighbourhood; zeros outside the grid.
        stride: of the depthwise convolution.
        activation: name of the activation.
        squeeze: whether channels are weighted by what the whole grid holds.
        eps: added to the variance by the norms.
        same_padding: whether zeros are placed as by TensorFlow's ``SAME``
            (:func:`~formwright.nn.functional.convolution.same_padded`), and not equally on both sides.
        branches: parts that are added to their input, one after the other, before anything else.

    Shapes: ``(batch, *grid, in_dim)`` to ``(batch, *coarser_grid, dim)``, the sides divided by ``stride`` and rounded
    up.

    Sources: EfficientViT, arXiv 2305.07027, with ``branches`` and ``squeeze``; MobileNetV2, arXiv 1801.04381, without.
    """

    promises: ClassVar[Promises] = Promises(exemptions={"tokens": "changes the grid"})

    def __init__(
        self,
        in_dim: int,
        dim: int,
        *,
        grid: tuple[int, ...],
        ratio: float = 4.0,
        kernel: int = 3,
        stride: int = 2,
        activation: str = "relu",
        squeeze: bool = True,
        eps: float = 1e-5,
        same_padding: bool = False,
        branches: Sequence[PartSpec] = (),
    ) -> None:
        super().__init__(
            in_dim,
            dim,
            ratio=ratio,
            kernel=kernel,
            stride=stride,
            activation=activation,
            squeeze=squeeze,
            eps=eps,
            same_padding=same_padding,
            dimensions=len(grid),
        )
        self.branches = nn.ModuleList(Branch(BranchSpec(branch), in_dim, grid) for branch in branches)

    def inner_axes(self) -> InnerAxes:
        branches = (f"branches.{index}" for index in range(len(self.branches)))
        return super().inner_axes() | sharing(*branches, channels=INCOMING)

    def forward(
        self, x: Float[Tensor, "batch *grid channels"], context: Context = EMPTY
    ) -> tuple[Float[Tensor, "batch *coarser_grid dim"], Context]:
        for branch in self.branches:
            x, context = branch(x, context)
        return self.convolve(x), context


@PARTS.register("widening")
class Widening(Part):
    """``y = activation(norm(W x))`` of each token: to the width that a classifier is given.

    Args:
        in_dim: channels in.
        dim: channels out.
        activation: name of the activation.
        eps: added to the variance by the norm.

    Shapes: ``(batch, *grid, in_dim)`` to ``(batch, *grid, dim)``; in training, tokens that are padding have no part in
    the statistics. Source: MobileNetV2, arXiv 1801.04381.
    """

    uses: ClassVar[frozenset[str]] = frozenset({"mask"})
    promises: ClassVar[Promises] = Promises(per_token=True, exemptions={"tokens": "changes the width"})

    def __init__(self, in_dim: int, dim: int, *, activation: str = "relu6", eps: float = 1e-5) -> None:
        super().__init__()
        self.expand = LinearNorm(in_dim, dim, eps=eps)
        self.activation = build_activation(activation)

    def axes(self) -> dict[str, tuple[Axis | None, ...]]:
        return linear_norm_axes("expand", RESIDUAL, INCOMING)

    def forward(
        self, x: Float[Tensor, "batch *grid channels"], context: Context = EMPTY
    ) -> tuple[Float[Tensor, "batch *grid dim"], Context]:
        return self.activation(self.expand(x, context.mask)), context
