"""Positions that are computed rather than learned, and what attention adds for differences of places."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from formwright.errors import UserError
from formwright.nn.context import EMPTY, Context
from formwright.nn.embeddings import PositionTable
from formwright.nn.parts import PARTS, Part, Promises


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


def grid_sine_table(grid: Sequence[int], dim: int) -> Float[Tensor, "places dim"]:
    """Sines and cosines of each place's coordinates, the last axis of the grid first.

    An axis has ``dim / axes`` channels: ``sin(p w_i)``, then ``cos(p w_i)``, for ``w_i = 10000^(-i / h)`` with
    ``h = dim / (2 axes)`` frequencies.

    Raises:
        UserError: the channels cannot be divided over the axes.

    Source: Masked Autoencoders Are Scalable Vision Learners, arXiv 2111.06377, and its authors' code.
    """
    half, rest = divmod(dim, 2 * len(grid))
    if rest or not half:
        raise UserError(
            f"Sines and cosines of {len(grid)} axes need a multiple of {2 * len(grid)} channels, got {dim}."
        )
    frequency = 10000 ** (-torch.arange(half, dtype=torch.float64) / half)
    sides = [torch.arange(side, dtype=torch.float64) for side in grid]
    coordinates = torch.meshgrid(*sides, indexing="ij")
    angles = [places.reshape(-1, 1) * frequency for places in reversed(coordinates)]
    return torch.cat([wave for angle in angles for wave in (angle.sin(), angle.cos())], dim=1).float()


@PARTS.register("grid_sine_positions")
class GridSinePositions(PositionTable):
    """Adds the fixed table of :func:`grid_sine_table`, in which each axis of the grid has channels of its own.

    The table is a frozen parameter, as it is in DiT's checkpoints: it is saved, and counts as parameters that are not
    trained.

    Shapes: ``(batch, *grid, dim)`` to the same.

    Raises:
        UserError: the grid is not the one that the table was made for, or the channels cannot be divided over its axes.
    """

    promises: ClassVar[Promises] = Promises(
        any_grid=False, exemptions={"gradients:table": "the table is fixed by definition"}
    )

    def __init__(self, dim: int, *, grid: tuple[int, ...]) -> None:
        super().__init__(dim, grid=grid)
        self.table = nn.Parameter(grid_sine_table(self.grid, dim), requires_grad=False)


def places_of(
    grid: Sequence[int], mask: Bool[Tensor, "batch *grid"] | None = None, *, device: torch.device | None = None
) -> Float[Tensor, "batch_or_1 *grid axes"]:
    """The middle of each place as a share of the grid's sides, in the order of its axes: ``(i + 0.5) / side``.

    With a mask, sides are those of the real part of each sample; places beyond it have no meaning.
    """
    shares = []
    for axis, side in enumerate(grid):
        if mask is None:
            share = (torch.arange(side, device=device) + 0.5) / side
            share = share.view(1, *[1] * axis, side, *[1] * (len(grid) - axis - 1)).expand(1, *grid)
        else:
            count = mask.cumsum(axis + 1)
            share = (count - 0.5) / count.narrow(axis + 1, side - 1, 1).clamp(min=1)
        shares.append(share)
    return torch.stack(shares, dim=-1)


def sines_of_places(places: Float[Tensor, "*places axes"], dim: int) -> Float[Tensor, "*places dim"]:
    """Sines and cosines of coordinates from 0 to 1, those of the first axis in the first ``n = dim / axes`` channels.

    ``sin(2 pi p w_i)`` in even and ``cos(2 pi p w_i)`` in odd channels ``i`` of an axis, with
    ``w_i = 10000^(-2 floor(i / 2) / n)``.

    Raises:
        UserError: the channels cannot be divided over the axes.

    Source: End-to-End Object Detection with Transformers, arXiv 2005.12872, with the coordinates of the middle of each
    place, as in Deformable DETR, arXiv 2010.04159.
    """
    axes = places.shape[-1]
    share, rest = divmod(dim, 2 * axes)
    if rest or not share:
        raise UserError(f"Sines and cosines of {axes} axes need a multiple of {2 * axes} channels, got {dim}.")
    frequency = 10000 ** (-torch.arange(share, device=places.device, dtype=torch.float32) / share)
    angles = 2 * math.pi * places[..., None] * frequency
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(-3)


def relative_position_index(window: Sequence[int]) -> Int[Tensor, "places places"]:
    """A number for the difference of each pair of places of a window: ``(2 side - 1)`` differences along each axis.

    ``index[i, j]`` enumerates ``place_i - place_j``, the last axis fastest, from the most negative difference on.
    """
    places = torch.cartesian_prod(*[torch.arange(side) for side in window]).view(-1, len(window))
    difference = places[:, None] - places[None, :]
    index = torch.zeros(difference.shape[:2], dtype=torch.int64)
    for axis, side in enumerate(window):
        index = index * (2 * side - 1) + difference[..., axis] + side - 1
    return index


class RelativePositionBias(nn.Module):
    """A learned value for each head and each difference of two places of a window, added to attention's scores.

    Shapes: ``()`` to ``(heads, places, places)``. Source: Swin Transformer, arXiv 2103.14030.
    """

    no_decay: ClassVar[tuple[str, ...]] = ("table",)
    index: Tensor

    def __init__(self, window: Sequence[int], heads: int, *, std: float = 0.02) -> None:
        super().__init__()
        differences = math.prod(2 * side - 1 for side in window)
        self.table = nn.Parameter(nn.init.trunc_normal_(torch.empty(differences, heads), std=std))
        self.register_buffer("index", relative_position_index(window), persistent=False)

    def forward(self) -> Float[Tensor, "heads places places"]:
        return self.table[self.index].permute(2, 0, 1)


def distance_buckets(
    distances: Int[Tensor, " distances"], buckets: int, reach: int, *, causal: bool = False
) -> Int[Tensor, " distances"]:
    """The bucket of how far a key lies behind a query: near distances have their own, farther ones share.

    Of ``n`` buckets for distances of one sign, the first half are distances ``d`` themselves; ``d`` from ``n / 2`` on
    falls into ``n / 2 + floor(n / 2 * log(2 d / n) / log(2 reach / n))``, and all from ``reach`` on into the last.

    Args:
        distances: place of the key minus place of the query.
        buckets: how many; half of them for keys behind the query, all for those before it with ``causal``.
        reach: the distance from which on there are no differences.
        causal: whether keys behind the query count as distance 0.

    Source: T5, arXiv 1910.10683; the logarithms are those of float32, as in the authors' code.
    """
    own = buckets if causal else buckets // 2
    far = (-distances).clamp(min=0) if causal else distances.abs()
    near = own // 2
    shared = near * torch.log(far.clamp(min=1).float() / near) / math.log(reach / near)
    bucket = torch.where(far < near, far, (near + shared.long()).clamp(max=own - 1))
    return bucket if causal else bucket + own * (distances > 0)


@PARTS.register("bucketed_position_bias")
class BucketedPositionBias(Part):
    """Offers ``b_d = table[bucket(d)]`` to the attentions behind it, for each distance ``d`` and head; tokens pass.

    It stands at the entry of a stage, so that all its layers share the table.

    Args:
        dim: channels, which do not matter.
        heads: heads of the attentions.
        buckets: rows of the table.
        reach: the distance from which on all share a bucket.
        causal: whether the attentions see no later tokens.
        std: standard deviation of the initial values; ``dim ** -0.5`` if unset.

    Shapes: ``(batch, time, dim)`` to the same; ``context.distance_bias`` ``(2 reach + 1, heads)``.

    Raises:
        UserError: there are too few buckets for the reach.

    Source: T5, arXiv 1910.10683.
    """

    offers: ClassVar[frozenset[str]] = frozenset({"distance_bias"})
    no_decay: ClassVar[tuple[str, ...]] = ("table",)
    promises: ClassVar[Promises] = Promises(
        dimensions=(1,),
        per_token=True,
        causal=True,
        exemptions={"gradients:table": "the attentions behind it add what it offers"},
    )

    buckets: Tensor

    def __init__(
        self,
        dim: int,
        *,
        heads: int,
        buckets: int = 32,
        reach: int = 128,
        causal: bool = False,
        std: float | None = None,
    ) -> None:
        super().__init__()
        if buckets < 4 or reach <= buckets // (2 if causal else 4):
            raise UserError(
                f"{buckets} buckets up to a distance of {reach} leave none that are shared; choose at least 4 buckets "
                "and a longer reach."
            )
        std = dim**-0.5 if std is None else std
        self.table = nn.Parameter(nn.init.normal_(torch.empty(buckets, heads), std=std))
        distances = torch.arange(-reach, reach + 1)
        self.register_buffer("buckets", distance_buckets(distances, buckets, reach, causal=causal), persistent=False)

    def offer(self, context: Context) -> Context:
        return context.replace(distance_bias=self.table[self.buckets])

    def forward(
        self, x: Float[Tensor, "batch time channels"], context: Context = EMPTY
    ) -> tuple[Float[Tensor, "batch time channels"], Context]:
        return x, self.offer(context)
