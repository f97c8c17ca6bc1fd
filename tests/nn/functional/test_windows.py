"""Windows against loops."""

from __future__ import annotations

import itertools

import pytest
import torch

from formwright.nn.functional.windows import merge_windows, partition_windows


@pytest.mark.parametrize(
    ("grid", "window"),
    [((7,), (3,)), ((6, 4), (3, 2)), ((5, 7), (3, 4)), ((5, 7), (5, 4)), ((4, 3, 5), (2, 3, 2)), ((3, 3), (3, 3))],
)
def test_windows_hold_their_places_and_zeros(grid: tuple[int, ...], window: tuple[int, ...]) -> None:
    x = torch.randn(2, *grid, 3)
    windows = partition_windows(x, window)
    counts = [-(-side // width) for side, width in zip(grid, window, strict=True)]
    row = 0
    for sample in x:
        for corner in itertools.product(*map(range, counts)):
            for place in itertools.product(*map(range, window)):
                source = tuple(c * w + p for c, w, p in zip(corner, window, place, strict=True))
                inside = all(s < side for s, side in zip(source, grid, strict=True))
                expected = sample[source] if inside else torch.zeros(3)
                assert torch.equal(windows[row][place], expected)
            row += 1
    assert len(windows) == row
    assert torch.equal(merge_windows(windows, grid), x)
