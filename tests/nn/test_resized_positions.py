"""Position tables on grids that they were not made for."""

from __future__ import annotations

import pytest
import torch

from formwright.errors import UserError
from formwright.nn import Context
from formwright.nn.embeddings import PositionTable, ResizedPositionTable


@pytest.mark.parametrize("grid", [(7,), (4, 6), (2, 3, 4)])
def test_on_its_own_grid_it_is_the_plain_table(grid):
    plain, resized = PositionTable(8, grid=grid), ResizedPositionTable(8, grid=grid)
    resized.load_state_dict(plain.state_dict())
    x = torch.randn(2, *grid, 8)
    assert torch.equal(resized(x)[0], plain(x)[0])


def test_a_linear_table_stays_linear():
    """Along rows of the value ``row``, twice as many places lie at -0.25, 0.25, 0.75, ...; ends are held."""
    table = ResizedPositionTable(1, grid=(4, 3))
    with torch.no_grad():
        table.table.copy_(torch.arange(4.0).repeat_interleave(3)[:, None])
    rows = table(torch.zeros(1, 8, 5, 1))[0][0, :, :, 0]
    expected = torch.tensor([0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3])
    torch.testing.assert_close(rows, expected[:, None].expand(8, 5))


def test_prefix_tokens_keep_their_vectors():
    table = ResizedPositionTable(4, grid=(3, 3), prefix=2)
    y, _ = table(torch.zeros(1, 2 + 20, 4), Context(prefix=2, grid=(4, 5)))
    assert torch.equal(y[0, :2], table.table[:2])
    with pytest.raises(UserError, match="2 in front"):
        table(torch.zeros(1, 20, 4), Context(grid=(4, 5)))
