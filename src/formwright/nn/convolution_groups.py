"""Parts of fast small networks for pictures: a stem of whitened patches, and groups of convolutions that pool."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from formwright.errors import UserError
from formwright.nn.activations import build_activation
from formwright.nn.context import EMPTY, Context
from formwright.nn.convolution import (
    BATCH_NORMS,
    CONVOLUTIONS,
    fold_batch_norm,
    norm_axes,
    to_channels_first,
    to_channels_last,
)
from formwright.nn.embeddings import channels_last_memory
from formwright.nn.functional.batch_norm import BatchNormModule
from formwright.nn.functional.convolution import convolved_side
from formwright.nn.functional.whitening import patches, whitening
from formwright.nn.parts import INCOMING, PARTS, RESIDUAL, Axis, Part, Promises

_MAX_POOLS = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}


@PARTS.register("whitened_patches")
class WhitenedPatches(Part):
    """``y = activation([+w_k x, -w_k x] + b)`` of the patches ``x`` of the input; only ``b`` is learned.

    The kernels ``w_k`` are orthonormal at first; :meth:`whiten` makes them those that whiten the patches of given
    inputs, ``v_k / sqrt(lambda_k + eps)`` of the eigenvectors of their second moments.

    Args:
        in_dim: channels of the input.
        dim: channels of the tokens: twice the number of directions, at most twice the values of a patch.
        kernel: side of a patch.
        stride: distance between patches.
        eps: added to the eigenvalues.
        activation: name of the activation.
        dimensions: number of axes of the input.

    Shapes: ``(batch, in_dim, *size)`` to ``(batch, *grid, dim)``, ``grid = (size - kernel) // stride + 1``.

    Raises:
        UserError: ``dim`` is odd, or there are not as many directions.

    Source: 94% on CIFAR-10 in 3.29 Seconds on a Single GPU, arXiv 2404.00498, whose code fixes the biases too after
    three epochs.
    """

    promises: ClassVar[Promises] = Promises(
        exemptions={"tokens": "takes the input, not tokens", "gradients:conv.weight": "the data decide, and it stays"}
    )

    def __init__(
        self,
        in_dim: int,
        dim: int,
        *,
        kernel: int = 2,
        stride: int = 1,
        eps: float = 5e-4,
        activation: str = "gelu",
        dimensions: int = 2,
    ) -> None:
        super().__init__()
        values = in_dim * kernel**dimensions
        if dim % 2 or not 0 < dim <= 2 * values:
            raise UserError(
                f"A patch of {values} values has that many directions, each with both signs, so a stem of whitened "
                f"patches has an even number of channels, {2 * values} at most; got {dim}."
            )
        self.kernel, self.stride, self.eps, self.dimensions = kernel, stride, eps, dimensions
        self.conv = CONVOLUTIONS[dimensions](in_dim, dim, kernel, stride)
        self.conv.weight.requires_grad_(False)
        self.activation = build_activation(activation)

    def axes(self) -> dict[str, tuple[Axis | None, ...]]:
        return {"conv.weight": (RESIDUAL, None, *[None] * self.dimensions)}

    def output_grid(self, grid: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(convolved_side(side, self.kernel, self.stride, 0) for side in grid)

    @torch.no_grad()
    def init_weights(self) -> None:
        """Orthonormal directions, each with both signs."""
        values = self.conv.weight[0].numel()
        square = nn.init.orthogonal_(torch.empty(values, values))
        self._set(square[: len(self.conv.weight) // 2])

    @torch.no_grad()
    def whiten(self, inputs: Float[Tensor, "batch channels *size"]) -> None:
        """Find the kernels that whiten the patches of ``inputs``, those of the largest eigenvalues."""
        self._set(whitening(patches(inputs, self.kernel), eps=self.eps, most=len(self.conv.weight) // 2))

    def _set(self, directions: Float[Tensor, "directions values"]) -> None:
        weight = self.conv.weight
        weight.copy_(torch.cat((directions, -directions)).view(weight.shape))

    def forward(
        self, x: Float[Tensor, "batch channels *size"], context: Context = EMPTY
    ) -> tuple[Float[Tensor, "batch *grid dim"], Context]:
        return to_channels_last(self.activation(self.conv(channels_last_memory(x)))), context


class _Normed(nn.Module):
    """A convolution of kernel 3, the largest values of its windows, and a batch norm without weights."""

    norm: BatchNormModule | None

    def __init__(self, in_dim: int, dim: int, *, pool: int, momentum: float, eps: float, dimensions: int) -> None:
        super().__init__()
        self.pool, self.dimensions = pool, dimensions
        self.conv = CONVOLUTIONS[dimensions](in_dim, dim, 3, 1, 1, bias=False)
        norm: BatchNormModule = BATCH_NORMS[dimensions](dim, eps=eps, momentum=momentum)
        norm.weight.requires_grad_(False)
        self.norm = norm

    @torch.no_grad()
    def init_weights(self) -> None:
        """PyTorch's rule, but for as many outputs as there are inputs, which pass these on."""
        self.conv.reset_parameters()
        nn.init.dirac_(self.conv.weight[: self.conv.weight.shape[1]])

    def forward(self, x: Float[Tensor, "batch channels *grid"]) -> Float[Tensor, "batch dim *coarser_grid"]:
        x = self.conv(x)
        if self.pool > 1:
            sides = [side // self.pool for side in x.shape[2:]]
            x = _MAX_POOLS[self.dimensions](x, self.pool) if all(sides) else x.new_zeros(*x.shape[:2], *sides)
        return x if self.norm is None else self.norm(x)

    @torch.no_grad()
    def fold(self) -> None:
        """Take the norm into the convolution: the largest stays the largest where the norm's scale is positive."""
        if self.norm is None:
            return
        # Signs are not known where only shapes are: the weights are not learned, and begin at one.
        positive = self.norm.weight.is_meta or bool((self.norm.weight > 0).all())
        if positive and fold_batch_norm(self.conv, self.norm):
            self.norm = None


@PARTS.register("convolution_group")
class ConvolutionGroup(Part):
    """Convolutions of kernel 3 to another width, the first of which pools, each with a batch norm of fixed weights.

    ``x = activation(norm(max_pool(W1 * x)))``, then ``y = activation(norm(Wn * ... activation(norm(W2 * x))))``. Three
    or more have a shortcut around all but the first, ``activation(norm(Wn * ...) + x)``. Kernels start as the identity
    as far as there are channels.

    Args:
        in_dim: channels in.
        dim: channels out.
        pool: side of the windows whose largest values go on; 1 keeps the grid.
        convolutions: how many, at least one.
        momentum: of the running statistics of the norms, how much a batch counts.
        eps: added to the variance by the norms.
        activation: name of the activation.
        dimensions: number of grid axes.

    Shapes: ``(batch, *grid, in_dim)`` to ``(batch, *coarser_grid, dim)``, the sides divided by ``pool`` and rounded
    down.

    Raises:
        UserError: there is no convolution.

    Source: 94% on CIFAR-10 in 3.29 Seconds on a Single GPU, arXiv 2404.00498.
    """

    promises: ClassVar[Promises] = Promises(exemptions={"tokens": "changes the grid"})
    resizable: ClassVar[dict[str, str]] = {"hidden": "hidden"}

    def __init__(
        self,
        in_dim: int,
        dim: int,
        *,
        pool: int = 2,
        convolutions: int = 2,
        momentum: float = 0.4,
        eps: float = 1e-5,
        activation: str = "gelu",
        dimensions: int = 2,
    ) -> None:
        super().__init__()
        if convolutions < 1:
            raise UserError(f"A group of convolutions has at least one of them, got {convolutions}.")
        self.pool, self.hidden, self.dimensions = pool, dim, dimensions
        how: dict[str, Any] = {"momentum": momentum, "eps": eps, "dimensions": dimensions}
        self.first = _Normed(in_dim, dim, pool=pool, **how)
        self.others = nn.ModuleList(_Normed(dim, dim, pool=1, **how) for _ in range(convolutions - 1))
        self.activation = build_activation(activation)
        self.promise(
            exemptions={
                **self.promises.exemptions,
                **{f"gradients:{name}.norm.weight": "fixed at one" for name in self._layers()},
            }
        )

    def _layers(self) -> list[str]:
        return ["first", *(f"others.{index}" for index in range(len(self.others)))]

    def axes(self) -> dict[str, tuple[Axis | None, ...]]:
        named: dict[str, tuple[Axis | None, ...]] = {}
        columns, hidden = INCOMING, Axis("hidden")
        shortcut = len(self.others) > 1
        for name in (layers := self._layers()):
            rows = RESIDUAL if name == layers[-1] or (shortcut and name == "first") else hidden
            named[f"{name}.conv.weight"] = (rows, columns, *[None] * self.dimensions)
            named |= norm_axes(f"{name}.norm", rows)
            columns = rows
        return named

    def output_grid(self, grid: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(side // self.pool for side in grid)

    def forward(
        self, x: Float[Tensor, "batch *grid channels"], context: Context = EMPTY
    ) -> tuple[Float[Tensor, "batch *coarser_grid dim"], Context]:
        entered = x = self.activation(self.first(to_channels_first(x)))
        for index, layer in enumerate(self.others, start=1):
            x = layer(x)
            x = self.activation(x + entered if index == len(self.others) > 1 else x)
        return to_channels_last(x), context
