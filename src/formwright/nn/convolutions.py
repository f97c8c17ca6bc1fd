"""Two convolutions of kernel 3, each with its norm: the residual part, and the step to another width, of a U-Net."""

from __future__ import annotations

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from formwright.nn.activations import build_activation
from formwright.nn.context import EMPTY, Context
from formwright.nn.convolution import (
    CONVOLUTIONS,
    fold_batch_norm,
    to_channels_first,
    to_channels_last,
    zero_padding,
)
from formwright.nn.norms import BatchNorm, InstanceNorm
from formwright.nn.parts import INCOMING, PARTS, RESIDUAL, Axis, InnerAxes, Part, Promises, build_part, sharing
from formwright.nn.specification import PartSpec, part

_MAX_POOLS = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
_INSTANCE_NORM = part("instance_norm")


@PARTS.register("normed_convolutions")
class NormedConvolutions(Part):
    """``y = norm(W2 * activation(norm(W1 * x)))``: two convolutions with any norm, a block's residual part.

    Args:
        dim: output channels; input channels too, unless ``input_dim`` is given.
        input_dim: channels in.
        kernel: odd side of the convolutions.
        norm: the norm after each of them.
        activation: name of the activation between them.
        bias: whether the convolutions have biases, which most norms take out again.
        dimensions: number of grid axes.

    Shapes: ``(batch, *grid, input_dim)`` to ``(batch, *grid, dim)``; masked tokens count as zero.

    Source: Deep Residual Learning for Image Recognition, arXiv 1512.03385; with instance norms the block of nnU-Net,
    arXiv 1904.08128.
    """

    resizable: ClassVar[dict[str, str]] = {"hidden": "hidden"}

    norm1: Part | None
    norm2: Part | None

    def __init__(
        self,
        dim: int,
        *,
        input_dim: int | None = None,
        kernel: int = 3,
        norm: PartSpec = _INSTANCE_NORM,
        activation: str = "relu",
        bias: bool = False,
        dimensions: int = 2,
    ) -> None:
        super().__init__()
        self.dimensions = dimensions
        self.input = RESIDUAL if input_dim is None else INCOMING
        self.hidden = dim
        layer = CONVOLUTIONS[dimensions]
        self.conv1 = layer(dim if input_dim is None else input_dim, dim, kernel, 1, kernel // 2, bias=bias)
        self.norm1 = build_part(norm, dim)
        self.activation = build_activation(activation)
        self.conv2 = layer(dim, dim, kernel, 1, kernel // 2, bias=bias)
        self.norm2 = build_part(norm, dim)
        if self.norm2.promises.per_token or "mask" in self.norm2.uses:
            self.uses = frozenset({"mask"})  # type: ignore[misc]
        exemptions = {}
        if bias and isinstance(self.norm2, InstanceNorm):
            reason = "a norm over the places takes what is added to all of them out again"
            exemptions = {f"gradients:conv{number}.bias": reason for number in (1, 2)}
        if not isinstance(self.norm2, InstanceNorm | BatchNorm):
            exemptions["cut"] = "the norm sees all hidden channels, and fewer of them after a cut"
        self.promise(exemptions=exemptions)

    def axes(self) -> dict[str, tuple[Axis | None, ...]]:
        hidden, places = Axis("hidden"), [None] * self.dimensions
        return {"conv1.weight": (hidden, self.input, *places), "conv2.weight": (RESIDUAL, hidden, *places)}

    def inner_axes(self) -> InnerAxes:
        return sharing("norm1", channels=Axis("hidden")) | sharing("norm2")

    def fold(self) -> None:
        """Take batch norms into the convolutions before them, in place."""
        for conv, name in ((self.conv1, "norm1"), (self.conv2, "norm2")):
            norm = getattr(self, name)
            if isinstance(norm, BatchNorm) and fold_batch_norm(conv, norm.norm):
                setattr(self, name, None)

    def forward(
        self, x: Float[Tensor, "batch *grid channels"], context: Context = EMPTY
    ) -> Float[Tensor, "batch *grid dim"]:
        y = to_channels_last(self.conv1(to_channels_first(zero_padding(x, context))))
        y = self.activation(y if self.norm1 is None else self.norm1(y, context))
        y = to_channels_last(self.conv2(to_channels_first(zero_padding(y, context))))
        return y if self.norm2 is None else self.norm2(y, context)


@PARTS.register("convolution_block")
class ConvolutionBlock(Part):
    """``y = activation(norm(W2 * activation(norm(W1 * max_pool(x)))))``: a step of a plain U-Net to another width.

    Args:
        in_dim: channels in.
        dim: channels out.
        pool: side of the windows whose largest values go on; 1 keeps the grid.
        norm: the norm after each convolution.
        activation: name of the activation after each norm.
        bias: whether the convolutions have biases.
        dimensions: number of grid axes.

    Shapes: ``(batch, *grid, in_dim)`` to ``(batch, *coarser_grid, dim)``, the sides divided by ``pool`` and rounded up.
    Masked tokens count as zero, and for nothing among the largest; a window is real if it holds a real token.

    Source: U-Net: Convolutional Networks for Biomedical Image Segmentation, arXiv 1505.04597, with padding, a norm and
    a leaky activation as in MONAI's ``BasicUNet``.
    """

    promises: ClassVar[Promises] = Promises(exemptions={"tokens": "changes the grid"})

    def __init__(
        self,
        in_dim: int,
        dim: int,
        *,
        pool: int = 1,
        norm: PartSpec = _INSTANCE_NORM,
        activation: str = "leaky_relu",
        bias: bool = False,
        dimensions: int = 2,
    ) -> None:
        super().__init__()
        self.pool, self.dimensions = pool, dimensions
        self.convolutions = NormedConvolutions(
            dim, input_dim=in_dim, norm=norm, activation=activation, bias=bias, dimensions=dimensions
        )
        self.activation = build_activation(activation)
        self.uses = self.convolutions.uses  # type: ignore[misc]

    def inner_axes(self) -> InnerAxes:
        return {"convolutions": {"residual": RESIDUAL, "incoming": INCOMING}}

    def output_grid(self, grid: tuple[int, ...]) -> tuple[int, ...]:
        return tuple((side + self.pool - 1) // self.pool for side in grid)

    def forward(
        self, x: Float[Tensor, "batch *grid channels"], context: Context = EMPTY
    ) -> tuple[Float[Tensor, "batch *coarser_grid dim"], Context]:
        if self.pool > 1:
            if context.mask is not None:
                x = x.masked_fill(~context.mask.unsqueeze(-1), torch.finfo(x.dtype).min)
                windows = self._largest(context.mask.unsqueeze(1).to(x.dtype)).squeeze(1)
                context = context.replace(mask=windows > 0)
            x = to_channels_last(self._largest(to_channels_first(x)))
        return self.activation(self.convolutions(x, context)), context

    def _largest(self, x: Float[Tensor, "batch channels *grid"]) -> Float[Tensor, "batch channels *coarser_grid"]:
        if 0 in x.shape[2:]:
            return x.new_zeros(*x.shape[:2], *self.output_grid(tuple(x.shape[2:])))
        pooled: Tensor = _MAX_POOLS[self.dimensions](x, self.pool, ceil_mode=True)
        return pooled
