"""Computed positions."""

from __future__ import annotations

import math

import pytest
import torch

from formwright.errors import UserError
from formwright.nn import Context, build_part, part
from formwright.nn.positions import sine_table


@pytest.mark.parametrize("dim", [8, 7])
def test_sine_table_is_its_formula(dim):
    table = sine_table(20, dim)
    for place in (0, 3, 19):
        for channel in range(dim):
            angle = place / 10000 ** (2 * (channel // 2) / dim)
            expected = math.cos(angle) if channel % 2 else math.sin(angle)
            assert table[place, channel].item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("grid", [(6,), (2, 3), (2, 2, 3)])
def test_sine_positions_are_added_and_never_trained(grid):
    positions = build_part(part("sine_positions"), 8, grid=grid)
    x = torch.randn(2, *grid, 8)
    y, _ = positions(x)
    assert torch.allclose((y - x)[0].reshape(-1, 8), sine_table(math.prod(grid), 8), atol=1e-5)
    assert not any(parameter.requires_grad for parameter in positions.parameters())


def test_a_class_token_has_the_first_row():
    positions = build_part(part("sine_positions", prefix=1), 8, grid=(2, 3))
    y, _ = positions(torch.zeros(1, 7, 8), Context(prefix=1, grid=(2, 3)))
    assert torch.equal(y[0], sine_table(7, 8))


@pytest.mark.parametrize("name", ["position_table", "sine_positions"])
def test_another_grid_is_refused_with_both_token_counts(name):
    positions = build_part(part(name), 8, grid=(8, 8))
    with pytest.raises(UserError, match=r"64 tokens \(8 x 8\) and 0 in front, and got 144 tokens \(12 x 12\)"):
        positions(torch.zeros(1, 12, 12, 8))
