"""The whole input as one token of plain features: values, histograms of gradients, a power spectrum.

What linear classifiers are given where there is no network.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from formwright.errors import UserError
from formwright.nn.context import EMPTY, Context
from formwright.nn.parts import PARTS, RESIDUAL, Axis, Part, Promises
from formwright.nn.series import check_series

_EXEMPTIONS = {
    "tokens": "takes the input, not tokens",
    "residual": "each feature has a place of its own",
    "gradients": "has no parameters",
}
_PICTURE = Promises(dimensions=(2,), any_grid=False, exemptions=_EXEMPTIONS)
#: Gradients of a picture of deviation one that are noise.
_EPSILON = 1e-3


class PlainFeatures(Part):
    """Features that are computed, not learned: ``(batch, ...)`` to one token, ``(batch, 1, ..., dim)``.

    Blocks of neighbours are averaged, so that no side is longer than ``longest``; the rest at the end is left out.

    Args:
        in_dim: channels of the input.
        dim: what :meth:`features` says.
        grid: size of the input.

    Raises:
        UserError: ``dim`` does not match, or an input has another size.
    """

    longest: ClassVar[int]

    def __init__(self, in_dim: int, dim: int, *, grid: tuple[int, ...]) -> None:
        super().__init__()
        self.grid = tuple(grid)
        self.check_dim(in_dim, dim)

    def check_dim(self, in_dim: int, dim: int) -> None:
        """Raise a ``UserError`` unless an input has so many features."""
        count = self.features(in_dim, self.grid)
        if dim != count:
            raise UserError(f"{in_dim} channels of size {self.grid} have {count} features here, not {dim}.")

    @classmethod
    def block(cls, grid: tuple[int, ...]) -> tuple[int, ...]:
        """The sides of what is averaged."""
        return tuple(min(-(-max(grid) // cls.longest), side) for side in grid)

    @classmethod
    def sides(cls, grid: tuple[int, ...]) -> tuple[int, ...]:
        """The size after averaging."""
        return tuple(side // block for side, block in zip(grid, cls.block(grid), strict=True))

    @classmethod
    @abstractmethod
    def features(cls, in_dim: int, grid: tuple[int, ...]) -> int:
        """How many features an input has."""

    def output_grid(self, grid: tuple[int, ...]) -> tuple[int, ...]:
        return (1,) * len(grid)

    def averaged(self, x: Tensor) -> Tensor:
        """``x`` ``(batch, channels, *size)`` with blocks of neighbours averaged."""
        if tuple(x.shape[2:]) != self.grid:
            given, wanted = (" x ".join(map(str, one)) for one in (tuple(x.shape[2:]), self.grid))
            raise UserError(
                f"An input of {given} came, and each feature has its place in an input of {wanted}; resize it."
            )
        block = self.block(self.grid)
        if max(block) == 1:
            return x
        return F.avg_pool1d(x, block) if len(block) == 1 else F.avg_pool2d(x, block)


@PARTS.register("pixels")
class Pixels(PlainFeatures):
    """The values of a picture: ``(batch, in_dim, height, width)`` to ``(batch, 1, 1, dim)``; 32 a side at most."""

    promises: ClassVar[Promises] = _PICTURE
    longest: ClassVar[int] = 32

    @classmethod
    def features(cls, in_dim: int, grid: tuple[int, ...]) -> int:
        return in_dim * math.prod(cls.sides(grid))

    def forward(
        self, x: Float[Tensor, "batch channels height width"], context: Context = EMPTY
    ) -> tuple[Float[Tensor, "batch 1 1 dim"], Context]:
        return self.averaged(x).flatten(1)[:, None, None], context


@PARTS.register("oriented_gradients")
class OrientedGradients(PlainFeatures):
    """Histograms of the directions of gradients: ``(batch, in_dim, height, width)`` to ``(batch, 1, 1, dim)``.

    A pixel with the gradient ``g`` counts ``|g| cos(angle - angle_k)^8`` towards the direction ``k`` of nine, which
    lie 20 degrees apart, whatever its sign; channels are added. Counts are averaged over some eight by eight cells,
    and each two by two of them are divided by their length. Pictures have 64 pixels a side at most.

    Raises:
        UserError: a side has fewer than two cells of two pixels.

    Source: Histograms of Oriented Gradients for Human Detection, CVPR 2005, which shares a gradient between its two
    nearest directions instead and takes the strongest channel.
    """

    promises: ClassVar[Promises] = _PICTURE
    longest: ClassVar[int] = 64
    directions: ClassVar[int] = 9

    cos: Tensor
    sin: Tensor

    def __init__(self, in_dim: int, dim: int, *, grid: tuple[int, ...]) -> None:
        super().__init__(in_dim, dim, grid=grid)
        angles = torch.arange(self.directions) * (math.pi / self.directions)
        for name, values in (("cos", angles.cos()), ("sin", angles.sin())):
            self.register_buffer(name, values[:, None, None], persistent=False)

    @classmethod
    def cell(cls, grid: tuple[int, ...]) -> int:
        """Pixels of a cell's side."""
        return max(2, min(cls.sides(grid)) // 8)

    @classmethod
    def blocks(cls, grid: tuple[int, ...]) -> tuple[int, ...]:
        """How many times two by two neighbouring cells there are along each side."""
        return tuple(side // cls.cell(grid) - 1 for side in cls.sides(grid))

    @classmethod
    def features(cls, in_dim: int, grid: tuple[int, ...]) -> int:
        if min(cls.blocks(grid)) < 1:
            raise UserError(f"Gradients need pictures of at least 4 x 4 pixels, got {' x '.join(map(str, grid))}.")
        return 4 * cls.directions * math.prod(cls.blocks(grid))

    def forward(
        self, x: Float[Tensor, "batch channels height width"], context: Context = EMPTY
    ) -> tuple[Float[Tensor, "batch 1 1 dim"], Context]:
        x = F.pad(self.averaged(x), (1, 1, 1, 1), mode="replicate")[:, :, None]
        across, down = x[..., 1:-1, 2:] - x[..., 1:-1, :-2], x[..., 2:, 1:-1] - x[..., :-2, 1:-1]
        energy = across.square() + down.square() + _EPSILON**2
        share = (across * self.cos + down * self.sin).square() / energy
        cells = F.avg_pool2d((share.square().square() * energy.sqrt()).sum(1), self.cell(self.grid))
        rows, columns = self.blocks(self.grid)
        four = [cells[:, :, i : i + rows, j : j + columns] for i in (0, 1) for j in (0, 1)]
        blocks = torch.cat(four, dim=1)
        blocks = blocks / (blocks.square().sum(1, keepdim=True) + _EPSILON).sqrt()
        return blocks.flatten(1)[:, None, None], context


@PARTS.register("radial_basis")
class RadialBasis(Part):
    """``y_i = exp(-scale |x - centre_i|^2)``: how near each token is to each of ``dim`` centres.

    A linear layer behind it is a kernel machine, of which the centres are the support vectors.

    Shapes: ``(batch, *grid, in_dim)`` to ``(batch, *grid, dim)``.

    Source: Networks for Approximation and Learning, Proceedings of the IEEE 78 (9), 1990.
    """

    promises: ClassVar[Promises] = Promises(
        per_token=True, causal=True, exemptions={"tokens": "changes the width of the tokens"}
    )

    def __init__(self, in_dim: int, dim: int) -> None:
        super().__init__()
        self.centres = nn.Parameter(torch.randn(dim, in_dim))
        self.scale = nn.Parameter(torch.tensor([1.0 / in_dim]))

    def axes(self) -> dict[str, tuple[Axis | None, ...]]:
        return {"centres": (RESIDUAL, None)}

    def output_grid(self, grid: tuple[int, ...]) -> tuple[int, ...]:
        return grid

    def forward(
        self, x: Float[Tensor, "batch *grid in_dim"], context: Context = EMPTY
    ) -> tuple[Float[Tensor, "batch *grid dim"], Context]:
        squares = x.square().sum(-1, keepdim=True) + self.centres.square().sum(-1)
        distance = (squares - 2 * (x @ self.centres.mT)).clamp(min=0)
        return (-self.scale * distance).exp(), context


@PARTS.register("values_and_spectrum")
class ValuesAndSpectrum(PlainFeatures):
    """A series and ``log(1 + power)`` of each frequency: ``(batch, time, in_dim)`` to ``(batch, 1, dim)``.

    The power of a frequency is ``|sum_t x_t exp(-2 pi i f t / T)|^2``; a series has 512 steps at most.
    """

    promises: ClassVar[Promises] = Promises(dimensions=(1,), any_grid=False, exemptions=_EXEMPTIONS)
    longest: ClassVar[int] = 512

    cos: Tensor
    sin: Tensor

    def __init__(self, in_dim: int, dim: int, *, grid: tuple[int, ...]) -> None:
        super().__init__(in_dim, dim, grid=grid)
        (steps,) = self.sides(self.grid)
        turns = torch.arange(steps)[:, None] * torch.arange(steps // 2 + 1) % steps
        angles = 2 * math.pi / steps * turns
        for name, values in (("cos", angles.cos()), ("sin", angles.sin())):
            self.register_buffer(name, values, persistent=False)

    @classmethod
    def features(cls, in_dim: int, grid: tuple[int, ...]) -> int:
        (steps,) = cls.sides(grid)
        return in_dim * (steps + steps // 2 + 1)

    def check_input(self, series: Tensor) -> None:
        check_series(series, length=self.grid[0])

    def forward(
        self, x: Float[Tensor, "batch time variates"], context: Context = EMPTY
    ) -> tuple[Float[Tensor, "batch 1 dim"], Context]:
        x = self.averaged(x.mT)
        power = (x @ self.cos).square() + (x @ self.sin).square()
        return torch.cat([x, power.log1p()], dim=2).flatten(1)[:, None], context
