"""The inception mixer against its formula, written for one image with loops over neighbourhoods."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from formwright.errors import UserError
from formwright.nn.token_mixers.inception import InceptionMixer, spread


def neighbourhoods(grid, size):
    """For each token of the attention, the places that it stands for."""
    rows, columns = (range(0, side, size) for side in grid)
    return [
        [(r, c) for r in range(row, min(row + size, grid[0])) for c in range(column, min(column + size, grid[1]))]
        for row in rows
        for column in columns
    ]


def attended(mixer, x):
    """Low frequencies of one image ``(height, width, low)``: attention between the means of neighbourhoods."""
    groups = neighbourhoods(x.shape[:2], mixer.pool)
    means = torch.stack([torch.stack([x[place] for place in group]).mean(0) for group in groups])
    q, k, v = (means @ mixer.qkv.weight.T + mixer.qkv.bias).chunk(3, dim=-1)
    width = mixer.low // mixer.attention_heads
    y = torch.empty_like(x)
    for head in range(mixer.attention_heads):
        channels = slice(head * width, (head + 1) * width)
        weights = (q[:, channels] @ k[:, channels].T / math.sqrt(width)).softmax(-1)
        for group, value in zip(groups, weights @ v[:, channels], strict=True):
            for place in group:
                y[(*place, channels)] = value
    return y


@pytest.mark.parametrize("grid", [(6, 6), (6, 4), (5, 7), (1, 3)])
@pytest.mark.parametrize("pool", [1, 2, 3])
def test_attention_on_maps_of_any_sides(grid, pool):
    mixer = InceptionMixer(12, heads=6, attention_heads=4, pool=pool).double()
    x = torch.randn(1, *grid, 8, dtype=torch.float64)
    torch.testing.assert_close(mixer.low_frequencies(x)[0], attended(mixer, x[0]))


def test_high_frequencies_are_convolved_and_pooled_halves():
    mixer = InceptionMixer(12, heads=6, attention_heads=4).double()
    x = torch.randn(2, 5, 6, 4, dtype=torch.float64)
    first = F.conv2d((x[..., :2] @ mixer.convolution_in.weight.T).permute(0, 3, 1, 2), mixer.convolution.weight, None,
                     padding=1, groups=4).permute(0, 2, 3, 1)  # fmt: skip
    largest = F.max_pool2d(x[..., 2:].permute(0, 3, 1, 2), 3, 1, 1).permute(0, 2, 3, 1)
    second = largest @ mixer.pooling_in.weight.T + mixer.pooling_in.bias
    torch.testing.assert_close(mixer.high_frequencies(x), F.gelu(torch.cat([first, second], dim=-1)))


def test_spread_repeats_places_and_cuts():
    x = torch.arange(6.0).view(1, 2, 3, 1)
    expected = [[0, 0, 1, 1, 2], [0, 0, 1, 1, 2], [3, 3, 4, 4, 5]]
    assert spread(x, (3, 5), 2)[0, ..., 0].tolist() == expected


def high_share(x):
    """Share of the spectral energy of ``(batch, height, width, channels)`` beyond a quarter of the sampling rate."""
    energy = torch.fft.fft2(x, dim=(1, 2)).abs().square().mean((0, 3))
    rows, columns = (torch.fft.fftfreq(side) * 2 * math.pi for side in x.shape[1:3])
    return (energy[torch.hypot(rows[:, None], columns[None]) > math.pi / 2].sum() / energy.sum()).item()


def test_attention_passes_low_and_convolution_high_frequencies():
    torch.manual_seed(0)
    mixer = InceptionMixer(96, heads=3, attention_heads=1, pool=2)
    x = torch.randn(2, 32, 32, 96)
    with torch.no_grad():
        low, high = high_share(mixer.low_frequencies(x[..., 64:])), high_share(mixer.high_frequencies(x[..., :64]))
    assert low < 0.7 * high


def test_impossible_splits_are_refused():
    with pytest.raises(UserError, match="12 channels cannot be split over 5 heads"):
        InceptionMixer(12, heads=5, attention_heads=1)
    with pytest.raises(UserError, match="Of 3 heads, 4 cannot attend"):
        InceptionMixer(12, heads=3, attention_heads=4)
    with pytest.raises(UserError, match="9 channels for high frequencies"):
        InceptionMixer(12, heads=4, attention_heads=1)
