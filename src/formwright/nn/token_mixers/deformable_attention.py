"""Attention to a few points of several maps, which each query chooses around its own place."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from formwright.errors import UserError
from formwright.nn.context import EMPTY, Context
from formwright.nn.functional.blocks import split_axis
from formwright.nn.functional.deformable_attention import deformable_attention
from formwright.nn.functional.dense import dense
from formwright.nn.layers import scale_output
from formwright.nn.parts import MEMORY, PARTS, RESIDUAL, Axis, Part, Promises
from formwright.nn.token_mixers.attention import check_heads


@PARTS.register("deformable_attention")
class DeformableAttention(Part):
    """``y = sum_h W_h sum_l sum_k a_hlk v_lh(p + o_hlk / size_l)`` with ``a = softmax(x W_a)`` and ``o = x W_o``.

    Each token attends to ``points`` points of each map of the memory, around its own place ``p`` of
    ``context.positions``; ``v = memory W_v`` is bilinear between the places of a map, and zero around it and where the
    memory is padding. Offsets ``o`` start in another direction for each head, and weights ``a`` alike.

    Args:
        dim: channels in and out.
        heads: number of heads; must divide ``dim``.
        levels: how many maps the memory has.
        points: how many points of each map a head attends to.
        memory_dim: channels of the memory; ``dim`` if unset.

    Shapes: ``(batch, tokens, dim)`` to the same; ``context.memory`` ``(batch, memory, memory_dim)``, its maps'
    ``context.memory_grids``, ``context.positions`` ``(batch, tokens, 2)`` with x and y as shares of the real sides.

    Raises:
        UserError: ``dim`` cannot be split over the heads, or memory, grids and positions are missing or do not fit.

    Source: Deformable DETR, arXiv 2010.04159.
    """

    uses: ClassVar[frozenset[str]] = frozenset({"mask", "memory", "memory_mask", "memory_grids", "positions"})
    promises: ClassVar[Promises] = Promises(dimensions=(1,))
    resizable: ClassVar[Mapping[str, str]] = {"heads": "heads"}
    output_layers: ClassVar[tuple[str, ...]] = ("proj",)

    def __init__(self, dim: int, *, heads: int, levels: int, points: int = 4, memory_dim: int | None = None) -> None:
        super().__init__()
        check_heads(dim, heads)
        self.heads, self.head_dim, self.levels, self.points = heads, dim // heads, levels, points
        self.memory_dim = dim if memory_dim is None else memory_dim
        self.values = nn.Linear(self.memory_dim, dim)
        self.offsets = nn.Linear(dim, heads * levels * points * 2)
        self.shares = nn.Linear(dim, heads * levels * points)
        self.proj = nn.Linear(dim, dim)
        self.init_weights()

    @torch.no_grad()
    def init_weights(self) -> None:
        """Points start at 1, 2, ... places in the direction of their head, whatever the token, with equal weights."""
        angle = 2 * math.pi * torch.arange(self.heads) / self.heads
        direction = torch.stack([angle.cos(), angle.sin()], -1)
        direction = direction / direction.abs().amax(-1, keepdim=True)
        places = direction[:, None, None] * torch.arange(1, self.points + 1)[:, None]
        self.offsets.bias.copy_(places.expand(-1, self.levels, -1, -1).flatten())
        for tensor in (self.offsets.weight, self.shares.weight, self.shares.bias):
            nn.init.zeros_(tensor)

    def axes(self) -> dict[str, tuple[Axis | None, ...]]:
        channels, chosen = Axis("heads", block=self.head_dim), self.levels * self.points
        return {
            "values.weight": (channels, MEMORY),
            "offsets.weight": (Axis("heads", block=2 * chosen), RESIDUAL),
            "shares.weight": (Axis("heads", block=chosen), RESIDUAL),
            "proj.weight": (RESIDUAL, channels),
        }

    def fold_scale_after(self, scale: Tensor) -> bool:
        return scale_output(self.proj, scale)

    def forward(
        self, x: Float[Tensor, "batch tokens channels"], context: Context = EMPTY
    ) -> Float[Tensor, "batch tokens channels"]:
        memory, grids, positions = self._offered(x, context)
        values = dense(self.values, memory)
        if context.memory_mask is not None:
            values = values * context.memory_mask[..., None].to(values.dtype)
        offsets = split_axis(dense(self.offsets, x), 2, self.heads, self.levels, self.points, 2)
        shares = split_axis(dense(self.shares, x), 2, self.heads, self.levels * self.points).softmax(-1)
        whole = _sides(grids, values)
        real = whole[None] if context.memory_mask is None else _real_sides(grids, context.memory_mask, values)
        points = positions[:, :, None, None, None] * real[:, None, None, :, None] + offsets
        mixed = deformable_attention(
            split_axis(values, 2, self.heads, self.head_dim),
            grids,
            points / whole[:, None],
            split_axis(shares, 3, self.levels, self.points),
        )
        return dense(self.proj, mixed.flatten(2))

    def _offered(self, x: Tensor, context: Context) -> tuple[Tensor, list[tuple[int, int]], Tensor]:
        """Memory, grids and positions, which fit the tokens."""
        memory, grids, positions = context.memory, context.memory_grids, context.positions
        if memory is None or grids is None or positions is None:
            raise UserError(
                "deformable_attention needs a memory, the grids of its maps and a place for each token: give memory, "
                "memory_grids and positions in the context."
            )
        places = sum(math.prod(grid) for grid in grids)
        if len(grids) != self.levels or any(len(grid) != 2 for grid in grids) or memory.shape[1] != places:
            raise UserError(
                f"deformable_attention of {self.levels} maps expects as many grids of two axes, with a memory token "
                f"for each place, and got {grids} and a memory {tuple(memory.shape)}."
            )
        if positions.shape != (*x.shape[:2], 2):
            raise UserError(
                f"deformable_attention expects a place (x, y) for each token, {(*x.shape[:2], 2)}, and got "
                f"{tuple(positions.shape)}."
            )
        return memory, [(grid[0], grid[1]) for grid in grids], positions


def _sides(grids: list[tuple[int, int]], like: Tensor) -> Float[Tensor, "maps 2"]:
    """Width and height of each map."""
    one = like.new_ones(())
    return torch.stack([torch.stack([one * width, one * height]) for height, width in grids])


def _real_sides(
    grids: list[tuple[int, int]], mask: Bool[Tensor, "batch memory"], like: Tensor
) -> Float[Tensor, "batch maps 2"]:
    """Width and height of the real part of each map."""
    sides = []
    for each, grid in zip(torch.split(mask, [math.prod(grid) for grid in grids], dim=1), grids, strict=True):
        real = each.view(-1, *grid)
        sides.append(torch.stack([real.any(1).sum(1), real.any(2).sum(1)], dim=-1))
    return torch.stack(sides, dim=1).to(like.dtype)
