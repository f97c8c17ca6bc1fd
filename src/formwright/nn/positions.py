"""Positions that are computed rather than learned, added once to the tokens."""

from __future__ import annotations

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from formwright.nn.embeddings import PositionTable
from formwright.nn.part import PARTS, Promises


def sine_table(places: int, dim: int) -> Float[Tensor, "places dim"]:
    """``sin(p w_i)`` in even and ``cos(p w_i)`` in odd channels ``i``, with ``w_i = 10000^(-2 floor(i / 2) / dim)``.

    Source: Attention Is All You Need, arXiv 1706.03762.
    """
    channel = torch.arange(dim, dtype=torch.float64)
    frequency = 10000 ** (-2 * (channel // 2) / dim)
    angle = (torch.arange(places, dtype=torch.float64)[:, None] * frequency).float()
    return torch.where(channel % 2 == 0, angle.sin(), angle.cos())


@PARTS.register("sine_positions")
class SinePositions(PositionTable):
    """Adds the fixed table of :func:`sine_table`, the places of the grid counted row by row.

    Placeless tokens in front are counted too, so a class token has row 0. The table is a frozen parameter, as it is in
    the checkpoints of Compact Transformers: it is saved, and counts as parameters that are not trained.

    Shapes: ``(batch, *grid, dim)`` or ``(batch, prefix + places, dim)`` to the same.

    Raises:
        UserError: the grid is not the one that the table was made for.
    """

    promises: ClassVar[Promises] = Promises(
        any_grid=False, exemptions={"gradients:table": "the table is fixed by definition"}
    )

    def __init__(self, dim: int, *, grid: tuple[int, ...], prefix: int = 0) -> None:
        super().__init__(dim, grid=grid, prefix=prefix)
        self.table = nn.Parameter(sine_table(len(self.table), dim), requires_grad=False)
