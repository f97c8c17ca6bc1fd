"""Baselines of forecasts on series whose right answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from formwright.metrics.forecast_baselines import linear_forecasts, naive, seasonal_naive


def windows(values, length, horizon):
    count = len(values) - length - horizon + 1
    past = np.stack([values[i : i + length] for i in range(count)])
    return past, np.stack([values[i + length : i + length + horizon] for i in range(count)])


def test_naive_repeats_the_last_value():
    past = np.arange(12.0).reshape(1, 6, 2)
    np.testing.assert_array_equal(naive(past, 3).values[0], [[10, 11]] * 3)


def test_seasonal_naive_repeats_the_season_before_each_origin():
    values = np.arange(12.0)[:, None]
    found = seasonal_naive(values, np.array([6, 9, 2]), 5, 3)[..., 0]
    np.testing.assert_array_equal(found, [[3, 4, 5, 3, 4], [6, 7, 8, 6, 7], [0, 0, 1, 0, 0]])


@pytest.mark.parametrize("relative", [False, True])
def test_a_linear_map_learns_a_sine_and_forgets_its_level(relative):
    time = np.arange(300)
    values = np.stack([np.sin(time / 5), 2 * np.cos(time / 5)], axis=1)
    parts = [windows(values[rows], 20, 7) for rows in (slice(0, 180), slice(180, 240), slice(240, 300))]
    shift = 100.0 if relative else 0.0
    found = linear_forecasts("linear", parts[0], parts[1], parts[2][0] + shift, relative=relative)
    np.testing.assert_allclose(found.values, parts[2][1] + shift, atol=1e-2)


def test_windows_with_missing_targets_are_left_out_of_the_fit():
    time = np.arange(200)
    values = np.sin(time / 5)[:, None]
    past, future = windows(values, 20, 5)
    holed = future.copy()
    holed[::3, 2] = np.nan
    with_holes = linear_forecasts("linear", (past, holed), (past, future), past, relative=True)
    np.testing.assert_allclose(with_holes.values, future, atol=1e-2)
