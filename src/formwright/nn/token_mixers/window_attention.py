"""Attention inside windows of the grid, which move by half a window from one block to the next."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn
from torch.nn import functional as F

from formwright.errors import UserError
from formwright.nn.context import EMPTY, Context
from formwright.nn.functional.attention import SOFTMAX_TAPS, attend
from formwright.nn.functional.windows import is_free, merge_windows, partition_windows
from formwright.nn.parts import PARTS, Axis, Part, Promises
from formwright.nn.positions import RelativePositionBias
from formwright.nn.token_mixers.attention import check_heads


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
        UserError: ``dim`` cannot be split over the heads, there is no window, or the axes of the grid do not match.

    Source: Swin Transformer: Hierarchical Vision Transformer using Shifted Windows, arXiv 2103.14030.
    """

    uses: ClassVar[frozenset[str]] = frozenset({"mask"})
    promises: ClassVar[Promises] = Promises()
    resizable: ClassVar[dict[str, str]] = {"heads": "heads"}
    taps: ClassVar[tuple[str, ...]] = ("queries", "keys", "values", *SOFTMAX_TAPS, "mixed")

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
            "proj.weight": (residual, Axis("heads", block=self.head_dim)),
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
        if 0 in x.shape[1:-1]:
            return x
        padded = tuple((side + self.window - 1) // self.window * self.window for side in grid)
        windows = self._windows(x, padded)
        tokens = windows.flatten(1, -2)
        q, k, v = self.qkv(tokens).unflatten(-1, (3, self.heads, self.head_dim)).permute(2, 0, 3, 1, 4)
        q, k, v = self.tap("queries", q), self.tap("keys", k), self.tap("values", v)
        y = attend(q, k, v, self._bias(x, context.mask, padded), tap=self.listened(*SOFTMAX_TAPS))
        y = self.tap("mixed", y)
        y = self.proj(y.transpose(1, 2).flatten(2)).view(windows.shape)
        y = merge_windows(y, padded)
        if self.shift:
            y = y.roll([self.shift] * len(grid), self._grid_axes)
        return y[(slice(None), *map(slice, grid))].contiguous()

    @property
    def _grid_axes(self) -> list[int]:
        return list(range(1, self.dimensions + 1))

    def _windows(
        self, x: Shaped[Tensor, "batch *grid channels"], padded: tuple[int, ...]
    ) -> Shaped[Tensor, "batch_of_windows *window channels"]:
        """``(batch * windows, *window, channels)`` of the padded grid, rolled so that it starts with a whole one."""
        missing = [side - given for side, given in zip(padded, x.shape[1:-1], strict=True)]
        if is_free(*missing) or any(missing):
            x = F.pad(x, [0, 0, *[size for gap in reversed(missing) for size in (0, gap)]])
        if self.shift:
            x = x.roll([-self.shift] * self.dimensions, self._grid_axes)
        return partition_windows(x, (self.window,) * self.dimensions)

    def _bias(self, x: Tensor, mask: Bool[Tensor, "batch *grid"] | None, padded: tuple[int, ...]) -> Tensor:
        """What is added to the scores, ``(1 or batch * windows, heads, places, places)``.

        That is the learned bias, and the lowest number where nothing may be seen: not minus infinity, because a place
        of padding sees nothing, and its (unused) softmax should stay finite.
        """
        batch, *grid = x.shape[:-1]
        bias = self.relative_position_bias()
        allowed = None
        if mask is not None or is_free(*grid) or padded != tuple(grid):
            real = x.new_ones(1, *grid, dtype=torch.bool) if mask is None else mask
            windows = self._windows(real.unsqueeze(-1), padded).flatten(1, -2).mT
            count = math.prod([side // self.window for side in padded])
            allowed = windows.reshape(real.shape[0], count, *windows.shape[1:])
        if self.shift:
            together = self._together(padded, x.device)
            allowed = together if allowed is None else allowed & together
        if allowed is None:
            return bias.unsqueeze(0)
        bias = torch.where(allowed.unsqueeze(-3), bias, torch.finfo(bias.dtype).min)
        return bias.expand(batch, *bias.shape[-4:]).flatten(0, 1)

    def _together(self, padded: tuple[int, ...], device: torch.device) -> Bool[Tensor, "windows places places"]:
        """Whether two places of a rolled window are neighbours on the grid, too, not from its opposite ends."""
        region = torch.zeros(padded, dtype=torch.int64, device=device)
        for axis, side in enumerate(padded):
            wrapped = torch.arange(side, device=device) >= side - self.shift
            region = 2 * region + wrapped.view(-1, *[1] * (len(padded) - axis - 1))
        region = partition_windows(region[None, ..., None], (self.window,) * self.dimensions).flatten(1, -2)
        return region == region.mT
