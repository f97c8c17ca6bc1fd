"""The feature pyramid: maps of several strides, each told by the coarser ones what it is part of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from pydantic import ConfigDict
from torch import Tensor, nn

from formwright.errors import UserError
from formwright.nn.context import Context
from formwright.nn.convolution import zero_padding
from formwright.nn.frame import Backbone
from formwright.nn.parts import INCOMING, RESIDUAL, Width, build_part
from formwright.nn.specification import PartSpec, part

#: The tokens of a map, and what is said about them.
Map = tuple[Tensor, Context]


@dataclass(frozen=True)
class NeckSpec:
    """``output_l(sum_{k >= l} finer(lateral_k(x_k)))`` over the maps ``x`` after some stages of a backbone.

    Attributes:
        stages: numbers of the stages, from the finest.
        dim: channels of all maps.
        lateral: from a map's channels to those of the pyramid.
        output: what makes each map of the sum.
    """

    stages: tuple[int, ...]
    dim: int
    lateral: PartSpec = part("downsampling", kernel=1, stride=1)  # noqa: RUF009
    output: PartSpec = part("downsampling", kernel=3, stride=1)  # noqa: RUF009

    __pydantic_config__ = ConfigDict(extra="forbid")


class FeaturePyramid(nn.Module):
    """Maps ``p_l = output(s_l)`` with ``s_l = lateral(x_l) + finer(s_{l + 1})``, the nearest token for each place.

    A place behind the end of the coarser map, where a side was no whole number of strides, gets nothing from it, and
    neither do places whose nearest token is padding.

    Args:
        spec: which maps, and the parts on the way.
        backbone: what makes them.

    Raises:
        UserError: the backbone has no such stages, or they do not come from fine to coarse.

    Source: Feature Pyramid Networks for Object Detection, arXiv 1612.03144.
    """

    def __init__(self, spec: NeckSpec, backbone: Backbone) -> None:
        super().__init__()
        count = len(backbone.stages)
        self.stages = tuple(spec.stages)
        if (
            not self.stages
            or list(self.stages) != sorted({*self.stages})
            or not 0 <= self.stages[0] <= self.stages[-1] < count
        ):
            raise UserError(
                f"A pyramid stands on stages of its backbone from fine to coarse, numbers from 0 to {count - 1}; got "
                f"{self.stages}."
            )
        self.dim = spec.dim
        dims = [int(backbone.stages[index].dim) for index in self.stages]  # type: ignore[arg-type]
        grids = backbone.grids(backbone.input_grid)
        self.grids = [grids[index] for index in self.stages]
        self.lateral = nn.ModuleList(
            build_part(spec.lateral, dim, spec.dim, grid=grid) for dim, grid in zip(dims, self.grids, strict=True)
        )
        self.output = nn.ModuleList(build_part(spec.output, spec.dim, spec.dim, grid=grid) for grid in self.grids)
        # On a large grid no side is rounded, whatever the kernels.
        large = backbone.grids(tuple(256 * side for side in backbone.input_grid))
        self.strides = [
            tuple(round(fine / coarse) for fine, coarse in zip(large[below], large[above], strict=True))
            for below, above in zip(self.stages, self.stages[1:], strict=False)
        ]

    def widths(self, path: str, backbone: Sequence[Width], name: str) -> list[Width]:
        """The widths of the backbone called ``name``, read by this pyramid, and that of the sums in it."""
        widths = []
        for width in backbone:
            read = [
                (f"{path}.lateral.{level}", INCOMING.name)
                for level, stage in enumerate(self.stages)
                if (f"{name}.stages.{stage}", RESIDUAL.name) in width.members
            ]
            widths.append(Width((*width.members, *read)))
        sums = [(f"{path}.lateral.{level}", RESIDUAL.name) for level in range(len(self.stages))]
        sums += [(f"{path}.output.{level}", INCOMING.name) for level in range(len(self.stages))]
        return [*widths, Width(tuple(sums))]

    def forward(self, maps: Sequence[Map]) -> list[Map]:
        """The pyramid's maps ``(batch, *grid, dim)``, from the finest, each in the context of its tokens."""
        sums: list[Map] = []
        for level in reversed(range(len(maps))):
            x, context = maps[level]
            y, _ = self.lateral[level](x, context)
            if sums:
                y = y + finer(zero_padding(*sums[-1]), y.shape[1:-1], self.strides[level])
            sums.append((y, context))
        return [self.output[level](y, context) for level, (y, context) in enumerate(reversed(sums))]


def finer(
    x: Float[Tensor, "batch *grid channels"], grid: Sequence[int], stride: Sequence[int]
) -> Float[Tensor, "batch *finer_grid channels"]:
    """``y[p] = x[floor(p / stride)]`` on a finer ``grid``, and zero where that lies behind the end of ``x``."""
    for axis, (side, step) in enumerate(zip(grid, stride, strict=True), start=1):
        nearest = torch.arange(side, device=x.device) // step
        inside = (nearest < x.shape[axis]).to(x.dtype)
        x = x.index_select(axis, nearest.clamp(max=x.shape[axis] - 1))
        x = x * inside.view(-1, *[1] * (x.ndim - axis - 1))
    return x
