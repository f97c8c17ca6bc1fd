"""Features that are computed: against what they are by definition."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from formwright.errors import UserError
from formwright.nn import build_part, part
from formwright.nn.plain_features import OrientedGradients, Pixels, ValuesAndSpectrum


def built(name: str, kind, channels: int, grid: tuple[int, ...]):
    return build_part(part(name), channels, kind.features(channels, grid), grid=grid)


def test_pixels_are_averaged_to_at_most_32_a_side():
    pictures = torch.randn(2, 3, 70, 33)
    tokens, _ = built("pixels", Pixels, 3, (70, 33))(pictures)
    assert tokens.shape == (2, 1, 1, 3 * 23 * 11)
    first = pictures[0, 0, :3, :3].mean()
    torch.testing.assert_close(tokens[0, 0, 0, 0], first)
    small = torch.randn(2, 1, 5, 7)
    assert torch.equal(built("pixels", Pixels, 1, (5, 7))(small)[0].flatten(1), small.flatten(1))


@pytest.mark.parametrize("turn", range(9))
def test_an_edge_counts_towards_its_direction_most(turn):
    grid = (16, 16)
    features = built("oriented_gradients", OrientedGradients, 1, grid)
    angle = turn * math.pi / 9
    y, x = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
    ramp = math.cos(angle) * x + math.sin(angle) * y
    for sign in (1.0, -1.0):
        tokens, _ = features(sign * ramp[None, None])
        middle = tokens.reshape(4, 9, *features.blocks(grid))[:, :, 3, 3].mean(0)
        assert middle.argmax() == turn


def test_gradients_do_not_see_brightness_and_hardly_contrast():
    features = built("oriented_gradients", OrientedGradients, 2, (16, 16))
    pictures = torch.randn(2, 2, 16, 16)
    tokens, _ = features(pictures)
    torch.testing.assert_close(features(pictures + 3.0)[0], tokens, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(features(2.0 * pictures)[0], tokens, rtol=1e-2, atol=1e-2)


def test_the_spectrum_is_that_of_a_fourier_transform():
    series = torch.randn(2, 30, 3, dtype=torch.float64)
    features = built("values_and_spectrum", ValuesAndSpectrum, 3, (30,)).double()
    tokens, _ = features(series)
    power = np.abs(np.fft.rfft(series.numpy(), axis=1)) ** 2
    expected = np.concatenate([series.numpy(), np.log1p(power)], axis=1).transpose(0, 2, 1).reshape(2, -1)
    np.testing.assert_allclose(tokens[:, 0].numpy(), expected, rtol=1e-4, atol=1e-4)


def test_another_size_is_refused():
    with pytest.raises(UserError, match="in an input of 5 x 7"):
        built("pixels", Pixels, 1, (5, 7))(torch.zeros(1, 1, 7, 5))
    with pytest.raises(UserError, match="at least 4 x 4"):
        OrientedGradients.features(1, (3, 8))
    with pytest.raises(UserError, match="35 features here, not 34"):
        build_part(part("pixels"), 1, 34, grid=(5, 7))
