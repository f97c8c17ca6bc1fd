"""Embeddings and downsampling of networks whose convolutions are followed by batch norms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from formwright.errors import UserError
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
from formwright.nn.embeddings import channels_last_memory
from formwright.nn.frame import Branch
from formwright.nn.functional.convolution import convolved_side, same_padded
from formwright.nn.parts import INCOMING, PARTS, RESIDUAL, Axis, InnerAxes, Part, Promises, sharing
from formwright.nn.specification import BranchSpec, PartSpec

_MAX_POOL = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}


@PARTS.register("conv_norm_stem")
class ConvNormStem(Part):
    """Convolutions with batch norms and activations between them, over the input.

    Args:
        in_dim: channels of the input.
        dim: channels of the tokens.
        hidden: channels after each convolution but the last.
        strides: stride of each convolution.
        kernel: odd side of every convolution; zeros outside the input.
        activation: name of the activation between convolutions.
        last_activation: whether one follows the last convolution too.
        max_pool: whether the largest value of every second 3 x 3 neighbourhood is taken at the end, which halves the
            grid once more.
        bias: whether the convolutions have biases, which the norms after them make superfluous.
        eps: added to the variance by the norms.
        same_padding: whether zeros are placed as by TensorFlow's ``SAME``
            (:func:`~formwright.nn.functional.convolution.same_padded`), and not equally on both sides.
        dimensions: number of axes of the input.

    Shapes: ``(batch, in_dim, *size)`` to ``(batch, *grid, dim)``, each stride dividing the sides, rounded up.

    Raises:
        UserError: there are not as many strides as convolutions.

    Sources: EfficientViT, arXiv 2305.07027; with ``max_pool`` Deep Residual Learning, arXiv 1512.03385; with
    ``same_padding`` EfficientNet, arXiv 1905.11946.
    """

    promises: ClassVar[Promises] = Promises(exemptions={"tokens": "takes the input, not tokens"})

    def __init__(
        self,
        in_dim: int,
        dim: int,
        *,
        hidden: Sequence[int] = (),
        strides: Sequence[int] = (2,),
        kernel: int = 3,
        activation: str = "relu",
        last_activation: bool = False,
        max_pool: bool = False,
        bias: bool = False,
        eps: float = 1e-5,
        same_padding: bool = False,
        dimensions: int = 2,
    ) -> None:
        super().__init__()
        if len(strides) != len(hidden) + 1:
            raise UserError(
                f"A stem of {len(hidden) + 1} convolutions needs as many strides, got {len(strides)}: {tuple(strides)}."
            )
        self.kernel, self.strides, self.same_padding = kernel, tuple(strides), same_padding
        self.last_activation, self.max_pool, self.dimensions = last_activation, max_pool, dimensions
        widths = (in_dim, *hidden, dim)
        self.convs = nn.ModuleList(
            ConvNorm(
                width,
                next_width,
                kernel,
                stride=stride,
                padding=0 if same_padding else None,
                bias=bias,
                eps=eps,
                dimensions=dimensions,
            )
            for width, next_width, stride in zip(widths, widths[1:], strides, strict=False)
        )
        self.activation = build_activation(activation)

    def axes(self) -> dict[str, tuple[Axis | None, ...]]:
        return conv_norm_axes(f"convs.{len(self.convs) - 1}", RESIDUAL, None, self.dimensions)

    def output_grid(self, grid: tuple[int, ...]) -> tuple[int, ...]:
        for stride in self.strides:
            grid = tuple(convolved_side(side, self.kernel, stride, self.kernel // 2) for side in grid)
        return tuple(convolved_side(side, 3, 2, 1) for side in grid) if self.max_pool else grid

    def forward(
        self, x: Float[Tensor, "batch channels *size"], context: Context = EMPTY
    ) -> tuple[Float[Tensor, "batch *grid dim"], Context]:
        x = channels_last_memory(x)
        for index, conv in enumerate(self.convs):
            x = conv(same_padded(x, self.kernel, self.strides[index]) if self.same_padding else x)
            if self.last_activation or index < len(self.convs) - 1:
                x = self.activation(x)
        if self.max_pool:
            x = _MAX_POOL[x.ndim - 2](x, 3, 2, 1)
        return to_channels_last(x), context


@PARTS.register("inverted_downsampling")
class InvertedDownsampling(Part):
    """``y = norm(W2 squeeze_excite(relu(norm(depthwise(relu(norm(W1 x)))))))``, the convolution of stride 2.

    Args:
        in_dim: channels in.
        dim: channels out.
        grid: the grid that it is built for.
        ratio: channels of the convolution over ``in_dim``.
        branches: parts that are added to their input, one after the other, before anything else.

    Shapes: ``(batch, *grid, in_dim)`` to ``(batch, *coarser_grid, dim)``, the sides halved and rounded up.

    Source: EfficientViT, arXiv 2305.07027.
    """

    promises: ClassVar[Promises] = Promises(exemptions={"tokens": "changes the grid"})
    resizable: ClassVar[dict[str, str]] = {"hidden": "hidden"}

    def __init__(
        self,
        in_dim: int,
        dim: int,
        *,
        grid: tuple[int, ...],
        ratio: float = 4.0,
        branches: Sequence[PartSpec] = (),
    ) -> None:
        super().__init__()
        self.dimensions = len(grid)
        self.hidden = int(in_dim * ratio)
        self.branches = nn.ModuleList(Branch(BranchSpec(branch), in_dim, grid) for branch in branches)
        self.expand = LinearNorm(in_dim, self.hidden)
        self.conv = ConvNorm(self.hidden, self.hidden, 3, stride=2, groups=self.hidden, dimensions=self.dimensions)
        self.squeeze = SqueezeExcite(self.hidden)
        self.project = LinearNorm(self.hidden, dim)

    def axes(self) -> dict[str, tuple[Axis | None, ...]]:
        hidden = Axis("hidden")
        return {
            **linear_norm_axes("expand", hidden, INCOMING),
            **conv_norm_axes("conv", hidden, None, self.dimensions),
            **linear_norm_axes("project", RESIDUAL, hidden),
        }

    def inner_axes(self) -> InnerAxes:
        branches = (f"branches.{index}" for index in range(len(self.branches)))
        return sharing("squeeze", channels=Axis("hidden")) | sharing(*branches, channels=INCOMING)

    def output_grid(self, grid: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(convolved_side(side, 3, 2, 1) for side in grid)

    def forward(
        self, x: Float[Tensor, "batch *grid channels"], context: Context = EMPTY
    ) -> tuple[Float[Tensor, "batch *coarser_grid dim"], Context]:
        for branch in self.branches:
            x, context = branch(x, context)
        x = F.relu(self.expand(x))
        x = F.relu(to_channels_last(self.conv(to_channels_first(x))))
        return self.project(self.squeeze(x)), context
