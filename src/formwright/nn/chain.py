"""Parts one after the other, as one part."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from formwright.errors import UserError
from formwright.nn.context import EMPTY, Context
from formwright.nn.part import PARTS, Part, Promises, build_part
from formwright.nn.specification import PartSpec


@PARTS.register("chain")
class Chain(Part):
    """``y = part_n(... part_2(part_1(x)))``: what a single residual branch holds when it does several things.

    ConvNeXt's branch, for one: a depthwise convolution, a norm and an MLP under one residual connection.

    Args:
        dim: channels in and out of every part.
        parts: specifications of parts that map tokens to tokens on the same grid.
        grid: the grid that parts with tables are made for.

    Shapes: ``(batch, *grid, dim)`` to the same.

    Raises:
        UserError: there is no part, or a part does not use a fact of the context that concerns it.
    """

    promises: ClassVar[Promises] = Promises(
        exemptions={"context": "what it uses is what its parts use, and each of them is asked"}
    )

    def __init__(self, dim: int, *, parts: Sequence[PartSpec], grid: tuple[int, ...] | None = None) -> None:
        super().__init__()
        if not parts:
            raise UserError("A chain needs at least one part.")
        self.parts = nn.ModuleList(build_part(part, dim, grid=grid) for part in parts)

    def check_context(self, context: Context) -> None:
        for part in self.parts:
            part.check_context(context)  # type: ignore[operator]

    def forward(
        self, x: Float[Tensor, "batch *grid channels"], context: Context = EMPTY
    ) -> Float[Tensor, "batch *grid channels"]:
        for part in self.parts:
            x = part(x, context)
        return x
