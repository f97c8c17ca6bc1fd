"""Errors of forecasts, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from formwright.errors import UserError
from formwright.metrics.forecasting import (
    interval_coverage,
    mean_absolute_error,
    mean_absolute_scaled_error,
    mean_squared_error,
    quantile_loss,
    seasonal_difference,
    symmetric_percentage_error,
)

FORECAST = np.array([[1.0, 2.0], [3.0, 5.0]])
ACTUAL = np.array([[2.0, 2.0], [np.nan, 3.0]])


def test_missing_values_are_left_out():
    assert mean_squared_error(FORECAST, ACTUAL) == pytest.approx((1 + 0 + 4) / 3)
    assert mean_absolute_error(FORECAST, ACTUAL) == pytest.approx((1 + 0 + 2) / 3)
    assert symmetric_percentage_error(FORECAST, ACTUAL) == pytest.approx((2 / 3 + 0 + 4 / 8) / 3)
    assert np.isnan(mean_squared_error(FORECAST, np.full((2, 2), np.nan)))


def test_two_zeros_are_no_error():
    assert symmetric_percentage_error(np.zeros(2), np.array([0.0, 1.0])) == pytest.approx(1.0)


def test_scaled_error_is_one_for_the_seasonal_difference_itself():
    history = np.array([[0.0, 1.0], [1.0, 3.0], [2.0, np.nan], [3.0, 7.0]])
    np.testing.assert_allclose(seasonal_difference(history, 1), [1.0, 2.0])
    np.testing.assert_allclose(seasonal_difference(history, 2), [2.0, 4.0])
    assert np.isnan(seasonal_difference(history, 4)).all()
    scale = seasonal_difference(history, 1)
    assert mean_absolute_scaled_error(scale[None], np.zeros((1, 2)), scale) == pytest.approx(1.0)
    assert mean_absolute_scaled_error(np.ones((1, 2)), np.zeros((1, 2)), np.array([0.0, 2.0])) == pytest.approx(0.5)


def test_quantile_loss_punishes_the_rare_side_more():
    actual = np.array([0.0, 0.0])
    above, below = np.array([1.0, 1.0]), np.array([-1.0, -1.0])
    assert quantile_loss(above[None], actual, [0.5]) == pytest.approx(1.0)
    assert quantile_loss(above[None], actual, [0.9]) == pytest.approx(0.2)
    assert quantile_loss(below[None], actual, [0.9]) == pytest.approx(1.8)
    with pytest.raises(UserError, match="between 0 and 1"):
        quantile_loss(above[None], actual, [1.0])


def test_coverage_counts_what_is_known():
    assert interval_coverage(FORECAST - 1, FORECAST + 1, ACTUAL) == pytest.approx(2 / 3)


def test_other_shapes_are_refused():
    with pytest.raises(UserError, match="differ in shape"):
        mean_squared_error(FORECAST, ACTUAL[:1])
