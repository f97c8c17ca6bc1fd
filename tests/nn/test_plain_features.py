"""Features that are computed: against what they are by definition."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from formwright.errors import UserError
from formwright.nn import build_part, part
from formwright.nn.minirocket import dilations
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


@pytest.mark.parametrize(("steps", "variates"), [(40, 1), (23, 3), (6, 1)])
def test_minirocket_counts_what_exceeds_thresholds(steps, variates):
    """Against the definition, value by value."""
    torch.manual_seed(0)
    rocket = build_part(part("minirocket"), variates, 84 * 5, grid=(steps,)).double()
    rocket.init_weights()
    series = torch.randn(4, steps, variates, dtype=torch.float64)
    rocket.find_thresholds(series, torch.Generator().manual_seed(0))
    tokens, _ = rocket(series)
    x, expected, first = series.numpy(), [], 0
    kernels = [[2 if place in high else -1 for place in range(9)] for high in itertools.combinations(range(9), 3)]
    for number, (dilation, count) in enumerate(rocket.dilations):
        rows = {}
        for index, kernel in enumerate(kernels):
            chosen = rocket.variates[number, index].bool().numpy()
            total = x[..., chosen].sum(-1)
            values = np.zeros((4, steps))
            for place, weight in enumerate(kernel):
                for t in range(steps):
                    source = t + (place - 4) * dilation
                    if 0 <= source < steps:
                        values[:, t] += weight * total[:, source]
            if (number + index) % 2 and steps > 8 * dilation:
                values = values[:, 4 * dilation : steps - 4 * dilation]
            for place in range(count):
                limit = float(rocket.thresholds[first + index * count + place])
                rows[index, place] = (values > limit).mean(1)
        order = [*range(number % 2, 84, 2), *range(1 - number % 2, 84, 2)]
        expected += [rows[index, place] for index in order for place in range(count)]
        first += 84 * count
    np.testing.assert_allclose(tokens[:, 0].numpy(), np.stack(expected, 1), atol=1e-12)
    assert 0.3 < float(tokens.mean()) < 0.7


def test_dilations_of_minirocket_reach_over_the_whole_series():
    for steps, per_kernel in ((150, 119), (2048, 119), (30, 6), (9, 12), (1, 1)):
        found = dilations(steps, per_kernel)
        assert sum(count for _, count in found) == per_kernel
        assert all(8 * dilation < max(steps, 9) for dilation, _ in found)
        assert [one for one, _ in found] == sorted({one for one, _ in found})
    assert dilations(150, 119)[-1][0] == 18


def test_another_size_is_refused():
    with pytest.raises(UserError, match="in an input of 5 x 7"):
        built("pixels", Pixels, 1, (5, 7))(torch.zeros(1, 1, 7, 5))
    with pytest.raises(UserError, match="at least 4 x 4"):
        OrientedGradients.features(1, (3, 8))
    with pytest.raises(UserError, match="35 features here, not 34"):
        build_part(part("pixels"), 1, 34, grid=(5, 7))
