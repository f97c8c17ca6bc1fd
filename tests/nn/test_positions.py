"""Computed positions."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from formwright.errors import UserError
from formwright.nn import Context, build_part, part
from formwright.nn.positions import places_of, sine_table, sines_of_places


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


def _places_by_hand(grid: tuple[int, ...]) -> Tensor:
    return torch.tensor(
        [
            [(index + 0.5) / side for index, side in zip(place, grid, strict=True)]
            for place in itertools.product(*map(range, grid))
        ]
    ).view(1, *grid, len(grid))


@pytest.mark.parametrize("grid", [(5,), (3, 4), (2, 3, 2)])
def test_places_of_a_grid_and_of_its_real_part(grid: tuple[int, ...]) -> None:
    torch.testing.assert_close(places_of(grid), _places_by_hand(grid))
    wider = tuple(side + 2 for side in grid)
    real = (..., *(slice(side) for side in grid))
    mask = torch.zeros(1, *wider, dtype=torch.bool)
    mask[real] = True
    inside = (slice(None), *(slice(side) for side in grid))
    torch.testing.assert_close(places_of(wider, mask)[inside], _places_by_hand(grid))


@pytest.mark.parametrize("masked", [False, True])
def test_sines_of_places_are_those_of_deformable_detr(masked: bool) -> None:
    from transformers.models.deformable_detr.modeling_deformable_detr import DeformableDetrSinePositionEmbedding

    theirs = DeformableDetrSinePositionEmbedding(8, normalize=True)
    mask = torch.zeros(2, 6, 5, dtype=torch.bool)
    mask[0, :4, :3], mask[1] = True, True
    given = mask if masked else None
    expected = theirs(torch.Size((2, 8, 6, 5)), "cpu", torch.float32, given).permute(0, 2, 3, 1)
    ours = sines_of_places(places_of((6, 5), given), 16).expand(2, -1, -1, -1)
    torch.testing.assert_close(ours[mask], expected[mask], rtol=1e-5, atol=1e-5)


def test_sines_of_places_need_channels_for_every_axis() -> None:
    assert sines_of_places(places_of((3, 4, 5)), 12).shape == (1, 3, 4, 5, 12)
    with pytest.raises(UserError, match="multiple of 4 channels, got 6"):
        sines_of_places(places_of((3, 4)), 6)
