"""From a grid to a coarser one without a convolution."""

from __future__ import annotations

from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from formwright.nn.context import EMPTY, Context
from formwright.nn.masks import coarser_mask
from formwright.nn.part import PARTS, RESIDUAL, Axis, InnerAxes, Part, Promises, build_part, sharing
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
        return self.linear(self.norm(x.reshape(batch, *coarser, -1), context)), context
