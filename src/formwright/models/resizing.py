"""Tables of positions for another size of the input: resized as timm does, in float32 whatever their type is."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from formwright.nn.embeddings import LearnedPositions, PositionTable
from formwright.nn.positions import RelativePositionBias
from formwright.nn.token_mixers.cascaded_attention import CascadedGroupAttention

#: What tables are called in the parts that have them.
_TABLES = ("table", "bias_table")


def resized_tables(model: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state with the tables of positions that ``model`` has for its own size of the input.

    Tables of square grids, and of distances in square windows, are resized by bicubic interpolation, biases of
    differences in square windows as :func:`resized_bias`, and tables of sequences are cut to the longest one; others
    stay as they are.
    """
    owners = dict(model.named_modules())
    resized = dict(state)
    for name, tensor in state.items():
        path, _, leaf = name.rpartition(".")
        owner = owners.get(path)
        table = getattr(owner, leaf, None) if leaf in _TABLES else None
        if not isinstance(table, Tensor) or tensor.ndim != 2 or tensor.shape == table.shape:
            continue
        if isinstance(owner, CascadedGroupAttention) and len(tensor) == len(table):
            resized[name] = resized_grid(tensor.mT, owner.window).mT.contiguous()
        if tensor.shape[1] != table.shape[1]:
            continue
        if isinstance(owner, PositionTable):
            resized[name] = resized_grid(tensor, owner.grid, owner.prefix)
        elif isinstance(owner, RelativePositionBias):
            resized[name] = resized_bias(tensor, len(table))
        elif isinstance(owner, LearnedPositions):
            resized[name] = tensor[: len(table)]
    return resized


def _wide(table: Tensor) -> Tensor:
    return table if table.dtype == torch.float64 else table.float()


def resized_grid(
    table: Float[Tensor, "places dim"], grid: tuple[int, ...], prefix: int = 0
) -> Float[Tensor, "new_places dim"]:
    """A table of a square grid for another ``grid``; the ``prefix`` rows in front of it stay. Others stay whole."""
    side = math.isqrt(len(table) - prefix)
    if side**2 != len(table) - prefix or len(grid) != 2:
        return table
    square = _wide(table[prefix:]).view(1, side, side, -1).movedim(-1, 1)
    resized = F.interpolate(square, size=grid, mode="bicubic", antialias=True, align_corners=False)
    return torch.cat([table[:prefix], resized.movedim(1, -1).flatten(0, 2).to(table.dtype)])


def resized_bias(table: Float[Tensor, "differences heads"], differences: int) -> Float[Tensor, "differences heads"]:
    """Biases of the differences of places in a square window, for a window of a different size.

    The rows are ``(2 w - 1)²`` differences from ``-(w - 1)`` to ``w - 1`` along each axis. The old ones are laid at
    distances ``0, 1, 1 + q, 1 + q + q², ...``, with the ``q`` that makes the last of them the new window's last, so
    that near differences keep their biases and far ones are stretched; what lies between is linearly interpolated.
    Tables of windows that are not square stay as they are.

    Source: the authors' code of BEiT, arXiv 2106.08254, with the linear interpolation of timm.
    """
    old, new = math.isqrt(len(table)), math.isqrt(differences)
    if old**2 != len(table) or new**2 != differences:
        return table
    places = torch.arange(new, dtype=torch.float64) - new // 2
    weights = _between(_stretched(old // 2, new // 2), places).to(_wide(table).dtype)
    square = _wide(table).view(old, old, -1)
    resized = torch.einsum("yi,xj,ijh->yxh", weights, weights, square)
    return resized.flatten(0, 1).to(table.dtype)


def _stretched(count: int, end: int) -> Float[Tensor, "places"]:
    """Places ``0, ±1, ±(1 + q), ...`` of ``count`` differences on each side; ``q`` from 1.01 to 1.5."""
    low, high = 1.01, 1.5
    while high - low > 1e-6:
        q = (low + high) / 2
        if (1 - q**count) / (1 - q) > end:
            high = q
        else:
            low = q
    side = torch.tensor([(1 - q**n) / (1 - q) for n in range(1, count + 1)], dtype=torch.float64)
    return torch.cat([-side.flip(0), torch.zeros(1, dtype=torch.float64), side])


def _between(known: Float[Tensor, "old"], wanted: Float[Tensor, "new"]) -> Float[Tensor, "new old"]:
    """The weight of each known place at each wanted one: linear between two, and that of the last beyond."""
    right = torch.searchsorted(known, wanted.contiguous()).clamp(1, len(known) - 1)
    share = ((wanted - known[right - 1]) / (known[right] - known[right - 1])).clamp(0, 1)
    weights = torch.zeros(len(wanted), len(known), dtype=torch.float64)
    weights.scatter_(1, right[:, None], share[:, None])
    return weights.scatter_(1, right[:, None] - 1, 1 - share[:, None])
