"""From tokens back to the values of a grid: the head of what draws, denoises or reconstructs."""

from __future__ import annotations

import itertools
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from formwright.nn.context import EMPTY, OFFERS, Context, split_prefix
from formwright.nn.functional.dense import dense
from formwright.nn.parts import PARTS, RESIDUAL, Axis, InnerAxes, Part, Promises, build_part, settled, sharing
from formwright.nn.specification import PartSpec


@PARTS.register("unpatchify")
class Unpatchify(Part):
    """``W norm(x) + b`` of each token, laid out as the patch that it stands for: the inverse of disjoint patches.

    ``W`` starts at zero, so that a network begins by answering zero everywhere.

    Args:
        dim: channels of the tokens.
        channels: channels of the values.
        patch: side of a patch.
        norm: norm of the tokens.
        dimensions: number of grid axes.

    Shapes: ``(batch, *grid, dim)``, or those tokens behind others without a place, to ``(batch, channels, *size)`` with
    ``size = patch * grid``. The rows of ``W`` count the places of a patch row by row, the channels fastest.

    Source: Scalable Diffusion Models with Transformers, arXiv 2212.09748.
    """

    uses: ClassVar[frozenset[str]] = frozenset({"prefix", "grid"})
    promises: ClassVar[Promises] = Promises(exemptions={"tokens": "gives values of a grid"})

    def __init__(
        self, dim: int, channels: int, *, patch: int = 2, norm: PartSpec | None = None, dimensions: int = 2
    ) -> None:
        super().__init__()
        self.patch = patch
        self.channels = channels
        self.norm: Part | None = None if norm is None else build_part(norm, dim)
        if self.norm is not None:
            self.uses = self.uses | self.norm.uses.intersection(OFFERS)  # type: ignore[misc]
        self.linear = nn.Linear(dim, patch**dimensions * channels)

    def axes(self) -> dict[str, tuple[Axis | None, ...]]:
        return {"linear.weight": (None, RESIDUAL)}

    def inner_axes(self) -> InnerAxes:
        return sharing("norm")

    def init_weights(self) -> None:
        nn.init.zeros_(self.linear.weight)

    def output_grid(self, grid: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(self.patch * side for side in grid)

    def forward(
        self, x: Float[Tensor, "batch *grid dim"], context: Context = EMPTY
    ) -> Float[Tensor, "batch channels *size"]:
        if self.norm is not None:
            x = self.norm(x, settled(self, context))
        if context.flat:
            x = split_prefix(x, context)[1]
        batch, *grid, _ = x.shape
        axes = len(grid)
        patches = dense(self.linear, x).view(batch, *grid, *[self.patch] * axes, self.channels)
        sides = itertools.chain.from_iterable((1 + axis, 1 + axes + axis) for axis in range(axes))
        return patches.permute(0, -1, *sides).reshape(batch, self.channels, *self.output_grid(tuple(grid)))
