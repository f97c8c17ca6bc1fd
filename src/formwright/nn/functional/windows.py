"""Cutting a grid of tokens (or of facts about them) into windows, and putting it together again."""

from __future__ import annotations

from jaxtyping import Shaped
from torch import Tensor
from torch.nn import functional as F


def is_free(*sides: int) -> bool:
    """Whether one of the sides may be any in the graph that is being exported, so that nothing may depend on it."""
    return not all(isinstance(side, int) for side in sides)


def partition_windows(
    x: Shaped[Tensor, "batch *grid channels"], window: tuple[int, ...]
) -> Shaped[Tensor, "batch_of_windows *window channels"]:
    """Disjoint windows, row by row within each sample; zeros fill the last ones where the grid is no multiple."""
    batch, *grid, channels = x.shape
    gaps = [-side % width for side, width in zip(grid, window, strict=True)]
    if is_free(*gaps) or any(gaps):
        x = F.pad(x, (0, 0, *[size for gap in reversed(gaps) for size in (0, gap)]))
    if not is_free(*grid) and x.shape[1:-1] == window:
        return x
    split: list[int] = []
    for side, width in zip(x.shape[1:-1], window, strict=True):
        split += [side // width, width]
    axes = len(window)
    order = (0, *range(1, 2 * axes, 2), *range(2, 2 * axes + 1, 2), 2 * axes + 1)
    return x.view(batch, *split, channels).permute(order).reshape(-1, *window, channels)


def merge_windows(
    windows: Shaped[Tensor, "batch_of_windows *window channels"], grid: tuple[int, ...]
) -> Shaped[Tensor, "batch *grid channels"]:
    """The inverse of :func:`partition_windows`; what had been filled up is cut off."""
    window, channels = tuple(windows.shape[1:-1]), windows.shape[-1]
    if not is_free(*grid) and window == grid:
        return windows
    counts = [-(-side // width) for side, width in zip(grid, window, strict=True)]
    axes = len(window)
    order = [0]
    for axis in range(axes):
        order += [1 + axis, 1 + axes + axis]
    x = windows.view(-1, *counts, *window, channels).permute(*order, 2 * axes + 1)
    x = x.reshape(-1, *[count * width for count, width in zip(counts, window, strict=True)], channels)
    for axis, side in enumerate(grid):
        x = x.narrow(axis + 1, 0, side)
    return x
