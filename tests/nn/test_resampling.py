"""Patch merging: the order of neighbours, and odd sides."""

from __future__ import annotations

import itertools

import pytest
import torch

from formwright.nn import build_part, part


@pytest.mark.parametrize("grid", [(6,), (7,), (4, 6), (5, 3), (2, 3, 5)])
def test_neighbours_lie_side_by_side_the_first_axis_fastest(grid):
    merging = build_part(part("patch_merging", norm=part("layer_norm"), dimensions=len(grid)), 4, 6).double()
    torch.nn.init.normal_(merging.norm.weight)
    x = torch.randn(2, *grid, 4, dtype=torch.float64)
    y, _ = merging(x)
    coarser = merging.output_grid(grid)
    assert y.shape == (2, *coarser, 6)
    for place in itertools.product(*map(range, coarser)):
        neighbours = []
        for offset in itertools.product((0, 1), repeat=len(grid)):
            source = tuple(2 * p + o for p, o in zip(place, reversed(offset), strict=True))
            inside = all(s < side for s, side in zip(source, grid, strict=True))
            neighbours.append(x[(slice(None), *source)] if inside else x.new_zeros(2, 4))
        expected = merging.linear(merging.norm(torch.cat(neighbours, -1)))
        assert torch.allclose(y[(slice(None), *place)], expected)
