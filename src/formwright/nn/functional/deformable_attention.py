"""Attention to a few points of several maps, between their places too."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


def deformable_attention(
    values: Float[Tensor, "batch memory heads channels"],
    grids: Sequence[tuple[int, int]],
    points: Float[Tensor, "batch queries heads maps points 2"],
    shares: Float[Tensor, "batch queries heads maps points"],
) -> Float[Tensor, "batch queries heads channels"]:
    """``y_qh = sum_l sum_k shares_qhlk values_lh(points_qhlk)``, bilinear between places and zero around the maps.

    Args:
        values: of all maps, one behind the other, row by row.
        grids: height and width of each map.
        points: x and y as shares of the map's sides, the middle of the first place at half a place.
        shares: how much each point counts.

    Source: Deformable DETR, arXiv 2010.04159.
    """
    batch, _, heads, channels = values.shape
    queries, count = points.shape[1], points.shape[4]
    if not batch:  # PyTorch samples nothing of no samples
        return (points.sum((3, 4, 5)) + shares.sum((3, 4)))[..., None].expand(-1, -1, -1, channels)
    wide = torch.promote_types(values.dtype, torch.float32)  # a CPU samples no half precision
    sampled = []
    for level, each in enumerate(torch.split(values.to(wide), [math.prod(grid) for grid in grids], dim=1)):
        maps = each.permute(0, 2, 3, 1).reshape(batch * heads, channels, *grids[level])
        places = 2 * points[:, :, :, level].to(wide).transpose(1, 2).reshape(batch * heads, queries, count, 2) - 1
        sampled.append(F.grid_sample(maps, places, mode="bilinear", padding_mode="zeros", align_corners=False))
    weights = shares.to(wide).transpose(1, 2).reshape(batch * heads, 1, queries, len(grids) * count)
    mixed = (torch.cat(sampled, dim=-1) * weights).sum(-1)
    return mixed.view(batch, heads, channels, queries).permute(0, 3, 1, 2).to(values.dtype)
