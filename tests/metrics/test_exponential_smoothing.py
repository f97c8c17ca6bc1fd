"""Exponential smoothing: statsmodels' forecasts at the end of what it was fitted on, and no look ahead after it."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from formwright.errors import UserError
from formwright.metrics.exponential_smoothing import Smoothing, follow


def monthly(rows=120, seed=0):
    random = np.random.default_rng(seed)
    time = np.arange(rows)
    return 10 + 0.02 * time + 2 * np.sin(2 * np.pi * time / 12) + random.normal(0, 0.3, rows)


@pytest.mark.parametrize("season", [1, 12])
def test_forecasts_are_those_of_statsmodels(season):
    from statsmodels.tsa.exponential_smoothing.ets import ETSModel

    values = monthly()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reference = ETSModel(
            values,
            trend="add",
            damped_trend=True,
            seasonal="add" if season > 1 else None,
            seasonal_periods=season if season > 1 else None,
            initialization_method="heuristic",
        ).fit(disp=False, maxiter=100)
    ours = follow([Smoothing.fit(values, season)], values[:, None], np.array([len(values)]), 30)
    np.testing.assert_allclose(ours[0, :, 0], reference.forecast(30), rtol=1e-8)


def test_a_forecast_depends_on_what_came_before_it_alone():
    values = np.stack([monthly(seed=1), monthly(seed=2)], axis=1)
    smoothings = [Smoothing.fit(values[:60, column], 12) for column in range(2)]
    origins = np.array([60, 61, 80])
    before = follow(smoothings, values, origins, 6)
    changed = values.copy()
    changed[61:] += 100
    after = follow(smoothings, changed, origins, 6)
    np.testing.assert_array_equal(before[:2], after[:2])
    assert not np.allclose(before[2], after[2])


def test_missing_values_leave_the_state_as_it_is():
    values = monthly()[:, None]
    values[70:] = np.nan
    smoothing = [Smoothing.fit(values[:60, 0], 12)]
    early = follow(smoothing, values, np.array([70]), 24)
    late = follow(smoothing, values, np.array([82]), 12)
    np.testing.assert_allclose(late[0], early[0, 12:], rtol=1e-9)


def test_too_few_rows_are_refused():
    with pytest.raises(UserError, match="got 4"):
        Smoothing.fit(np.arange(4.0), 1)
