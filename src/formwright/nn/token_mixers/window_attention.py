"""Attention inside windows of the grid, which move by half a window from one block to the next."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from formwright.errors import UserError
from formwright.nn.context import EMPTY, Context
from formwright.nn.part import PARTS, Axis, Part, Promises
from formwright.nn.positions import RelativePositionBias
from formwright.nn.token_mixers.attention import check_heads


def partition(x: Float[Tensor, "batch *grid channels"], window: int) -> Float[Tensor, "batch windows places channels"]:
    """Cut a grid, whose sides are multiples of ``window``, into windows, and each window into its places."""
    batch, *grid, channels = x.shape
    axes = len(grid)
    x = x.reshape(batch, *[size for side in grid for size in (side // window, window)], channels)
    x = x.permute(0, *range(1, 2 * axes, 2), *range(2, 2 * axes + 1, 2), 2 * axes + 1)
    return x.reshape(batch, math.prod(grid) // window**axes, window**axes, channels)


def unpartition(
    x: Float[Tensor, "batch windows places channels"], grid: tuple[int, ...], window: int
) -> Float[Tensor, "batch *grid channels"]:
    """Put the windows of :func:`partition` together again."""
    batch, channels, axes = x.shape[0], x.shape[-1], len(grid)
    x = x.reshape(batch, *[side // window for side in grid], *[window] * axes, channels)
    x = x.permute(0, *[axis for pair in range(1, axes + 1) for axis in (pair, pair + axes)], 2 * axes + 1)
    return x.reshape(batch, *grid, channels)


@PARTS.register("window_attention")
class WindowAttention(Part):
    """Multi-head attention among the tokens of a window: ``softmax(q kᵀ / sqrt(head_dim) + B) v``, then a projection.

    ``B`` is learned, a value for each head and each difference of places. With ``shifted``, the windows lie half a
    window further along every axis; those cut off by the edge of the grid share a window with what is left on the
    other side, and do not see each other. Cost is linear in the number of tokens.

    Built for a grid with a side of at most ``window``, the window is that side and does not move: the authors' rule.
    On a grid whose sides are not multiples of the window, the windows at its end are incomplete: padding is added that
    nobody attends to. (The authors refuse such grids in classification, and attend to zeros in detection.)

    Args:
        dim: channels in and out.
        heads: number of heads; must divide ``dim``.
        grid: the grid that the window is fitted to.
        window: side of a window, in tokens.
        shifted: whether windows lie half a window further.

    Shapes: ``(batch, *grid, dim)`` to the same, on any grid with as many axes; ``context.mask`` ``(batch, *grid)`` true
    for real tokens.

    Raises:
        UserError: ``dim`` cannot be split over the heads, there is no window, or the grid has another number of axes.

    Source: Swin Transformer: Hierarchical Vision Transformer using Shifted Windows, arXiv 2103.14030.
    """

    uses: ClassVar[frozenset[str]] = frozenset({"mask"})
    promises: ClassVar[Promises] = Promises()
    resizable: ClassVar[dict[str, str]] = {"heads": "heads"}

    def __init__(self, dim: int, *, heads: int, grid: tuple[int, ...], window: int = 7, shifted: bool = False) -> None:
        super().__init__()
        check_heads(dim, heads)
        if window < 1:
            raise UserError(f"A window needs at least one token a side, got {window}.")
        fits_once = min(grid) <= window
        self.window = max(min(*grid, window), 1) if fits_once else window
        self.shift = window // 2 if shifted and not fits_once else 0
        self.dimensions = len(grid)
        self.heads, self.head_dim = heads, dim // heads
        self.relative_position_bias = RelativePositionBias((self.window,) * len(grid), heads)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def axes(self) -> dict[str, tuple[Axis | None, ...]]:
        heads, residual = Axis("heads", repeats=3, block=self.head_dim), Axis("residual")
        return {
            "relative_position_bias.table": (None, Axis("heads")),
            "qkv.weight": (heads, residual),
            "qkv.bias": (heads,),
            "proj.weight": (residual, Axis("heads", block=self.head_dim)),
            "proj.bias": (residual,),
        }

    def forward(
        self, x: Float[Tensor, "batch *grid channels"], context: Context = EMPTY
    ) -> Float[Tensor, "batch *grid channels"]:
        grid = tuple(x.shape[1:-1])
        if len(grid) != self.dimensions:
            raise UserError(
                f"This window attention was built for a grid of {self.dimensions} axes, and got one of {len(grid)}: "
                f"{' x '.join(map(str, grid))}."
            )
        padded = tuple(-(-side // self.window) * self.window for side in grid)
        windows = partition(self._to_windows(x, padded), self.window)
        batch, count, places, _ = windows.shape
        qkv = self.qkv(windows).view(batch * count, places, 3, self.heads, self.head_dim)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        bias = self._bias(x, context.mask, padded, batch, count)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        y = self.proj(y.transpose(1, 2).reshape(batch, count, places, -1))
        y = unpartition(y, padded, self.window)
        if self.shift:
            y = y.roll([self.shift] * self.dimensions, self._grid_axes)
        return y[(slice(None), *map(slice, grid))].contiguous()

    @property
    def _grid_axes(self) -> list[int]:
        return list(range(1, self.dimensions + 1))

    def _to_windows(self, x: Tensor, padded: tuple[int, ...]) -> Tensor:
        """Padded at the end of each axis and rolled, so that shifted windows start at the first token."""
        missing = [side - given for side, given in zip(padded, x.shape[1:-1], strict=True)]
        if any(missing):
            x = F.pad(x, [0, 0, *[amount for size in reversed(missing) for amount in (0, size)]])
        return x.roll([-self.shift] * self.dimensions, self._grid_axes) if self.shift else x

    def _bias(
        self, x: Tensor, mask: Bool[Tensor, "batch *grid"] | None, padded: tuple[int, ...], batch: int, count: int
    ) -> Float[Tensor, "#batch heads places places"]:
        """What is added to the scores: the learned bias, and minus infinity (almost) where nothing may be seen."""
        bias = self.relative_position_bias()
        allowed = None
        if mask is not None or padded != tuple(x.shape[1:-1]):
            real = x.new_ones(1, *x.shape[1:-1], dtype=torch.bool) if mask is None else mask
            allowed = partition(self._to_windows(real.unsqueeze(-1), padded), self.window).mT
        if self.shift:
            together = self._together(padded, x.device)
            allowed = together if allowed is None else allowed & together
        if allowed is None:
            return bias.unsqueeze(0)
        # The lowest number instead of infinity: a row of padding sees nothing, and its (unused) softmax stays finite.
        bias = torch.where(allowed.unsqueeze(2), bias, torch.finfo(bias.dtype).min)
        return bias.expand(batch, count, -1, -1, -1).flatten(0, 1)

    def _together(self, padded: tuple[int, ...], device: torch.device) -> Bool[Tensor, "1 windows places places"]:
        """Whether two places of a rolled window are neighbours on the grid, too, not from its opposite ends."""
        region = torch.zeros(padded, dtype=torch.int64, device=device)
        for axis, side in enumerate(padded):
            wrapped = torch.arange(side, device=device) >= side - self.shift
            region = 2 * region + wrapped.view(-1, *[1] * (len(padded) - axis - 1))
        region = partition(region[None, ..., None], self.window)
        return region == region.mT
